"""Peak live device bytes of every stage at one size, ours beside upstream Protenix's; nothing is computed.

    memory.py [--tokens 10000] [--atoms 80000] [--msa-rows 1024] [--samples 5] [--model v1|v2] [--memory 60GiB]
              [--upstream-python PY]

Ours: fake tensors, the plan for --memory, all weights included. Upstream: its own code on the meta device
(reference/protenix/memtrace.py), every stage above what is resident, which a line tells. Bound: 60 GiB for v1 at 10,000
tokens in every stage, weights included.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import torch

from foldline.config import EngineConfig
from foldline.engine.memory_bench import measure
from foldline.engine.plan import Sizes, leanest, plan
from foldline.errors import DoesNotFit
from foldline.models.spec import PROTENIX_V1, PROTENIX_V2

ROOT = Path(__file__).resolve().parents[1]
GIB = 2**30
BOUND = 60.0
# our stage -> upstream's phase
PHASES = {
    "input embedder": "input_embedder",
    "template embedder": "template_embedder (4 templates)",
    "MSA module": "msa_module",
    "pairformer": "pairformer block",
    "distogram": "distogram_head + softmax + contact",
    "diffusion, conditioning": "diffusion prepare_cache pair_z",
    "diffusion, step": "diffusion_module step, N_sample=5",
    "confidence": "confidence_head, one sample",
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
    parser.add_argument("--memory", default="60GiB")
    parser.add_argument("--model", choices=["v1", "v2"], default="v1")
    parser.add_argument("--upstream-python")
    args = parser.parse_args()
    spec = PROTENIX_V1 if args.model == "v1" else PROTENIX_V2
    sizes = Sizes(args.tokens, args.atoms, args.msa_rows, args.samples)
    memory = EngineConfig.make(max_memory=args.memory).max_memory or 0
    try:
        chosen = plan(sizes, spec, memory, dtype=torch.bfloat16, device="cuda")
    except DoesNotFit as error:
        print(error)
        chosen = leanest(sizes, spec, dtype=torch.bfloat16, device="cuda")
    report = measure(chosen)
    resident, theirs = upstream(args) if args.upstream_python else ("", {})
    print(
        f"{args.model}, {args.tokens} tokens, {args.atoms} atoms, {args.msa_rows} rows, {args.samples} samples, bf16, "
        f"torch {torch.__version__}"
    )
    print(f"ours: weights {report.weights / GIB:.2f} GiB included in every stage")
    kept = {k: chosen.record()[k] for k in ("rows", "diffusion_batch", "keep_biases", "park_template", "park_pair")}
    print(f"plan for {args.memory}: {kept}")
    print(f"upstream, not included in its column: {resident.strip('= ')}")
    print(f"{'stage':26}{'ours GiB':>10}{'predicted':>11}{'host GiB':>10}{'upstream GiB above resident':>30}")
    for stage in report.stages.values():
        other = theirs.get(PHASES.get(stage.stage, ""))
        predicted = chosen.stage_bytes[stage.stage] / GIB
        print(
            f"{stage.stage:26}{stage.device / GIB:10.2f}{predicted:11.2f}{stage.host / GIB:10.2f}"
            f"{'' if other is None else f'{other:.2f}':>30}"
        )
    host = max(stage.host for stage in report.stages.values())
    print(f"peak: {report.peak / GIB:.2f} GiB on the device, {host / GIB:.2f} GiB of tensors on the host")
    if (args.model, args.tokens) == ("v1", 10_000):
        print(f"bound {BOUND} GiB on the device")
        return int(report.peak / GIB > BOUND)
    return 0


sys.exit(main())
