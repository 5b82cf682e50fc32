"""Reading a `Text`: inline or from a file that may be gzip, xz or zstandard, told by its first bytes.

Byte order marks and Windows line ends disappear here. Knows nothing of what the text means.
"""

import gzip
import io
import lzma
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import zstandard

from foldline.errors import InputError
from foldline.inputs.anchor import mended
from foldline.inputs.job import Text

RELATIVE = "relative paths start at the folder of the job's file"
_GZIP, _XZ, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 20
_CACHED = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{38}\.zst$")  # an entry of the cache of searches


@contextmanager
def open_text(text: Text, what: str) -> Iterator[TextIO]:
    """A text stream of UTF-8 with plain line ends; a deep alignment can be read row by row in bounded memory.

    `what` names the text in errors, for example "the unpaired MSA of chain A". What is to be mended in it is mended.

    Raises:
        InputError: The file is missing, is a folder, cannot be read or unpacked, or is not UTF-8; what `mended` raises.
    """
    if text.mending is not None:
        with open_text(replace(text, mending=None), what) as stream:
            yield mended(stream, text.mending, str(text.path or ""))
        return
    if text.path is None:
        yield io.StringIO(_tidied(text.inline or ""))
        return
    path = text.path
    try:
        with path.open("rb") as raw, _unpacked(raw) as stream:
            yield io.TextIOWrapper(stream, encoding="utf-8-sig", newline=None)
    except UnicodeDecodeError as fault:
        raise InputError(f"{what}: {path} is not UTF-8 text: save it as UTF-8") from fault
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, zstandard.ZstdError, EOFError) as fault:
        raise InputError(f"{what}: {path} is a damaged or cut-off compressed file: make it again") from fault
    except OSError as fault:
        raise InputError(f"{what}: {_unreadable(path, fault)}") from fault


def read_text(text: Text, what: str, *, max_chars: int | None = None) -> str:
    """The whole text; `what` names it in errors. `max_chars` refuses more than that, reading no further.

    Raises:
        InputError: As `open_text`, or the text is longer than `max_chars`.
    """
    blocks: list[str] = []
    size = 0
    with open_text(text, what) as stream:
        while block := stream.read(_BLOCK):
            size += len(block)
            if max_chars is not None and size > max_chars:
                raise InputError(f"{what} is longer than the {max_chars:,} characters that are read: shorten it")
            blocks.append(block)
    return "".join(blocks)


def check_readable(path: Path, missing: str = "") -> str | None:
    """Why a file cannot be read, as half a sentence with the remedy, or None; reads one byte.

    `missing` is the remedy for one that does not exist where that is not as `open_text` says.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _unreadable(path, IsADirectoryError())
        if stat.S_ISREG(mode):  # a pipe would lose what is read of it
            with path.open("rb") as stream:
                stream.read(1)
    except OSError as fault:
        return _unreadable(path, fault, missing)
    except ValueError:
        return f"{str(path)!r} is not a possible file name: give the path of a file"
    return None


def _unreadable(path: Path, fault: OSError, missing: str = "") -> str:
    if isinstance(fault, FileNotFoundError) and _CACHED.search(path.as_posix()):
        return (
            f"the file {path} is gone: it came from a search and was removed from the cache; run the search of the job "
            "again, or take out the paths of this chain's alignments and it is searched for"
        )
    if isinstance(fault, FileNotFoundError):
        return f"the file {path} does not exist: {missing or RELATIVE}"
    if isinstance(fault, IsADirectoryError):
        return f"{path} is a folder: name the file in it"
    return f"the file {path} cannot be read ({fault.strerror or fault}): check its permissions"


@contextmanager
def _unpacked(raw: BinaryIO) -> Iterator[BinaryIO]:
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(_GZIP):
        with gzip.open(raw, "rb") as stream:
            yield cast(BinaryIO, stream)
    elif head == _XZ:
        with lzma.open(raw, "rb") as stream:
            yield cast(BinaryIO, stream)
    elif head.startswith(_ZSTD):
        yield cast(BinaryIO, io.BufferedReader(_ZstandardStream(raw), _BLOCK))
    else:
        yield raw


class _ZstandardStream(io.RawIOBase):
    """Unpacks zstandard frames one after the other; unlike the library's reader it notices a frame that is cut off."""

    _FEED = 4096  # what a block of input can grow to is bounded by this

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._unpacker = zstandard.ZstdDecompressor().decompressobj()
        self._packed = self._unpacked = b""
        self._inside = False

    def readable(self) -> bool:
        """This stream can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes; 0 at the end of the last frame."""
        view = memoryview(buffer).cast("B")
        while not self._unpacked:
            self._packed = self._packed or self._raw.read(self._FEED)
            if not self._packed:
                if self._inside:
                    raise EOFError("the zstandard frame is cut off")
                return 0
            self._unpacked = self._unpacker.decompress(self._packed)
            self._inside, self._packed = not self._unpacker.eof, self._unpacker.unused_data
            if self._unpacker.eof:
                self._unpacker = zstandard.ZstdDecompressor().decompressobj()
        size = min(len(view), len(self._unpacked))
        view[:size], self._unpacked = self._unpacked[:size], self._unpacked[size:]
        return size


def _tidied(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
