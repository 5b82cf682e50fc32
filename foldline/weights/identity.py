"""Which file a checkpoint is: its bytes and SHA-256, beside those of the right one where they are known.

Every refusal of a checkpoint's content says so, since the file is then the first thing to look at. Knows no tensors.
"""

import hashlib
from pathlib import Path

from foldline.errors import WeightsError
from foldline.weights.download import read_record
from foldline.weights.registry import BUNDLED, ENTRIES

DIGITS = 16  # of a hash in a sentence: enough to compare


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refusal(path: Path, what: str) -> WeightsError:
    """The error that a checkpoint's content is refused with; `what` is wrong with it.

    The file is read whole for its hash, some seconds for a large one.
    """
    try:
        size, digest = path.stat().st_size, sha256_of(path)
    except OSError:  # it went meanwhile, or may not be read
        return WeightsError(f"{path}: {what}")
    return WeightsError(f"{path} ({_told(size, digest)}{_compared(path, size, digest)}): {what}")


def _compared(path: Path, size: int, digest: str) -> str:
    """What is known of the right file, in words; "" where nothing is."""
    wanted_size, wanted, whose = _known(path)
    if wanted is None:
        return ""
    if wanted == digest and wanted_size in (None, size):
        return f", the same {whose}"
    return f"; {_told(wanted_size, wanted)} {whose}"


def _known(path: Path) -> tuple[int | None, str | None, str]:
    """Size and hash that a file should have, and where they are from: the registry, or the record of its download."""
    for entry in (*ENTRIES, *BUNDLED):
        is_it = path == entry.bundled if entry.bundled is not None else path.name == f"{entry.name}.pt"
        if is_it and entry.sha256 is not None:
            return entry.size, entry.sha256, "when it was published"
    record = read_record(path)
    size, digest = record.get("size"), record.get("sha256")
    is_known = isinstance(digest, str)
    return size if isinstance(size, int) else None, digest if is_known else None, "when it was fetched"


def _told(size: int | None, digest: str) -> str:
    return ", ".join(([] if size is None else [f"{size:,} bytes"]) + [f"SHA-256 {digest[:DIGITS]}"])
