"""A folder of search results, each under the hash of all that decides it: zstandard files, safe for many processes.

An entry is KK/KEY.zst with KK/KEY.json beside it (what it is); a lock per key keeps two processes from the same search.
Knows keys and bytes; not what they mean.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import zstandard

from foldline.errors import InputError, SearchError
from foldline.search.files import write_whole

LEVEL = 3
_KEY = re.compile(r"[0-9a-f]{40}")


def key_of(parts: Mapping[str, object]) -> str:
    """The key of what `parts` decide."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@dataclass(frozen=True)
class Entry:
    """An entry of the cache: what it is, bytes on disk, and when it was last used (seconds since 1970)."""

    key: str
    about: dict[str, object]
    size: int
    used: float


class Cache:
    """Entries under a folder; several processes and machines may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where an entry is or would be."""
        return self.folder / key[:2] / f"{key}.zst"

    def has(self, key: str) -> bool:
        """Whether the entry is here; being asked for counts as use."""
        try:
            os.utime(self.path(key))
        except PermissionError:  # of another user: there, but its time cannot be set
            return True
        except OSError:
            return False
        return True

    def is_whole(self, key: str) -> bool:
        """Whether the entry is here and undamaged."""
        return self.has(key) and self.get(key) is not None

    def get(self, key: str) -> str | None:
        """The text of an entry, None where there is none or its file is damaged."""
        try:
            packed = self.path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SearchError(f"{self.path(key)} cannot be read ({error.strerror}): check its permissions") from error
        return unpacked(packed)

    def put(self, key: str, text: str, about: Mapping[str, object]) -> Path:
        """Store an entry; its description comes first, so that an entry that is there is complete.

        Raises:
            SearchError: it cannot be written; nothing half-written is left.
        """
        path = self.path(key)
        write_whole(path.with_suffix(".json"), json.dumps(dict(about) | {"created": round(time.time(), 3)}).encode())
        write_whole(path, zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(text.encode()))
        return path

    @contextlib.contextmanager
    def locked(self, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold the key's lock; gives False at once where another process has it and `wait` is not set."""
        import filelock

        place = self.folder / "locks" / f"{key}.lock"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(place, timeout=-1 if wait else 0)
            lock.acquire()
        except filelock.Timeout:
            yield False
            return
        except OSError as error:
            raise SearchError(
                f"{place.parent} cannot be written to ({error.strerror or error}): choose another folder with cache_dir"
            ) from error
        try:
            yield True
        finally:
            lock.release()

    def entries(self) -> list[Entry]:
        """All entries, the one used last first."""
        found = []
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*.zst"):
            with contextlib.suppress(OSError):  # pruned by another process meanwhile
                stat = path.stat()
                found.append(Entry(path.stem, _about(path), stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda entry: -entry.used)

    def prune(self, *, unused_days: float | None = None, max_bytes: int | None = None) -> list[Entry]:
        """Remove entries that were not used for so long, then those used longest ago until the rest fits."""
        kept, removed, total = [], [], 0
        for entry in self.entries():
            old = unused_days is not None and entry.used < time.time() - unused_days * 86400
            full = max_bytes is not None and total + entry.size > max_bytes
            (removed if old or full else kept).append(entry)
            total += 0 if old or full else entry.size
        for entry in removed:
            self.drop(entry.key)
            (self.folder / "locks" / f"{entry.key}.lock").unlink(missing_ok=True)
        return removed

    def drop(self, key: str) -> None:
        """Remove an entry that nobody needs any more; nothing happens where it is gone or belongs to another user."""
        with contextlib.suppress(OSError):
            self.path(key).unlink(missing_ok=True)
            self.path(key).with_suffix(".json").unlink(missing_ok=True)

    def export(self, target: Path) -> int:
        """Write all entries into a tar file; returns how many.

        Raises:
            SearchError: it cannot be written.
        """
        part = target.with_name(f".{target.name}.part")
        count = 0
        try:
            with tarfile.open(part, "w") as tar:
                for entry in self.entries():
                    path = self.path(entry.key)
                    with contextlib.suppress(FileNotFoundError):
                        for file in (path.with_suffix(".json"), path):
                            content = file.read_bytes()
                            member = tarfile.TarInfo(file.name)
                            member.size = len(content)
                            tar.addfile(member, io.BytesIO(content))
                        count += 1
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise SearchError(f"{target} cannot be written ({error.strerror or error}): free space there") from error
        return count

    def take(self, source: Path) -> tuple[int, int]:
        """Take in the entries of a tar file; returns how many are new and how many were here already.

        Raises:
            InputError: it is no such file, or a part of it is damaged. What came before stays.
        """
        new = here = 0
        abouts: dict[str, dict[str, object]] = {}
        try:
            with tarfile.open(source) as tar:
                for member in tar:
                    stem, _, kind = member.name.partition(".")
                    file = tar.extractfile(member)
                    if not _KEY.fullmatch(stem) or kind not in ("json", "zst") or file is None:
                        raise InputError(f"{member.name!r} is no entry of a cache", source=str(source))
                    if kind == "json":
                        abouts[stem] = json.loads(file.read())
                        continue
                    text = unpacked(file.read())
                    if text is None:
                        raise InputError(f"the entry {stem} is damaged: export it again", source=str(source))
                    if self.has(stem):
                        here += 1
                    else:
                        self.put(stem, text, abouts.pop(stem, {}))
                        new += 1
        except (OSError, EOFError, tarfile.TarError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0].rstrip(":")
            raise InputError(
                f"not a file that foldline cache export wrote ({reason}): check its path", source=str(source)
            ) from error
        return new, here


def unpacked(packed: bytes) -> str | None:
    """The text of a zstandard frame, None where it is damaged."""
    try:
        unpacker = zstandard.ZstdDecompressor().decompressobj()
        text = unpacker.decompress(packed)
        return text.decode() if unpacker.eof else None
    except (zstandard.ZstdError, UnicodeDecodeError):
        return None


def _about(path: Path) -> dict[str, object]:
    try:
        return json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return {}
