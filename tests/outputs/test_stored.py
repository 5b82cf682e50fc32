"""Results on their way into a store, without an engine: folders made by hand. Whole runs are in tests/survival."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foldline import remote
from foldline.outputs import stored
from foldline.outputs.layout import TOP_PARTS, is_finished, is_of_result, record_of, remove_result
from foldline.outputs.locks import job_lock
from foldline.outputs.stored import StoredResults
from foldline.outputs.workplace import Workplace, left_behind, prune
from foldline.remote import RemoteError

URL = "memory://bucket/results"


@pytest.fixture
def store(memory: Any, tmp_path: Path) -> Iterator[StoredResults]:
    with StoredResults(URL, tmp_path / "work") as found:
        yield found


def write_sample(folder: Path, seed: int, *, samples: int = 1) -> list[dict[str, object]]:
    found = []
    for sample in range(samples):
        place = folder / f"seed-{seed}_sample-{sample}"
        place.mkdir(parents=True)
        for part in TOP_PARTS[:3]:
            (place / f"{folder.name}_{place.name}_{part}").write_text(f"{seed} {sample} {part}")
        found.append({"seed": seed, "sample": sample, "ranking_score": 0.5, "inverted": []})
    return found


def write_half(folder: Path, fingerprint: str, seeds: tuple[int, ...] = (1,)) -> None:
    samples = [one for seed in seeds for one in write_sample(folder, seed)]
    (folder / f".{folder.name}_progress.json").write_text(json.dumps({"fingerprint": fingerprint, "samples": samples}))


def write_whole(folder: Path, fingerprint: str, seeds: tuple[int, ...] = (1,)) -> None:
    for seed in seeds:
        write_sample(folder, seed)
    for part in TOP_PARTS:
        (folder / f"{folder.name}_{part}").write_text(json.dumps({"fingerprint": fingerprint, "part": part}))


def with_sizes(folder: Path) -> None:
    """Have the record of a result tell the bytes of its files."""
    path = folder / f"{folder.name}_run.json"
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    sizes.pop(path.name)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": sizes}))


def write_next(folder: Path, fingerprint: str) -> None:
    """A whole result beside the one that is there, as it is before it takes its place."""
    write_whole(folder.parent / "made" / folder.name, fingerprint)
    with_sizes(folder.parent / "made" / folder.name)
    (folder.parent / "made" / folder.name).rename(folder / f".{folder.name}_next")
    (folder.parent / "made").rmdir()


def record(name: str) -> dict[str, Any]:
    return json.loads(remote.content(f"{URL}/{name}/{name}_run.json") or b"{}")


def test_which_files_are_of_a_result() -> None:
    mine = ["j_model.cif", "j_run.json", ".j_progress.json", "j_report.html", "j_seed-1_sample-0_pae.png"]
    mine += ["seed-1_sample-0/j_seed-1_sample-0_model.cif", "seed-1_embeddings/j_seed-1_embeddings.npz"]
    others = ["k_model.cif", "notes.txt", ".j_stored.json", "seed-1_sample-0/j_seed-2_sample-0_model.cif"]
    others += ["sub/j_model.cif", "seed-1_sample-0/notes", "j_model.cif.bak"]
    assert [file for file in mine + others if is_of_result("j", file)] == mine


def test_a_result_goes_and_its_record_stays(store: StoredResults) -> None:
    write_whole(store.folder / "j", "one", (1, 2))
    assert is_finished(store.folder / "j", "j", "one")
    store.carry("j", "one")
    assert sorted(path.name for path in (store.folder / "j").rglob("*")) == [".j_stored.json"]
    assert is_finished(store.folder / "j", "j", "one") and not is_finished(store.folder / "j", "j", "two")
    assert record_of(store.folder / "j", "j")["part"] == "run.json" and len(remote.files(f"{URL}/j")) == 6 + 2 * 3
    store.carry("j", "one")
    with pytest.raises(RemoteError, match=r"the result in .*/j was replaced or removed meanwhile: run again"):
        store.carry("j", "two")


def test_files_of_others_in_the_store_stay(store: StoredResults) -> None:
    """A new result takes the place of the old one, and of nothing else."""
    write_whole(store.folder / "j", "one", (1, 2))
    store.carry("j", "one")
    for name in ("j/notes.txt", "j/j_report.html", "other/other_run.json"):
        remote.write(b"x", f"{URL}/{name}")
    write_whole(store.folder / "j", "two", (3,))
    store.carry("j", "two")
    here = remote.files(URL)
    assert {"j/notes.txt", "other/other_run.json"} < here.keys() and "j/j_report.html" not in here
    assert {file.split("/")[1] for file in here if "seed" in file} == {"seed-3_sample-0"}
    assert record("j")["fingerprint"] == "two"


@pytest.mark.parametrize("many", [0, 20])
def test_what_is_done_is_found_and_what_is_gone_is_not(
    store: StoredResults, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "MANY", many)
    for name in ("a", "b", "c"):
        write_whole(store.folder / name, "one")
        store.carry(name, "one")
    remote.remove(f"{URL}/b/b_model.cif")
    remote.remove(f"{URL}/c/c_run.json")
    store.bring(["a", "b", "c", "d"])
    assert [name for name in "abcd" if is_finished(store.folder / name, name, "one")] == ["a"]


def test_what_is_damaged_in_the_store_is_not_done(store: StoredResults, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        write_whole(store.folder / name, "one")
        with_sizes(store.folder / name)
        store.carry(name, "one")
    assert store.bring("abc") == {} and is_finished(store.folder / "a", "a", "one")
    sample = "seed-1_sample-0/b_seed-1_sample-0_model.cif"
    remote.write(b"x", f"{URL}/a/a_model.cif")
    remote.remove(f"{URL}/b/{sample}")
    size = json.loads(remote.content(f"{URL}/a/a_run.json") or b"")["files"]["a_model.cif"]
    assert store.bring("abc") == {
        "a": f"a_model.cif has 1 bytes, {size} were written",
        "b": f"{sample} is missing",
    }
    assert [name for name in "abc" if is_finished(store.folder / name, name, "one")] == ["c"]
    there = remote.files
    monkeypatch.setattr(remote, "files", lambda url: dict.fromkeys(there(url), 0))
    assert store.bring("abc") == {"b": f"{sample} is missing"}, "a store that tells no sizes"


def test_a_swap_that_a_kill_broke_off_is_ended(store: StoredResults, tmp_path: Path) -> None:
    """By whoever asks for the job, or carries it; until then it counts as a result that is nowhere else."""
    for name in ("a", "b"):
        write_whole(store.folder / name, "one")
        write_next(store.folder / name, "two")
        (store.folder / name / f"{name}_run.json").unlink()
    (store.folder / "a" / "a_model.cif").unlink()
    (left,) = left_behind(tmp_path / "work")
    assert left.whole == ("a", "b") and left.started == ()
    store.bring("a")
    assert json.loads((store.folder / "a" / "a_run.json").read_text())["fingerprint"] == "two"
    for name in ("a", "b"):
        store.carry(name, "two")
        assert record(name)["fingerprint"] == "two"
        assert [path.name for path in (store.folder / name).iterdir()] == [f".{name}_stored.json"]


def test_what_a_killed_run_did_not_remove(store: StoredResults) -> None:
    """A result that is in the store as it is here goes; another one stays, and is put there when it is wanted."""
    for name, other in (("a", "one"), ("b", "two")):
        write_whole(store.folder / name, "one")
        store.carry(name, "one")
        write_whole(store.folder / name, other)
    store.bring(["a", "b"])
    assert not (store.folder / "a" / "a_run.json").exists() and (store.folder / "b" / "b_run.json").exists()
    assert is_finished(store.folder / "b", "b", "one") and is_finished(store.folder / "b", "b", "two")
    store.carry("b", "two", is_made=False)
    assert record("b")["fingerprint"] == "two"
    write_whole(store.folder / "b", "one")
    store.carry("b", "two", is_made=False)
    assert record("b")["fingerprint"] == "two" and not (store.folder / "b" / "b_run.json").exists()


def test_half_a_job_travels(store: StoredResults, memory: Any, tmp_path: Path) -> None:
    write_half(store.folder / "j", "one", (1, 2))
    store.carry_samples("j")
    there = remote.files(f"{URL}/j")
    assert len(there) == 7 and ".j_progress.json" in there
    with StoredResults(URL, tmp_path / "other") as other:
        other.bring(["j"])
        assert {path.relative_to(other.folder).as_posix() for path in (other.folder / "j").rglob("*_model.cif")} == {
            f"j/seed-{seed}_sample-0/j_seed-{seed}_sample-0_model.cif" for seed in (1, 2)
        }
        held = (other.folder / "j" / ".j_progress.json").read_bytes()
        assert json.loads(held)["fingerprint"] == "one"
        write_half(other.folder / "k", "mine")
        remote.write(held.replace(b"one", b"not"), f"{URL}/k/.k_progress.json")
        other.bring(["k"])
        assert b"mine" in (other.folder / "k" / ".k_progress.json").read_bytes(), "what is here was made here"


def test_halves_are_not_mixed(store: StoredResults, memory: Any, tmp_path: Path) -> None:
    """Samples of other options go before those of these come, and no journal names both."""
    write_half(store.folder / "j", "one", (1, 2))
    store.carry_samples("j")
    with StoredResults(URL, tmp_path / "other") as other:
        write_half(other.folder / "j", "two", (1,))
        other.carry_samples("j")
        there = remote.files(f"{URL}/j")
        assert {file.partition("/")[0] for file in there if "/" in file} == {"seed-1_sample-0"}
        assert json.loads(remote.content(f"{URL}/j/.j_progress.json") or b"")["fingerprint"] == "two"
    with StoredResults(URL, tmp_path / "third") as third:
        write_half(third.folder / "j", "two", (2,))
        third.carry_samples("j")
        assert len(remote.files(f"{URL}/j")) == 7, "those of the same options stay"


def test_a_result_that_is_carried_twice_has_its_record(store: StoredResults, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time, all is in the store when this machine's disk fails."""
    write_whole(store.folder / "j", "f")

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(stored, "write_atomically", fails)
        with pytest.raises(OSError, match="Input/output"):
            store.carry("j", "f")
    store.carry("j", "f")
    assert record("j")["fingerprint"] == "f" and is_finished(store.folder / "j", "j", "f")


