"""The in-process executor: order, how far ahead it works, errors, and what closing early leaves undone."""

import threading

import pytest

from foldline.errors import Stopped
from foldline.execute import InProcess, StopRequest


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_results_come_in_order_and_errors_stay_with_their_item(ahead: int) -> None:
    def inverse(x: int) -> float:
        return 1 / x

    with InProcess(ahead) as executor:
        futures = list(executor.map(inverse, [1, 0, 4]))
    assert futures[0].result() == 1 and futures[2].result() == 0.25
    with pytest.raises(ZeroDivisionError):
        futures[1].result()


def test_works_ahead_by_as_much_as_it_is_told() -> None:
    drawn: list[int] = []

    def items() -> object:
        for number in range(10):
            drawn.append(number)
            yield number

    with InProcess(2) as executor:
        futures = executor.map(lambda x: x, items())  # pyright: ignore
        assert next(futures).result() == 0
        assert drawn == [0, 1, 2]


def test_the_next_item_runs_before_it_is_asked_for() -> None:
    started = threading.Event()

    def work(number: int) -> int:
        if number == 1:
            started.set()
        return number

    with InProcess(1) as executor:
        futures = executor.map(work, range(3))
        assert next(futures).result() == 0
        assert started.wait(10)


def test_closing_early_cancels_the_rest() -> None:
    gate, ran = threading.Event(), []

    def work(number: int) -> None:
        gate.wait(10)
        ran.append(number)

    executor = InProcess(1)
    futures = executor.map(work, range(5))
    first = next(futures)
    futures.close()
    gate.set()
    executor.close()
    assert first.done() and ran == [0]


def test_a_wish_to_stop_waits_for_what_is_kept_whole() -> None:
    stop = StopRequest()
    stop.check()
    done = []
    with pytest.raises(Stopped), stop.kept_whole():
        assert stop.busy
        stop.ask()
        done.append(1)
    assert done == [1] and not stop.busy
    with pytest.raises(Stopped):
        stop.check()


def test_an_error_in_what_is_kept_whole_comes_first() -> None:
    stop = StopRequest()
    stop.ask()
    with pytest.raises(OSError, match="full"), stop.kept_whole():
        raise OSError("full")
    assert not stop.busy


def test_other_threads_do_not_hold_up_the_main_one() -> None:
    stop = StopRequest()
    with InProcess(1) as executor:

        def work(_item: int) -> bool:
            with stop.kept_whole():
                return stop.busy

        assert [future.result() for future in executor.map(work, [1])] == [False]
