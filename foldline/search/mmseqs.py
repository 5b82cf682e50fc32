"""MMseqs2 as a search tool: one search of FASTA databases, and ColabFold's search of its own databases.

Its E-values come from the residues of the database; they are brought to the size that a search names. Knows no cache
of results and no jobs; rows are not HMMER's.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foldline.errors import SearchError
from foldline.execute import Executor, go_on
from foldline.search.mmseqs_databases import (
    FOLDER,
    INDEX_BYTES_PER_BYTE,
    INDEXED_FROM,
    Expandable,
    colabfold_set,
    lacking,
    prepared,
)
from foldline.search.mmseqs_program import Program
from foldline.search.recipes import COLABFOLD, COLABFOLD_PAIRED, Search
from foldline.search.rows import Alignment, Found, Row, alignment_of, read_a3m

LEFT_SECONDS = 7 * 86400  # that a folder of work must lie untouched to be nobody's
SHORTEST = 8  # residues; shorter queries have no k-mers and nothing that could be significant
COLUMNS = ",query,qstart,qend,tstart,tend,evalue,raw,qaln,taln,theader"  # after one that tells the species
_GAP = ord("-")
# What ColabFold calls these with (colabfold/mmseqs/search.py). Its sensitivity of about 8 is that of its server.
ITERATED = ("--num-iterations", "3", "-a", "-e", "0.1", "--max-seqs", "10000", "-s", "8")
EXPANDED = ("--expansion-mode", "0", "-e", "inf", "--max-seq-id", "0.95")
REALIGNED = ("-e", "10", "--max-accept", "100000", "--alt-ali", "10", "-a")
FILTERED = ("--qid", "0", "--qsc", "0.8", "--diff", "0", "--max-seq-id", "1.0", "--filter-min-enable", "100")
WRITTEN = ("--msa-format-mode", "6", "--filter-msa", "1", "--filter-min-enable", "1000", "--diff", "3000")
WRITTEN += ("--qid", "0.0,0.2,0.4,0.6,0.8,1.0", "--qsc", "0", "--max-seq-id", "0.95")
PAIRABLE = ("-e", "0.001", "--max-accept", "1000000", "-c", "0.5", "--cov-mode", "1", "-a")


class MMseqs:
    """The program with the folder where it keeps databases. `find` looks for it."""

    name = "mmseqs"
    together = True

    def __init__(self, program: Program, folder: Path) -> None:
        self.program, self.folder, self.version = program, folder, program.version

    @classmethod
    def find(cls, folder: Path) -> "MMseqs":
        """The tool with the program of this machine.

        Raises:
            SearchError: there is none, or it is too old.
        """
        return cls(Program.find(), folder)

    def told_before(self, database: str, files: Sequence[Path], search: Search) -> list[str]:
        """What is worth telling before a search: that it begins with what takes long and is done once."""
        if search.recipe in (COLABFOLD, COLABFOLD_PAIRED) or not lacking(files, self.program, self.folder):
            return []
        size = sum(path.stat().st_size for path in files)
        index = f" and its index, about {INDEX_BYTES_PER_BYTE * size / 1e9:.0f} GB" if size >= INDEXED_FROM else ""
        return [f"once: making the mmseqs database of {database}{index}"]

    def search(self, queries: Sequence[str], shards: Sequence[Path], search: Search, executor: Executor) -> list[Found]:
        """See `Tool.search`; of ColabFold's databases, the shard is the index file of UniRef30."""
        found = [Found() for _ in queries]
        asked = [index for index, query in enumerate(queries) if len(query) >= SHORTEST]
        if not asked:
            return found
        run = self._fasta if search.recipe not in (COLABFOLD, COLABFOLD_PAIRED) else self._colabfold
        for shard in shards:
            with self._work() as folder:
                fasta = folder / "queries.fasta"
                fasta.write_text("".join(f">{index}\n{queries[index]}\n" for index in asked))
                work = _Work(self.program, folder, search, executor.slots, getattr(executor, "check", go_on))
                work.run("createdb", fasta, work / "queries", "--dbtype", "1", "--shuffle", "0", threads=False)
                for index, rows in run(work, shard, queries).items():
                    found[index].add(Found(rows, len(rows)), search)
        return found

    def align(self, query: str, found: Found, search: Search) -> Alignment:
        """See `Tool.align`."""
        return alignment_of(query, found.rows[: search.recipe.max_rows - 1])

    @contextmanager
    def _work(self) -> Iterator[Path]:
        """A folder for the files between the steps; they are large, so they lie beside the cache."""
        place = self.folder / FOLDER
        try:
            place.mkdir(parents=True, exist_ok=True)
            for left in place.glob(".work-*"):  # of runs that were killed
                if left.stat().st_mtime < time.time() - LEFT_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=".work-", dir=place))
        except OSError as error:
            raise SearchError(
                f"{place} cannot be written to ({error.strerror or error}): choose another folder with cache_dir"
            ) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _fasta(self, work: "_Work", shard: Path, queries: Sequence[str]) -> dict[int, list[Row]]:
        """One search without iterations; E-values count the size that the search names."""
        database = prepared(shard, self.program, self.folder, work.threads, work.check)
        share = database.sequences / work.search.z
        recipe, options = work.search.recipe, dict(work.search.options)
        words = ["-a", "-e", f"{recipe.e_value * share:.6g}", "--max-seqs", str(recipe.max_rows)]
        words += ["-s", str(options["sensitivity"]), "--num-iterations", str(options["iterations"])]
        if not database.indexed and self.program.can_do_without_kmers:
            words += ["--prefilter-mode", "1"]
        work.run("search", work / "queries", database.path, work / "found", work / "tmp", *words)
        lines = work.lines("found", database.path, "tlen" + COLUMNS)
        return _rows(lines, queries, share)

    def _colabfold(self, work: "_Work", shard: Path, queries: Sequence[str]) -> dict[int, list[Row]]:
        here = colabfold_set(shard.parent)
        assert here is not None
        if work.search.recipe == COLABFOLD_PAIRED:
            return _pairable(work, here.uniref, queries)
        found = _iterated(work, "queries", here.uniref, "uniref", filtered_clusters=True)
        if here.environment is not None:
            more = _iterated(work, "uniref_profile", here.environment, "env", filtered_clusters=False)
            for index, rows in more.items():
                found.setdefault(index, []).extend(rows)
        return {index: _numbered(rows) for index, rows in found.items()}


