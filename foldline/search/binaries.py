"""The HMMER programs on the PATH, called with AlphaFold 3's flags, one process per query and shard.

Where a database has shards, rows are merged by the E-values that HMMER prints, as AlphaFold 3 does. Knows no cache.
"""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from foldline.errors import NoSearch, SearchError
from foldline.execute import Executor
from foldline.search.recipes import Search
from foldline.search.rows import Alignment, Found, Row, alignment_of
from foldline.search.tools import SearchTimeout

PROGRAMS = ("jackhmmer", "nhmmer", "hmmbuild", "hmmalign", "hmmsearch")
OLDEST = (3, 1)
WIDTH = 80
_GAPS = np.frombuffer(b"-.", np.uint8)


class Hmmer:
    """HMMER's programs. `find` looks for them on the PATH."""

    name = "hmmer"
    together = False

    def __init__(self, programs: dict[str, str], version: str) -> None:
        self.programs, self.version = programs, version

    @classmethod
    def is_here(cls) -> bool:
        """Whether the PATH has all programs."""
        return all(shutil.which(name) for name in PROGRAMS)

    @classmethod
    def find(cls) -> Self:
        """The programs on the PATH.

        Raises:
            SearchError: one is missing, or HMMER is older than 3.1.
        """
        programs = {name: shutil.which(name) for name in PROGRAMS}
        missing = [name for name, path in programs.items() if path is None]
        if missing:
            raise NoSearch(
                f"{missing[0]} is not on the PATH: install HMMER (apt-get install hmmer), or use pyhmmer, which comes"
                " with Foldline"
            )
        found = {name: path for name, path in programs.items() if path is not None}
        banner = _run([found["jackhmmer"], "-h"], "jackhmmer", None)
        version = re.search(r"HMMER (\d+)\.(\d+)(\.\d+)*", banner)
        if version is None or (int(version[1]), int(version[2])) < OLDEST:
            known = version[0] if version else "no HMMER that is known"
            raise NoSearch(f"{found['jackhmmer']} is {known}: version 3.1 or later is needed")
        return cls(found, version[0].removeprefix("HMMER "))

    def told_before(self, database: str, files: Sequence[Path], search: Search) -> Sequence[str]:
        """See `Tool.told_before`."""
        return ()

    def search(self, queries: Sequence[str], shards: Sequence[Path], search: Search, executor: Executor) -> list[Found]:
        """See `Tool.search`."""
        found = [Found() for _ in queries]
        work = ((index, query, shard) for shard in shards for index, query in enumerate(queries))
        for future in executor.map(partial(self._step, search=search), work):
            index, part = future.result()
            found[index].add(part, search)
        return found

    def align(self, query: str, found: Found, search: Search) -> Alignment:
        """See `Tool.align`."""
        rows = found.included(search)
        if search.recipe.kind == "rna" and rows:
            rows = self._realigned(query, rows)
        return alignment_of(query, rows)

    def _step(self, item: tuple[int, str, Path], *, search: Search) -> tuple[int, Found]:
        index, query, shard = item
        with _work() as folder:
            fasta = folder / "query.fasta"
            fasta.write_text(_fasta("query", query))
            command = self._command(query, search, folder) + [str(fasta), str(shard)]
            _run(command, f"{command[0]} on {shard.name}", search.deadline)
            _check_whole(folder, search.recipe.kind, Path(command[0]).name)
            scores = _scores(folder / "table", search.recipe.kind) if search.sharded else {}
            rows = list(stockholm_rows(folder / "rows.sto", search, scores))
        return index, Found(rows, len({row.name for row in rows}))

    def _command(self, query: str, search: Search, folder: Path) -> list[str]:
        recipe = search.recipe
        protein = recipe.kind == "protein"
        command = [self.programs["jackhmmer" if protein else "nhmmer"], "-o", "/dev/null", "--noali", "--cpu", "1"]
        command += ["-A", str(folder / "rows.sto"), "-E", str(recipe.e_value), "--F3", str(recipe.f3_of(query))]
        if protein:
            command += ["-N", "1", "--incE", str(recipe.inc_e), "--F1", str(recipe.f1), "--F2", str(recipe.f2)]
        else:
            command.append("--rna")
        if search.z_given or search.sharded:
            z = f"{search.z:.7f}"
            command += ["-Z", z, "--domZ", z] if protein else ["-Z", z]
        if search.sharded or not protein:
            command += ["--tblout", str(folder / "table")]
        return command

    def _realigned(self, query: str, rows: list[Row]) -> list[Row]:
        with _work() as folder:
            for file, text in (
                ("query.afa", _fasta("query", query)),
                ("rows.fasta", "".join(_fasta(f"r{i}", row.text) for i, row in enumerate(rows))),
            ):
                (folder / file).write_text(text)
            build = [self.programs["hmmbuild"], "-o", "/dev/null", "--informat", "afa", "--rna"]
            _run([*build, str(folder / "profile"), str(folder / "query.afa")], "hmmbuild", None)
            align = [self.programs["hmmalign"], "-o", str(folder / "out"), "--outformat", "A2M"]
            _run([*align, str(folder / "profile"), str(folder / "rows.fasta")], "hmmalign", None)
            texts = [record.partition("\n")[2].replace("\n", "") for record in _records(folder / "out")]
            if len(texts) != len(rows) or sum(not letter.islower() for letter in texts[-1]) != len(query):
                raise _full("what hmmalign wrote is cut off")
        return [row._replace(text=text) for row, text in zip(rows, texts, strict=True)]


