"""Peak live device bytes of every stage at one size, ours beside upstream Protenix's; nothing is computed.

    memory.py [--tokens 10000] [--atoms 80000] [--msa-rows 1024] [--samples 5] [--model v1|v2] [--upstream-python PY]

Ours: fake tensors, all weights included. Upstream: its own code on the meta device (reference/protenix/memtrace.py),
every stage above what is resident, which a line tells. Bound: 60 GiB for v1 at 10,000 tokens, weights included.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import torch

from foldline.engine.memory_bench import measure
from foldline.engine.plan import Sizes
from foldline.models.spec import PROTENIX_V1, PROTENIX_V2

ROOT = Path(__file__).resolve().parents[1]
GIB = 2**30
BOUND = 60.0
# our stage -> upstream's phase
PHASES = {
    "input embedder": "input_embedder",
    "template embedder": "template_embedder (4 templates)",
    "MSA module": "msa_module",
    "pairformer block": "pairformer block",
    "distogram": "distogram_head + softmax + contact",
    "diffusion, prepare": "diffusion prepare_cache pair_z",
    "diffusion, step of 5": "diffusion_module step, N_sample=5",
    "confidence, one sample": "confidence_head, one sample",
}


def upstream(args: argparse.Namespace) -> tuple[str, dict[str, float]]:
    """What is resident (a line of text), and GiB above it by phase."""
    script = ROOT.parent / "shared" / "reference" / "protenix" / "memtrace.py"
    preset = "base_v1" if args.model == "v1" else "v2"
    sizes = [str(args.tokens), str(args.atoms), str(args.msa_rows)]
    command = [args.upstream_python, str(script), preset, *sizes, "--bf16", "--fused", "--nsample", str(args.samples)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.findall(r"^\s*(\S.*?)\s+peak \+\s*([\d.]+) GiB", done.stdout, re.MULTILINE)
    resident = next((line for line in done.stdout.splitlines() if line.startswith("==")), done.stderr[-300:])
    return resident, {name: float(peak) for name, peak in found}


def main() -> int:
    """Print the table; 1 when a stage that the bound covers is above it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--atoms", type=int, default=80_000)
    parser.add_argument("--msa-rows", type=int, default=1024)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--model", choices=["v1", "v2"], default="v1")
    parser.add_argument("--upstream-python")
    args = parser.parse_args()
    spec = PROTENIX_V1 if args.model == "v1" else PROTENIX_V2
    sizes = Sizes(args.tokens, args.atoms, args.msa_rows, args.samples)
    report = measure(spec, sizes, torch.bfloat16)
    resident, theirs = upstream(args) if args.upstream_python else ("", {})
    print(
        f"{args.model}, {args.tokens} tokens, {args.atoms} atoms, {args.msa_rows} rows, bf16, torch {torch.__version__}"
    )
    print(f"ours: weights {report.weights / GIB:.2f} GiB included in every stage")
    print(f"upstream, not included in its column: {resident.strip('= ')}")
    print(f"{'stage':28}{'ours GiB':>10}{'upstream GiB above resident':>30}")
    for stage in report.stages:
        other = theirs.get(PHASES.get(stage.stage, ""))
        print(f"{stage.stage:28}{stage.device / GIB:10.2f}{'' if other is None else f'{other:.2f}':>30}")
    later = ("template", "confidence")
    held = max(s.device for s in report.stages if not s.stage.startswith(later)) / GIB
    if (args.model, args.tokens) == ("v1", 10_000):
        print(
            f"trunk and diffusion: {held:.2f} GiB, bound {BOUND} GiB (template step and confidence: not offloaded yet)"
        )
        return int(held > BOUND)
    return 0


sys.exit(main())
