"""Seconds that it takes to featurise a job, ours against upstream Protenix, on one core of this machine.

    featurise.py --upstream-python PY --upstream-root ROOT [--repeats 3] AF3_JOB=PROTENIX_JOB ...

ROOT is upstream's data folder (PROTENIX_ROOT_DIR). Both sides are one warm process with conformers cached and read
their job anew each time; the median of the repeats counts. Cold: a new process, from its start to the features.
Bounds: 5 times faster in total, 3 times for every job; the exit code is 1 where one is missed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from foldline.chem.components import Components
from foldline.chem.conformers import Conformers
from foldline.features.build import build_features
from foldline.inputs import read_jobs

ROOT = Path(__file__).resolve().parents[1]
BOUND_TOTAL, BOUND_EACH = 5.0, 3.0
ONE_THREAD = ("env", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1")


def our_seconds(job: Path, repeats: int) -> list[float]:
    """Seconds from the job file to `Features`, warm."""
    components, conformers = Components.open(), Conformers()
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        (one,) = read_jobs(job)
        build_features(one, components=components, conformers=conformers)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def upstream_seconds(python: Path, root: Path, job: Path, repeats: int) -> tuple[list[float], float]:
    """Seconds of upstream's featurisation, warm, and of its process with one featurisation."""
    folder = next(parent for parent in job.resolve().parents if (parent / "data").is_dir())
    found = []
    for count in (repeats + 1, 1):
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "seconds.npz"
            script = ROOT / "scripts" / "upstream_features.py"
            options = [f"PROTENIX_ROOT_DIR={root.resolve()}", "LAYERNORM_TYPE=torch"]
            command = [*ONE_THREAD, *options, str(python), str(script), str(job.resolve()), str(out)]
            start = time.perf_counter()
            done = subprocess.run([*command, "--time", str(count)], cwd=folder, capture_output=True, text=True)
            wall = time.perf_counter() - start
            if done.returncode:
                raise SystemExit(f"upstream failed on {job}:\n{done.stderr[-3000:]}")
            with np.load(out) as file:
                found.append((file["seconds"].tolist(), wall))
    return found[0][0][1:], found[1][1]


def our_cold(job: Path) -> float:
    """Seconds of a new process that featurises the job once."""
    start = time.perf_counter()
    subprocess.run([*ONE_THREAD, sys.executable, __file__, "--once", str(job)], check=True, cwd=ROOT)
    return time.perf_counter() - start


def main() -> None:
    """Time both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", metavar="AF3_JOB=PROTENIX_JOB")
    parser.add_argument("--upstream-python", type=Path)
    parser.add_argument("--upstream-root", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        our_seconds(given.once, 0)
        return
    if not (given.pairs and given.upstream_python and given.upstream_root):
        parser.error("jobs, --upstream-python and --upstream-root are needed")
    print(f"{'job':12s} {'ours s':>8s} {'upstream s':>10s} {'ratio':>7s} {'cold s':>7s} {'upstream cold s':>15s}")
    totals, worst = [0.0, 0.0], float("inf")
    for pair in given.pairs:
        ours_file, _, theirs_file = pair.partition("=")
        ours = statistics.median(our_seconds(Path(ours_file), given.repeats))
        theirs, cold = upstream_seconds(given.upstream_python, given.upstream_root, Path(theirs_file), given.repeats)
        upstream = statistics.median(theirs)
        totals, worst = [totals[0] + ours, totals[1] + upstream], min(worst, upstream / ours)
        name, own_cold = Path(ours_file).stem, our_cold(Path(ours_file))
        ratio = upstream / ours
        print(f"{name:12s} {ours:8.3f} {upstream:10.3f} {ratio:7.1f} {own_cold:7.2f} {cold:15.2f}", flush=True)
    total = totals[1] / totals[0]
    print(f"{'total':12s} {totals[0]:8.3f} {totals[1]:10.3f} {total:7.1f}")
    raise SystemExit(0 if total >= BOUND_TOTAL and worst >= BOUND_EACH else 1)


if __name__ == "__main__":
    main()
