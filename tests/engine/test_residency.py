"""Weights that come and go with their stages: what a process holds of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from upstream_layout import SMALL, state

from foldline.engine.memory_bench import ProcessBytes
from foldline.engine.memory_model import Sizes
from foldline.engine.plan import plan
from foldline.engine.residency import Residency
from foldline.models import Network
from foldline.weights.load import open_model

MEGA = 1 << 20


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose diffusion part is large: 12 blocks, 400 MB."""
    path = tmp_path_factory.mktemp("weights") / "large.pt"
    torch.save({"model": state(Network(replace(SMALL, n_diffusion=12)), "module.")}, path)
    return path


@pytest.mark.skipif(not ProcessBytes.CLEAR.exists(), reason="only Linux tells what is resident")
def test_a_process_does_not_keep_weights_that_are_dropped(large: Path) -> None:
    """glibc keeps freed blocks of some megabytes on its heap unless it is asked for them."""
    checkpoint, spec = open_model(large)
    weights, device = Residency(spec, checkpoint, torch.device("cpu")), "cpu"
    leanest = replace(plan(Sizes(16, 100, 1), spec, 1 << 40, dtype=torch.float32, device=device), staged_weights=True)
    process = ProcessBytes()
    weights.bring("confidence", leanest)
    before = process.now["cpu"]
    weights.bring("diffusion", leanest)
    there = process.now["cpu"]
    weights.bring("confidence", leanest)
    assert there - before > 300 * MEGA
    assert process.now["cpu"] - before < 50 * MEGA
