"""Databases as files: where they lie, their shards, whether they are whole, and what identifies their content.

Knows AlphaFold 3's names of files and shards; not what is searched for.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from foldline.errors import SearchError
from foldline.search.files import write_whole
from foldline.search.recipes import MMCIF_FOLDER, RECIPES, SEQRES_FILE, Kind, Recipe, Search
from foldline.search.settings import MMCIF, OFF, SEQRES, SearchSettings

_SHARDS = re.compile(r"(?P<prefix>.+)@(?P<count>\d{1,5}|\*)(?P<suffix>[._][^@*/]*)?")
HASHED_WHOLE = 1 << 26  # bytes; of longer files, samples are hashed
SAMPLES, SAMPLE = 16, 1 << 14
CHUNK = 1 << 22
_PACKED = (b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh")


@dataclass(frozen=True)
class Database:
    """The files of a database, one or its shards in order."""

    name: str
    files: tuple[Path, ...]
    sharded: bool = False

    @property
    def spec(self) -> str:
        """The file, or the first shard and how many there are."""
        return f"{self.files[0]} ({len(self.files)} shards)" if self.sharded else str(self.files[0])


def shard_names(prefix: str, count: int, suffix: str = "") -> list[str]:
    """AlphaFold 3's names: prefix-00000-of-0000N (AF3 tools/shards.py)."""
    return [f"{prefix}-{i:05d}-of-{count:05d}{suffix}" for i in range(count)]


def locate(name: str, settings: SearchSettings) -> Database | None:
    """The database of that name, or None where it is switched off or nothing says where it is.

    Raises:
        SearchError: it is named but not there, a shard is missing, or a file is empty, packed, cut off or no FASTA.
    """
    default = {SEQRES: SEQRES_FILE, MMCIF: MMCIF_FOLDER} | {key: recipe.file for key, recipe in RECIPES.items()}
    named = settings.databases.get(name)
    if named == OFF or (named is None and not settings.roots):
        return None
    words = [named] if named else [default[name], f"{default[name]}@*"]
    base = settings.relative_to or Path()
    for folder in (*settings.roots, base) if named else settings.roots:
        for word in words:
            found = _at(name, folder / Path(word).expanduser())
            if found is not None:
                return found
    places = ", ".join(str(root) for root in settings.roots) or str(base)
    raise SearchError(
        f"the database {name} ({words[0]}) is not in {places}: put it there, name its file in [search.databases] of"
        f' foldline.toml, or write {name} = "{OFF}" there to go without'
    )


def _at(name: str, path: Path) -> Database | None:
    """The database at a path or shard specification, None where there is no part of it."""
    if name == MMCIF:
        return Database(name, (path,)) if path.is_dir() else None
    spec = None if path.is_file() else _SHARDS.fullmatch(str(path))
    if spec is None:
        if not path.exists():
            return None
        check(path)
        return Database(name, (path,))
    prefix, suffix = spec["prefix"], spec["suffix"] or ""
    count = _counted(prefix, suffix) if spec["count"] == "*" else int(spec["count"])
    files = [Path(file) for file in shard_names(prefix, count, suffix)]
    there = [file.is_file() for file in files]
    if not any(there):
        return None
    if not all(there):
        missing = files[there.index(False)]
        raise SearchError(
            f"the shard {missing} of the database {name} is missing ({there.count(False)} of {count} are): copy it"
            " there, or make the shards again with foldline db shard"
        )
    for file in files:
        check(file)
    return Database(name, tuple(files), sharded=True)


def _counted(prefix: str, suffix: str) -> int:
    """How many shards there are, by the name of the first; the largest number where there are several sets."""
    first = Path(f"{prefix}-00000-of-")
    names = [path.name for path in first.parent.glob(f"{first.name}?????{suffix}")]
    counts = [name.removeprefix(first.name).removesuffix(suffix) for name in names]
    return max((int(count) for count in counts if count.isdigit()), default=0)


