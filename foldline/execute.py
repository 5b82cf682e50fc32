"""Running functions ahead of need, the events that tell how a run goes, and the wish to end it. Knows no jobs.

An executor maps a function over items and gives a future per item, in order. The default runs threads of this process;
others, such as one over many machines, keep the same protocol.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar

from foldline.errors import Stopped

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Event:
    """One step of a run: `step` of `total` in a `stage` of a job. One with a `message` and no total is a remark."""

    job: str
    stage: str  # such as "features", "trunk", "diffusion", "confidence", "write"
    step: int = 0
    total: int = 0
    message: str = ""
    seed: int | None = None


Progress = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The progress callback of those who want none."""


class StopRequest:
    """Somebody's wish to end a run: asked by a signal handler or a thread, obeyed outside of `kept_whole`."""

    def __init__(self) -> None:
        self.asked = False
        self._whole = 0

    def ask(self) -> None:
        """Ask. A signal handler may then raise `Stopped` itself where `busy` is not set."""
        self.asked = True

    @property
    def busy(self) -> bool:
        """Whether the main thread is in the midst of something that is finished first."""
        return self._whole > 0

    def check(self) -> None:
        """End here if that was asked. Raises Stopped."""
        if self.asked:
            raise Stopped

    @contextmanager
    def kept_whole(self) -> Iterator[None]:
        """A block, such as the writing of a seed's samples, that is finished before the run ends.

        In the main thread; other threads are not hurt by signals, and whoever started them waits for them.
        """
        here = threading.current_thread() is threading.main_thread()
        self._whole += here
        try:
            yield
        finally:
            self._whole -= here
        self.check()


class Executor(Protocol):
    """Where work runs that is not the network's."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Future[Result]]:
        """A future per item, in the order of the items; an error stays in its future.

        Items are drawn only as far ahead as the executor works. What is not yet asked for is cancelled when the
        iterator is closed.
        """
        ...

    def close(self) -> None:
        """Wait for what runs and end."""
        ...


class InProcess:
    """Runs in threads of this process, `ahead` items before the one asked for; 0 runs each when it is its turn."""

    def __init__(self, ahead: int = 1) -> None:
        self.ahead = ahead
        self._pool = ThreadPoolExecutor(max_workers=ahead, thread_name_prefix="foldline") if ahead else None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Future[Result]]:
        """See `Executor.map`."""
        if self._pool is None:
            yield from (_run(function, item) for item in items)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(self._pool.submit(function, item))
                if len(waiting) > self.ahead:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """See `Executor.close`."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _run(function: Callable[[Item], Result], item: Item) -> Future[Result]:
    future: Future[Result] = Future()
    try:
        future.set_result(function(item))
    except Exception as error:  # noqa: BLE001  (kept for whoever asks for the result, as a pool does)
        future.set_exception(error)
    return future
