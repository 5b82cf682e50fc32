"""Stores as the place of what commands write, and what the cache keeps of them. Whole runs are in tests/survival."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldline import remote
from foldline.outputs.workplace import Workplace
from foldline.search.databases import COPIES
from foldline.search.stage import FOLDER

Command = Callable[..., Any]
Write = Callable[..., Path]
URL = "memory://bucket/place"
ALIGNED = {"unpairedMsa": ">q\nMKTAYIAK\n>a\nMKTAYIAR\n", "pairedMsa": "", "templates": []}


def test_pairs(run: Command, memory: Any, tmp_path: Path) -> None:
    (tmp_path / "s.fasta").write_text(">a\nACDEF\n>b\nGHI\n")
    words = ("pairs", "s.fasta", "--out", f"{URL}/")
    for _ in range(2):
        done = run(*words)
        assert (done.code, done.out) == (0, f"3 jobs of 2 sequences in {URL}, listed in pairs.csv\n"), done.err
    assert sorted(remote.files(URL)) == ["a__a.json", "a__b.json", "b__b.json", "pairs.csv"]
    assert run("validate", URL, "--quiet").code == 0
    remote.write(b"{}", f"{URL}/other.json")
    done = run(*words)
    assert done.code == 2 and f"--out: {URL} has jobs that are not of this screen (other.json)" in done.err


def test_search(run: Command, memory: Any, job: Write) -> None:
    """Alignments are in the file: it leaves this machine."""
    (Path("a.a3m")).write_text(str(ALIGNED["unpairedMsa"]))
    given = {"unpairedMsa": None, "unpairedMsaPath": "a.a3m", "pairedMsa": "", "templates": []}
    done = run("search", job("j", protein=given), "--out", URL)
    assert done.code == 0 and f"j: {URL}/j/j_data.json\n" in done.err, done.err
    (entity,) = json.loads(remote.content(f"{URL}/j/j_data.json") or b"")["sequences"]
    assert entity["protein"]["unpairedMsa"] == ALIGNED["unpairedMsa"]


@pytest.mark.parametrize("words", [("predict",), ("search",)])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://server/results", "--out: https://server/results can only be read: name a folder of an object store"),
        (
            "nowhere://bucket/x",
            "--out: nowhere://bucket/x/.foldline-write-check is no address of a store that is known",
        ),
    ],
)
def test_places_where_nothing_can_be_put(
    run: Command, job: Write, engine: Any, words: tuple[str, ...], url: str, said: str
) -> None:
    done = run(*words, job(), "--out", url)
    assert done.code == 2 and said in done.err and not engine.ran
    assert not list(Path().glob("*:*"))


def test_report_of_what_is_no_result(run: Command, memory: Any) -> None:
    done = run("report", f"{URL}/job")
    assert done.code == 2 and f"{URL}/job has no result of a job in it" in done.err
    remote.write(b"{}", f"{URL}/job/job_run.json")
    done = run("report", f"{URL}/job/")
    assert done.code == 2 and f"{URL}/job" in done.err and "/tmp" not in done.err, done.err
    assert remote.files(URL) == {"job/job_run.json": 2}


def test_copies_and_working_folders_in_the_cache(run: Command, memory: Any, tmp_path: Path) -> None:
    (tmp_path / "foldline.toml").write_text('cache_dir = "cache"\n')
    folder, old = tmp_path / "cache" / FOLDER / COPIES, time.time() - 10 * 86400
    for number, content in enumerate((b"one", b"two!", b"other")):
        url = f"memory://data/{'other' if number == 2 else 'u.fasta'}"
        remote.write(content, url)
        origin = remote.stat(url)
        assert origin is not None
        about = remote.copied(origin, folder).with_name(".origin")
        about.write_text(json.dumps(json.loads(about.read_bytes()) | {"made": number}))
    with Workplace(tmp_path / "cache" / "results-1", URL) as place:
        (place.folder / "j").mkdir()
        for part in ("model.cif", "confidences.json", "summary_confidences.json", "data.json", "ranking_scores.csv"):
            (place.folder / "j" / f"j_{part}").touch()
        (place.folder / "j" / "j_run.json").write_text('{"fingerprint": "x"}')
    listed = run("cache", "list").out.splitlines()
    assert listed[0] == "0 entries, 0.0 MB" and listed[4] == "3 copies of store files, 0.0 MB"
    assert sum(line.endswith("memory://data/u.fasta  replaced by a later one") for line in listed) == 1
    assert f"{URL}: 1 job not in the store (j) ({place.folder})" in listed[5]
    assert run("cache", "prune", "--replaced").out.splitlines()[1] == "removed 1 copy of store files, 0.0 MB"
    assert len(remote.copies(folder)) == 2
    for path in (*folder.rglob("*"), *place.folder.rglob("*"), place.folder):
        os.utime(path, (old, old))
    said = run("cache", "prune", "--unused-days", "5").out
    assert "removed 2 copies of store files, 0.0 MB\n" in said and remote.copies(folder) == []
    assert f"kept {place.folder}: 1 job not in the store (j); run the job again to put" in said
    said = run("cache", "prune", "--unused-days", "5", "--results").out
    assert f"removed the folder of {URL}, 0.0 MB: 1 job not in the store (j)\n" in said
    assert not place.folder.exists()
    done = run("cache", "prune", "--max-size", "1GB", "--results")
    assert done.code == 2 and "--results: it needs --unused-days" in done.err
