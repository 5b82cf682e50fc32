"""The checkpoint of the smallest random network, as upstream writes checkpoints."""

import sys
from pathlib import Path

import pytest
import torch

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "network_cases")]
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from upstream_layout import small_network, state

    path = tmp_path_factory.mktemp("checkpoint") / "small.pt"
    torch.save({"model": state(small_network(), "module.")}, path)
    return path
