"""Which jobs of an output folder this process is at, so that several may share the folder. Knows locks and results.

A claim is a lock (`outputs.locks`). A new result that was whole, but not in the place of the old one, when its process
was killed is put there by whoever has the claim next.
"""

import enum
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock

from foldline.outputs.journal import unlist
from foldline.outputs.layout import is_finished, settle, tidy
from foldline.outputs.locks import job_lock

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

        A job that is ours stays ours until `give_back`; one that is held by this process already is BUSY. What a
        killed run left of putting a result in its place is ended, and a finished result is tidied of the rest.

        Raises:
            OSError: the output folder cannot be written to.
        """
        if self.out is None:
            return Claim.MINE
        out, directory = self.out, self.out / name
        if name in self._held:
            return Claim.BUSY
        lock = job_lock(out, name)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return Claim.BUSY
        try:
            settle(directory, name, lambda: unlist(out, name))
            finished = is_finished(directory, name, fingerprint)
            if finished:
                tidy(directory, name)
        except BaseException:
            lock.release()
            raise
        if finished and not overwrite:
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
