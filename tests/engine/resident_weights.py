"""Prints what a process holds before, with and after the weights of a checkpoint's diffusion part: three numbers.

In a process of its own, whose heap has no room left over from anything else.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from foldline.engine.memory_bench import ProcessBytes
from foldline.engine.memory_model import Sizes
from foldline.engine.plan import plan
from foldline.engine.residency import Residency
from foldline.weights.load import open_model

checkpoint, spec = open_model(Path(sys.argv[1]))
weights = Residency(spec, checkpoint, torch.device("cpu"))
leanest = replace(plan(Sizes(16, 100, 1), spec, 1 << 40, dtype=torch.float32, device="cpu"), staged_weights=True)
process = ProcessBytes()
held = []
for stage in ("confidence", "diffusion", "confidence"):
    weights.bring(stage, leanest)
    held.append(process.now["cpu"])
json.dump(held, sys.stdout)
