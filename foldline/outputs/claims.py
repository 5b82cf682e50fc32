"""Which jobs of an output folder this process is at, so that several may share the folder. Knows locks and results.

A claim is a lock on `<out>/.foldline/<job>.lock`. The system gives a lock back when its process ends, however it ends;
the empty file stays, because removing a lock file that others wait for would let two in.
"""

import enum
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock

from foldline.outputs.layout import is_finished, tidy

HIDDEN = ".foldline"
POLL_SECONDS = 0.5


class Claim(enum.Enum):
    """What came of asking for a job."""

    MINE = "mine"
    FINISHED = "finished"
    BUSY = "busy"


class Claims:
    """The jobs of the output folder `out` that this process has. Leaving the block gives all of them back.

    Without a folder there is nobody to share with, and every job is ours.
    """

    def __init__(self, out: Path | None) -> None:
        self.out = None if out is None else Path(out)
        self._held: dict[str, filelock.BaseFileLock] = {}

    def take(self, name: str, fingerprint: str, *, overwrite: bool = False) -> Claim:
        """Ask for the job whose folder is `name`: it is ours from now on, or finished already, or another process's.

        A job that is ours stays ours until `give_back`; one that is held by this process already is BUSY. A finished
        result is tidied of what a killed run left.

        Raises:
            OSError: the output folder cannot be written to.
        """
        if self.out is None:
            return Claim.MINE
        if name in self._held:
            return Claim.BUSY
        lock = job_lock(self.out, name)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return Claim.BUSY
        if is_finished(self.out / name, name, fingerprint):
            tidy(self.out / name, name)
            if not overwrite:
                lock.release()
                return Claim.FINISHED
        self._held[name] = lock
        return Claim.MINE

    def wait(self, name: str, fingerprint: str, on_poll: Callable[[], None]) -> Claim:
        """Wait until the process that has the job is done with it: FINISHED, or MINE where it left no result.

        It stays ours as `take` has it. `on_poll` is called about twice a second. A result that another process made
        meanwhile counts even where results are overwritten: it is as new as one of ours.
        """
        while (claim := self.take(name, fingerprint)) is Claim.BUSY:
            on_poll()
            time.sleep(POLL_SECONDS)
        return claim

    def give_back(self, name: str) -> None:
        """Let others have the job; nothing happens where it is not ours."""
        lock = self._held.pop(name, None)
        if lock is not None:
            lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._held):
            self.give_back(name)


def job_lock(out: Path, name: str) -> filelock.BaseFileLock:
    """The lock of a job, or of the folder's lists. It may be taken in one thread and given back in another."""
    folder = out / HIDDEN
    folder.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(folder / f"{name}.lock", thread_local=False)


def lists_lock(out: Path) -> filelock.BaseFileLock:
    """The lock of the folder's lists of results and failures; no job's folder starts with a dot."""
    return job_lock(out, ".lists")