def test_what_fails_leaves_nothing_under_way(store: StoredResults, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is still being removed would be missing from what the next attempt has put there."""
    write_half(store.folder / "j", "old", (1, 2))
    store.carry_samples("j")
    remove_result(store.folder / "j", "j")
    write_half(store.folder / "j", "new", (3,))
    ended: list[str] = []

    def slow(url: str) -> None:
        if url.endswith("_model.cif"):
            raise RemoteError("away")
        time.sleep(0.05)
        ended.append(url)

    with StoredResults(URL, store.folder.parent) as other:
        monkeypatch.setattr(remote, "remove", slow)
        with pytest.raises(RemoteError, match="away"):
            other.carry_samples("j")
        count = len(ended)
        time.sleep(0.15)
        assert len(ended) == count > 1


def test_what_a_killed_writer_left_goes_with_the_old_result(tmp_path: Path) -> None:
    """In the folders of its samples too, where somebody's own files stay."""
    place = tmp_path / "store"
    with StoredResults(f"file://{place}", tmp_path / "work") as store:
        write_whole(store.folder / "j", "old", (1, 2))
        store.carry("j", "old")
        left = place / "j" / "seed-2_sample-0" / ".j_seed-2_sample-0_model.cif.0123abcd.tmp"
        for path in (left, left.with_name("mine.tmp"), left.with_name(".mine.tmp")):
            path.touch()
        write_whole(store.folder / "j", "new", (1,))
        store.carry("j", "new")
    assert sorted(path.name for path in left.parent.iterdir()) == [".mine.tmp", "mine.tmp"]


def test_where_a_result_is_that_carry_leaves(store: StoredResults) -> None:
    """Another machine may have put one there while an older one of other options is kept here."""
    folder = store.folder / "j"
    write_whole(folder, "old")
    assert store.url_if_away("j", "old") is None and store.url_if_away("j", "new") == f"{URL}/j"
    write_whole(store.folder / "k", "new")
    store.carry("k", "new")
    (store.folder / "k" / ".k_stored.json").rename(folder / ".j_stored.json")
    assert store.url_if_away("j", "new", is_made=False) == f"{URL}/j"
    assert store.url_if_away("j", "old", is_made=False) is None
    remove_result(folder, "j")
    write_whole(folder, "new")
    assert store.url_if_away("j", "new", is_made=True) is None, "it is made anew, and goes"
    assert store.url_if_away("j", "new", is_made=False) == f"{URL}/j", "that in the store stays"


def test_a_whole_result_stays_until_the_next_is_whole(store: StoredResults) -> None:
    write_whole(store.folder / "j", "one")
    store.carry("j", "one")
    write_half(store.folder / "j", "two", (7,))
    store.carry_samples("j")
    assert record("j")["fingerprint"] == "one" and ".j_progress.json" not in remote.files(f"{URL}/j")
    for file in TOP_PARTS[:2]:
        remote.remove(f"{URL}/j/j_{file}")
    store.carry_samples("j")
    assert sorted(remote.files(f"{URL}/j"))[0] == ".j_progress.json" and len(remote.files(f"{URL}/j")) == 1 + 3


def test_names_in_a_store_do_not_leave_the_folder(store: StoredResults, memory: Any, tmp_path: Path) -> None:
    sample = {"seed": "1/../../..", "sample": 0, "ranking_score": 0.5, "inverted": []}
    state = json.dumps({"fingerprint": "one", "samples": [sample]}).encode()
    memory.pipe("/bucket/results/j/.j_progress.json", state)
    for part in TOP_PARTS[:3]:
        memory.pipe(f"/bucket/results/j/seed-1/../../.._sample-0/j_seed-1/../../.._sample-0_{part}", b"x")
    before = sorted(tmp_path.rglob("*.cif"))
    store.bring(["j"])
    assert sorted(tmp_path.rglob("*.cif")) == before == []


def test_a_job_that_another_process_is_at(
    store: StoredResults, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "PATIENCE", 0.01)
    write_whole(store.folder / "j", "one")
    with job_lock(store.folder, "j"):
        store.bring(["j"])
        with pytest.raises(RemoteError, match="another process is at the job in .*/j: wait for it"):
            store.carry("j", "one")
    store.carry("j", "one")


def test_lists_are_those_of_the_store(store: StoredResults) -> None:
    lists = {"results.jsonl": b"one\n", "failed.jsonl": b"bad\n"}
    for name, text in lists.items():
        remote.write(text, f"{URL}/{name}")
    with store.lists():
        assert {path.name: path.read_bytes() for path in store.folder.glob("*.json*")} == lists
        with (store.folder / "results.jsonl").open("ab") as file:
            file.write(b"two\n")
        (store.folder / "failed.jsonl").unlink()
        (store.folder / "failed_jobs.json").write_bytes(b"[]")
    assert {name: remote.content(f"{URL}/{name}") for name in remote.files(URL)} == {
        "results.jsonl": b"one\ntwo\n",
        "failed_jobs.json": b"[]",
    }
    assert not list(store.folder.glob("*.json*"))


def test_the_last_to_leave_takes_the_folder_away(memory: Any, tmp_path: Path) -> None:
    with StoredResults(URL, tmp_path) as one:
        with StoredResults(f"{URL}/", tmp_path) as two:
            assert one.folder == two.folder
            write_whole(one.folder / "j", "one")
            one.carry("j", "one")
        assert (one.folder / "j" / ".j_stored.json").is_file(), "the other may want to know"
        (left,) = left_behind(tmp_path)
        assert (left.url, left.whole, left.busy) == (URL, (), True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_behind_is_told_and_pruned(memory: Any, tmp_path: Path) -> None:
    """Results that are nowhere else only when that is asked for, and nothing of a process at work."""
    old = time.time() - 10 * 86400
    for number, write in enumerate((write_whole, write_half)):
        with Workplace(tmp_path, f"{URL}{number}") as place:
            write(place.folder / "j", "one")
        for path in (*place.folder.rglob("*"), place.folder):
            os.utime(path, (old, old))
    found = {left.url[-1]: left for left in left_behind(tmp_path)}
    assert [(found[n].whole, found[n].started, found[n].busy) for n in "01"] == [
        (("j",), (), False),
        ((), ("j",), False),
    ]
    assert found["0"].size > 100 and abs(found["0"].used - old) < 2
    assert prune(tmp_path, 20, results=True) == []
    assert prune(tmp_path, 5, results=False) == [found["1"]]
    assert [left.url for left in left_behind(tmp_path)] == [f"{URL}0"]
    assert prune(tmp_path, 5, results=True) == [found["0"]] and list(tmp_path.iterdir()) == []


def test_removal_leaves_the_mark(store: StoredResults) -> None:
    write_whole(store.folder / "j", "one")
    store.carry("j", "one")
    write_whole(store.folder / "j", "two")
    remove_result(store.folder / "j", "j")
    assert record_of(store.folder / "j", "j")["fingerprint"] == "one"
