"""Fetching checkpoints: resumed where it stopped, verified, put in place by one rename. Knows no model family.

A download goes to NAME.pt.part beside its place, with what the server said of it in NAME.pt.part.json; a file that is
in place is complete, and using it needs no network.
"""

import contextlib
import datetime
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foldline.errors import WeightsError
from foldline.weights.registry import Entry, cached_path, record_path

if TYPE_CHECKING:
    import requests

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all where known
BLOCK = 1 << 16  # a connection that breaks loses less than this
TIMEOUT = (20.0, 60.0)  # seconds to connect, and without a byte


@dataclass(frozen=True)
class Retries:
    """How often a broken download is taken up again without any new byte, and the pause before each time in seconds."""

    times: int = 4
    pause: float = 1.0


@dataclass(frozen=True)
class Verification:
    """What `verify` found. `expected` is None where neither the registry nor the record has a hash."""

    sha256: str
    expected: str | None
    against: str  # "registry", "record" or ""

    @property
    def ok(self) -> bool:
        """No hash contradicts the file."""
        return self.expected is None or self.sha256 == self.expected


def fetch(entry: Entry, cache_root: Path, *, progress: Progress | None = None, retries: Retries | None = None) -> Path:
    """The checkpoint's file in the cache, downloaded if it is not there. Several processes may ask at once.

    Raises:
        WeightsError: no connection, a refusal of the server, a full disk, or a file that is not the checkpoint.
    """
    target = cached_path(entry, cache_root)
    if target.is_file():
        return target
    import filelock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{target}.lock"):
            if not target.is_file():
                _download(entry, target, progress or _silent, retries or Retries())
    except OSError as error:
        raise WeightsError(
            f"{entry.name} cannot be stored in {target.parent} ({error.strerror or error}): free space there, or "
            "choose another folder with cache_dir"
        ) from error
    return target


def verify(path: Path, *, entry: Entry | None = None, progress: Progress | None = None) -> Verification:
    """Hash a checkpoint file and compare with the registry's hash, else with the one recorded when it was fetched.

    Raises:
        WeightsError: no such file.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint file")
    digest = _sha256(path, progress or _silent)
    if entry is not None and entry.sha256 is not None:
        return Verification(digest, entry.sha256, "registry")
    recorded = read_record(path).get("sha256")
    return Verification(digest, str(recorded), "record") if recorded else Verification(digest, None, "")


def read_record(checkpoint: Path) -> dict[str, object]:
    """What was recorded when a checkpoint was fetched (url, size, sha256, date); empty for a file put there by hand."""
    return _read_json(record_path(checkpoint))


def _download(entry: Entry, target: Path, progress: Progress, retries: Retries) -> None:
    import requests

    part = target.with_name(f"{target.name}.part")
    seen = -1
    idle = 0
    with requests.Session() as session:
        while True:
            try:
                _transfer(session, entry, part, progress)
                break
            except requests.RequestException as error:
                size = part.stat().st_size if part.is_file() else 0
                idle = 0 if size > seen else idle + 1
                seen = max(seen, size)
                if idle >= retries.times or not _passing(error):
                    raise WeightsError(_interrupted(entry, target, size, error)) from error
                time.sleep(retries.pause * (idle + 1))
    try:
        record = _checked(entry, part)
    except WeightsError:
        _forget(part)
        raise
    _write_json(record_path(target), record)
    part.replace(target)
    _forget(part)


def _transfer(session: "requests.Session", entry: Entry, part: Path, progress: Progress) -> None:
    """One request that appends to `part`, from its end where the server still has the same file."""
    import requests

    said = _read_json(_said_path(part))
    start = part.stat().st_size if part.is_file() and said.get("url") == entry.url else 0
    total = said.get("size")
    if start and start == total:
        return
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if said.get("validator"):
            headers["If-Range"] = str(said["validator"])
    with session.get(entry.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:  # nothing there: what we hold is of another file
            _forget(part)
            raise requests.ConnectionError("the file on the server has changed")
        response.raise_for_status()
        if response.status_code != 206 or not _continues(response, start):
            start = 0
        total = _total(response, start)
        _check_space(part, total, start)
        etag = response.headers.get("ETag", "")
        validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
        _write_json(_said_path(part), {"url": entry.url, "size": total, "validator": validator})
        with part.open("ab" if start else "wb") as file:
            progress(start, total)
            for block in response.iter_content(BLOCK):
                file.write(block)
                start += len(block)
                progress(start, total)
    if total is not None and start != total:
        raise requests.ConnectionError(f"{start} of {total} bytes came")


def _checked(entry: Entry, part: Path) -> dict[str, object]:
    """The record of a complete download.

    Raises:
        WeightsError: it is not the file that the registry describes.
    """
    size = part.stat().st_size
    with part.open("rb") as file:
        head = file.read(9)
    if head[:2] != b"PK" and head[8:] != b"{":
        raise WeightsError(
            f"{entry.url} gave something other than a checkpoint ({size} bytes that begin with {head[:6]!r}): is there "
            "a proxy or a login page between? Fetch the file by other means and give its path"
        )
    if entry.size is not None and size != entry.size:
        raise WeightsError(f"{entry.name}: {size} bytes came, {entry.size} were expected; fetch it again")
    digest = _sha256(part, _silent)
    if entry.sha256 is not None and digest != entry.sha256:
        raise WeightsError(f"{entry.name}: SHA-256 is {digest}, {entry.sha256} was expected; fetch it again")
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"url": entry.url, "size": size, "sha256": digest, "date": date}


def _continues(response: "requests.Response", start: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _total(response: "requests.Response", start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _check_space(part: Path, total: int | None, start: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise WeightsError(
            f"{(total - start) / 1e9:.2f} GB are needed in {part.parent} and {free / 1e9:.2f} GB are free: free space "
            "there, or choose another folder with cache_dir"
        )


def _passing(error: "requests.RequestException") -> bool:
    """Whether asking again may help: not after a refusal such as 403 or 404."""
    status = error.response.status_code if error.response is not None else 0
    return status == 0 or status in (408, 429) or status >= 500


def _interrupted(entry: Entry, target: Path, size: int, error: "requests.RequestException") -> str:
    if error.response is not None:
        reason = f"the server answered {error.response.status_code} {error.response.reason}".strip()
    else:
        cause = getattr(error.args[0], "reason", error) if error.args else error  # urllib3 says more, at less length
        reason = f"{type(cause).__name__}: {str(cause).rsplit('object at', 1)[-1].partition(': ')[2] or cause}"
    kept = f"; {size / 1e6:.1f} MB are kept and the same command goes on from there" if size else ""
    return (
        f"{entry.name} cannot be fetched from {entry.url} ({reason}){kept}. Without a network, put the file at "
        f"{target} or give its path"
    )


def _sha256(path: Path, progress: Progress) -> str:
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            progress(done, total)
    return digest.hexdigest()


def _said_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _said_path(part).unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _write_json(path: Path, content: dict[str, object]) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    new.replace(path)


def _silent(done: int, total: int | None) -> None:
    """Report nothing."""
