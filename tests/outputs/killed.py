"""What is in a folder, and a process that is killed amid its changes of one."""

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

CHANGES = ("replace", "rename", "unlink", "mkdir", "rmdir")  # of os: all ways in which names come and go


def killed_at(number: int, what: Callable[[], None]) -> bool:
    """Whether `what`, in a process of its own, was killed before its `number`th change of a name in a folder."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    try:
        count = itertools.count(1)

        def counted(change: Callable[..., None]) -> Callable[..., None]:
            def call(*words: object, **more: object) -> None:
                if next(count) == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                change(*words, **more)

            return call

        for name in CHANGES:
            setattr(os, name, counted(getattr(os, name)))
        what()
        os._exit(0)
    finally:
        os._exit(9)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    """What a reader sees: all files but hidden ones."""
    shown = [name for name in files(folder) if not any(part.startswith(".") for part in Path(name).parts)]
    return {name: (folder / name).read_bytes() for name in shown}
