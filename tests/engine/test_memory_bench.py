"""Counting live bytes on fake tensors: what is counted, and that the stages of a run add up."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from foldline.engine.memory_bench import DEVICE, LiveBytes, MemoryReport, ProcessBytes, measure
from foldline.engine.memory_model import STAGES
from foldline.engine.plan import Sizes, richest
from foldline.models.spec import PROTENIX_V1
from foldline.ops import Rows

SPEC = replace(PROTENIX_V1, n_pairformer=1, n_diffusion=1, n_confidence=1, n_msa=2)
SIZES = Sizes(n_token=256, n_atom=1024, n_msa=32, n_sample=2)
ROWS = Rows(pair=1 << 13, point=1 << 14, msa=1 << 14)


def test_storages_are_counted_while_anything_uses_them() -> None:
    with torch.inference_mode(), FakeTensorMode(), LiveBytes() as live:
        x = torch.empty(1000, device=DEVICE)
        view = x.view(10, 100)[3:]
        del x
        assert live.now[DEVICE] == 4000, "a view keeps its storage"
        y = view + 1
        assert live.now[DEVICE] == 4000 + 2800
        host = y.to("cpu")
        assert live.now["cpu"] == host.nbytes == 2800
        del view, y
        assert live.now[DEVICE] == 0 and live.peak[DEVICE] == 6800
        live.mark()
        assert live.peak[DEVICE] == 0


@pytest.fixture(scope="module")
def report() -> MemoryReport:
    return measure(replace(richest(SIZES, SPEC, device="cuda"), rows=ROWS))


def test_every_stage_is_measured(report: MemoryReport) -> None:
    assert list(report.stages) == list(STAGES)
    assert report.peak == max(stage.device for stage in report.stages.values())
    assert all(stage.device >= stage.held >= report.weights > 0 for stage in report.stages.values())


def test_a_pairformer_block_holds_two_copies_of_z_and_a_block_of_rows(report: MemoryReport) -> None:
    z, block = SIZES.n_token**2 * SPEC.c_z * 4, ROWS.pair * SPEC.c_z * 4
    assert 2 * z <= report.stages["pairformer"].device - report.weights <= 2 * z + 32 * block


def test_z_on_the_host_leaves_the_device() -> None:
    """One copy of z less in diffusion and confidence, and in the template step unless z itself comes last there."""
    sizes = replace(SIZES, n_token=512)
    z = 512**2 * SPEC.c_z * 4
    p = replace(richest(sizes, SPEC, device="cuda"), rows=ROWS, keep_biases=False)
    on_device, parked = measure(p), measure(replace(p, park_template=True, park_pair=True))
    for stage in ("diffusion, conditioning", "diffusion, step", "confidence", "template embedder"):
        assert on_device.stages[stage].device - parked.stages[stage].device == pytest.approx(z, rel=0.05), stage
        assert z <= parked.stages[stage].host <= 1.01 * z and on_device.stages[stage].host < 0.01 * z
    assert parked.stages["pairformer"].device == on_device.stages["pairformer"].device


def test_the_process_is_measured_on_a_cpu() -> None:
    """Memory that a process holds for a moment is seen, and not after a mark."""
    if not ProcessBytes.CLEAR.exists():
        pytest.skip("only Linux tells the peak since a mark")
    process = ProcessBytes()
    process.mark()
    before = process.now["cpu"]
    held = torch.ones(50_000_000, dtype=torch.uint8)
    assert process.peak["cpu"] >= before + 49_000_000
    del held
    process.mark()
    assert process.peak["cpu"] < before + 25_000_000


STEP = """
import sys, torch
sys.path.append(sys.argv[1])
torch.set_num_threads(1)
from upstream_layout import SMALL
from foldline.engine.memory_bench import measure_process
from foldline.engine.plan import Sizes, plan
chosen = plan(Sizes(100, 800, 2, n_sample=40), SMALL, 1 << 40)
assert chosen.diffusion_batch == 40
print(chosen.stage_bytes["diffusion, step"], measure_process(chosen).stages["diffusion, step"].device)
"""


@pytest.mark.skipif(not ProcessBytes.CLEAR.exists(), reason="only Linux tells the peak since a mark")
def test_a_process_that_draws_many_samples_is_as_planned() -> None:
    """Activations weigh most here, and the heap keeps part of what is freed of them."""
    root = Path(__file__).parents[2]
    words = [sys.executable, "-c", STEP, str(root / "tests" / "network_cases")]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True)
    planned, measured = map(int, done.stdout.split())
    assert planned == pytest.approx(measured, rel=0.1)
