"""What the benchmarks measure of other processes: their own time and memory, and nobody else's."""

import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import processes

BARE = [sys.executable, "-I", "-S", "-c"]


def test_a_childs_peak_is_its_own() -> None:
    """This process, with torch, is many times as large as a bare interpreter."""
    held = np.ones(200_000_000 // 8)
    small, large = (processes.run([*BARE, f"x = b'1' * {size}"]) for size in (1, 60_000_000))
    assert held.nbytes > 150e6 and small.peak < 40e6 and 60e6 < large.peak - small.peak + 10e6 < 90e6
    assert 0 < small.cpu <= small.wall + 0.1
    both = small + large
    assert both.peak == large.peak and both.wall == pytest.approx(small.wall + large.wall)


def test_a_child_that_fails_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit, match="no luck"):
        processes.run([*BARE, "raise SystemExit('no luck')"])


def test_upstreams_rounds_are_read_as_they_are_printed(tmp_path: Path) -> None:
    """A stand-in for its interpreter repeats what it was told; whatever else is printed is passed over."""
    line = json.dumps({"wall": 2.0, "cpu": 1.5, "peak": 7, "parts": {"features": 0.5}})
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\necho train scheduler 16.0\necho '{line}'\necho \"$@\" $OMP_NUM_THREADS >&2\n")
    stand_in.chmod(0o755)
    counts = {"samples": 1, "passes": 1, "steps": 2, "threads": 3}
    args = Namespace(upstream_python=str(stand_in), upstream_root=None, base=".", preset="tiny", **counts)
    (cost,) = processes.upstream(args, tmp_path / "w.pt", tmp_path / "out", [(tmp_path / "jobs.json", [1, 2])])
    assert (cost.wall, cost.cpu, cost.peak, cost.parts) == (2.0, 1.5, 7, {"features": 0.5})
    stand_in.write_text('#!/bin/sh\necho "$@" threads=$OMP_NUM_THREADS >&2\nexit 1\n')
    with pytest.raises(SystemExit, match=r"--steps 2 --threads 3 --round .*jobs\.json=1,2 threads=3"):
        processes.upstream(args, tmp_path / "w.pt", tmp_path / "out", [(tmp_path / "jobs.json", [1, 2])])