@dataclass(frozen=True)
class _Work:
    """A folder of one search's files, and how commands are run in it; names without a folder are files there."""

    program: Program
    folder: Path
    search: Search
    threads: int
    check: Callable[[], None]

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def run(self, command: str, *words: str | Path, threads: bool = True) -> None:
        """Run a command of mmseqs."""
        line = [command, *words, "-v", "1", *(["--threads", str(self.threads)] if threads else [])]
        what = f"mmseqs {command} for {self.search.recipe.database}"
        self.program.run(line, what, deadline=self.search.deadline, check=self.check)

    def lines(self, result: str, database: Path, columns: str) -> Iterator[list[str]]:
        """What was found, in columns; the last one may have tabs in it."""
        table = self / "table"
        self.run("convertalis", self / "queries", database, self / result, table, "--format-output", columns)
        with table.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                yield line.rstrip("\n").split("\t", columns.count(","))


def _rows(
    lines: Iterator[list[str]], queries: Sequence[str], share: float, *, species: bool = False
) -> dict[int, list[Row]]:
    """Rows by query from columns, in order. `species`: headers get the taxonomy identifier; rows without one go."""
    found: dict[int, list[Row]] = {}
    for taxon, query, first, last, start, end, e_value, raw, aligned, target, header in lines:
        index = int(query)
        name, _, described = header.replace("\t", " ").partition(" ")
        if species:
            if taxon == "0":
                continue
            name, described = f"{_uniref(name)}_{taxon}", ""
        text = _a3m(aligned, target, int(first), len(queries[index]) - int(last))
        whole = f"{name}/{start}-{end} {described}".rstrip()
        row = Row(0.0, -float(raw), name, False, int(start), whole, text, 0.0, float(e_value) / share)
        found.setdefault(index, []).append(row)
    return {index: sorted(rows, key=lambda row: row[:5]) for index, rows in found.items()}


def _uniref(name: str) -> str:
    """A name that species are read from: UniRef100_ACCESSION."""
    return "UniRef100_" + name.removeprefix("UniRef100_").replace("_", "-").replace("/", "-")


