"""Downloads against a server of our own that breaks off, changes its file, refuses and lies."""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from foldline.errors import WeightsError
from foldline.weights import download
from foldline.weights.download import Retries, fetch, read_record, verify
from foldline.weights.registry import Entry, cached_path

DATA = b"PK" + bytes(range(256)) * 12_000  # about 3 MB, three blocks
SHA256 = hashlib.sha256(DATA).hexdigest()
QUICK = Retries(times=2, pause=0.0)


@dataclass
class Server:
    """What the server does, and what it was asked for."""

    url: str = ""
    data: bytes = DATA
    etag: str = '"one"'
    ranges: bool = True
    status: int = 200
    drop_at: list[int] = field(default_factory=list)  # bytes of the file after which the connection ends, by request
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append(wanted)
            if state.status != 200:
                self.send_error(state.status)
                return
            found = re.fullmatch(r"bytes=(\d+)-", wanted)
            same = self.headers.get("If-Range", state.etag) == state.etag
            start = int(found[1]) if found and state.ranges and same else 0
            if start >= len(state.data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.data) - 1}/{len(state.data)}")
            self.send_header("Content-Length", str(len(state.data) - start))
            self.send_header("ETag", state.etag)
            self.end_headers()
            end = state.drop_at.pop(0) if state.drop_at else len(state.data)
            with contextlib.suppress(ConnectionError):  # the other side may have seen enough
                self.wfile.write(state.data[start:end])
            if end < len(state.data):
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_address[1]}/checkpoint/model.pt"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        running.shutdown()
        thread.join()


def entry(server: Server) -> Entry:
    return Entry(name="model", summary="", url=server.url)


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in cached_path(Entry(name="model", summary="", url=""), folder).parent.glob("*part*"))


def test_fetch_writes_file_and_record_and_then_needs_no_network(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    path = fetch(entry(server), tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert path == tmp_path / "checkpoints" / "v1" / "model.pt" and path.read_bytes() == DATA
    assert steps[0] == (0, len(DATA)) and steps[-1] == (len(DATA), len(DATA)) and len(steps) > 3
    record = read_record(path)
    assert record["url"] == server.url and record["size"] == len(DATA) and record["sha256"] == SHA256
    assert leftovers(tmp_path) == []
    dead = replace(entry(server), url="http://127.0.0.1:1/none")
    assert fetch(dead, tmp_path) == path and len(server.asked) == 1


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.drop_at = [1_500_000, 2_000_000]
    path = fetch(replace(entry(server), sha256=SHA256), tmp_path, retries=QUICK)
    assert path.read_bytes() == DATA
    assert server.asked[0] == "" and len(server.asked) == 3
    starts = [int(x.removeprefix("bytes=").removesuffix("-")) for x in server.asked[1:]]
    assert 0 < starts[0] <= 1_500_000 and starts[0] < starts[1] <= 2_000_000


def test_a_later_run_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.drop_at = [1_500_000] * 4
    with pytest.raises(WeightsError, match="MB are kept and the same command goes on") as caught:
        fetch(entry(server), tmp_path, retries=QUICK)
    assert "give its path" in str(caught.value) and leftovers(tmp_path) == ["model.pt.part", "model.pt.part.json"]
    server.drop_at, server.asked = [], []
    assert fetch(entry(server), tmp_path).read_bytes() == DATA
    assert len(server.asked) == 1 and server.asked[0].startswith("bytes=")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("change", ["etag", "no ranges", "shorter"])
def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(server: Server, tmp_path: Path, change: str) -> None:
    server.drop_at = [2_000_000] * 4
    with pytest.raises(WeightsError):
        fetch(entry(server), tmp_path, retries=QUICK)
    server.drop_at = []
    if change == "etag":
        server.etag, server.data = '"two"', b"PK" + DATA[:1:-1]
    elif change == "no ranges":
        server.ranges = False
    else:
        server.data = DATA[:1_000_000]
    assert fetch(entry(server), tmp_path, retries=QUICK).read_bytes() == server.data


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, 3)])
def test_refusals(server: Server, tmp_path: Path, status: int, requests: int) -> None:
    server.status = status
    with pytest.raises(WeightsError, match=f"the server answered {status}"):
        fetch(entry(server), tmp_path, retries=QUICK)
    assert len(server.asked) == requests


@pytest.mark.parametrize(
    ("expected", "says"),
    [({"sha256": "0" * 64}, "SHA-256 is"), ({"size": 5}, "5 were expected"), ({}, "other than a checkpoint")],
)
def test_a_wrong_file_is_thrown_away(server: Server, tmp_path: Path, expected: dict[str, object], says: str) -> None:
    if not expected:
        server.data = b"<html>please log in</html>"
    with pytest.raises(WeightsError, match=says):
        fetch(replace(entry(server), **expected), tmp_path)
    assert not cached_path(entry(server), tmp_path).exists() and leftovers(tmp_path) == []


def test_no_connection(tmp_path: Path) -> None:
    unreachable = Entry(name="model", summary="", url="http://127.0.0.1:1/model.pt")
    with pytest.raises(
        WeightsError, match=r"cannot be fetched from http://127.0.0.1:1/model.pt \(.*refused\).* put the file at"
    ):
        fetch(unreachable, tmp_path, retries=Retries(times=1, pause=0.0))


def test_no_room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(WeightsError, match="are needed in .*cache_dir"):
        fetch(entry(server), tmp_path)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="cannot be stored in .*cache_dir"):
        fetch(entry(server), tmp_path / "file")


def test_two_at_once_download_once(server: Server, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: fetch(entry(server), tmp_path), range(2)))
    assert paths[0] == paths[1] and len(server.asked) == 1


def test_verify(server: Server, tmp_path: Path) -> None:
    path = fetch(entry(server), tmp_path)
    found = verify(path)
    assert found.ok and found.against == "record" and found.sha256 == SHA256
    assert verify(path, entry=replace(entry(server), sha256=SHA256)).against == "registry"
    path.write_bytes(DATA[:-1])
    assert not verify(path).ok
    path.with_name("model.pt.json").write_text(json.dumps([1]))
    assert verify(path).expected is None
    with pytest.raises(WeightsError, match="no such"):
        verify(tmp_path / "absent.pt")
