"""Seconds of the network on this machine's CPU, ours against upstream Protenix: same weights, features, threads, draws.

    cpu_vs_upstream.py --upstream-python PY [--job PROTENIX_JOB] [--preset base_v1] [--threads 2]

One trunk pass, one diffusion step of five samples and of one; both sides in one run, one after the other. Upstream runs
its torch kernels in float32, ours in float32 and the trunk in bfloat16 too. Bounds for 7r6r (245 tokens): trunk 1.5,
step of five 1.5, step of one 1.3, bf16 trunk 2.5.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from fidelity.presets import SPECS
from fidelity.records import Record, difference
from fidelity.weights import random_network
from foldline.engine.plan import Sizes, plan, work_sizes
from foldline.models import Batch, Network
from foldline.ops import select

ROOT = Path(__file__).resolve().parents[1]
BOUNDS = {"trunk pass": 1.5, "diffusion step, 5 samples": 1.5, "diffusion step, 1 sample": 1.3, "trunk pass, bf16": 2.5}


def upstream(args: argparse.Namespace, out: Path) -> dict[str, float]:
    """Time upstream in its own environment; its record is written to `out`."""
    script = ROOT / "fidelity" / "upstream_side.py"
    reference = ROOT.parent / "shared" / "reference" / "protenix"
    command = [args.upstream_python, str(script), "--reference", str(reference), "--preset", args.preset]
    command += ["--job", args.job, "--base", args.base, "--out", str(out), "--taps", "none", "--time"]
    command += ["--threads", str(args.threads)]
    command += ["--set", "--model.N_cycle 1 --sample_diffusion.N_step 3 --sample_diffusion.N_sample 5"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def seconds(function: object, repeats: int) -> float:
    """Best of some calls."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


@torch.inference_mode()
def ours(record: Record, preset: str) -> tuple[dict[str, float], float]:
    """Our times, and the relative RMS difference of the coordinates from upstream's."""
    from foldline.sampler import sample

    spec, features, tape = SPECS[preset], record.features(), record.tape()
    ops = select(work_sizes(features.n_token, "cpu"))
    found = {}
    results = {}
    for dtype in (torch.bfloat16, torch.float32):
        sizes = Sizes(features.n_token, features.n_atom, len(features.msa))
        network = random_network(spec, dtype_of=plan(sizes, spec, 1 << 40, dtype=dtype).dtype_of)
        batch = Batch.of(features, tape.ref_pos(features), "cpu", spec.max_msa)
        start = time.perf_counter()
        s_inputs = network.trunk.embed_inputs(batch, ops)
        low = s_inputs.to(dtype)
        s, z = network.trunk.start(batch, low)
        network.trunk(batch, low, s, z, tape.msa_rows(0, len(batch.msa)), ops)
        name = "trunk pass" if dtype == torch.float32 else "trunk pass, bf16"
        found[name] = time.perf_counter() - start
        results = {"network": network, "batch": batch, "s_inputs": s_inputs, "s": s, "z": z}
    network: Network = results["network"]
    start = time.perf_counter()
    fixed = network.diffusion.prepare(batch, results["s_inputs"], results["s"], results["z"], True, ops)
    found["diffusion, what all steps share"] = time.perf_counter() - start
    x, t_hat = torch.randn(5, features.n_atom, 3) * 100, torch.tensor(100.0)
    for n, label in ((5, "diffusion step, 5 samples"), (1, "diffusion step, 1 sample")):
        found[label] = seconds(lambda n=n: network.diffusion(x[:n], t_hat, fixed, None, ops), 4)
    mask = torch.ones(features.n_atom, dtype=torch.bool)
    coordinates = sample(
        lambda x, t: network.diffusion(x, t, fixed, None, ops), spec, tape.samples(range(5)), mask, n_step=3
    )
    return found, difference("coordinates", coordinates, record["outputs.coordinate"]).rms


def main() -> int:
    """Print the table; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = ROOT.parent / "shared" / "data"
    parser.add_argument("--upstream-python", default=str(ROOT / ".venv-upstream" / "bin" / "python"))
    parser.add_argument("--job", default=str(data / "protenix_jobs" / "7r6r.json"))
    parser.add_argument("--base", default=str(data.parent))
    parser.add_argument("--preset", default="base_v1", choices=SPECS)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "upstream.pt"
        theirs = upstream(args, out)
        record = Record(out)
        mine, error = ours(record, args.preset)
        sizes = record.features().sizes
    print(f"{platform.processor() or platform.machine()}, {args.threads} threads, torch {torch.__version__}")
    print(
        f"{Path(args.job).stem}, {args.preset}: {sizes['N_token']} tokens, {sizes['N_atom']} atoms, "
        f"coordinates differ by a relative RMS of {error:.1e}"
    )
    print(f"{'':34}{'ours s':>9}{'upstream s':>12}{'ratio':>8}{'bound':>8}")
    missed = False
    for name, spent in mine.items():
        other = theirs.get(name.removesuffix(", bf16"))
        ratio = other / spent if other else float("nan")
        bound = BOUNDS.get(name)
        missed |= bound is not None and ratio < bound
        print(f"{name:34}{spent:9.2f}{other or float('nan'):12.2f}{ratio:8.2f}{bound or float('nan'):8.1f}")
    return int(missed)


sys.exit(main())
