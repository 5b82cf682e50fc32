"""Calls that run beside each other: at the same time, in their share of the threads, ended with whoever waits."""

import gc
import queue
import signal
import threading
import time
import weakref

import pytest
import torch

from foldline.engine.abreast import Beside, abreast
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


def test_a_call_begins_when_its_share_of_the_threads_is_free() -> None:
    let_go, begun = [threading.Event() for _ in range(3)], []

    def work(item: int) -> tuple[int, int]:
        begun.append(item)
        assert let_go[item].wait(LONG)
        return item, torch.get_num_threads()

    with Beside() as beside:
        first, second = (beside.start(lambda item=item: work(item), 2) for item in (0, 1))
        assert beside.running == 2 and not first.done()
        threading.Timer(0.1, let_go[1].set).start()
        third = beside.start(lambda: work(2), 4)  # waits for the second
        assert second.done() and not first.done()
        for event in let_go:
            event.set()
        beside.wait()
        assert beside.running == 0 and sorted(begun) == [0, 1, 2]
    assert [future.result() for future in (first, second, third)] == [(0, 2), (1, 2), (2, 1)]


def test_there_is_room_when_a_share_of_the_threads_is_free() -> None:
    """Of more calls than threads each has one."""
    first, second = threading.Event(), threading.Event()
    with Beside() as beside:
        beside.start(lambda: first.wait(LONG), 4)
        beside.start(lambda: second.wait(LONG), 2)
        beside.have_room(9)
        assert beside.running == 2
        threading.Timer(0.1, second.set).start()
        beside.have_room(2)
        assert beside.running == 1
        threading.Timer(0.1, first.set).start()
        beside.have_room(1)
        assert beside.running == 0


def test_calls_that_want_all_threads_have_them_one_after_the_other_before_new_ones() -> None:
    """Both give their shares up for it, so that they do not wait for each other."""
    order: list[tuple[int, int]] = []
    both, alone = threading.Barrier(2), threading.Lock()

    def work(item: int) -> None:
        both.wait(LONG)
        beside.have_all()
        assert alone.acquire(blocking=False), "two have all threads at once"
        time.sleep(0.05)
        beside.have_all()  # it has them
        order.append((item, torch.get_num_threads()))
        alone.release()

    with Beside() as beside:
        for item in (0, 1):
            beside.start(lambda item=item: work(item), 2)
        time.sleep(0.02)  # by then at least one of them waits
        beside.start(lambda: order.append((2, torch.get_num_threads())), 4)
    assert sorted(order[:2]) == [(0, 4), (1, 4)] and order[2] == (2, 1)


def test_nothing_begins_while_a_call_waits_for_all_threads() -> None:
    order: list[str] = []
    waits, let_go = threading.Event(), threading.Event()

    def first() -> None:
        waits.set()
        beside.have_all()
        order.append("first")

    with Beside() as beside:
        second = beside.start(lambda: let_go.wait(LONG), 2)
        beside.start(first, 2)
        assert waits.wait(LONG)
        time.sleep(0.05)  # by then it has given up its share
        threading.Timer(0.1, let_go.set).start()
        beside.start(lambda: order.append("third"), 4)
        assert second.done()
    assert order == ["first", "third"]


class Parts:
    """Calls that take what is free when they are told to, and tell what they have then."""

    def __init__(self, beside: Beside) -> None:
        self.beside, self.turns, self.told = beside, {}, queue.Queue[tuple[int, int]]()

    def start(self, item: int, count: int, coming: int = 0) -> None:
        turn = self.turns[item] = queue.Queue[bool]()

        def work() -> None:
            while turn.get(timeout=LONG):
                self.told.put((self.beside.take_free(), torch.get_num_threads()))

        self.beside.start(work, count, coming)

    def of(self, item: int) -> tuple[int, int]:
        """What a call took, and has."""
        self.turns[item].put(True)
        return self.told.get(timeout=LONG)

    def end(self, item: int) -> None:
        before = self.beside.running
        self.turns[item].put(False)
        until = time.monotonic() + LONG
        while self.beside.running == before and time.monotonic() < until:
            time.sleep(0.001)


