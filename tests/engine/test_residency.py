"""Weights that come and go with their stages: what a process holds of them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from upstream_layout import SMALL, state

from foldline.engine.memory_bench import ProcessBytes
from foldline.models import Network

MEGA = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose diffusion part is large: 12 blocks, 400 MB."""
    path = tmp_path_factory.mktemp("weights") / "large.pt"
    torch.save({"model": state(Network(replace(SMALL, n_diffusion=12)), "module.")}, path)
    return path


@pytest.mark.skipif(not ProcessBytes.CLEAR.exists(), reason="only Linux tells what is resident")
def test_a_process_does_not_keep_weights_that_are_dropped(large: Path) -> None:
    """glibc keeps freed blocks of some megabytes on its heap unless it is asked for them."""
    program = Path(__file__).with_name("resident_weights.py").read_text()
    command = [sys.executable, "-c", program, str(large)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    before, there, after = json.loads(done.stdout)
    assert there - before > 300 * MEGA
    assert after - before < 50 * MEGA
