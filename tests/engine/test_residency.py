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
from foldline.engine.plan import Sizes, richest
from foldline.engine.residency import Residency
from foldline.models import Network
from foldline.weights import load
from foldline.weights.load import open_model

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


def test_weights_that_memory_ran_out_for_are_not_half_there(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of them would stay beside the stages that follow, which nothing takes away."""
    opened, spec = open_model(checkpoint)
    weights = Residency(spec, opened, torch.device("cpu"))
    chosen, real, calls = richest(Sizes(16, 100, 1), spec), load.assign, []

    def assign(*args: object) -> None:
        calls.append(args)
        if len(calls) == 9:
            raise MemoryError
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(load, "assign", assign)
    with pytest.raises(MemoryError):
        weights.bring("trunk", chosen)
    assert all(parameter.is_meta for parameter in weights.network.parameters())
    weights.bring("trunk", chosen)
    assert not any(parameter.is_meta for parameter in weights.network.parameters())
