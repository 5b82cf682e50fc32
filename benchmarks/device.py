"""The network on one device: seconds and peak memory of every size, and seeds together against one by one.

    device.py [--tokens 256 512 1024 2048 5120] [--preset base_v1] [--device auto] [--dtype auto] [--msa-rows 1024]
              [--passes 11] [--steps 200] [--samples 5] [--seeds 1] [--max-memory BYTES] [--once]

Made-up features (two chains and a ligand, five and a half atoms per token) and random weights, which cost what real
ones cost; needs torch, numpy and safetensors alone. Each size runs once to warm up, with one pass and two steps, and
once to be measured; --once leaves the first out. With --seeds N, N seeds run together as the plan says, then one by
one. With fewer passes or steps than the default, "whole" is what 11 passes and 200 steps would take by proportion.
"""

import argparse
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests" / "network_cases")]

import torch  # noqa: E402
from tiny_features import N_LIGAND, tiny_features  # noqa: E402

from fidelity.presets import SPECS  # noqa: E402
from fidelity.weights import write_checkpoint  # noqa: E402
from foldline.config import EngineConfig  # noqa: E402
from foldline.engine import Engine  # noqa: E402
from foldline.engine.group import Group, Lane  # noqa: E402
from foldline.engine.ladder import run_lanes  # noqa: E402
from foldline.engine.memory_bench import ProcessBytes  # noqa: E402
from foldline.engine.plan import Plan  # noqa: E402
from foldline.engine.record import new_peak, peak_bytes  # noqa: E402
from foldline.engine.runner import Results  # noqa: E402
from foldline.sampler import Draws  # noqa: E402
from foldline.tensors import Features  # noqa: E402

PASSES, STEPS = 11, 200
STAGES: tuple[str, ...] = ("trunk", "diffusion", "confidence")


@dataclass
class Measured:
    """What one run took: seconds per stage and in all, peak bytes, and the plan that it ended with."""

    seconds: dict[str, float]
    wall: float
    peak: int
    plan: Plan
    rungs: int

    def whole(self, passes: int, steps: int) -> float:
        """Seconds of a run of the default passes and steps, by proportion."""
        scale = {"trunk": PASSES / passes, "diffusion": STEPS / steps, "confidence": 1.0}
        return sum(self.seconds.get(stage, 0.0) * scale[stage] for stage in STAGES)


def measure(engine: Engine, features: Features, seeds: list[int], together: bool) -> Measured:
    """Run seeds of one job, as many together as the plan says or one by one."""
    results, seconds, rungs = Results(), dict.fromkeys(STAGES, 0.0), []
    lanes = [Lane(features, Draws(seed)) for seed in seeds]
    run = engine.runner(results)
    chosen = engine.plan_for(features, len(seeds) if together else 1)

    def add(group: Group) -> None:
        for stage in STAGES:
            seconds[stage] += group.seconds.get(stage, 0.0)

    new_peak(engine.device)
    resident = ProcessBytes()
    if engine.device.type == "cpu":
        resident.mark()
    start = time.perf_counter()
    for part in [lanes] if together else [[lane] for lane in lanes]:
        chosen = run_lanes(run, part, chosen, engine.memory_bytes, on_rung=rungs.append, on_group=add)
    wall = time.perf_counter() - start
    peak = resident.peak["cpu"] if engine.device.type == "cpu" else peak_bytes(engine.device)
    for lane in lanes:
        assert torch.isfinite(torch.as_tensor(results.of(lane, {}, run).samples.coordinates)).all(), "not finite"
    return Measured(seconds, wall, peak, chosen, len(rungs))


def line(n_token: int, n_atom: int, how: str, found: Measured, args: argparse.Namespace) -> str:
    """A row of the table."""
    stages = "".join(f"{found.seconds[stage]:11.2f}" for stage in STAGES)
    plan, gib = found.plan, 2**30
    return (
        f"{n_token:6} {n_atom:7} {how:>10}{stages}{found.wall:9.2f}{found.whole(args.passes, args.steps):9.1f}"
        f"{found.peak / gib:10.2f}{plan.peak_bytes / gib:10.2f}"
        f"{plan.seed_batch:6}{plan.diffusion_batch:6}{found.rungs:6}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The network on one device: seconds and peak memory.")
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 512, 1024, 2048, 5120])
    parser.add_argument("--preset", default="base_v1", choices=list(SPECS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--msa-rows", type=int, default=1024)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--max-memory", type=int)
    parser.add_argument("--once", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(SPECS[args.preset], Path(folder) / "random.pt")
        common = {"device": args.device, "dtype": args.dtype, "samples": args.samples, "max_memory": args.max_memory}
        settings = EngineConfig(recycles=args.passes - 1, steps=args.steps, **common)
        engine = Engine(checkpoint, config=settings)
        name = torch.cuda.get_device_name(engine.device) if engine.device.type == "cuda" else platform.machine()
        print(f"# {time.strftime('%Y-%m-%d')}, {name}, torch {torch.__version__}, Python {platform.python_version()}")
        print(f"# {' '.join(sys.argv[1:])}")
        print(f"# {args.preset}, {args.passes} passes, {args.steps} steps, {args.samples} samples, seconds and GiB")
        print(
            f"{'tokens':>6} {'atoms':>7} {'seeds':>10}"
            + "".join(f"{stage:>11}" for stage in STAGES)
            + f"{'wall':>9}{'whole':>9}{'peak':>10}{'planned':>10}{'trunk':>6}{'draws':>6}{'rungs':>6}",
            flush=True,
        )
        for tokens in args.tokens:
            features = tiny_features(0, args.msa_rows, (tokens - N_LIGAND) // 2)
            seeds = list(range(1, args.seeds + 1))
            if not args.once:
                engine.config = replace(settings, recycles=0, steps=2)
                measure(engine, features, seeds[:1], together=True)
                engine.config = settings
            for together in [True, False] if args.seeds > 1 else [True]:
                how = f"{args.seeds} at once" if together and args.seeds > 1 else f"{args.seeds} apart"
                found = measure(engine, features, seeds, together)
                print(line(features.n_token, features.n_atom, how, found, args), flush=True)


if __name__ == "__main__":
    main()
