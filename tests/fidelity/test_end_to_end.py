"""An AlphaFold 3 job through the whole engine, upstream's draws replayed: the written coordinates are upstream's."""

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


@pytest.mark.parametrize(("name", "steps"), [("fidelity", 200), ("7r6r", 40)])
def test_predict_writes_upstreams_coordinates(
    name: str, steps: int, upstream_python: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Our own features, conformers and draws from the tape; `fidelity` has all sorts of chains."""
    reference = ROOT.parent / "shared" / "reference" / "protenix"
    if not reference.is_dir():
        pytest.skip("the folder that runs upstream is not here")
    ours_of, theirs_of, base = DATA / "af3.json", DATA / "protenix.json", DATA
    if name != "fidelity":
        shared: Path = request.getfixturevalue("shared_data")
        ours_of, theirs_of = shared / "af3_jobs" / f"{name}.json", shared / "protenix_jobs" / f"{name}.json"
        base = shared.parent
    settings = f"--model.N_cycle 2 --sample_diffusion.N_step {steps} --sample_diffusion.N_sample 1"
    out = tmp_path / "upstream.pt"
    options = ("--set", settings, "--taps", "none", "--threads", "2", "--base", str(base))
    run_upstream(upstream_python, reference, "small_v1", theirs_of, out, *options)
    record = Record(out)
    config = EngineConfig(device="cpu", dtype="fp32", samples=1, recycles=1, steps=steps)
    engine = Engine(write_checkpoint(SPECS["small_v1"], tmp_path / "small.pt"), config=config)
    (job,) = read_jobs(ours_of)
    (prediction,) = engine.predict([job], draws=record.tape())
    assert prediction.error is None
    theirs = record["outputs.coordinate"].numpy()
    ours = prediction.samples[0].coordinates
    assert ours.shape == theirs.shape
    # weights moved by 1e-7 move upstream by 2e-5 Å, where coordinates are of a protein's size
    scale = max(1.0, float(np.sqrt(np.square(theirs).mean())) / 20)
    assert np.abs(ours - theirs).max() <= 2e-4 * scale
    (prediction,) = engine.predict([job], out=tmp_path / "out", draws=record.tape())
    assert prediction.directory is not None
    model = gemmi.cif.read(str(prediction.directory / f"{job.name}_model.cif")).sole_block()
    table = model.find("_atom_site.", ["Cartn_x", "Cartn_y", "Cartn_z"])
    written = np.array([[float(x) for x in row] for row in table])
    assert np.abs(written - ours[0]).max() <= 5.1e-4  # three decimals
