"""Databases as files: where they lie, their shards, whether they are whole, and what identifies their content.

Files of a store (s3:// and so on) are copied here before they are read. Knows AlphaFold 3's names of files and shards;
not what is searched for.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from foldline import remote
from foldline.errors import NoSearch, SearchError
from foldline.search.files import write_whole
from foldline.search.recipes import MMCIF_FOLDER, RECIPES, SEQRES_FILE, Kind, Recipe, Search
from foldline.search.settings import MMCIF, OFF, SEQRES, SearchSettings

_SHARDS = re.compile(r"(?P<prefix>.+)@(?P<count>\d{1,5}|\*)(?P<suffix>[._][^@*/]*)?")
HASHED_WHOLE = 1 << 26  # bytes; of longer files, samples are hashed
SAMPLES, SAMPLE = 16, 1 << 14
CHUNK = 1 << 22
HEAD = 256  # bytes by which a file is known
_PACKED = (b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh")


COPIES = "remote"  # folder of copies from stores
AT_ONCE = 8  # files that a store is asked for, or that are copied, at a time


@dataclass(frozen=True)
class Database:
    """The files of a database, one or its shards in order. Where they have `origins`, they are copies, made by `fetch`.

    A remote folder of structures has its URL as the one origin.
    """

    name: str
    files: tuple[Path, ...]
    sharded: bool = False
    origins: tuple[remote.Origin, ...] = ()
    beside: tuple[Path, ...] = ()  # files that decide what is found, but are no shards
    lacks: tuple[str, ...] = ()  # parts that it might have

    @property
    def spec(self) -> str:
        """The file, or the first shard and how many there are."""
        first = self.origins[0].url if self.origins else self.files[0]
        return f"{first} ({len(self.files)} shards)" if self.sharded else str(first)


def shard_names(prefix: str, count: int, suffix: str = "") -> list[str]:
    """AlphaFold 3's names: prefix-00000-of-0000N (AF3 tools/shards.py)."""
    return [f"{prefix}-{i:05d}-of-{count:05d}{suffix}" for i in range(count)]


def locate(name: str, settings: SearchSettings, folder: Path | None = None) -> Database | None:
    """The database of that name, or None where it is switched off or nothing says where it is.

    Copies of a remote one are below `folder`; they are not made here. Without a folder, URLs are refused.

    Raises:
        SearchError: it is named but not there, a shard is missing, or a file is empty, packed, cut off or no FASTA;
            a store cannot be asked.
    """
    default = {SEQRES: SEQRES_FILE, MMCIF: MMCIF_FOLDER} | {key: recipe.file for key, recipe in RECIPES.items()}
    named = settings.databases.get(name)
    if named == OFF or (named is None and not settings.roots):
        return None
    words = [named] if named else [default[name], f"{default[name]}@*"]
    base = settings.relative_to or Path()
    for place in _places(words, settings.roots, base if named else None):
        found = _at(name, place) if isinstance(place, Path) else _at_url(name, place, folder)
        if found is not None:
            return found
    places = ", ".join(str(root) for root in settings.roots) or str(base)
    where = "there" if named and remote.is_url(named) else f"in {places}"
    raise NoSearch(
        f"the database {name} ({words[0]}) is not {where}: put it there, name its file in [search.databases] of"
        f' foldline.toml, or write {name} = "{OFF}" there to go without'
    )


def _places(words: list[str], roots: Sequence[Path | str], base: Path | None) -> Iterator[Path | str]:
    """Where to look, in order: the words in each root, then in `base`; a URL stands for itself."""
    if remote.is_url(words[0]):
        yield words[0]
        return
    for root in (*roots, *([base] if base is not None else [])):
        for word in words:
            yield f"{root.rstrip('/')}/{word}" if isinstance(root, str) else root / Path(word).expanduser()


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
        raise _lacks(name, files[there.index(False)], there.count(False), count)
    for file in files:
        check(file)
    return Database(name, tuple(files), sharded=True)


