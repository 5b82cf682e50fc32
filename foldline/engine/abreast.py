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
    if len(items) == 1:
        try:
            return [work(items[0])]
        except Exception as error:  # noqa: BLE001  (the caller raises it; what ends the program ends it here)
            return [error]
    found: list[Result | BaseException] = [Stopped() for _ in items]
    n_thread = torch.get_num_threads()

    def one(i: int, ended: threading.Event) -> None:
        try:
            torch.set_num_threads(max(1, n_thread // len(items)))
            found[i] = work(items[i])
        except BaseException as error:  # noqa: BLE001  (as above)
            found[i] = error
        finally:
            ended.set()

    ends = [threading.Event() for _ in items]
    threads = [threading.Thread(target=one, args=args, name="foldline-abreast") for args in enumerate(ends)]
    try:
        for thread in threads:
            thread.start()
        for ended in ends:
            ended.wait()  # not `join`: one that a signal ends takes its thread for ended too (Python 3.11)
    except BaseException:
        for thread, ended in zip(threads, ends, strict=True):
            if thread.is_alive() and not ended.is_set():
                _end(thread)
        raise
    finally:
        for thread in filter(threading.Thread.is_alive, threads):
            thread.join()
        torch.set_num_threads(n_thread)  # new threads begin with what was set last
    return found


def _end(thread: threading.Thread) -> None:
    """Have `Stopped` raised in a thread, between two of its steps in Python."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stopped))
