"""A job that is run again with other seeds: those it has are kept, the others run, and the rest goes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from foldline.config import EngineConfig
from foldline.engine import Engine, Prediction
from foldline.errors import Stopped
from foldline.execute import Event
from foldline.inputs import Job, jobs_from_json
from foldline.outputs.journal import Journal
from foldline.outputs.layout import damage

SETTINGS = {"samples": 2, "steps": 1, "recycles": 0, "msa": "none", "device": "cpu", "threads": 1, "seed_batch": 1}
NAME = 'two "modelSeeds": [1] of them'


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Engine:
    return Engine(checkpoint, config=EngineConfig(save_embeddings=True, **SETTINGS))


def a_job(*seeds: int, name: str = NAME) -> Job:
    chains = [{"protein": {"id": "A", "sequence": "MKWVTF"}}, {"ligand": {"id": "B", "smiles": "C[C@H](N)O"}}]
    text = {"dialect": "alphafold3", "version": 1, "name": name, "modelSeeds": list(seeds), "sequences": chains}
    (job,), errors = jobs_from_json(json.dumps(text))
    assert not errors
    return job


class Went:
    """One run: its prediction, the seeds that went through the network, and what was said."""

    def __init__(self, engine: Engine, out: Path, *seeds: int, stop: Callable[[Event], bool] = lambda _: False) -> None:
        self.seeds: list[int] = []
        self.said: list[str] = []

        def listen(event: Event) -> None:
            if stop(event):
                raise Stopped
            if event.stage == "diffusion" and event.seed is not None and event.seed not in self.seeds:
                self.seeds.append(event.seed)
            self.said.append(event.message)

        self.prediction: Prediction | None = None
        try:
            (self.prediction,) = engine.predict([a_job(*seeds)], out=out, progress=listen)
            assert self.prediction.error is None, self.prediction.error
            assert self.prediction.directory == out / self.prediction.directory.name  # type: ignore[union-attr]
        except Stopped:
            pass


def job_folder(out: Path) -> Path:
    (folder,) = (path for path in out.iterdir() if path.is_dir() and not path.name.startswith("."))
    return folder


def files(out: Path) -> dict[str, bytes]:
    """Everything of a result but the record of the run, which holds times."""
    folder = job_folder(out)
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: content for name, content in found.items() if not name.endswith("_run.json")}


def record(out: Path) -> dict:
    folder = job_folder(out)
    return json.loads((folder / f"{folder.name}_run.json").read_text())


@pytest.fixture(scope="module")
def straight(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds in one go."""
    out = tmp_path_factory.mktemp("straight")
    assert Went(engine, out, 1, 2, 3).seeds == [1, 2, 3]
    return out


@pytest.fixture
def two(engine: Engine, tmp_path: Path) -> Path:
    """Two of them."""
    out = tmp_path / "out"
    assert Went(engine, out, 2, 1).seeds == [2, 1]
    return out


def test_only_the_new_seed_runs_and_the_result_is_that_of_all(engine: Engine, two: Path, straight: Path) -> None:
    kept = {path: path.stat().st_ino for path in two.rglob("seed-*/*")}
    assert len(kept) == 2 * (2 * 3 + 1), "three files of each sample and the embeddings of each seed"
    went = Went(engine, two, 1, 2, 3)
    assert went.seeds == [3] and any("seeds kept: 2" in said for said in went.said)
    assert files(two) == files(straight)
    assert {path: path.stat().st_ino for path in kept} == kept, "what is kept was written again"
    found, wanted = record(two), record(straight)
    assert found["kept_seeds"] == [1, 2] and wanted["kept_seeds"] == []
    for key in ("best", "stereocentres", "fingerprint", "seedless_fingerprint", "files"):
        assert found[key] == wanted[key], key
    assert damage(job_folder(two), job_folder(two).name) == ""
    again = Went(engine, two, 1, 2, 3)
    assert again.prediction is not None and again.prediction.skipped and again.seeds == []


