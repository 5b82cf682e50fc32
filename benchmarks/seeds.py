"""Five seeds of a job in one batched run against five runs of one seed, and against upstream Protenix's own runner.

    seeds.py [--job 7r6r.json] [--preset small_v1] [--seeds 5] [--samples 1] [--passes 1] [--steps 2] [--threads 1]
             [--upstream-python PY] [--upstream-root DIR] [--upstream-job 7r6r.json]

A job of 60 tokens is made and run first, then the one given, in float32 on this machine's CPU, with the random weights
of the preset on both sides. Cold: five `foldline predict` commands, one command for all seeds, and upstream's loop from
the start of its process, each to the last file. Warm: the same in one process that has run the job before. Upstream
featurises the job again for every seed, which is its part "features". CPU seconds stand beside the wall's, as they
depend less on what else a machine does. Bound against five commands: 1.2.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from processes import ROOT, SHARED, Cost, add_options, run, upstream, upstream_job, write_job

BOUND = 1.2
PROTEIN = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVK"  # 60 residues


def cold(args: argparse.Namespace, job: Path, checkpoint: Path, folder: Path) -> tuple[Cost, Cost]:
    """(five commands, one command)."""
    settings = folder / "settings.toml"
    settings.write_text(f'threads = {args.threads}\nmsa = "{args.msa}"\n')
    seeds = [str(seed) for seed in range(1, args.seeds + 1)]

    def command(which: str, out: str) -> Cost:
        options = ["--seeds", which, "--out", str(folder / out), "--model", str(checkpoint), "--device", "cpu"]
        options += ["--recycles", str(args.passes - 1), "--steps", str(args.steps), "--samples", str(args.samples)]
        options += ["--config", str(settings), "--progress", "none"]
        return run([sys.executable, "-m", "foldline.cli", "predict", str(job), *options])

    together = command(",".join(seeds), "together")
    return sum((command(seed, f"seed-{seed}") for seed in seeds), Cost()), together


def warm(args: argparse.Namespace, job: Path, checkpoint: Path, folder: Path) -> tuple[Cost, Cost]:
    """(five calls, one call) of an engine that has its weights and has run the job; files are written."""
    from foldline.config import EngineConfig
    from foldline.engine import Engine
    from foldline.inputs import read_jobs

    options = {"recycles": args.passes - 1, "steps": args.steps, "samples": args.samples, "msa": args.msa}
    config = EngineConfig(device="cpu", threads=args.threads, **options)
    engine, (one,) = Engine(checkpoint, config=config), read_jobs([str(job)])

    def call(seeds: tuple[int, ...], out: str) -> Cost:
        start, cpu = time.perf_counter(), time.process_time()
        for prediction in engine.predict([one.with_seeds(seeds)], out=folder / out):
            assert prediction.error is None, prediction.error
        return Cost(time.perf_counter() - start, time.process_time() - cpu)

    call((99,), "warm-up")
    seeds = range(1, args.seeds + 1)
    together = call(tuple(seeds), "warm-together")
    return sum((call((seed,), f"warm-{seed}") for seed in seeds), Cost()), together


def small_jobs(folder: Path) -> tuple[Path, Path]:
    """A job of 60 tokens, as we and as upstream take it."""
    ours, theirs = write_job(folder, "sixty", PROTEIN), folder / "sixty-upstream.json"
    theirs.write_text(json.dumps([upstream_job("sixty", PROTEIN)]))
    return ours, theirs


def tell(name: str, cost: Cost, best: Cost) -> None:
    """One line of the table: `best` is our batched run of the same kind."""
    peak = f"{cost.peak / 1e9:10.2f}" if cost.peak else f"{'-':>10}"
    parts = ", ".join(f"{part} {spent:.1f}" for part, spent in cost.parts.items())
    wall = f"{cost.wall:8.1f}{cost.wall / best.wall:8.2f}"
    print(f"  {name:38}{wall}{cost.cpu:9.1f}{cost.cpu / best.cpu:8.2f}{peak}  {parts}", flush=True)


def compare(args: argparse.Namespace, jobs: tuple[Path, Path], checkpoint: Path, folder: Path) -> bool:
    """Measure and print one job; whether the bound is met."""
    folder.mkdir()
    n, job = args.seeds, jobs[0]
    print(
        f"{job.stem}{'':{40 - len(job.stem)}}  wall s   ratio    CPU s   ratio   peak GB  seconds of upstream's parts"
    )
    apart, together = cold(args, job, checkpoint, folder)
    tell(f"cold, {n} seeds in one command", together, together)
    tell(f"cold, {n} commands", apart, together)
    theirs = []
    if args.upstream_python:
        seeds = list(range(1, n + 1))
        theirs = upstream(args, checkpoint, folder / "upstream", [(jobs[1], seeds), (jobs[1], seeds)])
        tell(f"cold, upstream's run of {n} seeds", theirs[0], together)
    if not args.no_warm:
        warm_apart, warm_together = warm(args, job, checkpoint, folder)
        tell(f"warm, {n} seeds in one call", warm_together, warm_together)
        tell(f"warm, {n} calls", warm_apart, warm_together)
        if theirs:
            tell(f"warm, upstream's loop of {n} seeds", theirs[1], warm_together)
    return apart.wall / together.wall >= BOUND


def main() -> int:
    """Print the tables; 1 when the bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--job", default=str(SHARED / "data" / "af3_jobs" / "7r6r.json"))
    parser.add_argument("--upstream-job", default=str(SHARED / "data" / "protenix_jobs" / "7r6r.json"))
    parser.add_argument("--preset", default="small_v1")
    parser.add_argument("--msa", default="auto", choices=["auto", "none"])
    parser.add_argument("--no-warm", action="store_true")
    parser.add_argument("--only", choices=["sixty", "job"], help="the job of 60 tokens, or the one given")
    for name, default in (("seeds", 5), ("samples", 1), ("passes", 1), ("steps", 2), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    add_options(parser)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import torch

    from fidelity.presets import SPECS
    from fidelity.weights import write_checkpoint

    torch.set_num_threads(args.threads)
    spec = SPECS[args.preset]
    print(
        f"{args.preset} ({spec.n_pairformer} pairformer blocks, {spec.n_diffusion} of diffusion), {args.seeds} seeds, "
        f"{args.samples} samples, {args.passes} passes, {args.steps} steps, fp32, {args.threads} threads, "
        f"torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = write_checkpoint(spec, folder / "random.pt")
        jobs = {"sixty": small_jobs(folder), "job": (Path(args.job), Path(args.upstream_job))}
        chosen = jobs.items() if args.only is None else [(args.only, jobs[args.only])]
        met = [compare(args, pair, checkpoint, folder / which) for which, pair in chosen]
    print(f"ratio: to our batched run; bound of the commands: {BOUND}")
    return int(not all(met))


if __name__ == "__main__":
    sys.exit(main())
