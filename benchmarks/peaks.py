"""Planned against measured memory of whole `foldline predict` commands on a CPU: all that the process ever held.

    peaks.py [--model demo | --preset small_v1] [--tokens 60 200 400 600 1200] [--samples 1 5] [--dtypes fp32 bf16]
             [--queue 16] [--unlike 100 150 60 200 300] [--buckets 64,128] [--threads 1] [--seeds 1] [--steps 2]
             [--jobs A.json B.json ...] [--program] [--write FILE]

A command for every size, number of samples and precision: one pass, few steps, start, features and files included; a
preset is its network with random weights. Then one command for a queue of as many sizes as --queue says, one for those
of --unlike, in that order, and one for jobs that share passes (--buckets); each job of those is a line, with the peak
of the process until its end and the largest plan until then. The whole command is one where jobs are unlike: a small
one may end before a large one beside it holds its most. Proteins without alignments. With --jobs: those instead, with
their alignments and templates, each alone and all in one command. With --program: an `Engine` in a Python program in
place of each command. Bound: 10 %.

A plan says what groups of seeds beside each other hold when their peaks meet. In two steps they may not: some 20 then.
"""

import argparse
import itertools
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from processes import ROOT, run, write_job

BOUND = 0.1
FIRST_OF_QUEUE, BETWEEN = 40, 2  # tokens
SHARING = (30, 60, 120)  # tokens of the jobs that share passes, where their buckets are the same
PROGRAM = """
import json, sys
from foldline.config import EngineConfig
from foldline.engine import Engine
from foldline.inputs import read_jobs
asked = json.loads(sys.argv[1])
jobs = [job.with_seeds(asked["seeds"]) for job in read_jobs(sys.argv[2:])]
for prediction in Engine(config=EngineConfig(**asked["config"])).predict(jobs, out=asked["out"]):
    assert prediction.error is None, prediction.error
"""
HEAD = ("job", "tokens", "samples", "dtype", "planned", "measured", "off", "largest stage")


def random_protein(folder: Path, tokens: int) -> Path:
    """A job of so many residues."""
    return write_job(folder, f"p{tokens}", "".join(random.Random(tokens).choices("ACDEFGHIKLMNPQRSTVWY", k=tokens)))


def random_weights(preset: str, folder: Path) -> Path:
    """A checkpoint of a preset's sizes."""
    sys.path.insert(0, str(ROOT))
    from fidelity.presets import SPECS
    from fidelity.weights import write_checkpoint

    return write_checkpoint(SPECS[preset], folder / f"{preset}.pt")


