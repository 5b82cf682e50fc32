"""Databases in stores, by URL: found, copied once, resumed, refused in a sentence. fsspec's memory is the store."""

import http.server
import os
import shutil
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

from foldline import remote
from foldline.errors import SearchError
from foldline.execute import InProcess
from foldline.search import databases
from foldline.search.databases import Database, describe, fetch, identity, locate, searches, size, structure_file
from foldline.search.recipes import UNIREF90
from foldline.search.settings import SearchSettings
from foldline.search.stage import FOLDER, Chain, Searcher

FASTA = b">a one\nACD\nEFG\n>b\nHIKL\n"


@pytest.fixture
def store(memory: Any) -> Any:
    """What memory:// holds."""
    return memory


def settings(**table: object) -> SearchSettings:
    return SearchSettings.make(table)


def copies(folder: Path) -> list[str]:
    found = (folder / databases.COPIES).rglob("*")
    return sorted(path.name for path in found if path.is_file() and path.name not in (".lock", ".origin"))


def test_a_remote_root_and_a_local_one_before_it(store: Any, tmp_path: Path) -> None:
    store.pipe(f"/data/{UNIREF90.file}", FASTA)
    ram, folder = tmp_path / "ram", tmp_path / "cache"
    ram.mkdir()
    table = settings(roots=[str(ram), "memory://data/"])
    found = locate("uniref90", table, folder)
    assert found is not None and found.spec == f"memory://data/{UNIREF90.file}"
    assert not folder.exists(), "nothing is copied to find it"
    said: list[str] = []
    fetch(found, said.append)
    assert found.files[0].read_bytes() == FASTA and copies(folder) == [UNIREF90.file]
    assert said[0] == f"copying {found.spec} (23 B) to {folder / 'remote'}" and said[1].startswith("copied ")
    os.utime(found.files[0].with_name(".origin"), (0, 0))
    fetch(found, said.append)
    assert len(said) == 2 and remote.copies(folder / "remote")[0].used > 1e9, "it is in use: no reason to prune it"
    (ram / UNIREF90.file).write_bytes(FASTA)
    assert locate("uniref90", table, folder) == Database("uniref90", (ram / UNIREF90.file,))


@pytest.mark.parametrize("word", ["memory://data/d.fasta@3", "memory://data/d.fasta@*"])
def test_shards(store: Any, tmp_path: Path, word: str) -> None:
    for i in range(3):
        store.pipe(f"/data/d.fasta-0000{i}-of-00003", FASTA)
    found = locate("uniprot", settings(databases={"uniprot": word}), tmp_path)
    assert found is not None and found.sharded
    assert size(found, "protein", tmp_path) == 6
    assert [path.name for path in found.files] == [f"d.fasta-0000{i}-of-00003" for i in range(3)]
    store.rm("/data/d.fasta-00001-of-00003")
    with pytest.raises(SearchError, match=r"memory://data/d\.fasta-00001-of-00003 of the database uniprot is missing"):
        locate("uniprot", settings(databases={"uniprot": word}), tmp_path)


def test_shards_under_alphafold_3s_name_and_with_a_suffix(store: Any, tmp_path: Path) -> None:
    for i in range(2):
        store.pipe(f"/data/{UNIREF90.file}-0000{i}-of-00002", FASTA)
        store.pipe(f"/data/d-0000{i}-of-00002.fa", FASTA)
    table = settings(roots=["memory://data"], databases={"uniprot": "d@2.fa"})
    for name in ("uniref90", "uniprot"):
        found = locate(name, table, tmp_path)
        assert found is not None and len(found.files) == 2


def test_what_is_not_there_is_named(store: Any, tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"uniref90 \(uniref90_2022_05\.fa\) is not in memory://data: put it there"):
        locate("uniref90", settings(roots=["memory://data"]), tmp_path)
    with pytest.raises(SearchError, match=r"uniref90 \(memory://x/y\.fa\) is not there: put it there"):
        locate("uniref90", settings(databases={"uniref90": "memory://x/y.fa"}), tmp_path)
    with pytest.raises(SearchError, match="mmcif .* is not in memory://data"):
        locate("mmcif", settings(roots=["memory://data"]), tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\x1f\x8b\x08\x00", "is compressed: unpack it"),
        (b"ACDEF\n", "is no FASTA"),
        (FASTA[:-3], "is cut off"),
    ],
)
def test_an_unusable_file_is_named_before_it_is_copied(store: Any, tmp_path: Path, content: bytes, said: str) -> None:
    store.pipe("/data/u.fa", content)
    found = locate("uniref90", settings(databases={"uniref90": "memory://data/u.fa"}), tmp_path)
    assert found is not None
    with pytest.raises(SearchError, match=f"memory://data/u.fa {said}"):
        fetch(found)
    assert not copies(tmp_path)


