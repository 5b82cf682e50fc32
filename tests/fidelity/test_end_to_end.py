"""An AlphaFold 3 job through the whole engine, upstream's draws replayed: the written coordinates are upstream's."""

from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
import pytest

from fidelity.presets import SPECS, run_upstream
from fidelity.records import Record
from fidelity.weights import write_checkpoint
from foldline.config import EngineConfig
from foldline.engine import Engine
from foldline.inputs import read_jobs

pytestmark = pytest.mark.upstream
ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "fidelity"


@pytest.fixture
def both(upstream_python: Path, tmp_path: Path) -> Callable[..., tuple[Record, Engine]]:
    """A function from upstream's job, its working folder, steps and passes to its record and to our engine."""
    reference = ROOT.parent / "shared" / "reference" / "protenix"
    if not reference.is_dir():
        pytest.skip("the folder that runs upstream is not here")

    def run(job: Path, base: Path, steps: int, passes: int) -> tuple[Record, Engine]:
        out = tmp_path / "upstream.pt"
        settings = f"--model.N_cycle {passes} --sample_diffusion.N_step {steps} --sample_diffusion.N_sample 1"
        options = ("--set", settings, "--taps", "none", "--threads", "2", "--base", str(base))
        run_upstream(upstream_python, reference, "small_v1", job, out, *options)
        config = EngineConfig(device="cpu", dtype="fp32", samples=1, recycles=passes - 1, steps=steps)
        return Record(out), Engine(write_checkpoint(SPECS["small_v1"], tmp_path / "small.pt"), config=config)

    return run


def test_coordinates_of_every_kind_of_chain(both: Callable[..., tuple[Record, Engine]]) -> None:
    """The full 200 steps; features from our own reading of the job, conformers and draws from the tape."""
    record, engine = both(DATA / "protenix.json", DATA, 200, 2)
    (prediction,) = engine.predict(read_jobs(DATA / "af3.json"), draws=record.tape())
    assert prediction.error is None
    theirs = record["outputs.coordinate"].numpy()
    ours = prediction.samples[0].coordinates
    assert ours.shape == theirs.shape
    # weights moved by 1e-7 move upstream by 2e-5 Å, where coordinates are of a protein's size
    scale = max(1.0, float(np.sqrt(np.square(theirs).mean())) / 20)
    assert np.abs(ours - theirs).max() <= 2e-4 * scale


def test_the_file_of_an_example(both: Callable[..., tuple[Record, Engine]], shared_data: Path, tmp_path: Path) -> None:
    """7r6r, a protein with DNA and a deep alignment, from its AlphaFold 3 JSON to the mmCIF; few steps."""
    record, engine = both(shared_data / "protenix_jobs" / "7r6r.json", shared_data.parent, 20, 1)
    jobs = read_jobs(shared_data / "af3_jobs" / "7r6r.json")
    (prediction,) = engine.predict(jobs, out=tmp_path / "out", draws=record.tape())
    assert prediction.error is None and prediction.directory is not None
    model = gemmi.cif.read(str(prediction.directory / f"{jobs[0].name}_model.cif")).sole_block()
    table = model.find("_atom_site.", ["Cartn_x", "Cartn_y", "Cartn_z"])
    written = np.array([[float(x) for x in row] for row in table])
    theirs = record["outputs.coordinate"].numpy()[0]
    assert written.shape == theirs.shape
    assert np.abs(written - theirs).max() <= 2e-4 + 5e-4  # three decimals
