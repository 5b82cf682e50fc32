"""Work that runs beside each other in threads, each with its share of the threads that compute. Knows no groups.

Where one call does not keep all threads of a CPU busy (small products, steps between them), several calls do.
"""

import ctypes
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from foldline.errors import Stopped

Item = TypeVar("Item")
Result = TypeVar("Result")


def abreast(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result | BaseException]:
    """What `work` gives for every item, or the exception that it ends in; one item alone runs in the caller's thread.

    When the caller's wait is ended by an exception, such as that of a signal, all calls are ended by `Stopped` between
    two of their steps before it goes on.
    """
    found: list[Result | BaseException] = [Stopped() for _ in items]
    n_thread = torch.get_num_threads()

    def one(i: int) -> None:
        try:
            torch.set_num_threads(max(1, n_thread // len(items)))
            found[i] = work(items[i])
        except BaseException as error:  # noqa: BLE001  (the caller raises it)
            found[i] = error

    if len(items) == 1:
        try:
            return [work(items[0])]
        except Exception as error:  # noqa: BLE001  (as above; what ends the program ends it here)
            return [error]
    threads = [threading.Thread(target=one, args=(i,), name=f"foldline-abreast-{i}") for i in range(len(items))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        for thread in filter(threading.Thread.is_alive, threads):
            _end(thread)
        for thread in filter(threading.Thread.is_alive, threads):
            thread.join()
        raise
    finally:
        torch.set_num_threads(n_thread)  # new threads begin with what was set last
    return found


def _end(thread: threading.Thread) -> None:
    """Have `Stopped` raised in a thread, between two of its steps in Python."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stopped))
