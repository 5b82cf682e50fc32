"""Puts the shared random networks and features on the path; one thread, so that sums are made in one order."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "network_cases"))
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One block of everything with random weights, as upstream writes checkpoints."""
    from upstream_layout import small_network, state

    path = tmp_path_factory.mktemp("weights") / "small.pt"
    torch.save({"model": state(small_network(), "module.")}, path)
    return path
