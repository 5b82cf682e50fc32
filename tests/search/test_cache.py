"""Entries of the cache: whole or absent, locked per key, pruned, exported and taken in elsewhere."""

import os
import tarfile
import time
from pathlib import Path

import pytest

from foldline.errors import InputError, SearchError
from foldline.search import files
from foldline.search.cache import Cache, key_of

FDOPEN = os.fdopen
TEXT = ">query\nACDEFG\n>a/1-3 déjà\nACD---\n"


def filled(folder: Path, count: int = 3) -> tuple[Cache, list[str]]:
    cache = Cache(folder)
    keys = [key_of({"n": n}) for n in range(count)]
    for number, key in enumerate(keys):
        cache.put(key, TEXT + "X" * number, {"what": f"entry {number}"})
        os.utime(cache.path(key), (1000 + number, 1000 + number))
    return cache, keys


def test_an_entry_comes_back(tmp_path: Path) -> None:
    cache, keys = filled(tmp_path)
    assert [cache.get(key) for key in keys] == [TEXT, TEXT + "X", TEXT + "XX"]
    assert cache.get(key_of({"n": 9})) is None
    assert not cache.has(key_of({"n": 9}))
    assert [entry.about["what"] for entry in cache.entries()] == ["entry 2", "entry 1", "entry 0"]


def test_a_key_depends_on_all_parts_and_not_on_their_order() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})


@pytest.mark.parametrize("damage", [lambda packed: packed[:-5], lambda packed: packed[:20] + b"?" + packed[21:]])
def test_a_damaged_file_is_no_entry(tmp_path: Path, damage: object) -> None:
    cache, (key, *_) = filled(tmp_path)
    packed = cache.path(key).read_bytes()
    cache.path(key).write_bytes(damage(packed))  # type: ignore[operator]
    assert cache.get(key) is None


class Full:
    """A file on a disk that has no room for the second half."""

    def __init__(self, number: int, mode: str) -> None:
        self.file = FDOPEN(number, mode)

    def __enter__(self) -> "Full":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fdopen", Full)
        with pytest.raises(SearchError, match="No space left on device.*: free space there, or choose another folder"):
            cache.put("a" * 40, TEXT, {})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    cache.put("a" * 40, TEXT, {})
    assert cache.get("a" * 40) == TEXT


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.locked("a" * 40) as first, cache.locked("a" * 40, wait=False) as second:
        assert (first, second) == (True, False)
        with cache.locked("b" * 40, wait=False) as other:
            assert other
    with cache.locked("a" * 40, wait=False) as again:
        assert again


def test_pruning_by_age_and_by_size(tmp_path: Path) -> None:
    cache, keys = filled(tmp_path)
    os.utime(cache.path(keys[1]), (time.time(), time.time()))
    assert {entry.key for entry in cache.prune(unused_days=1)} == {keys[0], keys[2]}
    assert [entry.key for entry in cache.entries()] == [keys[1]]
    cache, keys = filled(tmp_path)
    sizes = {entry.key: entry.size for entry in cache.entries()}
    removed = cache.prune(max_bytes=sizes[keys[2]] + sizes[keys[1]])
    assert [entry.key for entry in removed] == [keys[0]]
    assert {path.name.partition(".")[0] for path in tmp_path.rglob("*.*")} == set(keys[1:])


def test_export_and_take(tmp_path: Path) -> None:
    cache, keys = filled(tmp_path / "one")
    assert cache.export(tmp_path / "all.tar") == 3
    other = Cache(tmp_path / "two")
    other.put(keys[0], TEXT, {})
    assert other.take(tmp_path / "all.tar") == (2, 1)
    assert [other.get(key) for key in keys] == [cache.get(key) for key in keys]
    assert {entry.about.get("what") for entry in other.entries()} == {None, "entry 1", "entry 2"}


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    wrong = tmp_path / "wrong.tar"
    wrong.write_text("hello")
    with pytest.raises(InputError, match=r"wrong\.tar: not a file that foldline cache export wrote") as refused:
        cache.take(wrong)
    assert "\n" not in str(refused.value) and "(file could not be opened successfully)" in str(refused.value)
    (tmp_path / "file").write_text("x")
    with tarfile.open(wrong, "w") as tar:
        tar.add(tmp_path / "file", "../../escaped")
    with pytest.raises(InputError, match="escaped' is no entry of a cache"):
        cache.take(wrong)
    assert not (tmp_path / "escaped").exists()
    with tarfile.open(wrong, "w") as tar:
        tar.add(tmp_path / "file", f"{'a' * 40}.zst")
    with pytest.raises(InputError, match="is damaged: export it again"):
        cache.take(wrong)
    assert not cache.entries()
