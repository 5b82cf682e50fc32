"""What commands cost, and upstream Protenix's own runner beside ours: same weights, threads, steps, samples, passes."""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
# Linux counts in a child's peak what its parent held when it was forked: this one, without any library, holds 10 MB.
LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
wall = time.perf_counter() - start
cost = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024}
print("\\n" + json.dumps(cost))
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


@dataclass
class Cost:
    """What a run took."""

    wall: float = 0.0
    cpu: float = 0.0
    peak: int = 0  # bytes, resident; 0 = not told apart
    parts: dict[str, float] = field(default_factory=dict)  # seconds

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.wall + other.wall, self.cpu + other.cpu, max(self.peak, other.peak))


def run(command: list[str]) -> Cost:
    """Cost of a process, from its start to its end."""
    launched = [sys.executable, "-I", "-S", "-c", LAUNCHER, *command]
    done = subprocess.run(launched, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where upstream is."""
    text = "interpreter that has Protenix (scripts/upstream-env): its runner's own loop is run too"
    parser.add_argument("--upstream-python", help=text)
    parser.add_argument("--upstream-root", help="its data folder (PROTENIX_ROOT_DIR); default: the environment's")
    parser.add_argument("--base", default=str(SHARED), help="folder that paths in upstream's jobs are relative to")


def upstream(args: argparse.Namespace, checkpoint: Path, out: Path, rounds: list[tuple[Path, list[int]]]) -> list[Cost]:
    """Cost of every round (list of jobs, seeds) of upstream's runner, all in one process; the first with its start."""
    script = Path(__file__).with_name("upstream_loop.py")
    settings = [f"OMP_NUM_THREADS={args.threads}", "LAYERNORM_TYPE=torch"]
    if args.upstream_root:
        settings.append(f"PROTENIX_ROOT_DIR={Path(args.upstream_root).resolve()}")
    command = ["env", *settings, args.upstream_python, str(script), "--began", str(time.time())]
    command += ["--reference", str(SHARED / "reference" / "protenix"), "--preset", args.preset]
    command += ["--checkpoint", str(checkpoint), "--base", args.base, "--out", str(out)]
    for name in ("samples", "passes", "steps", "threads"):
        command += [f"--{name}", str(getattr(args, name))]
    for jobs, seeds in rounds:
        command += ["--round", f"{jobs}={','.join(map(str, seeds))}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"upstream failed:\n{done.stdout[-500:]}{done.stderr[-2500:]}")
    return [Cost(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith('{"wall"')]


def write_job(folder: Path, name: str, sequence: str) -> Path:
    """A job of one protein without alignments, as we take it."""
    protein = {"id": "A", "sequence": sequence, "unpairedMsa": "", "pairedMsa": "", "templates": []}
    job = {"dialect": "alphafold3", "version": 1, "name": name, "modelSeeds": [1]}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(job | {"sequences": [{"protein": protein}]}))
    return path


def upstream_job(name: str, sequence: str) -> dict:
    """A job of one protein without alignments, as upstream takes it."""
    return {"name": name, "sequences": [{"proteinChain": {"sequence": sequence, "count": 1}}]}