def _at_url(name: str, url: str, folder: Path | None) -> Database | None:
    """The database at a URL or a shard specification of URLs, None where there is no part of it."""
    if folder is None:
        raise SearchError(f"{url} needs a folder for copies: give one")
    copies = folder / COPIES
    try:
        if name == MMCIF:  # web servers have no folders that can be asked for
            there = url.startswith(("http://", "https://")) or remote.is_folder(url)
            origin = remote.Origin(url, None, "")
            return Database(name, (copies,), origins=(origin,)) if there else None
        whole = remote.stat(url)
        if whole is not None:
            return Database(name, (whole.copy_in(copies),), origins=(whole,))
        spec = _SHARDS.fullmatch(url)
        if spec is None:
            return None
        prefix, suffix = spec["prefix"], spec["suffix"] or ""
        parent, _, first = prefix.rpartition("/")
        if spec["count"] == "*":
            count = _most(remote.names(parent, f"{first}-00000-of-?????{suffix}"), f"{first}-00000-of-", suffix)
        else:
            count = int(spec["count"])
        with ThreadPoolExecutor(AT_ONCE) as pool:
            origins = list(pool.map(remote.stat, shard_names(prefix, count, suffix)))
    except remote.RemoteError as error:
        raise NoSearch(f"the database {name}: {error}") from error
    found = tuple(origin for origin in origins if origin is not None)
    if not found:
        return None
    if len(found) < count:
        missing = shard_names(prefix, count, suffix)[origins.index(None)]
        raise _lacks(name, missing, count - len(found), count)
    return Database(name, tuple(origin.copy_in(copies) for origin in found), sharded=True, origins=found)


def fetch(database: Database, say: remote.Say = lambda message: None) -> None:
    """Copy the files of a remote database here, where they are not yet; nothing to do for others.

    Raises:
        SearchError: a file is empty, packed, cut off or no FASTA, which is seen before it is copied; or it cannot be
            copied.
    """
    if not database.origins:
        return
    for path in database.files:
        remote.note_use(path)
    if all(path.is_file() for path in database.files):
        return

    def one(origin: remote.Origin, path: Path) -> None:
        if not path.is_file():
            head, last = remote.ends(origin, HEAD)
            _check_ends(origin.url, head, last)
            remote.copied(origin, path.parent.parent, say)

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(one, database.origins, database.files))
    except remote.RemoteError as error:
        raise SearchError(f"the database {database.name}: {error}") from error


def structure_file(database: Database, name: str) -> Path | None:
    """The file of an entry in a folder of structures, copied here from a store; None where there is none.

    Raises:
        SearchError: a store cannot be asked.
    """
    if not database.origins:
        path = database.files[0] / f"{name}.cif"
        return path if path.is_file() else None
    try:
        origin = remote.stat(f"{database.origins[0].url.rstrip('/')}/{name}.cif")
        return None if origin is None else remote.copied(origin, database.files[0])
    except remote.RemoteError as error:
        raise SearchError(f"the database {database.name}: {error}") from error


def _lacks(name: str, missing: object, lacking: int, count: int) -> NoSearch:
    return NoSearch(
        f"the shard {missing} of the database {name} is missing ({lacking} of {count} are): copy it there, or make the"
        " shards again with foldline db shard"
    )


def _counted(prefix: str, suffix: str) -> int:
    """How many shards there are, by the name of the first; the largest number where there are several sets."""
    first = Path(f"{prefix}-00000-of-")
    return _most([path.name for path in first.parent.glob(f"{first.name}?????{suffix}")], first.name, suffix)


def _most(names: list[str], before: str, suffix: str) -> int:
    counts = [name.removeprefix(before).removesuffix(suffix) for name in names]
    return max((int(count) for count in counts if count.isdigit()), default=0)


def check(path: Path) -> None:
    """Look at both ends of a FASTA file.

    Raises:
        SearchError: it cannot be read, is empty, packed, no FASTA or cut off.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            size = file.seek(0, 2)
            file.seek(max(size - 1, 0))
            last = file.read(1)
    except OSError as error:
        raise NoSearch(
            f"the database file {path} cannot be read ({error.strerror or error}): check its permissions"
        ) from error
    _check_ends(path, head, last)


def _check_ends(path: object, head: bytes, last: bytes) -> None:
    """See `check`; `last` may be unknown, as of a server that does not tell a file's size."""
    remedy = "get it again"
    if not head.strip():
        raise NoSearch(f"the database file {path} is empty: {remedy}")
    if head.startswith(_PACKED):
        raise NoSearch(f"the database file {path} is compressed: unpack it, searches read plain FASTA")
    if not head.startswith(b">"):
        raise NoSearch(f"the database file {path} is no FASTA, it does not start with '>': {remedy}")
    if last not in (b"\n", b""):
        raise NoSearch(
            f"the database file {path} is cut off, its last line has no end: {remedy}, or end the line if it is whole"
        )


