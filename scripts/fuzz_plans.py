"""Random jobs within random memories on a pretended GPU: what the engine held at most beside what was planned.

    fuzz_plans.py [--cases N] [--seed S] [--preset small_v1 small_v2 ...] [--most-tokens 200]

The engine runs as it would on a device, with values on the CPU; live bytes are counted as a caching allocator rounds
them. The memory lies between what the leanest and what the richest plan need, and every pass draws all alignment rows,
as a plan has to assume. Exit code 1 when a plan is more than 10 % off, or memory ran out.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests" / "network_cases")]

import pytest  # noqa: E402
import torch  # noqa: E402
from pretend_gpu import Gpu, pretend_gpu  # noqa: E402
from tiny_features import N_LIGAND, tiny_features  # noqa: E402

from fidelity.presets import SPECS  # noqa: E402
from fidelity.weights import write_checkpoint  # noqa: E402
from foldline.config import EngineConfig  # noqa: E402
from foldline.engine import Engine  # noqa: E402
from foldline.engine.group import Lane  # noqa: E402
from foldline.engine.ladder import Rung, run_lanes  # noqa: E402
from foldline.engine.plan import Plan, leanest, plan  # noqa: E402
from foldline.engine.runner import Results  # noqa: E402
from foldline.sampler import Draws  # noqa: E402

BOUND = 0.1


class AllRows(Draws):
    """The draws of a seed, but for alignment rows, of which a pass may draw any number."""

    def msa_rows(self, pass_index: int, n_msa: int) -> torch.Tensor:
        """All of them."""
        return torch.arange(n_msa)


def drawn(rng: random.Random, checkpoint: Path, most: int) -> tuple[Engine, Plan, list[Lane]]:
    """An engine, a plan for some memory, and the seeds to run with it."""
    dtype, seeds, samples = rng.choice(["fp32", "bf16"]), rng.choice([1, 1, 2, 4]), rng.choice([1, 2, 5])
    tokens = round(16 * (most / 16) ** rng.random())
    features = tiny_features(rng.randrange(99), rng.choice([1, 70, 600]), max(1, (tokens - N_LIGAND) // 2))
    passes = {"recycles": rng.choice([0, 1]), "steps": 2, "samples": samples}
    engine = Engine(checkpoint, config=EngineConfig(device="cuda", dtype=dtype, **passes))
    rich = engine.plan_for(features, seeds)
    sizes, kind = rich.request.sizes, {"dtype": rich.trunk_dtype, "device": "cuda"}
    least = leanest(sizes, engine.spec, **kind).peak_bytes
    memory = least + int(rng.random() * (rich.peak_bytes - least))
    return engine, plan(sizes, engine.spec, memory, **kind), [Lane(features, AllRows(seed)) for seed in range(seeds)]


def trial(rng: random.Random, gpu: Gpu, checkpoint: Path, most: int) -> tuple[float, str]:
    """One case: how far off the plan was, and a line that tells of it."""
    start = time.perf_counter()
    engine, chosen, lanes = drawn(rng, checkpoint, most)
    rungs: list[Rung] = []
    gpu.peak = gpu.now
    run_lanes(
        engine.runner(Results()), lanes, chosen, chosen.peak_bytes, on_rung=rungs.append, on_group=lambda _group: None
    )
    off = float("inf") if rungs else chosen.peak_bytes / gpu.peak - 1
    seconds = time.perf_counter() - start
    sizes, gave = chosen.request.sizes, ("staged_weights", "park_template", "park_pair")
    given_up = [] if chosen.keep_biases else ["biases"]
    given_up += [name for name in gave if getattr(chosen, name)]
    return off, (
        f"{sizes.n_token:6}{sizes.n_atom:7}{sizes.n_msa:6}{sizes.n_seed:6}{sizes.n_sample:8}  "
        f"{str(chosen.trunk_dtype).removeprefix('torch.'):9}{chosen.seed_batch:3}/{chosen.diffusion_batch:<4}"
        f"{chosen.peak_bytes / 1e6:10.1f}{gpu.peak / 1e6:10.1f}{100 * off:+8.1f} %{seconds:7.1f} s  "
        f"{' '.join(given_up)}"
    )


def main() -> int:
    """Print a line for every case; 1 when a plan is off by more than the bound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", nargs="+", default=["small_v1", "small_v2"], choices=list(SPECS))
    parser.add_argument("--most-tokens", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    worst: list[float] = []
    print("tokens  atoms   msa seeds samples  dtype    batches     planned  measured     off  seconds  given up (MB)")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch, pretend_gpu(patch) as gpu:
        checkpoints = [write_checkpoint(SPECS[name], Path(folder) / f"{name}.pt") for name in args.preset]
        for case in range(args.cases):
            rng = random.Random(f"{args.seed}/{case}")
            off, line = trial(rng, gpu, rng.choice(checkpoints), args.most_tokens)
            worst.append(off)
            print(line + ("  <- beyond the bound" if abs(off) > BOUND else ""), flush=True)
            assert gpu.now == 0, f"{gpu.now} bytes are left on the device"
    print(f"{len(worst)} cases, planned {100 * min(worst):+.1f} to {100 * max(worst):+.1f} % of what was held")
    return int(max(map(abs, worst)) > BOUND)


if __name__ == "__main__":
    sys.exit(main())
