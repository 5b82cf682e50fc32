"""`foldline report` and `predict --report`: what they print, write and end with. (The page: tests/outputs/report.)"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldline.errors import InputError
from foldline.outputs.report import page as page_module
from foldline.outputs.report import plots as plots_module

Command = Callable[..., Any]  # words to what was printed: code, out, err
Write = Callable[..., Path]


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Makes pages that are empty, in folders whose name does not begin with `bad`; the folders asked for."""
    asked: list[Path] = []

    def write(folder: Path) -> Path:
        asked.append(folder)
        if folder.name.startswith("bad"):
            raise InputError(f"{folder} is no result")
        return folder / "x_report.html"

    monkeypatch.setattr(page_module, "write_report", write)
    monkeypatch.setattr(plots_module, "write_plots", lambda folder: [folder / "x_plddt.png"])
    return asked


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        (["a"], 0, ["a/x_report.html"], []),
        (["a", "b", "--plots"], 0, ["a/x_report.html", "a/x_plddt.png", "b/x_report.html", "b/x_plddt.png"], []),
        (["bad1"], 2, [], ["error: bad1 is no result"]),
        (["bad1", "bad2", "--plots"], 2, [], ["error: bad1 is no result", "error: bad2 is no result"]),
        (["bad", "a"], 1, ["a/x_report.html"], ["error: bad is no result"]),
    ],
)
def test_report(run: Command, pages: list[Path], words: list[str], code: int, out: list[str], err: list[str]) -> None:
    done = run("report", *words)
    assert (done.code, done.out.splitlines(), done.err.splitlines()) == (code, out, err)


def test_report_of_no_result(run: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("report", "empty")
    assert done.code == 2 and done.out == "" and not list((tmp_path / "empty").iterdir())
    assert done.err.startswith("error: empty is not the result of a job") and done.err.count("\n") == 1
    assert run("report").code == 2


def test_predict_makes_the_pages(run: Command, engine: Any, job: Write, pages: list[Path]) -> None:
    words = ("predict", job("a"), job("b"), "--out", "out", "--model", "m.pt", "--progress", "plain")
    done = run(*words, "--report")
    assert done.code == 0 and pages == [Path("out/a"), Path("out/b")]
    lines = done.err.splitlines()
    assert lines.index("a: report -> out/a/x_report.html") < next(i for i, x in enumerate(lines) if "[2/2]" in x)
    pages.clear()
    assert run(*words).code == 0 and pages == []


def test_a_report_that_fails_is_not_a_job_that_fails(run: Command, engine: Any, job: Write, pages: list[Path]) -> None:
    words = ("predict", job("a"), job("bad"), "--out", "out", "--model", "m.pt", "--report", "--progress")
    done = run(*words, "json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    told = [{k: v for k, v in line.items() if k != "event"} for line in lines if line["event"] == "report"]
    error = {"code": "bad_input", "stage": "", "message": "out/bad is no result", "path": None}
    assert told == [
        {"job": "a", "path": "out/a/x_report.html", "error": None},
        {"job": "bad", "path": None, "error": error},
    ]
    assert done.code == 1 and (lines[-1]["done"], lines[-1]["failed"]) == (2, 0)
    done = run(*words, "none")
    assert (done.code, done.err) == (1, "error: job bad: it is done, but its report is not: out/bad is no result\n")
