"""Files of object stores and web servers, by URL through fsspec: what is there, copies of it here, and files put there.

A copy lies under the hash of its URL, size and version, so that it is never of another content. Knows no formats.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CHUNK = 1 << 23
SAY_AFTER = 30.0  # seconds between two lines of a long copy
# What stores tell of a file's version, the surest first.
_VERSIONS = ("ETag", "etag", "md5Hash", "Content-MD5", "Digest", "generation", "LastModified", "last_modified")
_VERSIONS += ("Last-Modified", "updated", "mtime", "modified", "created")
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
_PACKAGES |= {"abfs": "adlfs", "abfss": "adlfs", "az": "adlfs", "sftp": "paramiko", "ssh": "paramiko"}
_PACKAGES |= {"hf": "huggingface_hub"}
_NOT_THERE = (404, 410)  # what web servers answer
# Stores that have folders, and files that are seen while they are written; elsewhere a file appears when it is whole.
_OF_FILES = {"file", "local", "sftp", "ssh", "smb", "ftp", "hdfs", "arrow_hdfs"}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(::[^/]*)?://")
_ABOUT = ".origin"  # beside a copy: where it is from and when it was made; its time of change is that of the last use
Say = Callable[[str], None]


class RemoteError(OSError):
    """A store cannot be used, or a file of it not be copied; the text is a sentence with the remedy."""


@dataclass(frozen=True)
class Origin:
    """A file of a store: bytes where they are told, and a word that changes with the content."""

    url: str
    size: int | None
    version: str

    @property
    def key(self) -> str:
        """What this content is known by."""
        return hashlib.sha256(f"{self.url}\n{self.size}\n{self.version}".encode()).hexdigest()[:32]

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rstrip("/").rpartition("/")[2]

    def copy_in(self, folder: Path) -> Path:
        """Where its copy is or would be, in a folder of copies."""
        return folder / self.key / self.name


@dataclass(frozen=True)
class Copy:
    """A copy, whole or begun, in a folder of copies; `used` and `made` are seconds since 1970."""

    folder: Path
    url: str
    size: int
    used: float
    made: float
    is_replaced: bool = False  # there is a later one of the same file


def is_url(word: object) -> bool:
    """Whether a word names a place in a store: s3://bucket/key and the like."""
    return isinstance(word, str) and _URL.match(word) is not None


def as_url(place: object) -> str | None:
    """The URL that a word is, or that a path was made of, which has lost a slash; without one at its end."""
    text = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?!/)", r"\1://", str(place))
    return text.rstrip("/") if is_url(text) else None


