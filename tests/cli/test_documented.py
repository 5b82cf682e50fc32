"""docs/output.md tells what programs read: events of `--progress json`, lines of the lists, codes of errors, exits."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foldline.errors
from foldline.cli.display import Json
from foldline.errors import DoesNotFit, ExitCode, FoldlineError
from foldline.outputs.journal import FROM_RECORD, failure_line, result_line

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "output.md").read_text(encoding="utf-8")


def table(head: str) -> dict[str, str]:
    """First cell to the rest of a row, of the table whose first column has that head."""
    rows = TEXT[TEXT.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return {cells[1].strip(): "|".join(cells[2:]) for cells in (row.split("|") for row in rows)}


def words(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"`([^`]+)`", re.sub(r"\([^)]*\)", "", text))))


def test_events(run: Callable[..., Any], engine: Any, job: Callable[..., Path], capfd: Any) -> None:
    engine.errors["b"] = DoesNotFit(10, 2**31, 2**30, "no")
    bad = job("c", protein={"sequence": ""})
    done = run("predict", job("a"), job("b"), bad, "--out", "out", "--model", "m.pt", "--progress", "json")
    show = Json()
    show.fetched("m", 1, None)
    show.reported("a", Path("x"))
    lines = [json.loads(line) for line in (done.out + capfd.readouterr().out).splitlines()]
    found = {line["event"]: [key for key in line if key != "event"] for line in lines}
    assert found == {words(kind)[0]: words(keys) for kind, keys in table("`event`").items()}
    (failed,) = (line["error"] for line in lines if line["event"] == "job" and line["error"])
    assert list(failed) == ["code", "stage", "message", "path"]


def test_codes_of_errors() -> None:
    classes = [kind for kind in vars(foldline.errors).values() if isinstance(kind, type)]
    codes = {kind.code for kind in classes if issubclass(kind, FoldlineError) and kind is not FoldlineError}
    assert {words(code)[0] for code in table("code")} == codes


def test_lines_of_the_lists() -> None:
    documented = [word for keys in table("key").items() for word in words(keys[0])]
    known = list(failure_line(DoesNotFit(1, 2, 1, "no"), job="a", directory="a"))
    start = TEXT.index("## The lists")
    assert set(known) | {"details"} <= set(re.findall(r"`(\w+)`", TEXT[start : TEXT.index("## Running again")]))
    assert documented
    line = result_line("a", "a", dict.fromkeys(FROM_RECORD, 1))
    paragraph = TEXT[TEXT.index("`results.jsonl` has one") :].split("\n\n")[0]
    assert set(line) <= set(words(paragraph)), set(line) - set(words(paragraph))


def test_exit_codes() -> None:
    told = {int(number) for cell in table("exit code") for number in cell.split(",")}
    assert told == set(map(int, ExitCode))
