"""Running things ahead: order, how far, errors, and what closing early leaves undone; child processes; stopping."""

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from foldline.errors import DoesNotFit, FoldlineError, InputError, InternalError, KernelUnavailable, Stopped, WriteError
from foldline.execute import Background, Children, InProcess, StopRequest


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


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children(2)
    yield made
    made.close()


def test_children_are_started_once_and_keep_what_they_import(children: Children) -> None:
    first = children.run(os.getpid)
    assert first != os.getpid() and children.run(os.getpid) == first
    assert len(children.run(os.sched_getaffinity, 0)) == len(os.sched_getaffinity(0))


def test_children_have_one_blas_thread(children: Children) -> None:
    loaded = children.run(
        eval, "'numpy' in __import__('sys').modules and len(__import__('os').listdir('/proc/self/task'))"
    )
    assert loaded == 1


def test_children_do_not_run_the_callers_script(children: Children) -> None:
    names = children.run(eval, "sorted(__import__('sys').modules)")
    assert "foldline.execute" in names and "pytest" not in names and "torch" not in names
    assert children.run(eval, "__import__('sys').path") == sys.path


@pytest.mark.parametrize(
    "error",
    [
        InputError("a", path="$.x", source="f.json"),
        DoesNotFit(3, 1 << 30, 1 << 20, "b"),
        KernelUnavailable("op", "name", "why"),
        InternalError(ValueError("c")),
        WriteError("d"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_travel_between_processes(error: FoldlineError) -> None:
    error.stage = "features"
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error) and str(found) == str(error) and vars(found) == vars(error)
    assert found.code == error.code


def test_errors_in_a_child_are_raised_here_and_the_child_lives_on(children: Children) -> None:
    child = children.run(os.getpid)
    with pytest.raises(InputError, match="in.json: not there"):
        children.run(exec, "from foldline.errors import InputError\nraise InputError('not there', source='in.json')")
    with pytest.raises(InternalError, match="unforeseen ZeroDivisionError") as caught:
        children.run(divmod, 1, 0)
    assert "Traceback" in caught.value.details and children.run(os.getpid) == child


def test_a_child_that_dies_costs_one_call(children: Children) -> None:
    child = children.run(os.getpid)
    with pytest.raises(InternalError, match="died with exit code 7"):
        children.run(os._exit, 7)
    assert children.run(os.getpid) != child


def test_prints_in_a_child_do_not_disturb_its_answers(children: Children) -> None:
    assert children.run(exec, "print('hello'); import sys; sys.stdout.flush()") is None
    assert children.run(divmod, 7, 3) == (2, 1)


def test_children_run_side_by_side(children: Children) -> None:
    with ThreadPoolExecutor(2) as pool:
        pids = {
            pool.submit(children.run, eval, "(__import__('time').sleep(0.3), __import__('os').getpid())[1]")
            for _ in "12"
        }
    assert len({future.result() for future in pids}) == 2


def test_a_child_ends_with_its_parent() -> None:
    """However the parent ends: here by a signal that nobody can catch."""
    code = "import os; from foldline.execute import Children\n"
    code += "print(Children(1).run(os.getpid), flush=True); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    child = int(done.stdout)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()


def test_a_signal_amid_a_call_handed_over_leaves_no_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may end the block in any step of the main thread, such as the start of a thread that has begun its work."""
    ended: list[bool] = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        real(thread)
        raise Stopped

    with pytest.raises(Stopped), Background() as after:
        monkeypatch.setattr(threading.Thread, "start", start)
        after.submit(lambda: (time.sleep(0.1), ended.append(True)))
        raise Stopped
    assert ended == [True]


def test_items_come_as_they_end() -> None:
    gate = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert gate.wait(30)
        elif number == 2:
            raise ValueError("two")
        return number

    found = []
    with InProcess(2) as executor:
        for item, future in executor.each(work, range(5)):
            assert future.done()
            found.append((item, future.exception() and "failed"))
            if len(found) == 4:
                gate.set()
    assert found == [(1, None), (2, "failed"), (3, None), (4, None), (0, None)]


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_an_item_may_wait_for_the_end_of_another(ahead: int) -> None:
    found: list[int] = []

    def items() -> Iterator[int | None]:
        yield 1
        while not found:
            yield None
        yield 2

    with InProcess(ahead) as executor:
        for item, future in executor.each(lambda number: 2 * number, items()):
            assert future.result() == 2 * item
            found.append(item)
    assert found == [1, 2]


@pytest.mark.parametrize("way", ["map", "each"])
@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_check_ends_the_work(ahead: int, way: str) -> None:
    checked, ran = [], []

    def check() -> None:
        checked.append(None)
        if len(checked) == 3:
            raise Stopped

    with InProcess(ahead, check=check) as executor, pytest.raises(Stopped):
        for _ in getattr(executor, way)(ran.append, range(9)):
            pass
    assert set(ran) <= {0, 1} and len(checked) == 3