def _a3m(query: str, target: str, first: int, after: int) -> str:
    """An aligned piece in the query's columns, of which it begins at the `first` (1-based) and lacks those `after`."""
    letters = np.frombuffer(target.upper().replace("*", "X").encode(), np.uint8)
    inserted = np.frombuffer(query.encode(), np.uint8) == _GAP
    piece = np.where(inserted, letters | 0x20, letters).astype(np.uint8).tobytes().decode()
    return "-" * (first - 1) + piece + "-" * after


def _iterated(
    work: _Work, query: str, database: Expandable, name: str, *, filtered_clusters: bool
) -> dict[int, list[Row]]:
    """ColabFold's unpaired search of a database: three iterations, members of clusters, realigned and filtered.

    `query` is a database of sequences or profiles; the profile of the last iteration stays as NAME_profile.
    """
    load, profile, asked = database.load, work / f"{name}_profile", work / query
    hits, expanded, aligned, kept, text = (
        work / f"{name}_{step}" for step in ("hits", "expanded", "aligned", "kept", "a3m")
    )
    temporary, folder = work / f"{name}_tmp", work / f"{name}_files"
    clusters = ("--expand-filter-clusters", "1") if filtered_clusters else ()
    work.run("search", asked, database.path, hits, temporary, *ITERATED, *load)
    work.run("mvdb", temporary / "latest" / "profile_1", profile, threads=False)
    work.run("lndb", work / "queries_h", work / f"{name}_profile_h", threads=False)
    work.run("expandaln", asked, database.members, hits, database.alignments, expanded, *EXPANDED, *clusters, *load)
    work.run("align", profile, database.members, expanded, aligned, *REALIGNED, *load)
    work.run("filterresult", work / "queries", database.members, aligned, kept, *FILTERED, *load)
    work.run("result2msa", work / "queries", database.members, kept, text, *WRITTEN, *load)
    folder.mkdir()
    work.run("unpackdb", text, folder, "--unpack-name-mode", "0", "--unpack-suffix", ".a3m")
    return dict(_read(path) for path in folder.glob("*.a3m"))


def _read(path: Path) -> tuple[int, list[Row]]:
    """The number of a query and its rows; headers are NAME, score, identity, E-value, then places from 0."""
    alignment = read_a3m(path.read_text(encoding="utf-8", errors="replace"), f"the alignment {path.name} of mmseqs")
    rows = []
    for header, text in zip(alignment.headers[1:], alignment.rows[1:], strict=True):
        name, _, _, e_value, _, _, _, start, end, *_ = header.split("\t")
        place = f"{name}/{int(start) + 1}-{int(end) + 1}"
        rows.append(Row(0.0, 0.0, name, False, int(start) + 1, place, text.replace("*", "X"), 0.0, float(e_value)))
    return int(alignment.headers[0].split()[0]), rows


def _numbered(rows: list[Row]) -> list[Row]:
    """Rows that stay in this order: UniRef30's, then those of the environment, each as mmseqs orders them."""
    return [row._replace(order=float(number)) for number, row in enumerate(rows)]


def _pairable(work: _Work, database: Expandable, queries: Sequence[str]) -> dict[int, list[Row]]:
    """Members of clusters that may be paired: significant, half of them aligned, of a known species."""
    load, asked = database.load, work / "queries"
    hits, expanded, aligned = work / "hits", work / "expanded", work / "aligned"
    every = ("--expand-filter-clusters", "0")
    work.run("search", asked, database.path, hits, work / "tmp", *ITERATED, *load)
    work.run("expandaln", asked, database.members, hits, database.alignments, expanded, *EXPANDED, *every, *load)
    work.run("align", asked, database.members, expanded, aligned, *PAIRABLE, *load)
    # convertalis looks for the taxonomy beside the sequences, under their name
    beside = work / "members"
    for ending in ("", ".index", ".dbtype", "_h", "_h.index", "_h.dbtype"):
        source = database.members if database.indexed else database.path.with_name(f"{database.path.name}_seq")
        _link(beside, source, ending)
    for ending in ("_mapping", "_taxonomy"):
        _link(beside, database.path, ending)
    return _rows(work.lines("aligned", beside, "taxid" + COLUMNS), queries, 1.0, species=True)


def _link(target: Path, source: Path, ending: str) -> None:
    there = source.with_name(source.name + ending)
    if there.exists():
        target.with_name(target.name + ending).symlink_to(there.absolute())
