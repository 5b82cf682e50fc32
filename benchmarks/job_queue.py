"""Fifty jobs of 50 to 120 tokens through one engine: jobs per hour, and how long the network waits for other things.

    job_queue.py [--jobs 50] [--preset tiny] [--passes 1] [--steps 2] [--samples 1] [--threads 1] [--workers 0]
                 [--one-by-one 8] [--commands 3]

The queue: features of the next jobs are made and results are written while the network runs. One by one: the same
engine, each job made, run and written before the next one begins. Commands: a `foldline predict` per job. All with the
same random weights, results written. `--memory N` instead runs N jobs and prints resident memory as it goes.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def sequences(count: int) -> list[str]:
    """Random proteins of 50 to 120 residues."""
    rng = random.Random(1)
    return ["".join(rng.choices("ACDEFGHIKLMNPQRSTVWY", k=rng.randint(50, 120))) for _ in range(count)]


def write_jobs(folder: Path, count: int) -> list[Path]:
    """One AlphaFold 3 JSON file per job, without alignments."""
    paths = []
    for number, sequence in enumerate(sequences(count)):
        protein = {"id": "A", "sequence": sequence, "unpairedMsa": "", "pairedMsa": "", "templates": []}
        job = {"dialect": "alphafold3", "version": 1, "name": f"job-{number:03d}", "modelSeeds": [1]}
        paths.append(folder / f"job-{number:03d}.json")
        paths[-1].write_text(json.dumps(job | {"sequences": [{"protein": protein}]}))
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
        self.paths = write_jobs(folder, args.memory or args.jobs)
        self.jobs = read_jobs([str(path) for path in self.paths])

    def engine(self, **changes: object) -> object:
        """An engine that has run a job already."""
        from foldline.config import EngineConfig
        from foldline.engine import Engine

        a = self.args
        options = {"recycles": a.passes - 1, "steps": a.steps, "samples": a.samples, "threads": a.threads}
        engine = Engine(self.checkpoint, config=EngineConfig(**(options | {"device": "cpu"} | changes)))
        for prediction in engine.predict(self.jobs[:3], out=self.folder / f"warm-{time.monotonic_ns()}"):
            assert prediction.error is None, prediction.error
        return engine

    def queue(self) -> None:
        """All jobs at once."""
        engine = self.engine(workers=self.args.workers, ahead=4)
        start = time.perf_counter()
        features = [p.seconds["features"] for p in engine.predict(self.jobs, out=self.folder / "queue")]
        seconds, speed = time.perf_counter() - start, engine.throughput
        self.tell("queue", len(self.jobs), seconds)
        print(
            f"{'':14}network idle {100 * speed.idle_share:.1f} % of {speed.seconds:.1f} s between first and last job; "
            f"features took {sum(features):.1f} s beside it"
        )

    def one_by_one(self, count: int) -> None:
        """Each job made, run and written before the next one."""
        engine = self.engine(ahead=0, on_error="stop")
        start = time.perf_counter()
        for job in self.jobs[:count]:
            list(engine.predict([job], out=self.folder / "one-by-one"))
        self.tell("one by one", count, time.perf_counter() - start)

    def commands(self, count: int) -> None:
        """A command per job."""
        a, start = self.args, time.perf_counter()
        settings = self.folder / "settings.toml"
        settings.write_text(f"threads = {a.threads}\n")
        for path in self.paths[:count]:
            command = [
                sys.executable,
                "-m",
                "foldline.cli",
                "predict",
                str(path),
                "--out",
                str(self.folder / "commands"),
            ]
            command += ["--model", str(self.checkpoint), "--device", "cpu", "--config", str(settings)]
            command += ["--recycles", str(a.passes - 1), "--steps", str(a.steps), "--samples", str(a.samples)]
            subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
        self.tell("commands", count, time.perf_counter() - start)

    def memory(self) -> None:
        """Resident memory while many jobs pass."""
        engine = self.engine(workers=self.args.workers)
        first = None
        for number, prediction in enumerate(engine.predict(self.jobs, out=self.folder / "memory"), start=1):
            assert prediction.error is None, prediction.error
            if number == 50:
                first = resident()
            if number % 50 == 0:
                print(f"after {number:4d} jobs: {resident() / 1e6:7.0f} MB resident", flush=True)
        if first is not None:
            print(f"growth after the first 50: {(resident() - first) / 1e6:.1f} MB")

    @staticmethod
    def tell(name: str, jobs: int, seconds: float) -> None:
        """One line."""
        print(f"{name:14}{jobs:3d} jobs in {seconds:7.1f} s: {3600 * jobs / seconds:7.0f} jobs per hour", flush=True)


def parsed(words: Iterable[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="tiny")
    for name, default in (("jobs", 50), ("passes", 1), ("steps", 2), ("samples", 1), ("threads", 1), ("workers", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("one-by-one", 8), ("commands", 3), ("memory", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args(None if words is None else list(words))


def main() -> int:
    """Print the table."""
    args = parsed()
    sys.path.insert(0, str(ROOT))
    import torch

    print(
        f"{args.preset}, {args.passes} passes, {args.steps} steps, {args.samples} samples, fp32, {args.threads} "
        f"threads, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(args, Path(name))
        if args.memory:
            bench.memory()
            return 0
        bench.one_by_one(args.one_by_one)
        bench.queue()
        bench.commands(args.commands)
    return 0


if __name__ == "__main__":
    sys.exit(main())
