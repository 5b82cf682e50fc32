"""What predict hands to the engine, shows of it and ends with."""

import json
import os
import pty
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldline.cli.display import Bars, Plain
from foldline.config import EngineConfig
from foldline.engine import Prediction
from foldline.errors import DoesNotFit, InputError, NoSearch, SearchError, WeightsError
from foldline.execute import Event
from foldline.weights import download
from foldline.weights.registry import Entry

ROOT = Path(__file__).resolve().parents[2]
Command = Callable[..., Any]  # words to what was printed: code, out, err
Write = Callable[..., Path]


def test_options_become_settings(run: Command, engine: Any, job: Write, tmp_path: Path) -> None:
    (tmp_path / "foldline.toml").write_text('samples = 9\nsteps = 11\nthreads = 1\ncache_dir = "cache"\n')
    words = "--model m.pt --samples 3 --recycles 0 --msa none --device cpu --dtype fp32 --max-memory 2GB --buckets 8,16"
    done = run("predict", job(), "--out", "out", *words.split(), "--seeds", "5,6", "--overwrite")
    assert done.code == 0, done.err
    wanted = EngineConfig(
        model="m.pt",
        samples=3,
        steps=11,
        recycles=0,
        threads=1,
        msa="none",
        device="cpu",
        dtype="fp32",
        max_memory=2 * 10**9,
        buckets=(8, 16),
        overwrite=True,
        cache_dir=tmp_path.resolve() / "cache",
    )
    assert engine.made == [("m.pt", wanted)]
    assert [j.seeds for j in engine.ran] == [(5, 6)]


def test_plain_lines(run: Command, engine: Any, job: Write) -> None:
    done = run("predict", job("a"), job("b"), "--out", "out", "--model", "m.pt", "--progress", "plain")
    assert done.out == ""
    assert done.err.splitlines() == [
        line.format(n=name, i=i)
        for i, name in enumerate("ab", start=1)
        for line in (
            "{n}: plan: fits",
            "note: {n}: something was changed",
            "[{i}/2] {n}: 7 tokens, 50 atoms, best score 0.50, 2.0 s (trunk 1.2), peak 1.0 GiB -> out/{n}",
        )
    ] + [
        "job  result  tokens  bucket  score  seconds  peak GiB",
        "a    done         7           0.50      2.0       1.0",
        "b    done         7           0.50      2.0       1.0",
        "2 done",
    ]


