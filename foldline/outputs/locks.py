"""Locks of an output folder, which the system gives back when a process ends, however it ends. Knows no results.

A lock is a file `<out>/.foldline/<name>.lock`; it stays, empty, because removing a lock file that others wait for would
let two in.
"""

from pathlib import Path

import filelock

HIDDEN = ".foldline"


def job_lock(out: Path, name: str) -> filelock.BaseFileLock:
    """The lock of a job, or of the folder's lists. It may be taken in one thread and given back in another."""
    folder = out / HIDDEN
    folder.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(folder / f"{name}.lock", thread_local=False)


def lists_lock(out: Path) -> filelock.BaseFileLock:
    """The lock of the folder's lists of results and failures; no job's folder starts with a dot."""
    return job_lock(out, ".lists")
