"""Running functions ahead of need, and the events that tell how a run goes. Knows nothing of jobs or networks.

An executor maps a function over items and gives a future per item, in order. The default runs threads of this process;
others, such as one over many machines, keep the same protocol.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar

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
