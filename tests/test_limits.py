"""Limits of control groups, read from folders that look like those of machines and containers."""

import os
from pathlib import Path

import pytest

from foldline.limits import cpu_limit, memory_limit, processors

GIB = 2**30
NO_LIMIT = str(2**63 - 4096)  # what version 1 says where there is none


def machine(root: Path, groups: str, **files: str) -> Path:
    """`groups`: what the process is told of its own; `files`: text by path below sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for path, text in files.items():
        place = root / "sys/fs/cgroup" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n")
    return root


def test_nothing_is_limited_where_nothing_can_be_read(tmp_path: Path) -> None:
    count = len(os.sched_getaffinity(0))
    assert (memory_limit(tmp_path), cpu_limit(tmp_path), processors(tmp_path)) == (None, None, count)
    root = machine(tmp_path, "0::/\n")
    assert (memory_limit(root), cpu_limit(root)) == (None, None)


def test_a_container(tmp_path: Path) -> None:
    """Its own group is the top of what it sees."""
    root = machine(tmp_path, "0::/\n", **{"memory.max": str(4 * GIB), "cpu.max": "150000 100000"})
    assert (memory_limit(root), cpu_limit(root), processors(root)) == (4 * GIB, 1.5, 1)


def test_a_container_that_knows_its_group_by_a_name_that_it_does_not_see(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/docker/4f0c\n", **{"memory.max": str(3 * GIB), "cpu.max": "max 100000"})
    assert (memory_limit(root), cpu_limit(root)) == (3 * GIB, None)


def test_a_group_within_groups_has_the_least_of_their_limits(tmp_path: Path) -> None:
    """A batch system limits the job; the step in it says "max"."""
    files = {
        "slurm/memory.max": str(64 * GIB),
        "slurm/job_7/memory.max": str(8 * GIB),
        "slurm/job_7/step_0/memory.max": "max",
        "slurm/job_7/cpu.max": "400000 100000",
        "slurm/job_7/step_0/cpu.max": "50000 100000",
        "slurm/job_8/memory.max": str(GIB),
    }
    root = machine(tmp_path, "0::/slurm/job_7/step_0\n", **files)
    assert (memory_limit(root), cpu_limit(root), processors(root)) == (8 * GIB, 0.5, 1)


@pytest.mark.parametrize("quota", ["-1", "200000"])
def test_version_1(tmp_path: Path, quota: str) -> None:
    files = {
        "memory/a/memory.limit_in_bytes": NO_LIMIT,
        "memory/memory.limit_in_bytes": str(16 * GIB),
        "cpu/a/cpu.cfs_quota_us": quota,
        "cpu/a/cpu.cfs_period_us": "100000",
        "memory.max": str(GIB),  # of no group of this process
    }
    root = machine(tmp_path, "9:name=systemd:/\n4:memory:/a\n1:cpu,cpuacct:/a\n", **files)
    assert memory_limit(root) == 16 * GIB
    assert cpu_limit(root) == (None if quota == "-1" else 2.0)