def _records(path: Path) -> list[str]:
    return path.read_text().removeprefix(">").split("\n>")


def _fasta(name: str, sequence: str) -> str:
    lines = (sequence[at : at + WIDTH] for at in range(0, len(sequence), WIDTH))
    return "\n".join([f">{name}", *lines, ""])


def _run(command: list[str], what: str, deadline: float | None) -> str:
    """Standard output of a program.

    Raises:
        SearchError: it ends with an error, which is quoted; or it is still running at the deadline.
    """
    left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=left, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SearchTimeout(what) from error
    except OSError as error:
        raise SearchError(f"{command[0]} cannot be run ({error.strerror or error}): install HMMER again") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-500:] or "nothing"
        raise SearchError(f"{what} ended with code {done.returncode}; it said: {said}")
    return done.stdout


@contextmanager
def _work() -> Iterator[Path]:
    """A folder for the files of one call.

    Raises:
        SearchError: there is no space for them.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="foldline-") as name:
            yield Path(name)
    except OSError as error:
        raise _full(str(error.strerror or error)) from error


def _full(reason: str) -> SearchError:
    return SearchError(
        f"the files of a search cannot be written to {tempfile.gettempdir()} ({reason}): free space there"
    )


def _check_whole(folder: Path, kind: str, program: str) -> None:
    """Look whether the files of a search are complete: HMMER does not notice when its last write fails.

    Raises:
        SearchError: they are not.
    """
    rows, table = folder / "rows.sto", folder / "table"
    text = rows.read_bytes()[-3:] if rows.is_file() else b""
    whole = text == b"//\n"
    if kind == "rna" and not text:  # without hits there are no rows, and the table says so
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines() if table.is_file() else []
        whole = bool(lines) and lines[-1] == "# [ok]" and all(line.startswith("#") for line in lines)
    if not whole:
        raise _full(f"what {program} wrote is cut off")


def stockholm_rows(path: Path, search: Search, scores: dict[str, tuple[float, float]]) -> Iterator[Row]:
    """Rows of a Stockholm file in its order; the first row of a jackhmmer alignment is the query."""
    if not path.is_file():
        return
    protein = search.recipe.kind == "protein"
    names, texts, descriptions = _stockholm(path)
    inserted = np.isin(_codes(texts[0]), _GAPS) if texts and protein else np.zeros(0, bool)
    for at in range(1 if protein else 0, len(names)):
        name, _, ends = names[at].rpartition("/")
        start, end = (int(number) for number in ends.split("-"))
        if search.sharded and (name if protein else names[at]) not in scores:
            continue  # included, but not in the table: AlphaFold 3 leaves it out too
        order, minus_score = scores.get(name if protein else names[at], (0.0, float(at)))
        text = _a3m(texts[at], inserted) if protein else texts[at].replace(".", "").replace("-", "").upper()
        described = descriptions.get(names[at], "")
        header = f"{names[at]} {described}" if described else names[at]
        yield Row(order, minus_score, name, start > end, start, header, text, 0.0, order)


def _a3m(text: str, inserted: np.ndarray) -> str:
    """A row in the query's columns: what stands in others becomes lower case, and their gaps disappear."""
    codes = _codes(text)
    gaps = np.isin(codes, _GAPS)
    codes = np.where(inserted, codes | 0x20, np.where(gaps, ord("-"), codes))
    return codes[~(inserted & gaps)].astype(np.uint8).tobytes().decode()


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def _stockholm(path: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Names, aligned texts and descriptions; rows stand in the same order in each of the file's blocks."""
    names: list[str] = []
    pieces: list[list[str]] = []
    descriptions: dict[str, str] = {}
    at, first = 0, True
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("#=GS"):
                _, name, feature, text = (line.rstrip("\n").split(maxsplit=3) + [""])[:4]
                if feature == "DE":
                    descriptions[name] = text.rstrip()
            elif line[0] not in "#/\n":
                name, text = line.split()
                if first:
                    names.append(name)
                    pieces.append([])
                pieces[at].append(text)
                at += 1
            elif line == "\n" and at:
                at, first = 0, False
    return names, ["".join(parts) for parts in pieces], descriptions


def _scores(path: Path, kind: str) -> dict[str, tuple[float, float]]:
    """Rounded E-value and, for proteins, score below zero, by the name of a sequence or of a piece of RNA."""
    found = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("#"):
                continue
            columns = line.split(maxsplit=14)
            if kind == "protein":
                found[columns[0]] = (float(columns[4]), -float(columns[5]))
            else:
                found[f"{columns[0]}/{columns[6]}-{columns[7]}"] = (float(columns[12]), 0.0)
    return found
