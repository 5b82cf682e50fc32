"""Commands that run at the same time on one machine: what threads that wait for each other cost.

    crowded.py [--commands 1 2] [--tokens 60] [--threads 2] [--passes 10] [--steps 30] [--samples 5] [--rounds 2]

Each command predicts a job of its own with the network of two blocks each and random weights, with as many threads as
the machine has cores. "as started": libgomp's own spinning; "predict": what `foldline predict` sets before it starts;
"passive": OMP_WAIT_POLICY=passive, no spinning. Wall seconds until the last command has ended, CPU seconds of all; the
ways take turns.
"""

import argparse
import os
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from processes import ROOT, Cost, run, write_job

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVK"  # again and again


def together(count: int, command: list[str], folder: Path) -> tuple[float, float]:
    """(wall, CPU) seconds of `count` commands started at the same time."""

    def one(number: int) -> Cost:
        return run([*command, "--seeds", str(number + 1), "--out", str(folder / f"out-{number}"), "--overwrite"])

    with ThreadPoolExecutor(count) as pool:
        costs = list(pool.map(one, range(count)))
    return max(cost.wall for cost in costs), sum(cost.cpu for cost in costs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", type=int, nargs="+", default=[1, 2])
    options = {"tokens": 60, "passes": 10, "steps": 30, "samples": 5, "rounds": 2, "threads": os.cpu_count() or 1}
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import torch

    from fidelity.presets import SPECS
    from fidelity.weights import write_checkpoint
    from foldline.cli.restart import HEAP, MARK

    print(
        f"small_v1, {args.tokens} tokens, {args.passes} passes, {args.samples} samples of {args.steps} steps, fp32, "
        f"{args.threads} threads on {os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = write_checkpoint(SPECS["small_v1"], folder / "random.pt")
        job = write_job(folder, "crowded", (SEQUENCE * args.tokens)[: args.tokens])
        settings = folder / "settings.toml"
        settings.write_text(f"threads = {args.threads}\n")
        words = ["-m", "foldline.cli", "predict", str(job), "--model", str(checkpoint), "--device", "cpu"]
        words += ["--recycles", str(args.passes - 1), "--steps", str(args.steps), "--samples", str(args.samples)]
        words += ["--config", str(settings), "--progress", "none"]
        python = ["env", "-u", "OMP_WAIT_POLICY", "-u", "GOMP_SPINCOUNT"]
        ways = {
            "as started": [*python, f"GLIBC_TUNABLES={HEAP}", sys.executable, "-X", MARK, *words],
            "predict": [*python, sys.executable, *words],
            "passive": [*python, "OMP_WAIT_POLICY=passive", sys.executable, *words],
        }
        print(f"{'commands at once':18}{'waiting':12}{'wall s':>8}{'CPU s':>8}")
        for count in args.commands:
            spent = {way: [] for way in ways}
            for _ in range(args.rounds):
                for way, command in ways.items():
                    spent[way].append(together(count, command, folder))
            for way, costs in spent.items():
                wall, cpu = (statistics.median(column) for column in zip(*costs, strict=True))
                print(f"{count:<18}{way:12}{wall:8.1f}{cpu:8.1f}", flush=True)


if __name__ == "__main__":
    main()
