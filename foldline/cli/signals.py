"""SIGTERM and Ctrl-C: the first one ends the run after the write that is under way, the second one at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from foldline.errors import ExitCode, Stopped
from foldline.execute import StopRequest

SIGNALS = {signal.SIGTERM: ExitCode.TERMINATED, signal.SIGINT: ExitCode.INTERRUPTED}


class SignalStop(StopRequest):
    """A wish to end that a signal brings; `signal` is the one that came."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = signal.SIGTERM

    @property
    def exit_code(self) -> ExitCode:
        """128 and the number of the signal."""
        return SIGNALS[self.signal]

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take a signal; Python calls this in the main thread, between two of its steps."""
        if self.asked:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.signal = signal.Signals(number)
        self.ask()
        if not self.busy:
            raise Stopped


@contextmanager
def stop_on_signals() -> Iterator[SignalStop]:
    """Have SIGTERM and SIGINT raise `Stopped` here; in a thread that is not the main one, signals stay as they are."""
    stop = SignalStop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
