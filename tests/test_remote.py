"""Files that are put into stores, and copies that are listed and dropped; reading is tested with the databases."""

import json
import os
import time
from pathlib import Path
from typing import Any

import filelock
import fsspec
import pytest

from foldline import remote
from foldline.remote import RemoteError


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, memory: Any, tmp_path: Path) -> str:
    """A place in a store that has nothing in it: one of objects, one of files."""
    return "memory://bucket/place" if request.param == "memory" else f"file://{tmp_path}/place"


def test_what_is_written_is_there_until_it_is_removed(url: str, tmp_path: Path) -> None:
    assert remote.files(url) == {} and remote.content(f"{url}/a/b.txt") is None
    (tmp_path / "b.txt").write_bytes(b"from a file")
    remote.write(tmp_path / "b.txt", f"{url}/a/b.txt")
    remote.write(b"bytes", f"{url}/a/.hidden")
    remote.write(b"other", f"{url}-beside/x")
    assert remote.files(url) == {"a/b.txt": 11, "a/.hidden": 5}
    assert remote.listed(url) == {"a"} and remote.listed(f"{url}/none") == set()
    remote.write(b"replaced", f"{url}/a/b.txt")
    assert remote.content(f"{url}/a/b.txt") == b"replaced"
    remote.fetch(f"{url}/a/b.txt", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"replaced"
    with pytest.raises(RemoteError, match="a/c.txt is not there"):
        remote.fetch(f"{url}/a/c.txt", tmp_path / "other")
    assert not list(tmp_path.glob("*other*"))
    for _ in range(2):
        remote.remove(f"{url}/a/b.txt")
    assert remote.files(url) == {"a/.hidden": 5}


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec's own way of finding files leaves it out; one that goes meanwhile is left out."""
    url, kind = f"file://{tmp_path}/place", type(fsspec.filesystem("file"))
    for name in ("top", "a/b/one", "c/two"):
        remote.write(b"x", f"{url}/{name}")
    real, error = kind.ls, OSError(5, "Input/output error")

    def ls(self: Any, path: str, **more: Any) -> Any:
        if str(path).endswith("/b"):
            raise error
        return real(self, path, **more)

    monkeypatch.setattr(kind, "ls", ls)
    with pytest.raises(RemoteError, match="cannot be read .*Input/output error"):
        remote.files(url)
    error = FileNotFoundError("gone")
    assert remote.files(url) == {"top": 1, "c/two": 1}


def test_a_place_is_tried_and_left_as_it_was(url: str) -> None:
    remote.check_place(url)
    assert remote.files(url) == {}


@pytest.mark.parametrize("word", ["http://server/results", "simplecache::s3://bucket/x"])
def test_places_that_can_only_be_read(word: str) -> None:
    with pytest.raises(RemoteError, match=r"can only be read: name a folder of an object store"):
        remote.check_place(word)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("Access Denied"), r"x may not be written \(Access Denied\): check your credentials"),
        (FileNotFoundError("no bucket"), "x is not there: check the address"),
        (RuntimeError("HTTP 500"), r"x cannot be written \(HTTP 500\): check the address, the network"),
    ],
)
def test_what_a_store_does_not_take_is_a_sentence(
    memory: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fails(self: Any, path: str, value: bytes) -> None:
        raise error

    monkeypatch.setattr(type(memory), "pipe_file", fails)
    with pytest.raises(RemoteError, match=said):
        remote.write(b"x", "memory://bucket/x")


def test_a_file_of_a_store_of_files_is_never_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written beside its place; what a killed writer leaves there is swept away."""
    local = type(fsspec.filesystem("file"))
    seen: list[str] = []

    def breaks(self: Any, source: str, target: str, **_: object) -> None:
        seen.append(Path(target).name)
        Path(target).write_bytes(b"ha")
        raise OSError(5, "Input/output error")

    url = f"file://{tmp_path}/place"
    remote.write(b"whole", f"{url}/x")
    (tmp_path / "y").write_bytes(b"half")
    with monkeypatch.context() as patch:
        patch.setattr(local, "put_file", breaks)
        with pytest.raises(RemoteError, match="x cannot be written"):
            remote.write(tmp_path / "y", f"{url}/x")
    assert seen[0].startswith(".x.") and remote.files(url) == {"x": 5}
    (tmp_path / "place" / seen[0]).touch()
    (tmp_path / "place" / ".x.tmp").touch()
    remote.sweep(url)
    assert remote.files(url) == {"x": 5, ".x.tmp": 0}, "what is somebody's stays"


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("s3://bucket/x/", "s3://bucket/x"),
        (Path("s3://bucket/x"), "s3://bucket/x"),
        ("out/s3:/x", None),
        ("out", None),
        (None, None),
    ],
)
def test_urls_and_folders(place: object, found: str | None) -> None:
    assert remote.as_url(place) == found


def test_copies_are_listed_and_dropped(memory: Any, tmp_path: Path) -> None:
    """A later version of a file makes its earlier copies replaced; a copy that is being made stays."""
    folder = tmp_path / "remote"
    made = []
    for content in (b"one", b"two!", b"other"):
        url = "memory://bucket/other" if content == b"other" else "memory://bucket/file"
        memory.pipe(url.removeprefix("memory:/"), content)
        origin = remote.stat(url)
        assert origin is not None
        made.append(remote.copied(origin, folder))
    about = json.loads((made[0].parent / ".origin").read_bytes())
    (made[0].parent / ".origin").write_text(json.dumps(about | {"made": about["made"] - 10}))
    old = time.time() - 86400
    for path in (made[1], made[1].parent / ".origin"):
        os.utime(path, (old, old))
    found = remote.copies(folder)
    assert {(copy.url[16:], copy.is_replaced) for copy in found} == {("file", True), ("file", False), ("other", False)}
    last = found[-1]
    assert (last.folder, last.is_replaced) == (made[1].parent, False) and abs(last.used - old) < 2
    origin = remote.stat("memory://bucket/file")
    assert origin is not None and remote.copied(origin, folder) == made[1]
    used = {copy.folder: copy.used for copy in remote.copies(folder)}
    assert used[made[1].parent] > time.time() - 60, "a copy that was asked for is in use"
    with filelock.FileLock(made[0].parent / ".lock"):
        assert not remote.drop(found[0]) or found[0].folder != made[0].parent
    (replaced,) = [copy for copy in found if copy.is_replaced]
    assert remote.drop(replaced) and not made[0].exists()
    assert [copy.is_replaced for copy in remote.copies(folder)] == [False, False]