def sized(count: float) -> str:
    """Bytes in words, such as 12.3 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def stat(url: str) -> Origin | None:
    """The file at a URL, None where there is none.

    Raises:
        RemoteError: the store cannot be asked.
    """
    with _understood(url):
        store, path = _opened(url)
        try:
            about = store.info(path)
        except FileNotFoundError as error:
            reason = error.__cause__
            if url.startswith("http") and reason is not None and getattr(reason, "status", 0) not in _NOT_THERE:
                raise reason from error  # fsspec calls it the same where a server fails or does not answer
            return None
        return None if about.get("type") == "directory" else Origin(url, about.get("size"), _version(about))


def is_folder(url: str) -> bool:
    """Whether a URL is a folder that has something in it.

    Raises:
        RemoteError: the store cannot be asked.
    """
    with _understood(url):
        store, path = _opened(url)
        return bool(store.isdir(path))


def names(url: str, pattern: str) -> list[str]:
    """Names of files in the folder at a URL that fit a pattern of `*` and `?`, sorted; none where it is not there.

    Raises:
        RemoteError: the store cannot be asked.
    """
    with _understood(url):
        store, path = _opened(url)
        found = store.glob(f"{path.rstrip('/')}/{pattern}")
        return sorted(str(each).rstrip("/").rpartition("/")[2] for each in found)


def ends(origin: Origin, count: int) -> tuple[bytes, bytes]:
    """The first `count` bytes of a file and its last one; that is empty where the store does not tell the size.

    Raises:
        RemoteError: it cannot be read.
    """
    with _understood(origin.url):
        store, path = _opened(origin.url)
        if not origin.size:
            with store.open(path, "rb") as file:
                return file.read(count), b""
        head = store.cat_file(path, start=0, end=min(count, origin.size))
        return head[:count], store.cat_file(path, start=origin.size - 1, end=origin.size)[-1:]


def read(url: str) -> bytes:
    """The content of a file.

    Raises:
        RemoteError: it is not there or cannot be read.
    """
    with _understood(url):
        store, path = _opened(url)
        return bytes(store.cat_file(path))


def content(url: str) -> bytes | None:
    """The content of a file as it is now, None where there is none.

    Raises:
        RemoteError: the store cannot be asked.
    """
    with _as_now(url) as (store, path), contextlib.suppress(FileNotFoundError):
        return bytes(store.cat_file(path))
    return None


def listed(url: str) -> set[str]:
    """Names of what lies directly in the folder at a URL as it is now, files and folders.

    Raises:
        RemoteError: the store cannot be asked.
    """
    with _as_now(url) as (store, path), contextlib.suppress(FileNotFoundError):
        return {str(found).rstrip("/").rpartition("/")[2] for found in store.ls(path, detail=False)}
    return set()


def files(url: str) -> dict[str, int]:
    """All files below a URL as they are now, by their names from there on, and their bytes; none where nothing is.

    Raises:
        RemoteError: the store cannot be asked.
    """
    with _as_now(url) as (store, path), contextlib.suppress(FileNotFoundError):
        own = getattr(type(store), "_find", type(store).find)
        omits = own.__module__ in ("fsspec.spec", "fsspec.asyn")  # it takes a folder that cannot be listed for empty
        found = _walked(store, path) if omits else store.find(path, detail=True)
        start = f"{path.rstrip('/')}/"
        below = {name.removeprefix(start): about for name, about in found.items() if name.startswith(start)}
        return {name: about.get("size") or 0 for name, about in below.items() if about.get("type") != "directory"}
    return {}


def fetch(url: str, target: Path) -> None:
    """Have a file of a store under another name here, which it takes when it is whole.

    Raises:
        RemoteError: it cannot be read, or not be written here.
    """
    part = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
    with _understood(url):
        store, path = _opened(url)
        try:
            store.get_file(path, str(part))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def check_place(url: str) -> None:
    """Whether files can be put below a URL, and taken away again: a small one is.

    Raises:
        RemoteError: they cannot.
    """
    if url.partition(":")[0].lower() in ("http", "https") or "::" in url:
        raise RemoteError(f"{url} can only be read: name a folder of an object store, or one of this machine")
    probe = f"{url}/.foldline-write-check"
    write(b"foldline\n", probe)
    remove(probe)


def write(source: Path | bytes, url: str) -> None:
    """Put a file or some bytes into a store; what was there is replaced, and never seen half-written.

    Raises:
        RemoteError: the store does not take it.
    """
    with _understood(url, "written"):
        store, path = _opened(url)
        place = path
        if _is_of_files(url):
            store.makedirs(path.rpartition("/")[0], exist_ok=True)
            folder, _, name = path.rpartition("/")
            place = f"{folder}/.{name[:200]}.{secrets.token_hex(4)}.tmp"
        try:
            if isinstance(source, bytes):
                store.pipe_file(place, source)
            else:
                store.put_file(str(source), place)
            if place != path:
                store.mv(place, path)
        except BaseException:
            if place != path:
                with contextlib.suppress(Exception):
                    store.rm_file(place)
            raise


def remove(url: str) -> None:
    """Take a file out of a store; nothing happens where it is not there.

    Raises:
        RemoteError: the store does not let it go.
    """
    with _understood(url, "removed"), contextlib.suppress(FileNotFoundError):
        store, path = _opened(url)
        store.rm_file(path)


def sweep(url: str) -> None:
    """Remove from a folder what killed writers left in it; stores in which files appear whole have no such things.

    Raises:
        RemoteError: the store does not let it go.
    """
    if _is_of_files(url):
        for name in names(url, ".*.????????.tmp"):  # as `write` calls them
            remove(f"{url}/{name}")


def copied(origin: Origin, folder: Path, say: Say = lambda message: None) -> Path:
    """The copy of a file in a folder of copies, made where it is not there; two processes make it once.

    A copy that was broken off goes on where it ended, and takes its place when it is whole. `say` is told its size.

    Raises:
        RemoteError: the file cannot be read, has changed meanwhile or came incomplete, or there is no space for it.
    """
    import filelock

    target = origin.copy_in(folder)
    if target.is_file():
        note_use(target)
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.parent / ".lock"):
            if not target.is_file():
                _copy(origin, target, say)
    except RemoteError:
        raise
    except OSError as error:
        raise RemoteError(
            f"{origin.url} cannot be copied to {folder} ({error.strerror or error}): free space there, or choose"
            " another folder with cache_dir"
        ) from error
    return target


def note_use(copy: Path) -> None:
    """Have it known that a copy was used just now; nothing happens where there is none."""
    with contextlib.suppress(OSError):  # of another user, or from before this was kept
        os.utime(copy.with_name(_ABOUT))


def copies(folder: Path) -> list[Copy]:
    """All copies in a folder of copies, the one used last first."""
    found = []
    for place in folder.glob("*/"):
        stats = []
        for path in place.iterdir():
            with contextlib.suppress(OSError):  # pruned by another process meanwhile
                if path.name != ".lock":
                    stats.append(path.stat())
        if not stats:
            continue
        about: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            about = json.loads((place / _ABOUT).read_bytes())
        name = next((path.name for path in place.iterdir() if path.name not in (".lock", _ABOUT)), place.name)
        size, used = sum(stat.st_size for stat in stats), max(stat.st_mtime for stat in stats)
        found.append(Copy(place, about.get("url", name), size, used, about.get("made", 0.0)))
    latest = {copy.url: copy for copy in sorted(found, key=lambda copy: copy.made)}
    marked = [replace(copy, is_replaced=latest[copy.url] != copy) for copy in found]
    return sorted(marked, key=lambda copy: -copy.used)


def drop(copy: Copy) -> bool:
    """Remove a copy, unless a process is making it or it belongs to another user."""
    import filelock

    lock = filelock.FileLock(copy.folder / ".lock")  # stays: others may wait for it
    try:
        with lock.acquire(blocking=False):
            for path in copy.folder.iterdir():
                if path.name != ".lock":
                    path.unlink()
    except (OSError, filelock.Timeout):
        return False
    return True


def _copy(origin: Origin, target: Path, say: Say) -> None:
    part = target.with_name(f".{target.name}.part")
    here = part.stat().st_size if part.is_file() else 0
    if origin.size is not None:
        free = shutil.disk_usage(target.parent).free
        if origin.size - here > free:
            raise RemoteError(
                f"{origin.url} has {sized(origin.size)} and {target.parent.parent} {sized(free)} free: free space"
                " there, or choose another folder with cache_dir"
            )
    size = "" if origin.size is None else f" ({sized(origin.size)})"
    about = json.dumps({"url": origin.url, "made": round(time.time(), 3)})
    target.with_name(_ABOUT).write_bytes(about.encode())
    say(f"copying {origin.url}{size} to {target.parent.parent}" + (f", from {sized(here)} on" if here else ""))
    start = time.monotonic()
    try:
        written = _stream(origin, part, say)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            part.unlink(missing_ok=True)
        raise
    now = _fresh(origin.url)
    if now != origin:
        part.unlink()
        raise RemoteError(f"{origin.url} changed while it was copied: run again")
    if origin.size is not None and written != origin.size:
        part.unlink()
        raise RemoteError(f"{origin.url} came incomplete, {written} of {origin.size} bytes: run again")
    part.replace(target)
    say(f"copied {origin.url} in {time.monotonic() - start:.1f} s")


def _stream(origin: Origin, part: Path, say: Say) -> int:
    """Append what is missing to the part; returns its size."""
    told = time.monotonic()
    with part.open("ab") as file:
        source = _Source(origin)
        if not source.skip(file.tell()):
            file.truncate(0)
        while chunk := source.read():
            file.write(chunk)
            if time.monotonic() - told > SAY_AFTER:
                told = time.monotonic()
                of = "" if origin.size is None else f" of {sized(origin.size)}"
                say(f"copied {sized(file.tell())}{of} of {origin.url}")
        source.close()
        return file.tell()


class _Source:
    """A file of a store that is read once, with the store's errors as sentences."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        with _understood(origin.url):
            store, path = _opened(origin.url)
            self._file = store.open(path, "rb")

    def skip(self, count: int) -> bool:
        """Go on from there; False where the server sends files from their start alone."""
        if not count:
            return True
        try:
            self._file.seek(count)
        except (ValueError, OSError):
            return False
        return True

    def read(self) -> bytes:
        with _understood(self.origin.url):
            return self._file.read(CHUNK)

    def close(self) -> None:
        self._file.close()


