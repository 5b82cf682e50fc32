"""Running functions ahead of need, the events that tell how a run goes, and the wish to end it. Knows no jobs.

An executor maps a function over items and gives a future per item, in order or as they end. The default runs threads
of this process; another (`foldline.cluster`) runs on many machines. One that may be remote is given functions of
modules and items that can be pickled.
"""

import importlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from foldline.errors import FoldlineError, InternalError, Stopped

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
        """End here if that was asked, unless something is to be finished first. Raises Stopped."""
        if self.asked and not self.busy:
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

    @property
    def slots(self) -> int:
        """How many threads of items run at a time."""
        ...

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Future[Result]]:
        """A future per item, in the order of the items; an error stays in its future.

        Items are drawn only as far ahead as the executor works. What is not yet asked for is cancelled when the
        iterator is closed.
        """
        ...

    def each(
        self, function: Callable[[Item], Result], items: Iterable[Item | None]
    ) -> Generator[tuple[Item, Future[Result]], None, None]:
        """Items with their futures, which are done, as they end; drawn and cancelled as `map` does.

        An iterator of items may give None while some are running: its next one waits for the end of one of those.
        """
        ...

    def close(self) -> None:
        """Wait for what runs and end."""
        ...


def go_on() -> None:
    """The check of those whom nobody asks to end."""


class InProcess:
    """Runs in threads of this process, `ahead` items before the one asked for; 0 runs each when it is its turn."""

    def __init__(
        self,
        ahead: int = 1,
        threads: int | None = None,
        weigh: Callable[[Any], float] = lambda _item: 1.0,
        check: Callable[[], None] = go_on,
    ) -> None:
        """`threads`: how many items run at a time; default: all that are ahead. `weigh`: what an item counts.

        `check` is called before an item is begun and ends the work by raising, such as `Stopped`.
        """
        self.ahead, self.weigh, self.check = ahead, weigh, check
        self.slots = max(1, ahead if threads is None else min(ahead, threads))
        self._pool = ThreadPoolExecutor(max_workers=self.slots, thread_name_prefix="foldline") if ahead else None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Future[Result], None, None]:
        """See `Executor.map`."""
        if self._pool is None:
            for item in items:
                self.check()
                yield _run(function, item)
            return
        waiting: deque[tuple[Future[Result], float]] = deque()
        try:
            for item in items:
                self.check()
                waiting.append((self._pool.submit(function, item), self.weigh(item)))
                while len(waiting) > 1 and sum(weight for _, weight in waiting) - waiting[0][1] >= self.ahead:
                    yield waiting.popleft()[0]
            while waiting:
                yield waiting.popleft()[0]
        finally:
            for future, _ in waiting:
                future.cancel()

    def each(
        self, function: Callable[[Item], Result], items: Iterable[Item | None]
    ) -> Generator[tuple[Item, Future[Result]], None, None]:
        """See `Executor.each`."""
        if self._pool is None:
            for item in items:
                self.check()
                if item is not None:
                    yield item, _run(function, item)
            return
        running: dict[Future[Result], Item] = {}
        drawn = iter(items)
        try:
            while True:
                while sum(map(self.weigh, running.values())) < self.ahead:
                    self.check()
                    item = next(drawn, None)
                    if item is None:
                        break
                    running[self._pool.submit(function, item)] = item
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future
        finally:
            for future in running:
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


class Background:
    """A thread that runs calls one after another while others go on; at most one call waits."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="foldline-after")
        self._room = threading.BoundedSemaphore(2)

    def submit(self, call: Callable[[], Result]) -> Future[Result]:
        """Have a call run after those before it; waits until at most one other call is waiting."""
        self._room.acquire()
        future = self._pool.submit(call)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def __enter__(self) -> Self:
        """Start the thread: one in whose start a signal ends the block later would be waited for by nobody."""
        self._pool.submit(int).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the calls that run and wait end, whatever ends the block: what was handed over is not lost."""
        self._pool.shutdown(wait=True)


class Children:
    """Child processes that run functions for threads of this one; each call takes one that is idle.

    A child is a bare interpreter that imports what it is told to run and keeps it. Unlike with `multiprocessing`, the
    caller's own script is not run again in it, so that no `if __name__ == "__main__"` is needed. It ends with this
    process, however that ends.
    """

    def __init__(self, count: int) -> None:
        """`count` children at most; each is started when it is first needed, and anew when it has died."""
        self.count = count
        self._idle: queue.LifoQueue[subprocess.Popen[bytes] | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)

    def run(self, function: Callable[..., Result], *args: object) -> Result:
        """The result of a function of a module, which a child imports; arguments and result are pickled.

        Raises:
            FoldlineError: raised by the function. What else it raises, or its child's death, is an InternalError.
        """
        child = self._idle.get()
        try:
            if child is None or child.poll() is not None:
                child = _start()
            assert child.stdin is not None and child.stdout is not None
            try:
                pickle.dump((function, args), child.stdin)
                child.stdin.flush()
                fine, result = pickle.load(child.stdout)
            except (EOFError, BrokenPipeError) as error:
                what = f"a child process died with exit code {child.wait()}"
                _end(child)
                raise InternalError(ChildProcessError(what)) from error
            except BaseException:
                _end(child)  # its next answer would be this call's
                raise
        finally:
            self._idle.put(child)
        if not fine:
            raise result
        return result

    def close(self) -> None:
        """End the children; nobody may be waiting for one."""
        for child in [self._idle.get() for _ in range(self.count)]:
            if child is not None:
                _end(child)
            self._idle.put(None)


def _start() -> subprocess.Popen[bytes]:
    code = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from foldline.execute import serve; serve()"
    command = [sys.executable, "-c", code, json.dumps(sys.path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()


def serve() -> None:
    """Be a child: run what comes through standard input until it ends. Prints of others go to standard error."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent, whom they reach too, decides
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _one_blas_thread()
    while True:
        try:
            function, args = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = True, function(*args)
        except FoldlineError as error:
            answer = False, error
        except Exception as error:  # noqa: BLE001  (it ends one call, not the child)
            answer = False, InternalError(error)
        pickle.dump(answer, answers)
        answers.flush()


def _one_blas_thread() -> None:
    """Load numpy while this process may use one processor: its BLAS makes as many threads as it sees processors."""
    if not hasattr(os, "sched_setaffinity"):
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    importlib.import_module("numpy")
    os.sched_setaffinity(0, allowed)
