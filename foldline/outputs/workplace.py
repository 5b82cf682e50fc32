"""Working folders: where results are made whose place is a store, a folder for each place. Knows no stores.

A process at work in one holds a shared lock on a file of it. The last to leave takes away what is in the store by then;
what a killed or hindered process left behind stays until the next one, or until it is pruned.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from foldline.outputs.layout import (
    is_whole,
    next_folder,
    next_record,
    progress_file,
    record_file,
    stored_mark,
    write_atomically,
)
from foldline.outputs.locks import HIDDEN
from foldline.outputs.records import read_object, read_record

_ABOUT, _USERS = "place.json", "users"


class Workplace:
    """The working folder of a place in a store; a context manager for the time in which it is used."""

    def __init__(self, root: Path, url: str) -> None:
        """`root` is the folder of working folders."""
        word = re.sub(r"[^\w.-]+", "_", url.rpartition("/")[2])[:40]
        self.url, self.folder = url, root / f"{word}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
        self._users: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Make the folder and say that it is used.

        Raises:
            OSError: it cannot be written to.
        """
        while self._users is None:
            (self.folder / HIDDEN).mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # removed by one that left just now
                self._users = _locked(self.folder, fcntl.LOCK_SH)
        write_atomically(self.folder / HIDDEN / _ABOUT, [json.dumps({"url": self.url}).encode()])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._users is not None
        with self._users as users, contextlib.suppress(OSError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error where others are at work
            _sweep(self.folder)
        self._users = None


@dataclass(frozen=True)
class Left:
    """A working folder that is there: its place, bytes, when it was last used, and what of it is not in the store."""

    folder: Path
    url: str
    size: int
    used: float  # seconds since 1970
    whole: tuple[str, ...]  # jobs whose result is whole
    started: tuple[str, ...]
    busy: bool  # a process is at work in it


def left_behind(root: Path) -> list[Left]:
    """The working folders there are, the one used last first."""
    found = [_looked_at(path.parents[1]) for path in root.glob(f"*/{HIDDEN}/{_ABOUT}")]
    return sorted(found, key=lambda left: -left.used)


def place_of(folder: Path) -> str:
    """The URL that a folder works for, "" where it is no working folder."""
    return str(read_object(folder / HIDDEN / _ABOUT).get("url", ""))


def prune(root: Path, unused_days: float, *, results: bool) -> list[Left]:
    """Remove working folders that were not used for so long and that nobody uses; returns them.

    Those with whole results, which are nowhere else, stay unless `results` is set.
    """
    removed = []
    for left in left_behind(root):
        if left.busy or left.used > time.time() - unused_days * 86400 or (left.whole and not results):
            continue
        with contextlib.suppress(OSError), _locked(left.folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(left.folder)
            removed.append(left)
    return removed


def _looked_at(folder: Path) -> Left:
    stats = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # somebody may be at work here
            stats.append(path.stat())
    jobs = sorted(path for path in folder.iterdir() if path.is_dir() and path.name != HIDDEN)
    whole = tuple(job.name for job in jobs if _is_here(job) and is_whole(job, job.name) or next_record(job, job.name))
    started = tuple(job.name for job in jobs if _is_begun(job) and job.name not in whole)
    try:
        _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB).close()
        busy = False
    except OSError:
        busy = True
    size, used = sum(stat.st_size for stat in stats), max((stat.st_mtime for stat in stats), default=0.0)
    return Left(folder, place_of(folder), size, used, whole, started, busy)


def _is_here(directory: Path) -> bool:
    """Whether a job's folder has a result that is not the one in the store."""
    record = read_record(record_file(directory, directory.name))
    return bool(record) and record != read_record(stored_mark(directory, directory.name))


def _is_begun(directory: Path) -> bool:
    name = directory.name
    return any(progress_file(place, name).is_file() for place in (directory, next_folder(directory, name)))


def _sweep(folder: Path) -> None:
    """Forget the marks of what is in the store, and remove what is empty then."""
    for job in folder.iterdir():
        if job.is_dir() and job.name != HIDDEN:
            mark = stored_mark(job, job.name)
            if list(job.iterdir()) in ([], [mark]):
                mark.unlink(missing_ok=True)
                job.rmdir()
    if [path.name for path in folder.iterdir()] == [HIDDEN]:
        shutil.rmtree(folder)


def _locked(folder: Path, how: int) -> BinaryIO:
    """The locked file of those who use the folder.

    Raises:
        FileNotFoundError: the folder was removed meanwhile.
        OSError: it is not to be had, with LOCK_NB.
    """
    path = folder / HIDDEN / _USERS
    file = path.open("ab")
    try:
        fcntl.flock(file, how)
        if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
            raise FileNotFoundError(str(path))
    except BaseException:
        file.close()
        raise
    return file
