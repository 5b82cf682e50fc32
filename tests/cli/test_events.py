"""What programs learn from `--progress json` alone: what cannot be read, where a fault is, what was done before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldline.cli.display import Json
from foldline.engine import Prediction
from foldline.errors import InputError

Command = Callable[..., Any]
Write = Callable[..., Path]


def events(text: str, kind: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, text.splitlines()) if line["event"] == kind]


def test_inputs_that_cannot_be_read(run: Command, engine: Any, job: Write) -> None:
    bad = job("bad", protein={"sequence": ""})
    words = ("--out", "out", "--model", "m.pt", "--progress", "json")
    done = run("predict", bad, job("good"), *words)
    (told,) = events(done.out, "unreadable")
    assert done.code == 1 and told["path"] == "$.sequences[0].protein.sequence"
    assert (told["code"], told["stage"], told["source"]) == ("bad_input", "read", str(bad))
    assert done.err == f"error: {told['message']}\n"
    (failed,) = [json.loads(line) for line in Path("out/failed.jsonl").read_text().splitlines()]
    assert {key: failed[key] for key in told if key != "event"} == {k: told[k] for k in told if k != "event"}
    alone = run("predict", bad, *words)
    assert alone.code == 2 and len(events(alone.out, "unreadable")) == 1


def test_the_place_of_a_fault(run: Command, engine: Any, job: Write) -> None:
    engine.errors["a"] = InputError("wrong", path="$.sequences[0]")
    done = run("predict", job("a"), "--out", "out", "--model", "m.pt", "--progress", "json")
    (told,) = events(done.out, "job")
    assert told["error"]["path"] == "$.sequences[0]"


def test_a_skipped_job_is_told_with_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"n_token": 9, "n_atom": 70, "plan": {"bucket": [16, 128]}, "seconds": {"total": 3.5}, "peak_bytes": 5}
    record = sizes | {"fingerprint": "f", "best": {"ranking_score": 0.25}, "model": "m"}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a_run.json").write_text(json.dumps(record))
    show = Json()
    show.finished(Prediction("a", tmp_path / "a", skipped=True), 1, 2)
    show.finished(Prediction("b", tmp_path / "b", n_token=7), 2, 2)
    before, now = events(capsys.readouterr().out, "job")
    assert before["skipped"] and before["ranking_score"] == 0.25
    assert {key: before[key] for key in sizes} == sizes and "model" not in before
    assert (now["n_token"], now["ranking_score"], now["plan"]) == (7, None, None)