def _fresh(url: str) -> Origin | None:
    """What the store has now, not what was asked before."""
    with _as_now(url):
        return stat(url)


@contextlib.contextmanager
def _as_now(url: str) -> Iterator[tuple[Any, str]]:
    """The store of a URL, which is asked anew, and the place in it; its errors are sentences."""
    with _understood(url):
        store, path = _opened(url)
        _forget(store, path)
        yield store, path


def _forget(store: Any, path: str) -> None:
    """Have a store asked anew, not what was remembered of its answers."""
    for place in (path, path.rpartition("/")[0]):
        store.invalidate_cache(place)


def _walked(store: Any, path: str) -> dict[str, dict[str, Any]]:
    """What `find` gives, folder by folder; one that goes meanwhile is left out."""
    found: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError):
        for about in store.ls(path, detail=True):
            is_below = about["type"] == "directory" and about["name"].rstrip("/") != path.rstrip("/")
            found |= _walked(store, about["name"]) if is_below else {about["name"]: about}
    return found


def _is_of_files(url: str) -> bool:
    return url.partition(":")[0].lower() in _OF_FILES


def _version(about: dict[str, Any]) -> str:
    return next((f"{key}={about[key]}" for key in _VERSIONS if about.get(key)), "")


def _opened(url: str) -> tuple[Any, str]:
    """The store of a URL and the place in it."""
    kind = url.partition(":")[0].lower()
    try:
        import fsspec.core
    except ImportError as error:
        package = _PACKAGES.get(kind)
        raise RemoteError(f"{url} is read through fsspec: pip install fsspec{f' {package}' * bool(package)}") from error
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(kind)
        raise RemoteError(f"{url}: {f'pip install {package}' if package else error}") from error


@contextlib.contextmanager
def _understood(url: str, done: str = "read") -> Iterator[None]:
    """Stores raise errors of their own libraries; each becomes a sentence. `done`: what was to be done to the file."""
    try:
        yield
    except RemoteError:
        raise
    except FileNotFoundError as error:
        raise RemoteError(f"{url} is not there: check the address") from error
    except PermissionError as error:
        raise RemoteError(f"{url} may not be {done} ({_short(error)}): check your credentials for the store") from error
    except ValueError as error:
        raise RemoteError(f"{url} is no address of a store that is known ({_short(error)}): check it") from error
    except Exception as error:  # of whatever library talks to this store
        raise RemoteError(
            f"{url} cannot be {done} ({_short(error)}): check the address, the network and your credentials"
        ) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
