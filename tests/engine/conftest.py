"""Puts the shared random networks and features on the path; one thread, so that sums are made in one order."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1] / "network_cases"))
torch.set_num_threads(1)
