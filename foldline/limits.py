"""What a container or a batch system leaves of this machine to the process: Linux's control groups, both versions.

And how threads are to wait on cores that others may have.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
SPINS = "3000"  # turns of a loop in which a thread of libgomp waits before it sleeps; its own count is 100 times that


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that the process's groups may hold; None = no limit is set, or none can be read.

    `root` is the folder in which `proc` and `sys` are.
    """
    found = [
        int(text)
        for folder in _folders("memory", root)
        for text in _words(folder, "memory.max") or _words(folder, "memory.limit_in_bytes")
        if text.isdigit()
    ]
    return min(found, default=None)


def cpu_limit(root: Path = ROOT) -> float | None:
    """Processors that the process's groups may use at a time; None as above."""
    found = []
    for folder in _folders("cpu", root):
        quota = _words(folder, "cpu.max")
        quota = quota or _words(folder, "cpu.cfs_quota_us") + _words(folder, "cpu.cfs_period_us")
        if len(quota) == 2 and all(map(str.isdigit, quota)) and int(quota[1]):
            found.append(int(quota[0]) / int(quota[1]))
    return min(found, default=None)


def processors(root: Path = ROOT) -> int:
    """Processors that this process may use at a time: those that it may run on, within the limit of its groups."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_limit(root)
    return count if limit is None else max(1, min(count, math.floor(limit)))


def _folders(controller: str, root: Path) -> Iterator[Path]:
    """The folders of the process's group of a controller and of all groups around it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = top / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def _words(folder: Path, name: str) -> list[str]:
    """What a group's file says; a container may see its group's name and not its folder."""
    try:
        return (folder / name).read_text().split()
    except OSError:
        return []
