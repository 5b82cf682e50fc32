"""Five seeds of a job in one batched run against five runs of one seed, on this machine's CPU: time and peak memory.

    seeds.py [--job 7r6r.json] [--preset tiny] [--seeds 5] [--samples 1] [--passes 1] [--steps 2] [--threads 1]

A job of 60 tokens is made and run first, then the one given; random weights of the preset. Cold: five `foldline
predict` commands against one, each from its start to its end. Warm: the same in one process that has the weights. CPU
seconds are beside the wall's, as they depend less on what else a machine does. Bound against five commands: 1.2.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOUND = 1.2
PROTEIN = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVK"  # 60 residues


@dataclass
class Cost:
    """What a run took."""

    wall: float = 0.0
    cpu: float = 0.0
    peak: int = 0  # bytes, resident

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.wall + other.wall, self.cpu + other.cpu, max(self.peak, other.peak))


def run(command: list[str]) -> Cost:
    """Cost of a process."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(said.decode()[-2000:])
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


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


def warm(args: argparse.Namespace, job: Path, checkpoint: Path) -> tuple[Cost, Cost]:
    """(five calls, one call) of an engine that has its weights; peak memory is not told apart."""
    from foldline.config import EngineConfig
    from foldline.engine import Engine
    from foldline.inputs import read_jobs

    options = {"recycles": args.passes - 1, "steps": args.steps, "samples": args.samples, "msa": args.msa}
    config = EngineConfig(device="cpu", threads=args.threads, **options)
    engine, (one,) = Engine(checkpoint, config=config), read_jobs([str(job)])

    def call(seeds: tuple[int, ...]) -> Cost:
        start, cpu = time.perf_counter(), time.process_time()
        for prediction in engine.predict([one.with_seeds(seeds)]):
            assert prediction.error is None, prediction.error
        return Cost(time.perf_counter() - start, time.process_time() - cpu)

    call((99,))
    together = call(tuple(range(1, args.seeds + 1)))
    return sum((call((seed,)) for seed in range(1, args.seeds + 1)), Cost()), together


def small_job(folder: Path) -> Path:
    """A job of 60 tokens."""
    protein = {"id": "A", "sequence": PROTEIN, "unpairedMsa": "", "pairedMsa": "", "templates": []}
    job = {"dialect": "alphafold3", "version": 1, "name": "sixty", "modelSeeds": [1]}
    path = folder / "sixty.json"
    path.write_text(json.dumps(job | {"sequences": [{"protein": protein}]}))
    return path


def main() -> int:
    """Print the table; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--job", default=str(ROOT.parent / "shared" / "data" / "af3_jobs" / "7r6r.json"))
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--msa", default="auto", choices=["auto", "none"])
    parser.add_argument("--no-warm", action="store_true")
    parser.add_argument("--only", choices=["sixty", "job"], help="the job of 60 tokens, or the one given")
    for name, default in (("seeds", 5), ("samples", 1), ("passes", 1), ("steps", 2), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import torch

    from fidelity.presets import SPECS
    from fidelity.weights import write_checkpoint

    torch.set_num_threads(args.threads)
    print(
        f"{args.preset}, {args.seeds} seeds, {args.samples} samples, {args.passes} passes, {args.steps} steps, fp32, "
        f"{args.threads} threads, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':22}{'wall s':>16}{'ratio':>7}{'CPU s':>16}{'ratio':>7}{'peak GB':>14}   (one by one, together)")
    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = write_checkpoint(SPECS[args.preset], folder / "random.pt")
        jobs = {"sixty": small_job(folder), "job": Path(args.job)}
        for job in jobs.values() if args.only is None else (jobs[args.only],):
            for kind in ("commands", "warm"):
                if kind == "warm" and args.no_warm:
                    continue
                place = folder / job.stem
                place.mkdir(exist_ok=True)
                found = cold(args, job, checkpoint, place) if kind == "commands" else warm(args, job, checkpoint)
                one_by_one, together = found
                ratios = one_by_one.wall / together.wall, one_by_one.cpu / together.cpu
                peaks = f"{one_by_one.peak / 1e9:7.2f}{together.peak / 1e9:7.2f}" if kind == "commands" else ""
                print(
                    f"{f'{job.stem}, {kind}':22}{one_by_one.wall:8.1f}{together.wall:8.1f}{ratios[0]:7.2f}"
                    f"{one_by_one.cpu:8.1f}{together.cpu:8.1f}{ratios[1]:7.2f}{peaks:>14}",
                    flush=True,
                )
                missed |= kind == "commands" and ratios[0] < BOUND
    print(f"bound against commands: {BOUND}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
