"""Databases as mmseqs reads them: made once from a FASTA file and kept, or ready as ColabFold distributes them.

Knows files and the program; not what is searched for.
"""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from foldline.errors import NoSearch, SearchError
from foldline.execute import go_on
from foldline.search.cache import Cache
from foldline.search.databases import Database, identity
from foldline.search.files import write_whole
from foldline.search.mmseqs_program import Program
from foldline.search.recipes import COLABFOLD, COLABFOLD_PAIRED, Recipe
from foldline.search.settings import COLABFOLD_SET, SearchSettings

FOLDER = "mmseqs-1"  # of the cache
INDEXED_FROM = 1 << 24  # bytes of FASTA; smaller databases are searched without k-mers, or indexed on the way
INDEX_BYTES, INDEX_BYTES_PER_BYTE = 1_000_000_000, 9  # measured with MMseqs2 18, k = 6
_COLABFOLD = re.compile(r"(?P<set>uniref30|colabfold_envdb)_\w+_db")


@dataclass(frozen=True)
class Prepared:
    """A database of mmseqs, how many sequences it has, and whether it has an index of k-mers."""

    path: Path
    sequences: int
    indexed: bool


def prepared(
    fasta: Path, program: Program, folder: Path, threads: int = 1, check: Callable[[], None] = go_on
) -> Prepared:
    """The database of a FASTA file, made where this version of the program has not made it from the same content.

    Raises:
        SearchError: the program fails, or there is no room.
    """
    place = _place(fasta, program, folder)
    if not (place / "about.json").is_file():
        with Cache(folder / FOLDER).locked(place.name):
            if not (place / "about.json").is_file():
                _make(fasta, place, program, threads, check)
    about = json.loads((place / "about.json").read_text())
    return Prepared(place / "db", about["sequences"], about["indexed"])


def lacking(files: Sequence[Path], program: Program, folder: Path) -> list[Path]:
    """The FASTA files whose databases are to be made."""
    return [path for path in files if not (_place(path, program, folder) / "about.json").is_file()]


def _place(fasta: Path, program: Program, folder: Path) -> Path:
    return folder / FOLDER / f"{identity(Database('', (fasta,)), folder)}-{program.version[:12]}"


def _make(fasta: Path, place: Path, program: Program, threads: int, check: Callable[[], None]) -> None:
    """Make a database beside its place and rename it; what a run that died has left is removed."""
    part = place.with_name(f".{place.name}.part")
    size = fasta.stat().st_size
    indexed = size >= INDEXED_FROM
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        needed = size + (INDEX_BYTES + INDEX_BYTES_PER_BYTE * size if indexed else 0)
        free = shutil.disk_usage(part).free
        if free < needed:
            raise SearchError(
                f"mmseqs needs about {needed / 1e9:.0f} GB for the index of {fasta}, and {part.parent} has"
                f" {free / 1e9:.0f} GB free: free space there, or choose another folder with cache_dir"
            )
        program.run(["createdb", fasta, part / "db", "--dbtype", "1", "-v", "1"], f"mmseqs createdb of {fasta}")
        if indexed:
            words = ["createindex", part / "db", part / "tmp", "--threads", str(threads), "-v", "1"]
            program.run(words, f"mmseqs createindex of {fasta}", check=check)
            shutil.rmtree(part / "tmp", ignore_errors=True)
        with (part / "db.index").open("rb") as file:
            count = sum(1 for _ in file)
        about = {"file": str(fasta), "version": program.version, "sequences": count, "indexed": indexed}
        write_whole(part / "about.json", json.dumps(about).encode())
        part.replace(place)
    except OSError as error:
        raise SearchError(
            f"the mmseqs database of {fasta} cannot be stored in {part.parent} ({error.strerror or error}): free space"
            " there, or choose another folder with cache_dir"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


@dataclass(frozen=True)
class Expandable:
    """A database of clusters: what is searched first, then its members (`_seq`) and their alignments (`_aln`).

    With an index of k-mers, all of it is in one file.
    """

    path: Path
    indexed: bool

    @property
    def members(self) -> Path:
        """The sequences of the clusters."""
        return self._with("_seq")

    @property
    def alignments(self) -> Path:
        """The alignments of the members to their clusters."""
        return self._with("_aln")

    def _with(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + (".idx" if self.indexed else ending))

    @property
    def load(self) -> list[str]:
        """The option of how files are read: an index is mapped."""
        return ["--db-load-mode", "2" if self.indexed else "0"]


@dataclass(frozen=True)
class ColabFoldSet:
    """The databases of a folder that ColabFold's setup has filled."""

    uniref: Expandable
    environment: Expandable | None

    @property
    def has_species(self) -> bool:
        """Whether the sequences of UniRef30 have taxonomy identifiers."""
        name = self.uniref.path
        return all(name.with_name(name.name + ending).is_file() for ending in ("_mapping", "_taxonomy"))


def colabfold_set(folder: Path) -> ColabFoldSet | None:
    """The databases in a folder, the last of each by name; None where there is no UniRef30.

    Raises:
        SearchError: a part of a database is missing.
    """
    names = sorted(path.name.removesuffix(".dbtype") for path in folder.glob("*.dbtype"))
    found = {match["set"]: name for name in names if (match := _COLABFOLD.fullmatch(name))}
    if "uniref30" not in found:
        return None
    parts = {kind: _expandable(folder / name) for kind, name in found.items()}
    return ColabFoldSet(parts["uniref30"], parts.get("colabfold_envdb"))


def locate_set(recipe: Recipe, settings: SearchSettings) -> Database | None:
    """ColabFold's databases as what a recipe searches; None where they have no species and it needs them.

    Raises:
        SearchError: they are not in the folder that the settings name, or a part of one is missing.
    """
    named = settings.databases[COLABFOLD_SET]
    roots = [root for root in settings.roots if isinstance(root, Path)]
    for folder in (*roots, settings.relative_to or Path()):
        place = folder / Path(named).expanduser()
        found = colabfold_set(place)
        if found is None:
            continue
        parts = [one.path for one in (found.uniref, found.environment) if one is not None]
        first, *more = [path.with_name(f"{path.name}.index") for path in parts]
        if recipe == COLABFOLD_PAIRED:
            return Database(recipe.database, (first,)) if found.has_species else None
        lacks = () if found.environment is not None else ("colabfold_envdb",)
        return Database(recipe.database, (first,), beside=tuple(more), lacks=lacks)
    raise NoSearch(
        f"the folder {named} of ColabFold's databases has no uniref30_..._db, or is not there: make it with ColabFold's"
        f" setup_databases.sh, and give its local path as {COLABFOLD_SET} in [search.databases] of foldline.toml"
    )


def describe_set(settings: SearchSettings) -> str:
    """Where ColabFold's databases are and what there is of them, in a line.

    Raises:
        SearchError: they are named and cannot be used.
    """
    database = locate_set(COLABFOLD, settings) if settings.has_colabfold_set else None
    if database is None:
        return "not used"
    lacks = [*database.lacks, *(["species"] if locate_set(COLABFOLD_PAIRED, settings) is None else [])]
    return database.spec.removesuffix(".index") + "".join(f", without {part}" for part in lacks)


def _expandable(path: Path) -> Expandable:
    indexed = path.with_name(f"{path.name}.idx.index").is_file()
    for ending in ("", ".idx") if indexed else ("", "_seq", "_aln"):
        part = path.with_name(f"{path.name}{ending}.index")
        if not part.is_file():
            raise NoSearch(f"{part} is missing: make the databases with ColabFold's setup_databases.sh again")
    return Expandable(path, indexed)