def test_the_identity_is_that_of_a_local_file_and_needs_no_copy_when_remembered(store: Any, tmp_path: Path) -> None:
    store.pipe("/data/u.fa", FASTA)
    (tmp_path / "u.fa").write_bytes(FASTA)
    found = locate("uniref90", settings(databases={"uniref90": "memory://data/u.fa"}), tmp_path)
    assert found is not None
    first = searches(UNIREF90, found, settings(), tmp_path)
    assert first.z == 2
    known = identity(found, tmp_path)
    assert known == identity(Database("uniref90", (tmp_path / "u.fa",)), tmp_path)
    found.files[0].unlink()
    assert identity(found, tmp_path) == known and searches(UNIREF90, found, settings(), tmp_path) == first
    assert not copies(tmp_path)
    store.pipe("/data/u.fa", FASTA + b">c\nAC\n")
    newer = locate("uniref90", settings(databases={"uniref90": "memory://data/u.fa"}), tmp_path)
    assert newer is not None and identity(newer, tmp_path) != known
    assert size(newer, "protein", tmp_path) == 3


def test_a_copy_that_broke_off_goes_on(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b">a\n" + b"ACDEFGHI\n" * 5000
    store.pipe("/data/u.fa", content)
    monkeypatch.setattr(remote, "CHUNK", 10_000)
    whole, read = remote._Source.read, []

    def breaks(self: Any) -> bytes:
        if len(read) == 2:
            read.append(0)
            raise remote.RemoteError("memory://data/u.fa cannot be read (connection reset): check the network")
        chunk = whole(self)
        read.append(len(chunk))
        return chunk

    monkeypatch.setattr(remote._Source, "read", breaks)
    found = locate("uniref90", settings(databases={"uniref90": "memory://data/u.fa"}), tmp_path)
    assert found is not None
    with pytest.raises(SearchError, match=r"the database uniref90: .* \(connection reset\)"):
        fetch(found)
    assert copies(tmp_path) == [".u.fa.part"]
    said: list[str] = []
    fetch(found, said.append)
    assert found.files[0].read_bytes() == content and copies(tmp_path) == ["u.fa"]
    assert sum(read) == len(content), "nothing is read twice"
    assert "from 20.0 kB on" in said[0]


def test_what_changes_or_comes_incomplete_is_no_copy(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pipe("/data/u.fa", FASTA)
    found = locate("uniref90", settings(databases={"uniref90": "memory://data/u.fa"}), tmp_path)
    assert found is not None
    with monkeypatch.context() as patch:
        patch.setattr(remote._Source, "read", lambda self: b"")
        with pytest.raises(SearchError, match="came incomplete, 0 of 23 bytes: run again"):
            fetch(found)
    store.pipe("/data/u.fa", FASTA.lower().replace(b"a", b"c"))
    with pytest.raises(SearchError, match="changed while it was copied: run again"):
        fetch(found)
    assert not copies(tmp_path)


class Full:
    """A file on a disk that takes five bytes more."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.tell = file, file.tell

    def __enter__(self) -> "Full":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, chunk: bytes) -> None:
        self.file.write(chunk[:5])
        self.file.flush()
        raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_nothing(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe("/data/u.fa", FASTA)
    found = locate("uniref90", settings(databases={"uniref90": "memory://data/u.fa"}), tmp_path)
    assert found is not None
    opened = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: Full(opened(path, mode)))
        with pytest.raises(SearchError, match="No space left on device.*: free space there"):
            fetch(found)
    assert not copies(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(remote.shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
        with pytest.raises(SearchError, match=r"u\.fa has 23 B and .* 5 B free: free space there"):
            fetch(found)
    fetch(found)
    assert found.files[0].read_bytes() == FASTA


def test_missing_packages_and_unknown_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for url, said in (
        ("s3://bucket/u.fa", "s3://bucket/u.fa: pip install s3fs"),
        ("gs://bucket/u.fa", "gs://bucket/u.fa: pip install gcsfs"),
        ("nowhere://bucket/u.fa", r"no address of a store that is known \(Protocol not known: nowhere\)"),
    ):
        with pytest.raises(SearchError, match=said):
            locate("uniref90", settings(databases={"uniref90": url}), tmp_path)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(SearchError, match="is read through fsspec: pip install fsspec s3fs"):
        locate("uniref90", settings(databases={"uniref90": "s3://bucket/u.fa"}), tmp_path)


def test_a_store_that_fails_is_a_sentence(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, said in (
        (PermissionError("Access Denied"), r"may not be read \(Access Denied\): check your credentials"),
        (RuntimeError("HTTP 500"), r"cannot be read \(HTTP 500\): check the address, the network"),
    ):

        def fails(path: str, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(type(store), "info", lambda self, path, fails=fails: fails(path))
        with pytest.raises(SearchError, match=f"the database uniref90: memory://data/u.fa {said}"):
            locate("uniref90", settings(databases={"uniref90": "memory://data/u.fa"}), tmp_path)


def test_descriptions(store: Any, tmp_path: Path) -> None:
    store.pipe("/data/u.fa", FASTA)
    store.pipe("/data/mmcif_files/1abc.cif", b"data_1ABC\n")
    table = settings(roots=["memory://data"], databases={"uniref90": "u.fa"})
    before = "memory://data/u.fa, 23 B, 0 of 1 files copied, not counted yet"
    assert describe("uniref90", table, tmp_path, count=False) == before
    assert not copies(tmp_path)
    after = "memory://data/u.fa, 23 B, copied, 2 sequences"
    assert describe("uniref90", table, tmp_path, count=True) == after
    assert describe("uniref90", table, tmp_path, count=False) == after
    assert describe("mmcif", table, tmp_path, count=True) == "memory://data/mmcif_files"


def test_structures_are_copied_one_by_one(store: Any, tmp_path: Path) -> None:
    store.pipe("/data/mmcif_files/1abc.cif", b"data_1ABC\n")
    store.pipe("/data/mmcif_files/2abc.cif", b"data_2ABC\n")
    found = locate("mmcif", settings(roots=["memory://data"]), tmp_path)
    assert found is not None
    path = structure_file(found, "1abc")
    assert path is not None and path.read_bytes() == b"data_1ABC\n" and copies(tmp_path) == ["1abc.cif"]
    assert structure_file(found, "1abc") == path and structure_file(found, "9abc") is None


def test_a_search_in_a_store_finds_what_a_local_one_finds(
    store: Any, tmp_path: Path, made: dict[str, Path], queries: dict[str, list[str]]
) -> None:
    """And the second run neither searches nor copies."""
    store.pipe("/data/u.fasta", made["protein"].read_bytes())
    chain = Chain("protein", queries["protein"][0])
    texts = []
    for place in ("memory://data/u.fasta", str(made["protein"]), "memory://data/u.fasta"):
        folder = tmp_path / ("one" if place.startswith("memory") else "two")
        table = settings(databases={"uniref90": place, "uniprot": "none"}, threads=1)
        if len(texts) == 2:
            shutil.rmtree(folder / FOLDER / databases.COPIES)
        said: list[str] = []
        with InProcess(1) as executor:
            searcher = Searcher(table, folder, executor, said.append)
            found = searcher.alignments([chain])[chain]
        texts.append(searcher.cache.get(found.unpaired_key))
    assert texts[0] == texts[1] == texts[2] and texts[0] is not None and texts[0].count(">") > 5
    assert not said and not copies(tmp_path / "one" / FOLDER)
    with InProcess(1) as executor:
        searcher = Searcher(table, folder, executor, said.append)
        other = searcher.alignments([Chain("protein", queries["protein"][1])])
    assert said[0].startswith("copying memory://data/u.fasta") and copies(folder / FOLDER) == ["u.fasta"] and other


def test_a_file_url(tmp_path: Path) -> None:
    (tmp_path / "u.fa").write_bytes(FASTA)
    found = locate("uniref90", settings(databases={"uniref90": f"file://{tmp_path}/u.fa"}), tmp_path / "cache")
    assert found is not None and size(found, "protein", tmp_path / "cache") == 2


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server without a log and without ranges; it fails where it is asked for a file named fails."""

    def do_HEAD(self) -> None:
        if self.path.endswith("fails"):
            self.send_error(500)
        else:
            super().do_HEAD()

    def do_GET(self) -> None:
        if self.path.endswith("fails"):
            self.send_error(500)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_web_server(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    data, folder = tmp_path / "data", tmp_path / "cache"
    (data / "mmcif").mkdir(parents=True)
    for name in ("u.fa", "d-00000-of-00002", "d-00001-of-00002"):
        (data / name).write_bytes(FASTA)
    (data / "mmcif" / "1abc.cif").write_text("data_1ABC\n")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(data))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        base = f"http://127.0.0.1:{server.server_port}"
        for word, count in (("u.fa", 2), ("d@2", 4)):
            found = locate("uniref90", settings(databases={"uniref90": f"{base}/{word}"}), folder)
            assert found is not None and size(found, "protein", folder) == count
        structures = locate("mmcif", settings(databases={"mmcif": f"{base}/mmcif"}), folder)
        assert structures is not None and structure_file(structures, "9abc") is None
        assert (structure_file(structures, "1abc") or data).read_text() == "data_1ABC\n"
        for word, said in (("none.fa", "is not there: put it there"), ("fails", "cannot be read .*500")):
            with pytest.raises(SearchError, match=said):
                locate("uniref90", settings(databases={"uniref90": f"{base}/{word}"}), folder)
        server.shutdown()
        thread.join()
    with pytest.raises(SearchError, match="cannot be read .*: check the address, the network"):
        locate("uniref90", settings(databases={"uniref90": f"{base}/u.fa"}), folder)
