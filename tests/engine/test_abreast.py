"""Calls that run beside each other: at the same time, in their share of the threads, ended with whoever waits."""

import signal
import threading
import time

import pytest
import torch

from foldline.engine.abreast import abreast
from foldline.errors import Stopped

LONG = 60.0  # seconds; nothing here takes that long


@pytest.fixture(autouse=True)
def four_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("count", "share"), [(1, 4), (2, 2), (3, 1), (5, 1)])
def test_all_run_at_once_each_in_its_share_of_the_threads(count: int, share: int) -> None:
    together = threading.Barrier(count)

    def work(item: int) -> tuple[int, int]:
        together.wait(LONG)
        return item, torch.get_num_threads()

    assert abreast(work, list(range(count))) == [(item, share) for item in range(count)]
    assert torch.get_num_threads() == 4
    found: list[int] = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [4], "threads that begin later have the share of one that is gone"


def test_one_alone_runs_in_the_thread_of_the_caller() -> None:
    assert abreast(lambda _: threading.current_thread(), [0]) == [threading.current_thread()]


@pytest.mark.parametrize("items", [[0], [0, 1, 2]])
def test_an_error_of_one_leaves_the_others_alone(items: list[int]) -> None:
    ended = []

    def work(item: int) -> int:
        if item == 0:
            raise ValueError("zero")
        time.sleep(0.1)
        ended.append(item)
        return item

    first, *others = abreast(work, items)
    assert isinstance(first, ValueError) and others == items[1:] and sorted(ended) == items[1:]


def test_a_signal_ends_all_that_run() -> None:
    """As fast as they come to a next step in Python, and the wait with them."""
    ended: list[int] = []
    begun: list[int] = []

    def work(item: int) -> None:
        try:
            begun.append(item)
            until = time.monotonic() + LONG
            while time.monotonic() < until:
                time.sleep(0.001)
        except Stopped:
            ended.append(item)
            raise

    def stop(*_: object) -> None:
        raise Stopped

    def ask() -> None:
        while len(begun) < 2:
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, stop)
    start, asker = time.monotonic(), threading.Thread(target=ask)
    try:
        asker.start()
        with pytest.raises(Stopped):
            abreast(work, [0, 1])
    finally:
        asker.join()
        signal.signal(signal.SIGUSR1, before)
    assert sorted(ended) == [0, 1] and time.monotonic() - start < LONG / 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("foldline-abreast")]
    assert torch.get_num_threads() == 4
