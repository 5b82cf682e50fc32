"""How predictions are carried into a store, by a store that does as it is told. Real stores are in tests/survival."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foldline.engine import Prediction
from foldline.engine.carry import Carrier, into_store
from foldline.errors import Stopped, WriteError
from foldline.execute import Event
from foldline.inputs import Job, jobs_from_json

PATIENCE = 20.0


class Store:
    """Takes what is not in `refused`, after `room` is set; `samples` are the jobs whose samples were to be carried."""

    def __init__(self) -> None:
        self.folder, self.room = Path("work"), threading.Event()
        self.refused: list[str] = []
        self.taken: list[tuple[str, bool]] = []
        self.samples: list[str] = []
        self.brought: list[list[str]] = []
        self.room.set()

    def url_of(self, name: str) -> str:
        return f"s3://bucket/{name}"

    def bring(self, names: Any) -> dict[str, str]:
        """What is wrong with results there."""
        self.brought.append(list(names))
        return {name: "x.cif is missing" for name in names if name == "b_c"}

    def carry(self, name: str, fingerprint: str, *, is_made: bool) -> None:
        assert self.room.wait(PATIENCE), "the network waits for the store"
        assert fingerprint == f"of {name}"
        if name in self.refused:
            self.refused.remove(name)
            raise OSError(5, "refused")
        self.taken.append((name, is_made))

    def carry_samples(self, name: str) -> None:
        self.samples.append(name)


@pytest.fixture
def store() -> Store:
    return Store()


def carrier_of(store: Any, **more: Any) -> Carrier:
    return Carrier(store, **more)


def made(name: str, **more: Any) -> Prediction:
    return Prediction(name, Path("work") / name, fingerprint=f"of {name}", **more)


def jobs(*names: str) -> list[Job]:
    protein = {"protein": {"id": "A", "sequence": "MKT"}}
    shape = {"modelSeeds": [1], "sequences": [protein], "dialect": "alphafold3", "version": 1}
    found, faults = jobs_from_json(json.dumps([shape | {"name": name} for name in names]))
    assert not faults
    return found


def test_the_network_does_not_wait(store: Store) -> None:
    """The engine is asked for its next job while a store is slow; predictions keep their order and get a new place."""
    store.room.clear()

    def engine() -> Iterator[Prediction]:
        yield from map(made, "abc")
        store.room.set()

    ready: list[str] = []
    with carrier_of(store, finished=lambda prediction: ready.append(prediction.job_name)) as carrier:
        found = list(carrier.carried(engine()))
    assert [(one.job_name, one.directory, one.url, one.place) for one in found] == [
        (name, None, f"s3://bucket/{name}", f"s3://bucket/{name}") for name in "abc"
    ]
    assert store.taken == [(name, True) for name in "abc"] and ready == ["a", "b", "c"]


def test_jobs_that_failed_and_jobs_done_before(store: Store) -> None:
    with carrier_of(store) as carrier:
        found = list(carrier.carried([Prediction("a", error=WriteError("full")), made("b", skipped=True)]))
    assert [(one.error is None, one.skipped) for one in found] == [(False, False), (True, True)]
    assert store.taken == [("b", False)] and store.samples == ["a"]


def test_what_is_refused_is_tried_again_and_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those after it are not tried before the end: each would wait for the store as long."""
    store.refused = ["a", "a"]
    said: list[str] = []
    with carrier_of(store, progress=lambda event: said.append(f"{event.job}: {event.message}")) as carrier:
        found = list(carrier.carried(map(made, "ab")))
    assert said == [f"{name}: [Errno 5] refused; it is tried again at the end of the run" for name in "ab"]
    assert [str(one.error) for one in found] == [
        f"the result is kept in work/{name} and is not in the store ([Errno 5] refused); the same command puts it there"
        " without predicting it again"
        for name in "ab"
    ]
    assert isinstance(found[0].error, WriteError) and not store.taken
    monkeypatch.setattr("foldline.engine.carry.REST_SECONDS", 0.0)
    store.refused = ["a"]
    with carrier_of(store) as carrier:
        found = list(carrier.carried(map(made, "ab")))
    assert [one.job_name for one in found] == ["b", "a"] and [one.error for one in found] == [None, None]


def test_a_run_that_ends_in_the_midst_hands_over_what_is_made(store: Store) -> None:
    """The wish to end reaches the main thread alone."""

    def stopping(event: Event) -> None:
        raise Stopped

    def engine() -> Iterator[Prediction]:
        yield from map(made, "ab")
        raise Stopped

    store.refused = ["a"]
    with carrier_of(store, progress=stopping) as carrier:
        with pytest.raises(Stopped):
            list(carrier.carried(engine()))
        left = list(carrier.rest())
    assert sorted(one.job_name for one in left) == ["a", "b"] and [one.error for one in left] == [None, None]


def test_samples_go_seed_by_seed(store: Store) -> None:
    heard: list[Event] = []
    with carrier_of(store, progress=heard.append) as carrier:
        events = [Event("a", "trunk", seed=1), Event("a", "write", seed=1), Event("a", "write", message="a remark")]
        for event in events:
            carrier.progress(event)
    assert heard == events and store.samples == ["a"]


def test_jobs_are_asked_for_at_once_or_one_by_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    with carrier_of(store, progress=heard.append) as carrier:
        given = jobs("a", "b c")
        assert carrier.bring(given) is given and store.brought == [["a", "b_c"]]
        damaged = "its result in the store is damaged (x.cif is missing): the job is predicted again"
        assert heard == [Event("b c", "plan", message=damaged)]
        stream = iter(carrier.bring(iter(given)))
        assert next(iter(stream)) == given[0] and store.brought[1:] == [["a"]]

        def away(names: Any) -> None:
            raise OSError(5, "away")

        monkeypatch.setattr(store, "bring", away)
        with pytest.raises(WriteError, match="away"):
            carrier.bring(given)


def test_a_working_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(WriteError, match="results cannot be made in .*/file .*choose another folder with work_dir"),
        into_store("memory://bucket/x", tmp_path / "file"),
    ):
        pass


def test_the_place_of_a_prediction() -> None:
    assert Prediction("a").place is None and made("a").place == "work/a"
    assert replace(made("a"), url="s3://x/a").place == "s3://x/a"
