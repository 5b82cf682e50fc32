"""Runs that replace results: the old one stays whole and listed until the new one is; damaged ones are made again."""

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from killing import (
    ALONE,
    CHANGED,
    LISTS,
    Forked,
    Replacer,
    contents,
    finish,
    leftovers,
    records,
    whole_lines,
    write_jobs,
)

from foldline.outputs import journal, layout


class Place:
    """A folder with two jobs of two seeds, and two results of them."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self.folder, self.checkpoint, self.out = folder, checkpoint, folder / "out"
        write_jobs(folder, 2, 2)
        for name, options in (("old", ()), ("new", CHANGED)):
            assert self.run(*options, out=name)[0] == 0
        self.old, self.new = contents(folder / "old"), contents(folder / "new")

    def run(self, *options: str, out: str = "out") -> tuple[int, str, list[dict[str, Any]]]:
        """Exit code, what was told to people, and what to programs."""
        process = Forked(self.folder, self.checkpoint, out, *ALONE, *options, "--progress", "json")
        said, told = process.communicate(timeout=300)
        return process.returncode, told, [json.loads(line) for line in said.splitlines()]


def remarks(said: list[dict[str, Any]]) -> list[str]:
    return [line["message"] for line in said if line["event"] == "progress" and "result" in (line["message"] or "")]


def seeds(said: list[dict[str, Any]]) -> int:
    """How many went through the network."""
    return len({(line["job"], line["seed"]) for line in said if line["event"] == "progress" and line["seed"]})


@pytest.fixture(scope="module")
def made(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("replacing"), checkpoint)


@pytest.fixture
def place(made: Place) -> Place:
    """With the old results in `out`."""
    shutil.rmtree(made.out, ignore_errors=True)
    shutil.copytree(made.folder / "old", made.out)
    return made


def dies(real: Callable[..., Any], when: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
    """Stands in for a function, and ends the process in the place of a call of choice."""

    def call(*words: Any, **more: Any) -> Any:
        if when(*words):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*words, **more)

    return call


STAGES = {
    # what dies, when, is the old result of job0 there and listed then, and how many seeds are predicted afterwards
    "the first sample": (layout.SampleWriter, "write_sample", None, True, 4),
    "the second seed": (layout.SampleWriter, "write_sample", lambda self, samples, place: samples.seed == 2, True, 3),
    "the last files": (layout.SampleWriter, "finish", None, True, 2),
    "the swap": (journal, "unlist", None, True, 2),
    "the first file of it": (layout, "is_of_result", lambda name, file: _in_swap(file), False, 2),
    "the last one": (layout, "_remove_empty", None, False, 2),
    "the end of it": (shutil, "rmtree", lambda path, **_: str(path).endswith("_next"), False, 2),
}


def _in_swap(file: str) -> bool:
    return file.endswith("_model.cif") and not Path("out/job0/job0_run.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_killed_before(stage: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Job0 is being replaced and job1 is to be; whoever comes next makes what lacks, and nothing twice."""
    owner, name, when, is_old, count = STAGES[stage]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dies(getattr(owner, name), when or (lambda *_: True)))
        process = Forked(place.folder, place.checkpoint, "out", *ALONE, *CHANGED)
        finish(process)
    assert process.returncode == -signal.SIGKILL
    after, lines = contents(place.out), {line["job"]: line for line in whole_lines(place.out / LISTS[0])}
    there = records(place.out)
    assert "job1" in lines and {k: v for k, v in after.items() if "job1" in k}.items() <= place.old.items()
    if is_old:
        assert after == place.old and lines["job0"]["fingerprint"] == there["job0"]["fingerprint"]
    else:
        assert "job0" not in lines
    code, told, said = place.run(*CHANGED)
    assert (code, told) == (0, "") and seeds(said) == count
    assert contents(place.out) == place.new and leftovers(place.out) == []
    found = {line["job"]: line["fingerprint"] for line in whole_lines(place.out / LISTS[0])}
    assert found == {job: record["fingerprint"] for job, record in records(place.out).items()} and len(found) == 2


def test_a_run_that_fails_costs_nothing(place: Place) -> None:
    """The old results stay and stay listed; what failed stays listed too, until there is a new result."""
    lists = (place.out / LISTS[0]).read_bytes()
    for option in (("--max-memory", "1MB"), ("--max-memory", "1MB", "--overwrite")):
        code, _, said = place.run(*CHANGED, *option)
        assert code == 3
        assert [line["error"]["code"] for line in said if line["event"] == "job"] == ["does_not_fit"] * 2
        assert contents(place.out) == place.old and (place.out / LISTS[0]).read_bytes() == lists
        assert leftovers(place.out) == []
    old = {line["job"]: line["fingerprint"] for line in whole_lines(place.out / LISTS[0])}
    assert {line["job"]: line["earlier_result"] for line in whole_lines(place.out / LISTS[1])} == old
    code, _, said = place.run()
    assert code == 0 and [line["skipped"] for line in said if line["event"] == "job"] == [True, True]
    assert not whole_lines(place.out / LISTS[1]) and not remarks(said)


def test_a_replaced_result_is_told_of(place: Place) -> None:
    code, told, said = place.run(*CHANGED)
    assert (code, told, len(remarks(said))) == (0, "", 2) and contents(place.out) == place.new
    assert all(text.startswith("replaces the result of 20") for text in remarks(said))
    code, _, said = place.run(*CHANGED, "--overwrite")
    assert code == 0 and len(remarks(said)) == 2 and seeds(said) == 4 and contents(place.out) == place.new
    assert remarks(place.run(*CHANGED)[2]) == []


@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_damaged_result_is_made_again(place: Place, how: str) -> None:
    file = "job0_model.cif" if how == "cut" else "seed-2_sample-1/job0_seed-2_sample-1_summary_confidences.json"
    path = place.out / "job0" / file
    path.write_bytes(path.read_bytes()[:40]) if how == "cut" else path.unlink()
    code, told, said = place.run()
    assert (code, told) == (0, "") and [line["skipped"] for line in said if line["event"] == "job"] == [False, True]
    (remark,) = remarks(said)
    assert remark.startswith(f"its result is damaged ({file} {'has 40 bytes, ' if how == 'cut' else 'is missing'}")
    assert contents(place.out) == place.old and leftovers(place.out) == []


@pytest.mark.slow
def test_kills_at_random_moments(checkpoint: Path, tmp_path: Path) -> None:
    """`benchmarks/kills.py` makes more of them."""
    tormentor = Replacer(tmp_path, checkpoint, jobs=2, starter=Forked)
    seed = random.randrange(10**6)
    said: list[str] = []
    try:
        assert tormentor.run(6, seed=seed, say=said.append).kills == 6
    except AssertionError as error:
        error.add_note("\n".join([f"seed {seed}", *said]))
        raise
