"""Counting live bytes on fake tensors: what is counted, and that the stages of a run add up."""

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from foldline.engine.memory_bench import DEVICE, LiveBytes, MemoryReport, measure
from foldline.engine.plan import Sizes
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
    return measure(SPEC, SIZES, torch.float32, rows=ROWS)


def test_every_stage_is_measured(report: MemoryReport) -> None:
    names = [stage.stage for stage in report.stages]
    assert names[0] == "input embedder" and names[-1].startswith("confidence") and len(set(names)) == len(names) >= 8
    assert report.peak == max(stage.device for stage in report.stages)
    assert all(stage.device >= stage.held >= report.weights > 0 for stage in report.stages)


def test_a_pairformer_block_holds_two_copies_of_z_and_a_block_of_rows(report: MemoryReport) -> None:
    z, block = SIZES.n_token**2 * SPEC.c_z * 4, ROWS.pair * SPEC.c_z * 4
    (stage,) = (stage for stage in report.stages if stage.stage.startswith("pairformer"))
    assert 2 * z <= stage.device - report.weights <= 2 * z + 32 * block
