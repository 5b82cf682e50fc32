"""A run whose output nobody reads any more, or whose streams are closed, goes on to its end."""

import errno
import io
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foldline.cli import main
from foldline.cli.streams import Steady, steady_streams
from foldline.errors import DoesNotFit

ROOT = Path(__file__).resolve().parents[2]
Write = Callable[..., Path]


def names_in(path: Path) -> list[str]:
    return [json.loads(line)["job"] for line in path.read_text().splitlines()]


@pytest.fixture
def program(tmp_path: Path, job: Write) -> Callable[[str], str]:
    """A Python program that predicts six jobs with an engine that predicts nothing; the last one fails."""

    def text(progress: str) -> str:
        files = [str(job(f"j{number}")) for number in range(6)]
        words = ["predict", *files, "--out", str(tmp_path / "out"), "--model", "m.pt", "--progress", progress]
        return textwrap.dedent(f"""
            import foldline.engine
            from foldline.cli import main
            from foldline.errors import DoesNotFit
            from tests.cli.conftest import FakeEngine
            foldline.engine.Engine = FakeEngine({{"j5": DoesNotFit(1, 2, 1, "no")}})
            main({words!r})
        """)

    return text


def started(program: str, **streams: Any) -> Any:
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **streams)


def test_whoever_reads_the_events_may_end(program: Callable[[str], str], tmp_path: Path) -> None:
    with started(program("json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert json.loads(process.stdout.readline())["event"] == "progress"
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == 1, "one job failed"
    assert said == "note: standard output is not read any more: the command goes on without it\n"
    assert names_in(tmp_path / "out" / "results.jsonl") == ["j0", "j1", "j2", "j3", "j4"]
    assert names_in(tmp_path / "out" / "failed.jsonl") == ["j5"]


def test_standard_error_may_be_closed(program: Callable[[str], str], tmp_path: Path) -> None:
    """As with `2>&-` in a shell; lines for people must not get among those for programs."""
    with started(program("plain"), stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2)) as process:
        assert process.stdout.read() == b""
    assert process.returncode == 1
    assert names_in(tmp_path / "out" / "results.jsonl") == ["j0", "j1", "j2", "j3", "j4"]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Put a pipe that nobody reads in the place of a stream."""
    pipes = []

    def put(name: str) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        pipes.append(os.fdopen(writing, "w"))
        monkeypatch.setattr(sys, name, pipes[-1])

    yield put
    for pipe in pipes:
        pipe.close()


@pytest.mark.parametrize("progress", ["plain", "none", "json"])
def test_whoever_reads_the_lines_for_people_may_end(
    engine: Any, job: Write, broken: Callable[[str], None], tmp_path: Path, progress: str
) -> None:
    broken("stderr")
    engine.errors["b"] = DoesNotFit(1, 2, 1, "no")
    out = tmp_path / "out"
    words = ["predict", *map(str, (job("a"), job("b"), job("c"))), "--out", str(out), "--progress", progress]
    with pytest.raises(SystemExit) as end:
        main([*words, "--model", "m.pt"])
    assert end.value.code == 1
    assert names_in(out / "results.jsonl") == ["a", "c"] and names_in(out / "failed.jsonl") == ["b"]


def test_a_listing_that_is_cut_off_is_no_fault(
    job: Write, broken: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """`foldline validate jobs | head`: what was not read before the end is not missed."""
    broken("stdout")
    with pytest.raises(SystemExit) as end:
        main(["validate", str(job())])
    assert end.value.code == 0 and capfd.readouterr().err == ""


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_listing_that_cannot_be_written_is_a_fault(
    job: Write, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(SystemExit) as end:
        main(["validate", str(job("a")), str(job("b"))])
    assert end.value.code == 1
    said = "note: standard output cannot be written (No space left on device): the command goes on without it\n"
    assert capfd.readouterr().err == said


def test_streams_are_put_back_and_are_themselves_while_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    text, errors = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    monkeypatch.setattr(sys, "stderr", errors)
    with steady_streams() as out:
        print("one")  # noqa: T201
        print("two", file=sys.stderr)  # noqa: T201
        assert isinstance(sys.stdout, Steady) and out.lost is None and not sys.stdout.isatty()
    assert sys.stdout is text and sys.stderr is errors
    assert (text.getvalue(), errors.getvalue()) == ("one\n", "two\n")