def test_a_long_job_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Once in twenty seconds, and not right after a remark."""
    now, shown = [0.0], Plain()
    monkeypatch.setattr("foldline.cli.display.time.monotonic", lambda: now[0])
    for now[0], event in (
        (0.0, Event("a", "features")),
        (15.0, Event("a", "plan", message="fits")),
        (34.0, Event("a", "trunk", 1, 11, seed=3)),
        (36.0, Event("a", "trunk", 2, 11, seed=3)),
        (37.0, Event("a", "trunk", 3, 11, seed=3)),
        (60.0, Event("a", "confidence")),
    ):
        shown.event(event)
    assert capsys.readouterr().err.splitlines() == ["a: plan: fits", "a: trunk, seed 3, 2 of 11", "a: confidence"]


def test_json_lines(run: Command, engine: Any, job: Write) -> None:
    engine.errors["b"] = DoesNotFit(10, 2**31, 2**30, "use a larger one")
    done = run("predict", job("a"), job("b"), "--out", "out", "--model", "m.pt", "--progress", "json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["event"] for line in lines] == ["progress"] * 3 + ["job", "job", "end"]
    assert lines[0] == {
        "event": "progress",
        "job": "a",
        "stage": "trunk",
        "step": 1,
        "total": 2,
        "message": "",
        "seed": 1,
    }
    assert lines[3]["directory"] == "out/a" and lines[3]["error"] is None and lines[3]["ranking_score"] == 0.5
    assert lines[4]["error"]["code"] == "does_not_fit" and "use a larger one" in lines[4]["error"]["message"]
    assert lines[4]["error"]["stage"] == "features"
    assert lines[5].pop("seconds") >= 0
    ended = {"event": "end", "done": 1, "failed": 1, "not run": 0, "refused": 0, "stopped_by": None}
    assert lines[5] == ended
    assert done.code == 1 and done.err == ""


def test_none_shows_failures_alone(run: Command, engine: Any, job: Write) -> None:
    engine.errors["b"] = InputError("wrong", path="$.x")
    done = run("predict", job("a"), job("b"), "--out", "out", "--model", "m.pt", "--progress", "none")
    assert (done.code, done.out, done.err) == (1, "", "error: job b: $.x: wrong\n")


@pytest.mark.parametrize(
    ("errors", "code", "ends"),
    [
        ({}, 0, "3 done"),
        ({"b": InputError("bad")}, 1, "2 done, 1 failed"),
        ({"a": InputError("bad"), "b": InputError("bad"), "c": InputError("bad")}, 2, "3 failed"),
        ({"a": InputError("bad"), "b": DoesNotFit(1, 2, 1, "no"), "c": InputError("bad")}, 3, "3 failed"),
        ({"a": NoSearch("bad"), "b": NoSearch("bad"), "c": InputError("bad")}, 2, "3 failed"),
        ({"a": SearchError("bad"), "b": SearchError("bad"), "c": NoSearch("bad")}, 3, "3 failed"),
    ],
)
def test_exit_codes(run: Command, engine: Any, job: Write, errors: dict[str, Exception], code: int, ends: str) -> None:
    engine.errors = errors  # pyright: ignore
    done = run("predict", job("a"), job("b"), job("c"), "--out", "out", "--model", "m.pt", "--progress", "plain")
    assert (done.code, done.err.splitlines()[-1]) == (code, ends)
    assert len(engine.ran) == 3


def test_stop_at_the_first_error(run: Command, engine: Any, job: Write) -> None:
    engine.errors["b"] = DoesNotFit(1, 2, 1, "no")
    files = [job("a"), job("b"), job("c")]
    done = run("predict", *files, "--out", "out", "--model", "m.pt", "--progress", "plain", "--on-error", "stop")
    assert (done.code, done.err.splitlines()[-1]) == (1, "1 done, 1 failed, 1 not run")
    assert [j.name for j in engine.ran] == ["a", "b"]


def test_a_bad_file_does_not_hurt_the_others(run: Command, engine: Any, job: Write) -> None:
    good, bad = job("a"), job("b", protein={"sequence": ""})
    done = run("predict", good, bad, "--out", "out", "--model", "m.pt", "--progress", "plain")
    assert done.code == 1 and [j.name for j in engine.ran] == ["a"]
    assert done.err.splitlines()[-1] == "1 done, 1 refused"
    assert "b.json: $.sequences[0].protein.sequence:" in done.err.splitlines()[0]
    done = run("predict", good, bad, "--out", "out", "--model", "m.pt", "--on-error", "stop")
    assert done.code == 2 and len(engine.ran) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["absent.json"], "absent.json"),
        (["one.json", "--seeds", "x"], "--seeds: 'x' is not possible"),
        (["one.json", "--num-seeds", "2", "--seeds", "1"], "--num-seeds: seeds and num_seeds exclude"),
        (["two.json", "--num-seeds", "2"], '--num-seeds: the job "two" has 2 seeds'),
        (["one.json", "--samples", "0"], "--samples: 0 is not possible"),
        (["one.json", "--samples", "many"], "--samples"),
        (["one.json", "--max-memory", "much"], "--max-memory: 'much' is not possible"),
        (["one.json", "--device", "gpu"], "--device: 'gpu' is not possible"),
        (["one.json", "--progress", "loud"], "--progress: 'loud' is not possible"),
        (["one.json", "--config", "absent.toml"], "absent.toml: the configuration cannot be read"),
        (["one.json", "--sampels", "3"], "No such option"),
        ([], "INPUT"),
    ],
)
def test_bad_usage(run: Command, engine: Any, job: Write, tmp_path: Path, words: list[str], says: str) -> None:
    job("one")
    job("two", modelSeeds=[1, 2])
    done = run("predict", *words, "--out", "out", "--model", "m.pt")
    assert done.code == 2 and says in done.err and done.out == ""
    assert not engine.made and not (tmp_path / "out").exists()
    assert "Traceback" not in done.err


def test_output_folders_that_cannot_be(
    run: Command, engine: Any, job: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for out in ("file", "file/deeper"):
        done = run("predict", job(), "--out", out, "--model", "m.pt")
        assert (done.code, done.out) == (2, "") and not engine.made
        assert done.err.startswith("error: --out: ") and done.err.endswith("file is a file: name a folder\n")
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    done = run("predict", job(), "--out", "new/folder", "--model", "m.pt")
    assert done.code == 2 and "cannot be written to" in done.err and not (tmp_path / "new").exists()


def test_every_fault_has_a_line(run: Command, engine: Any, job: Write) -> None:
    done = run("predict", job("a", protein={"sequence": "M7"}, modelSeeds=[-1]), "--out", "out", "--model", "m.pt")
    assert done.code == 2
    assert len(done.err.splitlines()) == 2 and all(line.startswith("error: ") for line in done.err.splitlines())


def test_num_seeds_counts_on(run: Command, engine: Any, job: Write) -> None:
    assert run("predict", job(), "--out", "out", "--model", "m.pt", "--num-seeds", "3").code == 0
    assert engine.ran[0].seeds == (1, 2, 3)


def test_an_unknown_checkpoint_is_bad_usage(run: Command, job: Write, tmp_path: Path) -> None:
    done = run("predict", job(), "--out", "out", "--model", "protenix-v9")
    assert done.code == 2 and "did you mean protenix-v" in done.err and not (tmp_path / "out").exists()


def test_a_named_checkpoint_is_fetched_first(
    run: Command, engine: Any, job: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Path]] = []

    def fetch(entry: Entry, cache_root: Path, *, progress: download.Progress) -> Path:
        asked.append((entry.name, cache_root))
        for done in (0, 5_000_000, 10_000_000):
            progress(done, 10_000_000)
        return cache_root

    monkeypatch.setattr(download, "fetch", fetch)
    (tmp_path / "foldline.toml").write_text('cache_dir = "c"\n')
    done = run("predict", job(), "--out", "out", "--model", "protenix-mini", "--progress", "plain")
    assert asked == [("protenix_mini_default_v0.5.0", tmp_path.resolve() / "c")]
    assert done.err.splitlines()[:2] == [
        "fetching protenix_mini_default_v0.5.0: 0 MB of 10",
        "fetching protenix_mini_default_v0.5.0: 5 MB of 10",
    ]

    def refuse(entry: Entry, cache_root: Path, *, progress: download.Progress) -> Path:
        raise WeightsError("no connection")

    monkeypatch.setattr(download, "fetch", refuse)
    done = run("predict", job(), "--out", "out", "--model", "protenix-mini")
    assert (done.code, done.err.splitlines()[-1]) == (2, "error: no connection")


def test_seeds_beside_each_other_have_a_bar_each() -> None:
    show = Bars()

    def shown(*events: Event) -> list[str]:
        for event in events:
            show.event(event)
        return [task.description for task in show._bars.tasks]

    assert shown(Event("j", "features"), Event("j", "trunk", 1, 2, seed=1)) == ["j (seed 1) trunk"]
    two = shown(Event("j", "trunk", 1, 2, seed=2), Event("j", "diffusion", 1, 2, seed=1), Event("k", "features"))
    assert two == ["j (seed 1) diffusion", "j (seed 2) trunk", "k features"]
    after = shown(
        Event("j", "write", seed=1), Event("j", "confidence", 1, 1, seed=1), Event("j", "trunk", 1, 2, seed=3)
    )
    assert after == ["j (seed 3) trunk", "j (seed 2) trunk", "k features"]
    show.finished(Prediction("j", Path("out/j"), n_token=3), 1, 2)
    assert shown() == ["k features"] and shown(Event("k", "trunk", 1, 2)) == ["k trunk"]


def test_bars_on_a_terminal(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        from pathlib import Path
        from foldline.cli.display import Bars, End, display
        from foldline.engine import Prediction
        from foldline.execute import Event
        with display("auto") as show:
            assert isinstance(show, Bars)
            show.fetched("model", 0, 100)
            show.fetched("model", 100, 100)
            show.event(Event("a[b]", "trunk", step=1, total=10, seed=4))
            show._bars.refresh()
            show.finished(Prediction("a[b]", Path("out/a"), n_token=3, warnings=("w [bold]x",)), 1, 1)
            show.ended(End({"done": 1, "failed": 0}, 1.0))
    """)
    parent, child = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], stderr=child, stdout=child, check=False, cwd=ROOT
    )
    os.close(child)
    shown = os.read(parent, 100_000).decode()
    os.close(parent)
    assert done.returncode == 0, shown
    assert "a[b] (seed 4) trunk" in shown and "1/10" in shown and "note: a[b]: w [bold]x" in shown and "1 done" in shown
