"""Seeds that a new result keeps of one in a store: what comes back, beside what is here, and what does not."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foldline import remote
from foldline.outputs.kept import bring_kept
from foldline.outputs.layout import PredictedJob, SampleWriter, progress_file, remove_result, stored_mark
from foldline.outputs.locks import job_lock
from foldline.outputs.stored import StoredResults
from foldline.remote import RemoteError
from foldline.structure.atoms import Topology
from foldline.tensors.results import Samples

URL = "memory://bucket/results"
RandomSamples = Callable[[Topology, int, int], Samples]


class Machine:
    """A working folder for the store, and what the engine does there with a job of two samples a seed."""

    def __init__(self, root: Path, job: PredictedJob, random_samples: RandomSamples) -> None:
        self.store, self.job = StoredResults(URL, root), job
        self.samples = lambda seed: random_samples(job.topology, seed, 2)

    @property
    def folder(self) -> Path:
        return self.store.folder / self.job.name

    def writer(self, seeds: tuple[int, ...], *, seedless: str = "same") -> SampleWriter:
        return SampleWriter(self.folder, self.job, fingerprint=f"{seedless} {seeds}", seedless=seedless, seeds=seeds)

    def predict(self, *seeds: int, seedless: str = "same", embeddings: bool = False) -> list[int]:
        """A whole result, carried into the store; which seeds had to be made."""
        bring_kept(self.folder, self.job.name, seedless, seeds)
        writer = self.writer(seeds, seedless=seedless)
        made = [seed for seed in seeds if not writer.has_seed(seed, 2, embeddings=embeddings)]
        for seed in made:
            writer.write(self.samples(seed))
            if embeddings:
                path = self.folder / f"seed-{seed}_embeddings" / f"job_seed-{seed}_embeddings.npz"
                path.parent.mkdir()
                np.savez(path, single_embeddings=np.full(3, seed))
        writer.finish([b"{}"], {}, seeds)
        self.store.carry("job", writer.fingerprint)
        return made

    def bring(self, *seeds: int, seedless: str = "same") -> set[int]:
        return bring_kept(self.folder, "job", seedless, seeds)

    def journal(self) -> dict[tuple[int, int], float]:
        told = json.loads(progress_file(self.folder, "job").read_text())["samples"]
        return {(one["seed"], one["sample"]): one["ranking_score"] for one in told}


@pytest.fixture
def job(jobs: dict[str, PredictedJob]) -> PredictedJob:
    return replace(jobs["protein_nucleic"], name="job")


@pytest.fixture
def machine(memory: Any, tmp_path: Path, job: PredictedJob, random_samples: RandomSamples) -> Iterator[Machine]:
    found = Machine(tmp_path / "work", job, random_samples)
    with found.store:
        yield found


def in_store() -> dict[str, bytes]:
    found = {file: remote.content(f"{URL}/job/{file}") or b"" for file in remote.files(f"{URL}/job")}
    told = json.loads(found["job_run.json"])
    return found | {"job_run.json": json.dumps({k: v for k, v in told.items() if k != "fingerprint"}).encode()}


@pytest.mark.parametrize("embeddings", [False, True])
def test_only_new_seeds_are_made(machine: Machine, *, embeddings: bool) -> None:
    """And the store has what making all of them gives."""
    assert machine.predict(7, 5, embeddings=embeddings) == [7, 5]
    assert machine.predict(5, 9, 7, embeddings=embeddings) == [9]
    grown = in_store()
    assert len([file for file in grown if file.endswith(".npz")]) == (3 if embeddings else 0)
    assert machine.predict(5, embeddings=embeddings) == []
    least = in_store()
    assert {file.partition("_")[0] for file in least if file.startswith("seed-")} == {"seed-5"}
    remote.remove(f"{URL}/job/job_run.json")
    machine.store.bring(["job"])
    assert machine.predict(5, 9, 7, embeddings=embeddings) == [5, 9, 7] and in_store() == grown


def test_samples_come_beside_those_that_are_here(machine: Machine) -> None:
    """A run with more seeds was killed: it had made one that the store lacks, and half of one that the store has."""
    machine.predict(1, 2)
    writer = machine.writer((1, 2, 3, 4))
    writer.write(machine.samples(3))
    writer.write_sample(machine.samples(2), 1)
    assert machine.bring(1, 2, 3, 4) == {1, 2} and machine.bring(1, 2, 3, 4) == set(), "nothing is left to come"
    scores = {
        (seed, n): float(machine.samples(seed).confidences[n].ranking_score) for seed in (1, 2, 3) for n in (0, 1)
    }
    assert machine.journal() == scores
    assert {(one.seed, one.sample) for one in machine.writer((1, 2, 3, 4)).written} == scores.keys()
    assert machine.predict(4, 2, 1, 3) == [4]


def test_what_is_of_other_options_goes_before_samples_come(machine: Machine) -> None:
    machine.predict(1, 2)
    machine.writer((8,), seedless="other").write(machine.samples(8))
    assert machine.bring(2, 9) == {2} and machine.journal().keys() == {(2, 0), (2, 1)}
    assert not list(machine.folder.glob("seed-8*"))


def test_what_does_not_come(machine: Machine, tmp_path: Path) -> None:
    """Of other options or seeds, where another process is at it, where a result is here, and in no store's folder."""
    machine.predict(1, 2)
    assert machine.bring(1, seedless="other") == machine.bring(1, seedless="") == machine.bring(3) == set()
    with job_lock(machine.store.folder, "job"):
        assert machine.bring(1) == set()
    writer = machine.writer((4,))
    writer.write(machine.samples(4))
    writer.finish([b"{}"], {})
    assert machine.bring(1) == set(), "it was made here and is not in the store yet"
    remove_result(machine.folder, "job")
    assert bring_kept(tmp_path / "job", "job", "same", (1,)) == set()
    assert not [path for path in machine.folder.rglob("*") if path.is_file() and path.name != ".job_stored.json"]
    assert machine.bring(1) == {1}


def test_a_result_that_another_machine_has_replaced_is_not_the_one_that_is_kept(machine: Machine) -> None:
    machine.predict(1)
    record = json.loads(remote.content(f"{URL}/job/job_run.json") or b"")
    for there in (json.dumps(record | {"plan": {"of": "another"}}).encode(), b"{"):
        remote.write(there, f"{URL}/job/job_run.json")
        assert machine.bring(1) == set()
    remote.write(json.dumps({k: v for k, v in record.items() if k != "files"}).encode(), f"{URL}/job/job_run.json")
    stored_mark(machine.folder, "job").write_bytes(remote.content(f"{URL}/job/job_run.json") or b"")
    assert machine.bring(1) == set(), "whose files' bytes are not known"


@pytest.mark.parametrize("fault", ["gone", "short"])
def test_a_file_that_cannot_be_had(machine: Machine, fault: str) -> None:
    """Nothing counts as kept, and the seeds are made."""
    machine.predict(1, 2)
    file = f"{URL}/job/seed-2_sample-1/job_seed-2_sample-1_confidences.json"
    remote.remove(file)
    if fault == "short":
        remote.write(b"{}", file)
    with pytest.raises(RemoteError, match="has 2 bytes" if fault == "short" else "not there"):
        machine.bring(1, 2, 3)
    assert not progress_file(machine.folder, "job").exists()
    writer = machine.writer((1, 2, 3))
    assert writer.written == [] and not list(machine.folder.glob("seed-*"))