def check(path: Path) -> None:
    """Look at both ends of a FASTA file.

    Raises:
        SearchError: it cannot be read, is empty, packed, no FASTA or cut off.
    """
    remedy = "get it again"
    try:
        with path.open("rb") as file:
            head = file.read(256)
            size = file.seek(0, 2)
            file.seek(max(size - 1, 0))
            last = file.read(1)
    except OSError as error:
        raise SearchError(
            f"the database file {path} cannot be read ({error.strerror or error}): check its permissions"
        ) from error
    if not head.strip():
        raise SearchError(f"the database file {path} is empty: {remedy}")
    if head.startswith(_PACKED):
        raise SearchError(f"the database file {path} is compressed: unpack it, searches read plain FASTA")
    if not head.startswith(b">"):
        raise SearchError(f"the database file {path} is no FASTA, it does not start with '>': {remedy}")
    if last != b"\n":
        raise SearchError(
            f"the database file {path} is cut off, its last line has no end: {remedy}, or end the line if it is whole"
        )


def searches(recipe: Recipe, database: Database, settings: SearchSettings, folder: Path) -> Search:
    """The search of a database with its size, counted where the settings do not give it and remembered in `folder`."""
    given = settings.z.get(recipe.database)
    if given is not None:
        return Search(recipe, float(given), z_given=True, sharded=database.sharded)
    return Search(recipe, size(database, recipe.kind, folder), sharded=database.sharded)


def describe(name: str, settings: SearchSettings, folder: Path, *, count: bool) -> str:
    """Where a database is and how large, in a line. `count` reads it whole where its size is not remembered.

    Raises:
        SearchError: it is named and cannot be used.
    """
    database = locate(name, settings)
    if database is None:
        return "not used"
    if name not in RECIPES:
        return database.spec
    recipe, given = RECIPES[name], settings.z.get(name)
    unit = "sequences" if recipe.kind == "protein" else "million nucleotides"
    memory = folder / "sizes" / f"{identity(database, folder)}-{recipe.kind}.json"
    known = count or _remembered(memory) is not None
    sizes = [f"{size(database, recipe.kind, folder):.12g} {unit}"] if known else []
    sizes += [f"Z set to {given:g}"] if given is not None else []
    return ", ".join([database.spec, *(sizes or ["not counted yet"])])


def size(database: Database, kind: Kind, folder: Path) -> float:
    """Sequences of a protein database, or million nucleotides of an RNA database; remembered by content.

    Half a nucleotide is added, so that the product with a million has the right whole part, which is what nhmmer uses.
    """
    memory = folder / "sizes" / f"{identity(database, folder)}-{kind}.json"
    known = _remembered(memory)
    if isinstance(known, int):
        return _z(known, kind)
    count = sum(count_entries(path) if kind == "protein" else count_residues(path) for path in database.files)
    write_whole(memory, json.dumps(count).encode())
    return _z(count, kind)


def _z(count: int, kind: Kind) -> float:
    return float(count) if kind == "protein" else (count + 0.5) / 1e6


def _remembered(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def count_entries(path: Path) -> int:
    """Records of a FASTA file."""
    count, before = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            count += (before + chunk).count(b"\n>")
            before = chunk[-1:]
    return count


def count_residues(path: Path) -> int:
    """Letters of all sequences of a FASTA file."""
    bodies = (record.partition(b"\n")[2] for record in records(path))
    return sum(len(body) - body.count(b"\n") - body.count(b"\r") for body in bodies)


def records(path: Path) -> Iterator[bytes]:
    """The records of a FASTA file one by one, without ">" and the last line break."""
    rest = b""
    with path.open("rb") as file:
        file.read(1)
        while chunk := file.read(CHUNK):
            *whole, rest = (rest + chunk).split(b"\n>")
            yield from whole
    if rest:
        yield rest.removesuffix(b"\n")


def identity(database: Database, folder: Path) -> str:
    """A hash of a database's content: all of small files, size and samples of large ones; paths do not count.

    Remembered in `folder` by path, size and time of change, so that asking again costs nothing.
    """
    stats = [[str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns] for path in database.files]
    memory = folder / "files" / f"{hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:32]}.json"
    known = _remembered(memory)
    if isinstance(known, str):
        return known
    digest = hashlib.sha256(f"foldline database 1 {len(stats)}".encode())
    for path, (_, length, _) in zip(database.files, stats, strict=True):
        digest.update(f"{length}\n".encode())
        with path.open("rb") as file:
            if length <= HASHED_WHOLE:
                digest.update(hashlib.file_digest(file, "sha256").digest())
                continue
            for sample in range(SAMPLES):
                file.seek((length - SAMPLE) * sample // (SAMPLES - 1))
                digest.update(file.read(SAMPLE))
    found = digest.hexdigest()[:32]
    write_whole(memory, json.dumps(found).encode())
    return found