def test_fewer_seeds_need_no_network_and_the_others_go(engine: Engine, two: Path, straight: Path) -> None:
    Went(engine, two, 1, 2, 3)
    (job_folder(two) / "notes.txt").write_text("mine")
    went = Went(engine, two, 3)
    assert went.seeds == [] and went.prediction is not None and not went.prediction.skipped
    names = {name.split("/")[0] for name in files(two) if "/" in name}
    assert names == {"seed-3_sample-0", "seed-3_sample-1", "seed-3_embeddings"} and "notes.txt" in files(two)
    rows = (job_folder(two) / f"{job_folder(two).name}_ranking_scores.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [["3", "0"], ["3", "1"]]
    assert record(two)["best"]["seed"] == 3
    assert Went(engine, two, 1, 3).seeds == [1]


def test_an_interruption_loses_neither_the_old_result_nor_the_new_samples(
    engine: Engine, two: Path, straight: Path
) -> None:
    before = files(two)
    went = Went(engine, two, 1, 2, 3, 4, stop=lambda e: e.stage == "diffusion" and e.seed == 4)
    assert went.prediction is None and went.seeds == [3]
    assert {name: files(two)[name] for name in before} == before and record(two)["kept_seeds"] == []
    assert Went(engine, two, 1, 2, 3, 4).seeds == [4]
    assert {name: content for name, content in files(two).items() if name.startswith("seed-3")} == {
        name: content for name, content in files(straight).items() if name.startswith("seed-3")
    }
    assert record(two)["kept_seeds"] == [1, 2] and damage(job_folder(two), job_folder(two).name) == ""


def test_an_interrupted_job_goes_on_with_other_seeds(engine: Engine, tmp_path: Path, straight: Path) -> None:
    """What it has of those that are wanted stays, and the rest goes, whether or not there is a result beside it."""
    out = tmp_path / "out"
    assert Went(engine, out, 4, 2, 5, stop=lambda e: e.stage == "diffusion" and e.seed == 5).seeds == [4, 2]
    (job_folder(out) / "seed-4_sample-0" / "notes.txt").write_text("mine")
    assert Went(engine, out, 1, 2, 3, stop=lambda e: e.stage == "diffusion" and e.seed == 3).seeds == [1]
    assert Went(engine, out, 3, 2, 1).seeds == [3] and record(out)["kept_seeds"] == []
    (job_folder(out) / "seed-4_sample-0" / "notes.txt").unlink()
    (job_folder(out) / "seed-4_sample-0").rmdir()
    names = {name for name in files(out) if not name.endswith((".csv", "_data.json"))}
    assert {name: files(out)[name] for name in names} == {name: files(straight)[name] for name in names}
    assert files(out).keys() == files(straight).keys()
    assert Went(engine, out, 1, 4, 5, stop=lambda e: e.stage == "diffusion" and e.seed == 5).seeds == [4]
    assert Went(engine, out, 1, 2, 4).seeds == [] and record(out)["kept_seeds"] == [1, 2]
    assert {name.split("/")[0][:6] for name in files(out) if "/" in name} == {"seed-1", "seed-2", "seed-4"}
    assert damage(job_folder(out), job_folder(out).name) == ""


def test_a_seed_that_is_kept_and_begun_anew_is_there_once(checkpoint: Path, engine: Engine, two: Path) -> None:
    """Its run with overwrite was interrupted; the next one does not overwrite."""
    anew = Engine(checkpoint, config=replace(engine.config, overwrite=True))
    assert Went(anew, two, 1, 2, 3, stop=lambda e: e.stage == "diffusion" and e.seed == 2).seeds == [1]
    assert Went(engine, two, 1, 2, 3).seeds == [3]
    rows = (job_folder(two) / f"{job_folder(two).name}_ranking_scores.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [[seed, sample] for seed in "123" for sample in "01"]
    assert damage(job_folder(two), job_folder(two).name) == ""


@pytest.mark.parametrize("change", [{"steps": 2}, {"samples": 1}, {"overwrite": True}], ids=str)
def test_other_options_keep_nothing(engine: Engine, checkpoint: Path, two: Path, change: dict[str, object]) -> None:
    other = Engine(checkpoint, config=replace(engine.config, **change))
    assert Went(other, two, 1, 2, 3).seeds == [1, 2, 3]
    assert record(two)["kept_seeds"] == []


def test_a_damaged_result_keeps_nothing(engine: Engine, two: Path) -> None:
    next(two.rglob("seed-1_sample-0/*_model.cif")).write_text("cut")
    assert Went(engine, two, 1, 2, 3).seeds == [1, 2, 3]


def test_the_lists_are_of_the_new_result(engine: Engine, two: Path) -> None:
    name = job_folder(two).name
    Journal(two).finished(NAME, name)
    Went(engine, two, 1, 2, 3)
    Journal(two).finished(NAME, name)
    (line,) = (json.loads(text) for text in (two / "results.jsonl").read_text().splitlines())
    assert line["fingerprint"] == record(two)["fingerprint"]
