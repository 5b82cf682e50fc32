"""What makes a result out of date, what is made again of a broken one, and faults that nobody foresaw."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdkit import Chem

from foldline.chem.conformers import Conformers
from foldline.config import EngineConfig
from foldline.engine import Engine, Prediction
from foldline.errors import InternalError
from foldline.features import featuriser
from foldline.inputs import Job, jobs_from_json
from foldline.outputs import layout
from foldline.outputs.claims import Claim, Claims
from foldline.sampler import Tape

SETTINGS: dict[str, Any] = {"samples": 1, "steps": 2, "recycles": 0, "msa": "none", "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Engine:
    return Engine(checkpoint, config=EngineConfig(**SETTINGS))


def a_job(name: str = "ion", seeds: tuple[int, ...] = (1,)) -> Job:
    sequences = [{"ligand": {"id": "A", "ccdCodes": ["ZN"]}}]
    text = {"dialect": "alphafold3", "version": 1, "name": name, "modelSeeds": list(seeds), "sequences": sequences}
    (job,), errors = jobs_from_json(json.dumps(text))
    assert not errors
    return job


def only(engine: Engine, out: Path, **more: Any) -> Prediction:
    (prediction,) = engine.predict([a_job()], out=out, **more)
    assert prediction.error is None
    return prediction


def test_a_tape_makes_another_result(engine: Engine, tmp_path: Path) -> None:
    assert not only(engine, tmp_path).skipped and only(engine, tmp_path).skipped
    assert not only(engine, tmp_path, draws=Tape(2)).skipped
    assert only(engine, tmp_path, draws=Tape(2)).skipped
    assert not only(engine, tmp_path).skipped


def test_the_rate_of_dropout_makes_another_result(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "config", EngineConfig(**SETTINGS, mc_dropout=True))
    assert not only(engine, tmp_path).skipped and only(engine, tmp_path).skipped
    monkeypatch.setattr(engine, "spec", replace(engine.spec, mc_dropout=engine.spec.mc_dropout / 2))
    assert not only(engine, tmp_path).skipped


def test_embeddings_that_are_missing_are_made_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between a seed's sample and its embeddings, that is, before the last files."""
    monkeypatch.setattr(engine, "config", EngineConfig(**SETTINGS, save_embeddings=True))
    only(engine, tmp_path)
    folder = tmp_path / "ion"
    (embeddings,) = folder.glob("seed-1_embeddings/*.npz")
    whole = embeddings.read_bytes()
    record = json.loads((folder / "ion_run.json").read_text())
    state = {"fingerprint": record["fingerprint"], "samples": [record["best"]]}
    (folder / ".ion_progress.json").write_text(json.dumps(state))
    embeddings.unlink()
    (folder / "ion_run.json").unlink()
    assert not only(engine, tmp_path).skipped
    assert embeddings.read_bytes() == whole and not (folder / ".ion_progress.json").exists()


def test_a_record_that_cannot_be_read_is_the_folders_fault(engine: Engine, tmp_path: Path) -> None:
    """Whatever is there in its place stays, and is named."""
    record = tmp_path / "ion" / "ion_run.json"
    (record / "mine").mkdir(parents=True)
    (found,) = engine.predict([a_job()], out=tmp_path)
    assert found.error is not None and found.error.code == "not_written"
    assert str(found.error).startswith(f"what is in {record} cannot be read (Is a directory): mend or remove it")
    assert (record / "mine").is_dir()


def test_an_unforeseen_fault_ends_one_job(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = featuriser.Featuriser.__call__

    def broken(self: Any, job: Job) -> Any:
        if job.name == "b":
            raise KeyError("a fault of ours")
        return real(self, job)

    monkeypatch.setattr(featuriser.Featuriser, "__call__", broken)
    found = {p.job_name: p.error for p in engine.predict([a_job(name) for name in "abc"])}
    assert found["a"] is None and found["c"] is None
    assert isinstance(found["b"], InternalError) and "a fault of ours" in found["b"].details


def test_a_result_of_another_process_counts(engine: Engine, tmp_path: Path) -> None:
    """The job is held elsewhere; when it comes free, its result is there."""
    waited: list[str] = []
    (tmp_path / "made").mkdir()
    only(engine, tmp_path / "made")
    with Claims(tmp_path) as other:
        assert other.take("ion", "of theirs") is Claim.MINE

        def listen(event: Any) -> None:
            if event.stage == "wait" and not waited:
                waited.append(event.message)
            elif event.stage == "wait" and (tmp_path / "made" / "ion").exists():
                (tmp_path / "made" / "ion").rename(tmp_path / "ion")
                other.give_back("ion")

        found = only(engine, tmp_path, progress=listen)
    assert (
        found.skipped and "another process" in found.warnings[0] and waited == ["left to another process that is at it"]
    )


def test_a_result_that_goes_between_two_looks_is_made(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process replaced it after the job was found done, and before it was claimed: it is prepared again."""
    looks: list[str] = []

    def is_finished(directory: Path, name: str, fingerprint: str) -> bool:
        looks.append(name)
        return len(looks) == 1

    monkeypatch.setattr(layout, "is_finished", is_finished)
    monkeypatch.setattr(engine, "config", EngineConfig(**SETTINGS))
    real = engine._preparer
    monkeypatch.setattr(
        engine, "_preparer", lambda *words: replace(real(*words), notes=lambda job: ("of the checkpoint",))
    )
    found = only(engine, tmp_path)
    assert not found.skipped and len(looks) == 2 and (tmp_path / "ion" / "ion_run.json").is_file()
    assert found.warnings.count("of the checkpoint") == 1


def test_signals_to_all_processes_do_not_change_a_conformer(tmp_path: Path) -> None:
    """Ctrl-C reaches the child that embeds too: were it to die, a lesser conformer would be kept for good."""
    source = Conformers(tmp_path)
    try:
        ethanol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
        first = source._worker.embed(ethanol, "etkdg")
        child = source._worker._process
        assert child is not None and first.xyz is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            child.send_signal(number)
        again = source._worker.embed(ethanol, "etkdg")
        assert np.array_equal(again.xyz, first.xyz) and source._worker._process is child and child.poll() is None
    finally:
        source.close()
