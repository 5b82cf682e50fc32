"""Work that runs beside each other in threads, each with its share of the threads that compute. Knows no jobs.

Where one call does not keep all threads of a CPU busy (small products, steps between them), several calls do.
"""

import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from fractions import Fraction
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import torch

from foldline.errors import Stopped

Item = TypeVar("Item")
Result = TypeVar("Result")
POLL_SECONDS = 0.1  # a thread that waits for the others is ended within this


class _Share:
    """What a call has of the computing threads, and has had since it began."""

    def __init__(self, part: Fraction) -> None:
        self.part, self._begun = part, time.perf_counter()
        self._since, self._had = self._begun, 0.0

    def change(self, part: Fraction) -> None:
        """From now on it is so much."""
        now = time.perf_counter()
        self._had += float(self.part) * (now - self._since)
        self.part, self._since = part, now

    def average(self) -> float:
        """What it was from the beginning to now."""
        self.change(self.part)
        return self._had / (self._since - self._begun) if self._since > self._begun else float(self.part)


class Beside:
    """Runs calls in threads of their own, as long as their shares of the computing threads are free.

    A context manager: leaving it waits for all calls. When an exception ends the block, such as that of a signal, they
    are ended by `Stopped` between two of their steps.
    """

    def __init__(self) -> None:
        """The threads to share are those that the caller computes with."""
        self.n_thread = torch.get_num_threads()
        self._news = threading.Condition()
        self._free, self._alone = Fraction(1), 0  # what is free of the threads, calls that wait to have all of them
        self._shares: dict[threading.Thread, _Share] = {}  # of the calls that run
        self._coming = 0  # calls that are to begin soon
        self._ended: list[threading.Thread] = []

    @property
    def running(self) -> int:
        """Calls that have not ended."""
        return len(self._shares)

    def have_room(self, count: int) -> None:
        """Wait until as much is free as one of `count` calls beside each other has."""
        with self._news:
            self._wait_for(Fraction(1, min(count, self.n_thread)))

    def start(self, call: Callable[[], Result], count: int, coming: int = 0) -> Future[Result]:
        """Begin a call, when as much is free as one of `count` beside each other has; that is waited for.

        So many are `coming` after it: what is free is theirs. What the call raises is its future's exception.
        """
        share, future = Fraction(1, count), Future[Result]()
        self._join()
        thread = threading.Thread(target=self._run, args=(call, share, future), name="foldline-abreast")
        with self._news:
            self._wait_for(share)
            self._free -= share
            self._shares[thread] = _Share(share)
            self._coming = coming
        try:
            thread.start()
        except BaseException:
            if not thread.ident:  # a signal may come when it has begun
                with self._news:
                    self._free += self._shares.pop(thread).part
            raise
        return future

    def wait(self) -> None:
        """Wait until all calls have ended; threads that begin later compute with all threads again."""
        self.none_come()
        with self._news:
            self._news.wait_for(lambda: not self._shares)
        self._join()
        torch.set_num_threads(self.n_thread)  # they begin with what was set last

    def have_all(self) -> None:
        """Of a call that runs: give all threads to it, when the others have ended or wait for the same."""
        own = self._shares[threading.current_thread()]
        if own.part == 1:
            return
        with self._news:
            self._alone += 1
            self._free += own.part
            own.change(Fraction(0))
            self._news.notify_all()
            try:
                while self._free < 1:
                    self._news.wait(POLL_SECONDS)
                self._free -= 1
                own.change(Fraction(1))
            finally:
                self._alone -= 1
        torch.set_num_threads(self.n_thread)

    def none_come(self) -> None:
        """No call is begun for a time: those that run may have all threads."""
        self._coming = 0

    def take_free(self) -> int:
        """Of a call that runs, between two of its steps: take of what others have left, where none is to come.

        It has as much as every other one then, if that is at least twice what it had: whatever computes with another
        number of threads is made ready anew.

        Returns:
            The threads that it has now; 0 where nothing has changed.
        """
        with self._news:
            own = self._shares.get(threading.current_thread())
            if own is None or self._coming or self._alone:
                return 0
            part = min(Fraction(1, len(self._shares)), own.part + self._free)
            if self._threads(part) < 2 * self._threads(own.part):
                return 0
            self._free -= part - own.part
            own.change(part)
        torch.set_num_threads(self._threads(part))
        return self._threads(part)

    def average_share(self) -> float:
        """Of a call that runs: its share of the threads, 0 to 1, in the mean since it began."""
        return self._shares[threading.current_thread()].average()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            with self._news:
                left = list(self._shares)
                for thread in left:
                    _end(thread)
            for thread in left:  # which may be ended before it can say so
                thread.join()
            torch.set_num_threads(self.n_thread)

    def _run(self, call: Callable[[], Result], share: Fraction, future: Future[Result]) -> None:
        """A call's thread."""
        try:
            torch.get_num_threads()  # a thread's first step in torch takes what was set last anywhere
            torch.set_num_threads(self._threads(share))
            result = call()
        except BaseException as error:  # noqa: BLE001  (raised by whoever asks for the result)
            future.set_exception(error)
        else:
            future.set_result(result)
        finally:
            del call, future  # an error's traceback holds this frame, and with it all that the call held
            self._end_of(threading.current_thread())

    def _threads(self, share: Fraction) -> int:
        return max(1, int(self.n_thread * share))

    def _wait_for(self, share: Fraction) -> None:
        self._news.wait_for(lambda: self._free >= share and not self._alone)

    def _end_of(self, thread: threading.Thread) -> None:
        with self._news:
            self._free += self._shares.pop(thread).part
            self._ended.append(thread)
            self._news.notify_all()

    def _join(self) -> None:
        """See that threads whose calls have ended are gone."""
        while self._ended:
            self._ended.pop().join()


def abreast(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result | BaseException]:
    """What `work` gives for every item, or the exception that it ends in; one alone runs in the caller's thread."""
    if len(items) == 1:
        try:
            return [work(items[0])]
        except Exception as error:  # noqa: BLE001  (the caller raises it; what ends the program ends it here)
            return [error]
    with Beside() as beside:
        futures = [beside.start(partial(work, item), len(items)) for item in items]
    return [future.exception() or future.result() for future in futures]


def _end(thread: threading.Thread) -> None:
    """Have `Stopped` raised in a thread, between two of its steps in Python."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stopped))