def searches(
    recipe: Recipe, database: Database, settings: SearchSettings, folder: Path, say: remote.Say = lambda message: None
) -> Search:
    """The search of a database with its size, counted where the settings do not give it and remembered in `folder`.

    A remote database is copied here if its content or its size is not remembered.
    """
    given = settings.z.get(recipe.database)
    identified = isinstance(_remembered(_identity_file(database, folder)), str)
    if not identified or (given is None and _known_size(database, recipe.kind, folder) is None):
        fetch(database, say)
    if given is not None:
        return Search(recipe, float(given), z_given=True, sharded=database.sharded)
    return Search(recipe, size(database, recipe.kind, folder), sharded=database.sharded)


def describe(
    name: str, settings: SearchSettings, folder: Path, *, count: bool, say: remote.Say = lambda message: None
) -> str:
    """Where a database is and how large, in a line. `count` reads it whole where its size is not remembered.

    To be counted, a remote one is copied here, which `say` is told of.

    Raises:
        SearchError: it is named and cannot be used.
    """
    database = locate(name, settings, folder)
    if database is None:
        return "not used"
    if count and name != MMCIF:
        fetch(database, say)
    where = database.spec + _state(database)
    if name not in RECIPES:
        return where
    recipe, given = RECIPES[name], settings.z.get(name)
    unit = "sequences" if recipe.kind == "protein" else "million nucleotides"
    known = count or _known_size(database, recipe.kind, folder) is not None
    sizes = [f"{size(database, recipe.kind, folder):.12g} {unit}"] if known else []
    sizes += [f"Z set to {given:g}"] if given is not None else []
    return ", ".join([where, *(sizes or ["not counted yet"])])


def _state(database: Database) -> str:
    """Of a remote database, its size and whether it is here."""
    if not database.origins or database.name == MMCIF:
        return ""
    size = remote.sized(sum(origin.size or 0 for origin in database.origins))
    here = sum(path.is_file() for path in database.files)
    return f", {size}, " + (
        "copied" if here == len(database.files) else f"{here} of {len(database.files)} files copied"
    )


def _known_size(database: Database, kind: Kind, folder: Path) -> int | None:
    """The count of a database where it is remembered; nothing is copied or counted for it."""
    if database.origins and not isinstance(_remembered(_identity_file(database, folder)), str):
        return None
    known = _remembered(folder / "sizes" / f"{identity(database, folder)}-{kind}.json")
    return known if isinstance(known, int) else None


def size(database: Database, kind: Kind, folder: Path) -> float:
    """Sequences of a protein database, or million nucleotides of an RNA database; remembered by content.

    Half a nucleotide is added, so that the product with a million has the right whole part, which is what nhmmer uses.
    """
    memory = folder / "sizes" / f"{identity(database, folder)}-{kind}.json"
    known = _remembered(memory)
    if isinstance(known, int):
        return _z(known, kind)
    fetch(database)
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


def identity(database: Database, folder: Path, say: remote.Say = lambda message: None) -> str:
    """A hash of a database's content: all of small files, size and samples of large ones; paths do not count.

    A remote database is copied here for it once.

    Remembered in `folder` by path, size and time of change, so that asking again costs nothing.
    """
    memory = _identity_file(database, folder)
    known = _remembered(memory)
    if isinstance(known, str):
        return known
    fetch(database, say)
    digest = hashlib.sha256(f"foldline database 1 {len(database.files)}".encode())
    for path in (*database.files, *database.beside):
        length = path.stat().st_size
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


def _identity_file(database: Database, folder: Path) -> Path:
    """Where the identity is remembered: by path, size and time of change, or by what a store says of the files."""
    stats: list[object] = [origin.key for origin in database.origins]
    if not stats:
        stats = [
            [str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns]
            for path in (*database.files, *database.beside)
        ]
    return folder / "files" / f"{hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:32]}.json"
