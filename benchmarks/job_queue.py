"""Fifty jobs of 50 to 120 tokens: jobs per hour of one engine, of jobs one by one and of upstream Protenix's runner.

    job_queue.py [--jobs 50] [--preset small_v1] [--passes 1] [--steps 2] [--samples 1] [--threads 1] [--workers 0]
                 [--one-by-one 50] [--commands 3] [--buckets 64,96,128] [--upstream-python PY] [--upstream-root DIR]
                 [--tokens 250 60 40] [--memory 500]

The queue: features of the next jobs are made and results are written while the network runs; with --buckets, once more
with jobs that share forward passes; --tokens gives the lengths of the jobs, in order. One by one: a call of the engine
for every job, which is made, run and written before the next one begins, alone in its passes. Upstream: its runner's
loop over one list of the same jobs. All three have their weights loaded and have run jobs before. Commands: a
`foldline predict` per job, with its start. All with the same random weights in float32 on this machine's CPU, results
written.

`--memory N` instead runs N jobs and prints resident memory as it goes, with its slope after the first fifth: the median
of those between any two readings, as jobs are at work at each of them, and that of a fitted line. Bound of the median:
20 kB a job.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from processes import ROOT, add_options, run, upstream, upstream_job, write_job

WARM_UP = 3  # jobs that every engine runs before it is timed
BOUND = 20_000  # bytes that a job may add to resident memory


def sequences(count: int, tokens: Sequence[int] = ()) -> list[str]:
    """Random proteins of so many residues, or of 50 to 120."""
    rng = random.Random(1)
    lengths: Iterable[int] = tokens or (rng.randint(50, 120) for _ in range(count))
    return ["".join(rng.choices("ACDEFGHIKLMNPQRSTVWY", k=length)) for length in lengths]


def write_jobs(folder: Path, proteins: list[str]) -> list[Path]:
    """One AlphaFold 3 JSON file per job, without alignments; and one list in upstream's format."""
    paths, theirs = [], []
    for number, sequence in enumerate(proteins):
        paths.append(write_job(folder, f"job-{number:03d}", sequence))
        theirs.append(upstream_job(f"job-{number:03d}", sequence))
    (folder / "upstream.json").write_text(json.dumps(theirs))
    (folder / "upstream-warm.json").write_text(json.dumps(theirs[:WARM_UP]))
    return paths


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Bench:
    """An engine with its weights loaded and the jobs that go through it."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        from fidelity.presets import SPECS
        from fidelity.weights import write_checkpoint
        from foldline.inputs import read_jobs

        self.args, self.folder = args, folder
        self.checkpoint = write_checkpoint(SPECS[args.preset], folder / "random.pt")
        self.paths = write_jobs(folder, sequences(args.memory or args.jobs, args.tokens))
        self.jobs = read_jobs([str(path) for path in self.paths])
        self.rates: dict[str, float] = {}

    def engine(self, **changes: object) -> object:
        """An engine that has run jobs already."""
        from foldline.config import EngineConfig
        from foldline.engine import Engine

        a = self.args
        options = {"recycles": a.passes - 1, "steps": a.steps, "samples": a.samples, "threads": a.threads}
        engine = Engine(self.checkpoint, config=EngineConfig(**(options | {"device": "cpu"} | changes)))
        for prediction in engine.predict(self.jobs[:WARM_UP], out=self.folder / f"warm-{time.monotonic_ns()}"):
            assert prediction.error is None, prediction.error
        return engine

    def queue(self, name: str, buckets: tuple[int, ...]) -> None:
        """All jobs at once."""
        engine = self.engine(workers=self.args.workers, ahead=4, buckets=buckets)
        start = time.perf_counter()
        found = list(engine.predict(self.jobs, out=self.folder / name))
        assert all(p.error is None for p in found)
        seconds, speed = time.perf_counter() - start, engine.throughput
        self.tell(name, len(self.jobs), seconds)
        features = sum(p.seconds["features"] for p in found)
        most = max(p.plan.job_batch for p in found)
        print(
            f"{'':22}network idle {100 * speed.idle_share:.1f} % of {speed.seconds:.1f} s between first and last job; "
            f"features took {features:.1f} s beside it; at most {most} jobs in a pass",
            flush=True,
        )

    def one_by_one(self, count: int) -> None:
        """Each job made, run and written before the next one."""
        engine = self.engine(ahead=0, on_error="stop", seed_batch=1, buckets=())
        start = time.perf_counter()
        for job in self.jobs[:count]:
            list(engine.predict([job], out=self.folder / "one-by-one"))
        self.tell("one by one", min(count, len(self.jobs)), time.perf_counter() - start)

    def upstream(self) -> None:
        """Upstream's loop over all jobs, after the first few have warmed it up."""
        jobs = [(self.folder / name, [1]) for name in ("upstream-warm.json", "upstream.json")]
        warm_up, cost = upstream(self.args, self.checkpoint, self.folder / "upstream", jobs)
        self.tell("upstream's runner", len(self.jobs), cost.wall)
        parts = ", ".join(f"{part} {spent:.1f} s" for part, spent in cost.parts.items())
        print(f"{'':22}{parts}; its start with {WARM_UP} jobs took {warm_up.wall:.1f} s", flush=True)

    def commands(self, count: int) -> None:
        """A command per job."""
        a, seconds = self.args, 0.0
        settings = self.folder / "settings.toml"
        settings.write_text(f"threads = {a.threads}\n")
        for path in self.paths[:count]:
            words = ["predict", str(path), "--out", str(self.folder / "commands"), "--config", str(settings)]
            words += ["--model", str(self.checkpoint), "--device", "cpu", "--progress", "none"]
            words += ["--recycles", str(a.passes - 1), "--steps", str(a.steps), "--samples", str(a.samples)]
            seconds += run([sys.executable, "-m", "foldline.cli", *words]).wall
        self.tell("commands", min(count, len(self.paths)), seconds)

    def memory(self) -> bool:
        """Resident memory while many jobs pass; whether it stays within the bound."""
        engine, every, start = self.engine(workers=self.args.workers), max(1, len(self.jobs) // 50), time.perf_counter()
        seen: list[tuple[int, int]] = []
        for number, prediction in enumerate(engine.predict(self.jobs, out=self.folder / "memory"), start=1):
            assert prediction.error is None, prediction.error
            if number % every == 0:
                seen.append((number, resident()))
            if number % max(1, len(self.jobs) // 5) == 0:
                spent = time.perf_counter() - start
                print(f"after {number:4d} jobs, {spent:5.0f} s: {resident() / 1e6:7.1f} MB resident", flush=True)
        settled = [(jobs, held) for jobs, held in seen if jobs >= len(self.jobs) // 5]
        fitted = statistics.linear_regression(*zip(*settled, strict=True)).slope
        pairs = itertools.combinations(settled, 2)
        slope = statistics.median((held - before) / (now - then) for (then, before), (now, held) in pairs)
        print(
            f"{len(settled)} readings after the first fifth: {slope / 1e3:+.1f} kB a job in the median "
            f"(bound {BOUND / 1e3:.0f}), {slope * len(self.jobs) / 1e6:+.1f} MB in {len(self.jobs)} jobs; "
            f"fitted {fitted / 1e3:+.1f} kB a job"
        )
        return slope <= BOUND

    def tell(self, name: str, jobs: int, seconds: float) -> None:
        """One line."""
        self.rates[name] = 3600 * jobs / seconds
        print(f"{name:22}{jobs:3d} jobs in {seconds:7.1f} s: {self.rates[name]:7.0f} jobs per hour", flush=True)


def parsed(words: Iterable[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small_v1")
    for name, default in (("jobs", 50), ("passes", 1), ("steps", 2), ("samples", 1), ("threads", 1), ("workers", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("one-by-one", 50), ("commands", 3), ("memory", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tokens", type=int, nargs="+", default=[], help="residues of every job, in place of --jobs")
    parser.add_argument("--buckets", help="token counts, separated by commas: a second queue whose jobs share passes")
    add_options(parser)
    return parser.parse_args(None if words is None else list(words))


def main() -> int:
    """Print the table; 1 when resident memory grows beyond the bound."""
    args = parsed()
    sys.path.insert(0, str(ROOT))
    import torch

    from fidelity.presets import SPECS

    spec = SPECS[args.preset]
    print(
        f"{args.preset} ({spec.n_pairformer} pairformer blocks, {spec.n_diffusion} of diffusion), "
        f"{args.passes} passes, {args.steps} steps, {args.samples} samples, fp32, {args.threads} threads, "
        f"torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(args, Path(name))
        if args.memory:
            return int(not bench.memory())
        bench.queue("queue", ())
        if args.buckets:
            bench.queue("queue, shared passes", tuple(map(int, args.buckets.split(","))))
        if args.one_by_one:
            bench.one_by_one(args.one_by_one)
        if args.upstream_python:
            bench.upstream()
        if args.commands:
            bench.commands(args.commands)
        best = max(bench.rates["queue"], bench.rates.get("queue, shared passes", 0))
        print("our queue against: " + ", ".join(f"{k} {best / v:.2f}x" for k, v in bench.rates.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
