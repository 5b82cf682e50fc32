"""What a run leaves beside the results: lists, a file to try again from; and how signals end it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldline.cli.signals import stop_on_signals
from foldline.errors import DoesNotFit, InputError, Stopped
from foldline.outputs import journal

ROOT = Path(__file__).resolve().parents[2]
Command = Callable[..., Any]
Write = Callable[..., Path]
NO_FIT = DoesNotFit(10, 2**31, 2**30, "use a larger one")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_lists_of_results_and_failures(run: Command, engine: Any, job: Write, tmp_path: Path) -> None:
    engine.errors["b"] = NO_FIT
    bad = job("c", protein={"sequence": ""})
    words = ("predict", job("a"), job("b"), bad, "--out", "out", "--model", "m.pt", "--progress", "plain")
    assert run(*words).code == 1
    out = tmp_path / "out"
    assert [line["job"] for line in lines(out / "results.jsonl")] == ["a"]
    found = lines(out / "failed.jsonl")
    assert [(line["job"], line["code"], line["stage"]) for line in found] == [
        (None, "bad_input", "read"),
        ("b", "does_not_fit", "features"),
    ]
    assert found[0]["source"].endswith("c.json") and found[0]["path"] == "$.sequences[0].protein.sequence"
    engine.errors.clear()
    job("c")
    done = run("predict", out / "failed_jobs.json", bad, "--out", "out", "--model", "m.pt", "--progress", "plain")
    assert done.code == 0 and [j.name for j in engine.ran[-2:]] == ["b", "c"]
    assert sorted(line["job"] for line in lines(out / "results.jsonl")) == ["a", "b", "c"]
    assert lines(out / "failed.jsonl") == [] and not (out / "failed_jobs.json").exists()


def test_bad_input_alone_leaves_nothing(run: Command, engine: Any, job: Write, tmp_path: Path) -> None:
    engine.errors["a"] = InputError("wrong", path="$.x")
    assert run("predict", job("a"), "--out", "out", "--model", "m.pt").code == 2
    assert not (tmp_path / "out").exists()


def test_bad_input_is_listed_once_something_has_run(run: Command, engine: Any, job: Write, tmp_path: Path) -> None:
    engine.errors = {"a": InputError("wrong", path="$.x"), "b": NO_FIT}
    assert run("predict", job("a"), job("b"), "--out", "out", "--model", "m.pt").code == 3
    assert [line["code"] for line in lines(tmp_path / "out" / "failed.jsonl")] == ["bad_input", "does_not_fit"]


def test_lists_that_cannot_be_written_lose_no_result(
    run: Command, engine: Any, job: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal._Lines, "put", full)
    done = run("predict", job("a"), job("b"), "--out", "out", "--model", "m.pt", "--progress", "none")
    assert done.code == 0
    assert done.err == "error: the lists of results in out cannot be written: No space left on device\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_cleanly(
    run: Command, engine: Any, job: Write, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background
    engine.errors["a"] = NO_FIT
    engine.signals["c"] = number
    files = [job(name) for name in "abcd"]
    done = run("predict", *files, "--out", "out", "--model", "m.pt", "--progress", "plain")
    assert done.code == code and [j.name for j in engine.ran] == ["a", "b", "c"]
    assert done.err.splitlines()[-2:] == [
        "1 done, 1 failed, 2 not run",
        f"stopped by {number.name} with 1 jobs done; the same command goes on from here",
    ]
    assert "Traceback" not in done.err
    assert [job["name"] for job in json.loads((tmp_path / "out" / "failed_jobs.json").read_text())] == ["a"]
    assert signal.getsignal(signal.SIGINT) is before, "handlers are put back"


def test_json_tells_the_signal(run: Command, engine: Any, job: Write) -> None:
    engine.signals["a"] = signal.SIGTERM
    done = run("predict", job("a"), "--out", "out", "--model", "m.pt", "--progress", "json")
    end = json.loads(done.out.splitlines()[-1])
    assert (end["event"], end["stopped_by"], end["not run"]) == ("end", "SIGTERM", 1)


def test_a_write_is_finished_before_the_run_ends() -> None:
    done: list[int] = []
    with stop_on_signals() as stop:
        with pytest.raises(Stopped), stop.kept_whole():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            done.append(1)
        assert done == [1] and stop.exit_code == 143
    with stop_on_signals(), pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    program = """
        import time
        from foldline.cli.signals import stop_on_signals
        with stop_on_signals() as stop, stop.kept_whole():
            print("writing", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    process.send_signal(number)
    time.sleep(0.2)
    assert process.poll() is None, "the first signal waits for the write"
    process.send_signal(number)
    _, printed = process.communicate(timeout=10)
    assert process.returncode == -number and "Traceback" not in printed


def test_ctrl_c_before_anything_runs(
    run: Command, engine: Any, job: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("foldline.inputs.read_inputs", interrupted)
    done = run("predict", job("a"), "--out", "out", "--model", "m.pt")
    assert (done.code, done.err) == (130, "stopped by SIGINT before anything was run\n")
    assert not (tmp_path / "out").exists()