class Bench:
    """Commands of one model, and the errors of their plans."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.off: list[float] = []
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        """Print a line and keep it."""
        print(text, flush=True)
        self.lines.append(text)

    def proteins(self, what: str, tokens: Sequence[int], samples: int, dtype: str, buckets: str | None = None) -> None:
        """Run proteins of so many residues in one command."""
        self.measure(what, [random_protein(self.folder, count) for count in tokens], samples, dtype, buckets)

    def command(self, out: Path, config: dict[str, object], seeds: Sequence[int]) -> list[str]:
        """The words of a command before its jobs."""
        file = self.folder / "settings.toml"
        file.write_text(f"threads = {config.pop('threads')}\n")
        words = [sys.executable, "-m", "foldline.cli", "predict", "--out", str(out), "--config", str(file)]
        words += ["--seeds", ",".join(map(str, seeds))]
        return words + [word for name, value in config.items() for word in (f"--{name}", str(value))]

    def measure(self, what: str, jobs: Sequence[Path], samples: int, dtype: str, buckets: str | None = None) -> None:
        """Run jobs in one process; a line per job, but for unlike ones."""
        out = self.folder / f"{what}-{jobs[0].stem}-{samples}-{dtype}"
        config = {"model": self.args.model, "device": "cpu", "dtype": dtype, "samples": samples}
        config |= {"steps": self.args.steps, "recycles": 0, "threads": self.args.threads}
        seeds = range(1, self.args.seeds + 1)
        if self.args.program:
            config |= {"buckets": [int(size) for size in buckets.split(",")]} if buckets else {}
            asked = json.dumps({"config": config, "out": str(out), "seeds": list(seeds)})
            words = [sys.executable, "-c", PROGRAM, asked]
        else:
            words = self.command(out, config | ({"buckets": buckets} if buckets else {}), seeds)
        run([*words, *map(str, jobs)])
        records = [json.loads(path.read_text()) for path in out.glob("*/*_run.json")]
        assert len(records) == len(jobs)
        records.sort(key=lambda one: (one["peak_bytes"], one["plan"]["peak_bytes"]))
        planned = 0
        if what == "unlike":
            planned = max(record["plan"]["peak_bytes"] for record in records)
            records = records[-1:]
        for record in records:
            planned, measured = max(planned, record["plan"]["peak_bytes"]), record["peak_bytes"]
            stages = record["plan"]["stage_bytes"]
            self.off.append(planned / measured - 1)
            self.line(
                f"{what:8}{record['n_token']:>8}{samples:>9}{dtype:>7}{planned / 1e6:10.0f}{measured / 1e6:10.0f}"
                f"{100 * self.off[-1]:+8.1f} %  {max(stages, key=stages.get)}"
            )

    def of_proteins(self) -> None:
        """Proteins of every size alone, in a queue, and sharing passes."""
        args = self.args
        for tokens, samples, dtype in itertools.product(args.tokens, args.samples, args.dtypes):
            self.proteins("alone", [tokens], samples, dtype)
        for dtype in args.dtypes:
            if args.queue:
                sizes = range(FIRST_OF_QUEUE, FIRST_OF_QUEUE + BETWEEN * args.queue, BETWEEN)
                self.proteins("queue", sizes, 1, dtype)
            if args.unlike:
                self.proteins("unlike", args.unlike, max(args.samples), dtype)
            if args.buckets:
                self.proteins("buckets", SHARING, 5, dtype, args.buckets)

    def of_jobs(self) -> None:
        """The jobs given, each alone and all in one command."""
        for samples, dtype in itertools.product(self.args.samples, self.args.dtypes):
            for job in self.args.jobs:
                self.measure(job.stem[:7], [job], samples, dtype)
            if len(self.args.jobs) > 1:
                self.measure("queue", self.args.jobs, samples, dtype)


def main() -> int:
    """Print the table; 1 when a plan is off by more than the bound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--preset")
    parser.add_argument("--tokens", nargs="*", type=int, default=[60, 200, 400, 600, 1200])
    parser.add_argument("--samples", nargs="*", type=int, default=[1, 5])
    parser.add_argument("--dtypes", nargs="*", default=["fp32", "bf16"])
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--unlike", nargs="*", type=int)
    parser.add_argument("--buckets", default="64,128")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2, help="more where seeds go beside each other: their peaks meet")
    parser.add_argument("--jobs", nargs="*", type=Path)
    parser.add_argument("--program", action="store_true")
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.preset:
            args.model = str(random_weights(args.preset, Path(folder)))
        bench = Bench(args, Path(folder))
        words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
        bench.line(f"# {date.today()}, benchmarks/peaks.py {' '.join(words)}".rstrip())
        how = f"{args.preset or args.model}, {args.threads} thread(s), {args.seeds} seed(s)"
        bench.line(f"# MB, {how}, resident memory of the process at its fullest")
        bench.line(
            f"{HEAD[0]:8}{HEAD[1]:>8}{HEAD[2]:>9}{HEAD[3]:>7}{HEAD[4]:>10}{HEAD[5]:>10}{HEAD[6]:>8}    {HEAD[7]}"
        )
        bench.of_jobs() if args.jobs else bench.of_proteins()
        worst = max(bench.off, key=abs)
        bench.line(f"worst: {100 * worst:+.1f} %, bound {100 * BOUND:.0f} %")
        if args.write:
            args.write.write_text("\n".join(bench.lines) + "\n")
    return int(abs(worst) > BOUND)


if __name__ == "__main__":
    sys.exit(main())
