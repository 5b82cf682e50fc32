"""Seeds that a new result keeps of the old one: what counts as the same, and a kill at every moment."""

import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from killed import contents, killed_at

from foldline.outputs.claims import Claim, Claims
from foldline.outputs.journal import Journal, unlist
from foldline.outputs.kept import kept_samples
from foldline.outputs.layout import PredictedJob, SampleWriter, damage, is_finished, settle
from foldline.structure.atoms import Topology
from foldline.tensors.results import Samples

RandomSamples = Callable[[Topology, int, int], Samples]


@pytest.fixture
def small(jobs: dict[str, PredictedJob]) -> PredictedJob:
    return replace(jobs["protein_nucleic"], name="job")


def write(folder: Path, job: PredictedJob, samples: dict[int, Samples], *, fingerprint: str) -> list[int]:
    """Write a result of some seeds over what is there, as the engine does; which of them had to be made."""

    def before_swap() -> None:
        unlist(folder.parent, job.name)

    settle(folder, job.name, before_swap)
    kept = kept_samples(folder, job.name, "same", samples)
    named = {"fingerprint": fingerprint, "seedless": "same", "kept": kept, "before_swap": before_swap}
    writer = SampleWriter(folder, job, **named)
    made = [seed for seed in samples if not writer.has_seed(seed, 2)]
    for seed in made:
        writer.write(samples[seed])
    writer.finish([b"{}"], {}, list(samples))
    return made


def whole(folder: Path) -> dict[str, bytes]:
    """All files, the record without what it says of kept seeds."""
    found = contents(folder)
    record = json.loads(found["job_run.json"])
    del record["kept_seeds"]
    return found | {"job_run.json": json.dumps(record).encode()}


def test_kept_samples_are_read_as_they_were_written(
    small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    writer = SampleWriter(tmp_path, small, fingerprint="f", seedless="same")
    for seed in (5, -1 + 2**32 - 1):
        writer.write(random_samples(small.topology, seed, 2))
    writer.written[1] = replace(writer.written[1], inverted=["A:1:CA"])
    wanted = list(writer.written)
    writer.finish([b"{}"], {})
    assert kept_samples(tmp_path, "job", "same", {5, 2**32 - 2}) == wanted
    assert kept_samples(tmp_path, "job", "same", {5, 7}) == wanted[:2]
    for seedless in ("", "other"):
        assert kept_samples(tmp_path, "job", seedless, {5}) == []
    assert kept_samples(tmp_path / "nowhere", "job", "same", {5}) == []
    (tmp_path / "job_data.json").write_text("[]")
    assert damage(tmp_path, "job") == "" and kept_samples(tmp_path, "job", "same", {5}) == wanted[:2]
    (tmp_path / "job_data.json").unlink()
    assert kept_samples(tmp_path, "job", "same", {5}) == [], "what is damaged in one file is not trusted in another"


def test_a_kill_at_any_moment_leaves_one_result_whole(
    small: PredictedJob, random_samples: RandomSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds 1 and 2 are there, 2 and 3 are wanted: 2 is never made again, and never gone while a record is there."""
    monkeypatch.setattr(os, "fsync", lambda number: None)
    out = tmp_path / "out"
    folder = out / "job"
    one, two, three = (random_samples(small.topology, seed, 2) for seed in (1, 2, 3))
    write(tmp_path / "new" / "job", small, {2: two, 3: three}, fingerprint="g")
    write(folder, small, {1: one, 2: two}, fingerprint="f")
    Journal(out).finished("job", "job")
    shutil.copytree(out, tmp_path / "before")
    wanted, old, states = whole(tmp_path / "new" / "job"), contents(folder), set()
    for number in itertools.count(1):
        shutil.rmtree(out)
        shutil.copytree(tmp_path / "before", out)
        if not killed_at(number, lambda: write(folder, small, {2: two, 3: three}, fingerprint="g")):
            break
        done = [fingerprint for fingerprint in "fg" if is_finished(folder, "job", fingerprint)]
        has_record = (folder / "job_run.json").is_file()
        states.add((has_record, *done))
        assert (out / "results.jsonl").read_text() == "" or has_record, "listed, and not there"
        if has_record and done == ["f"]:
            assert contents(folder) == old and damage(folder, "job") == ""
        if done == ["g"]:
            with Claims(out) as claims:
                assert claims.take("job", "g") is Claim.FINISHED
        else:
            assert 2 not in write(folder, small, {2: two, 3: three}, fingerprint="g")
        assert whole(folder) == wanted and [path.name for path in folder.glob(".*")] == []
    assert states == {(True, "f"), (True, "g"), (False, "g")}
