"""Splitting a database into shards of about equal size. Knows files, not searches."""

import shutil
from pathlib import Path

from foldline.errors import InputError, SearchError
from foldline.search.databases import check, records, shard_names

MOST_SHARDS = 99_999
BUFFER = 1 << 20  # bytes per shard between two writes


def shard(path: Path, count: int, folder: Path | None = None) -> list[Path]:
    """Write `count` shards of a FASTA file, named as AlphaFold 3 names them; every next record goes to the next shard.

    They are written in a folder of their own beside their place and moved there when all are whole.

    Raises:
        SearchError: the file cannot be read, or the shards cannot be written.
        InputError: too few or too many shards for the file.
    """
    check(path)
    if not 2 <= count <= MOST_SHARDS:
        raise InputError(f"{count} shards are not possible: give a number from 2 to {MOST_SHARDS}", path="N")
    place = folder or path.parent
    names = shard_names(path.name, count)
    beside = place / f".{path.name}-{count}.part"
    try:
        beside.mkdir(parents=True, exist_ok=True)
        written = _split(path, [beside / name for name in names])
        if written < count:
            raise InputError(f"{path} has {written} sequences, too few for {count} shards: give fewer", path="N")
        for name in names:
            (beside / name).replace(place / name)
    except OSError as error:
        raise SearchError(
            f"the shards of {path.name} cannot be written to {place} ({error.strerror or error}): free space there"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return [place / name for name in names]


def _split(path: Path, targets: list[Path]) -> int:
    """Deal the records out; returns how many there are."""
    for target in targets:
        target.write_bytes(b"")
    waiting: list[list[bytes]] = [[] for _ in targets]
    sizes = [0] * len(targets)
    count = 0
    for count, record in enumerate(records(path), start=1):
        at = (count - 1) % len(targets)
        waiting[at].append(b">" + record + b"\n")
        sizes[at] += len(record)
        if sizes[at] > BUFFER:
            _append(targets[at], waiting[at])
            sizes[at] = 0
    for target, pieces in zip(targets, waiting, strict=True):
        _append(target, pieces)
    return count


def _append(target: Path, pieces: list[bytes]) -> None:
    with target.open("ab") as file:
        file.writelines(pieces)
    pieces.clear()