def test_those_that_run_take_what_others_leave() -> None:
    """In equal parts, and twice as much at least."""
    torch.set_num_threads(6)
    with Beside() as beside:
        parts = Parts(beside)
        for item in range(3):
            parts.start(item, 3)
        assert parts.of(0) == (0, 2), "all have as much"
        parts.end(2)
        assert parts.of(0) == (0, 2), "three in place of two threads"
        parts.end(1)
        assert parts.of(0) == (6, 6) and parts.of(0) == (0, 6)
        parts.end(0)
        for item in range(3):
            parts.start(item, 6)
        assert parts.of(0) == (2, 2) and parts.of(0) == (0, 2), "a third, of which it had a half"
        assert parts.of(1) == (2, 2) and parts.of(2) == (2, 2)
        threading.Timer(0.1, parts.turns[0].put, (False,)).start()
        parts.start(3, 6)  # nothing is free before
        assert beside.running == 3
        for item in (1, 2, 3):
            parts.end(item)


def test_what_is_free_is_left_to_those_that_come() -> None:
    with Beside() as beside:
        parts = Parts(beside)
        parts.start(0, 4, coming=1)
        assert parts.of(0) == (0, 1)
        parts.start(1, 4)  # nobody comes after it
        assert parts.of(1) == (2, 2)
        parts.end(1)
        parts.start(2, 4, coming=1)
        assert parts.of(0) == (0, 1)
        beside.none_come()
        assert parts.of(0) == (2, 2)
        for item in (0, 2):
            parts.end(item)


def test_what_is_free_is_left_to_one_that_waits_for_all() -> None:
    waits = threading.Event()

    def alone() -> int:
        waits.set()
        beside.have_all()
        return torch.get_num_threads()

    with Beside() as beside:
        parts = Parts(beside)
        parts.start(0, 4)
        found = beside.start(alone, 4)
        assert waits.wait(LONG)
        time.sleep(0.05)  # by then it has given up its share
        assert parts.of(0) == (0, 1)
        parts.end(0)
        assert found.result(LONG) == 4


def test_what_a_call_had_in_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    with Beside() as beside:

        def work() -> None:
            told.append(beside.average_share())
            clock[0] += 3
            told.append(beside.average_share())
            beside.take_free()
            clock[0] += 1
            told.append(beside.average_share())

        beside.start(work, 4)
    assert told == [0.25, 0.25, (0.25 * 3 + 1) / 4]


def test_an_error_of_a_call_is_its_futures() -> None:
    with Beside() as beside:
        wrong = beside.start(lambda: 1 // 0, 2)
        right = beside.start(lambda: 1, 2)
    assert isinstance(wrong.exception(), ZeroDivisionError) and right.result() == 1


def test_an_error_holds_nothing_of_its_call_when_it_is_let_go() -> None:
    """Without a collection of cycles: what the call held may be most of the memory."""

    def work(item: int) -> None:
        held = torch.empty(item)
        seen.append(weakref.ref(held))
        raise ValueError

    seen: list[weakref.ref[torch.Tensor]] = []
    gc.disable()
    try:
        found = abreast(work, [1, 2])
        assert all(isinstance(error, ValueError) for error in found)
        found.clear()
        assert len(seen) == 2 and not any(ref() is not None for ref in seen)
    finally:
        gc.enable()


def test_an_exception_in_the_block_ends_all_calls() -> None:
    """Also those that wait for all threads."""
    begun = threading.Barrier(3)

    def work(alone: bool) -> None:
        begun.wait(LONG)
        if alone:
            beside.have_all()
        until = time.monotonic() + LONG
        while time.monotonic() < until:
            time.sleep(0.001)

    start = time.monotonic()
    with pytest.raises(KeyError), Beside() as beside:
        futures = [beside.start(lambda alone=alone: work(alone), 2) for alone in (True, False)]
        begun.wait(LONG)
        time.sleep(0.05)
        raise KeyError
    assert all(isinstance(future.exception(), Stopped) for future in futures)
    assert time.monotonic() - start < LONG / 2 and torch.get_num_threads() == 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("foldline-abreast")]
