"""Records of an a3m text, in blocks of bounded memory. Knows headers and rows, not what a row may hold."""

from collections.abc import Callable, Iterator
from typing import TextIO

from foldline.errors import InputError

BLOCK_CHARS = 1 << 22
_NOT_A_COLUMN = b" \t\r\n\0."  # "." pads insertions in a2m


def record_blocks(stream: TextIO, fail: Callable[[str], InputError]) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Headers and rows of a text, several records at a time; none for a text without anything but blanks.

    Reads Windows line ends, `#` lines (ColabFold), NULs, blank lines and wrapped sequences.

    Raises:
        InputError: `fail` of the sentence that there are no records.
    """
    for block in _blocks(stream, fail):
        yield _split(block)


def _blocks(stream: TextIO, fail: Callable[[str], InputError]) -> Iterator[bytes]:
    """Pieces of whole records, each starting with ">"."""
    rest = b""
    while chunk := stream.read(BLOCK_CHARS):
        block = rest + chunk.encode()
        if not rest.startswith(b">"):
            block = _from_first_record(block)
        cut = block.rfind(b"\n>")
        if cut < 0:
            rest = block
            continue
        yield block[: cut + 1]
        rest = block[cut + 1 :]
    if rest.startswith(b">"):
        yield rest
    elif rest.translate(None, b" \t\r\n\0"):
        raise fail("no record starts with '>': give an alignment in a3m format, or an empty text for none")


def _from_first_record(block: bytes) -> bytes:
    """`block` without the `#` lines, blanks and NULs before its first record."""
    while block:
        block = block.lstrip(b" \t\r\n\0")
        if not block.startswith(b"#"):
            break
        end = block.find(b"\n")
        if end < 0:
            break
        block = block[end + 1 :]
    return block


def _split(block: bytes) -> tuple[list[bytes], list[bytes]]:
    if b"\n#" in block:
        block = b"\n".join(line for line in block.split(b"\n") if not line.startswith(b"#"))
    headers, rows = [], []
    for record in block[1:].split(b"\n>"):
        header, _, row = record.partition(b"\n")
        headers.append(header.strip(b" \t\r\0"))
        rows.append(row.translate(None, _NOT_A_COLUMN))
    return headers, rows
