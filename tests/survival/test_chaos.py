"""Some sequences of random events at output folders; `scripts/fuzz_runs.py` runs as many as one wants."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos import Chaos
from faults import Replay, replayed
from places import References
from promises import Lost

from foldline.outputs.journal import Journal


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    with replayed() as found:
        yield found


@pytest.fixture(scope="module")
def references(checkpoint: Path, replay: Replay, tmp_path_factory: pytest.TempPathFactory) -> References:
    return References(tmp_path_factory.mktemp("references"), checkpoint, replay)


@pytest.mark.parametrize(("kind", "seed", "events"), [("folder", 1, 5), ("memory", 2, 3)])
def test_promises_are_kept_whatever_happens(
    kind: str, seed: int, events: int, references: References, tmp_path: Path
) -> None:
    chaos = Chaos(seed, tmp_path, references, kind)
    chaos.run(events)
    assert chaos.count == events + 1


def test_a_broken_promise_is_seen(references: References, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "finished", lambda *_: None)
    with pytest.raises(Lost, match="is done and not listed") as caught:
        Chaos(1, tmp_path, references, "folder").run(0)
    assert caught.value.__notes__[0].startswith("seed 1, folder\n1. the last on work-one: [ion ")
