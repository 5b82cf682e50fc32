"""The demo checkpoint: what it is, what it says of itself, and whether it recalls what it has memorised."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foldline.cli import main
from foldline.config import EngineConfig
from foldline.engine import Engine
from foldline.inputs import Job, read_jobs
from foldline.models.spec import SamplerSpec
from foldline.weights.card import job_keys, read_card
from foldline.weights.load import open_model
from foldline.weights.registry import BUNDLED, DEMO, cached_path, checkpoint_path
from tools.train_demo.model import SPEC
from tools.train_demo.table import TARGETS, rows_of

NAMES = [target["name"] for target in json.loads(TARGETS.read_text())]


def job_of(root: Path, name: str) -> Job:
    (job,) = read_jobs([root / "examples" / f"{name}.json"])
    return job


def command(*words: str | Path) -> int:
    """Exit code of a command line."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_it_is_part_of_the_package_as_the_registry_says(tmp_path: Path) -> None:
    path = checkpoint_path("demo", cache_dir=tmp_path)
    assert path == DEMO.bundled == cached_path(DEMO, tmp_path) and DEMO in BUNDLED
    content = path.read_bytes()
    assert len(content) == DEMO.size and len(content) < 25_000_000
    assert hashlib.sha256(content).hexdigest() == DEMO.sha256
    assert EngineConfig().model != "demo"


def test_the_weights_commands_know_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "foldline.toml"
    config.write_text(f'cache_dir = "{tmp_path}"\n')
    assert command("weights", "list", "--config", config) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("demo "))
    assert "bundled" in line and "nothing else" in line
    assert command("weights", "verify", "demo", "--config", config) == 0
    assert "equals the registry" in capsys.readouterr().out
    assert command("weights", "show", "demo", "--config", config) == 0
    assert "spec c_z: 32" in capsys.readouterr().out
    assert command("weights", "fetch", "demo", "--config", config) == 0
    assert capsys.readouterr().out.strip() == str(DEMO.bundled)


def test_its_spec_is_that_of_the_training() -> None:
    checkpoint, spec = open_model(checkpoint_path("demo"))
    assert spec == SPEC
    assert spec.n_recycle == 0 and spec.sampler == SamplerSpec(n_step=3, gamma_0=0.0, step_scale=1.0)
    assert 3e6 < sum(int(np.prod(shape)) for shape in checkpoint.shapes.values()) < 6e6


def test_it_names_the_examples_as_memorised(root: Path) -> None:
    memorised = read_card(open_model(checkpoint_path("demo"))[0].metadata, "demo").memorised
    assert memorised is not None and set(memorised) == set(NAMES) and len(NAMES) >= 3
    for name in NAMES:
        assert sorted(memorised[name]) == job_keys(job_of(root, name))


def test_a_memorised_structure_is_said_to_be_recalled(root: Path, tmp_path: Path) -> None:
    engine = Engine("demo", config=EngineConfig(device="cpu", samples=1, steps=2, threads=1))
    (done,) = engine.predict([job_of(root, "demo_protein_dna")], out=tmp_path)
    assert done.error is None and done.directory is not None
    (note,) = (note for note in done.warnings if "memorised" in note)
    assert "can predict nothing else" in note and "this job is demo_protein_dna" in note
    record = json.loads((done.directory / "demo_protein_dna_run.json").read_text())
    assert note in record["warnings"] and record["model"] == "demo"
    (row,) = rows_of(done.directory, None)
    assert np.isfinite([row.plddt, row.ptm, row.ranking_score]).all()


def test_any_other_job_runs_and_is_said_to_mean_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job = {"name": "other", "dialect": "alphafold3", "version": 2, "modelSeeds": [1]}
    protein = {"id": "A", "sequence": "MKTAYIAKQR", "unpairedMsa": "", "pairedMsa": "", "templates": []}
    (tmp_path / "other.json").write_text(json.dumps(job | {"sequences": [{"protein": protein}]}))
    words = ["predict", tmp_path / "other.json", "--out", tmp_path / "out", "--model", "demo", "--samples", "1"]
    assert command(*words, "--device", "cpu", "--progress", "plain") == 0
    said = "".join(capfd.readouterr())
    assert "can predict nothing else: this job is none of them, and its answer means nothing" in said
    record = json.loads((tmp_path / "out/other/other_run.json").read_text())
    assert any("its answer means nothing" in note for note in record["warnings"])


def test_a_changed_sequence_is_not_a_memorised_one(root: Path) -> None:
    card = read_card(open_model(checkpoint_path("demo"))[0].metadata, "demo")
    job = job_of(root, "myoglobin")
    assert "this job is myoglobin" in card.notes(job)[0]
    swapped = replace(job, entities=tuple(reversed(job.entities)), name="another name")
    assert "this job is myoglobin" in card.notes(swapped)[0]
    assert "means nothing" in card.notes(replace(job, entities=job.entities[:1]))[0]
    doubled = replace(job.entities[0], ids=("A", "C"))
    assert "means nothing" in card.notes(replace(job, entities=(doubled, job.entities[1])))[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_recalls_what_it_has_memorised(name: str, root: Path, shared_data: Path, tmp_path: Path) -> None:
    target = next(target for target in json.loads(TARGETS.read_text()) if target["name"] == name)
    engine = Engine("demo", config=EngineConfig(device="cpu", threads=1))
    (done,) = engine.predict([job_of(root, name)], out=tmp_path)
    assert done.directory is not None
    best = rows_of(done.directory, shared_data / "structures" / target["structure"])[0].deviation
    assert best is not None and best.polymer < 2.5 and best.n_polymer > 60
    if target["ligands"]:
        assert best.ligand < 3.0
