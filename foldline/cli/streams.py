"""Standard output and error that outlive their readers: what cannot be written is dropped, and the command goes on.

Knows streams alone, not what is printed on them.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


class Steady:
    """A text stream whose reader may end (or whose disk may fill): from then on it takes text and drops it.

    `lost` is the error that ended it, None until then; `say` is told of it in one sentence.
    """

    def __init__(self, stream: TextIO, name: str, say: Callable[[str], None] | None = None) -> None:
        self.stream, self.name, self.say = stream, name, say
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or drop the text."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self._end(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or drop what is kept."""
        try:
            self.stream.flush()
        except OSError as error:
            self._end(error)

    def close_quietly(self) -> None:
        """Flush at the end of a command: nothing is missed by a reader that has ended before."""
        self.say = self.say if self.lost is None else None
        try:
            self.stream.flush()
        except BrokenPipeError as error:
            self.say = None
            self._end(error)
        except OSError as error:
            self._end(error)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self.stream, name)

    def _end(self, error: OSError) -> None:
        """Turn the stream to the null device, so that neither this process nor those it starts meet the fault again."""
        first, self.lost = self.lost is None, self.lost or error
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, self.stream.fileno())
            finally:
                os.close(null)
        except OSError:  # a stream without a descriptor
            pass
        if first and self.say is not None:
            read = isinstance(error, BrokenPipeError)
            why = "is not read any more" if read else f"cannot be written ({error.strerror or error})"
            self.say(f"{self.name} {why}: the command goes on without it")


@contextmanager
def steady_streams() -> Iterator[Steady]:
    """Make standard output and error steady, the first of which is given; one that is closed becomes the null device.

    That output has ended is said on standard error, once.
    """
    before = sys.stdout, sys.stderr
    with Path(os.devnull).open("w", encoding="utf-8") as null:
        error = Steady(sys.stderr or null, "standard error")

        def say(sentence: str) -> None:
            error.write(f"note: {sentence}\n")
            error.flush()

        out = Steady(sys.stdout or null, "standard output", say)
        sys.stdout, sys.stderr = out, error  # type: ignore[assignment]
        try:
            yield out
        finally:
            sys.stdout, sys.stderr = before
            out.close_quietly()
            error.close_quietly()
