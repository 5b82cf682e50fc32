"""Rows that a search finds and the alignment that they make: order, limit, merging of shards and of databases, a3m.

Knows text rows in the columns of a query; no tools, no files and no chains.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from foldline.errors import InputError
from foldline.search.recipes import Search

_LOWER = str.maketrans("", "", "abcdefghijklmnopqrstuvwxyz")


class Row(NamedTuple):
    """One aligned piece of a database sequence.

    The first fields are HMMER's order: best score first, then name, then the forward strand, then place. A tool that
    prints rounded E-values orders by these first, as AlphaFold 3 does when it merges shards.
    """

    order: float  # 0, or a rounded E-value
    minus_score: float  # bits
    name: str
    backward: bool
    start: int
    header: str  # name/from-to and description
    text: str  # a3m: upper case and "-" in the query's columns, insertions in lower case
    p_value: float = 0.0  # of the domain; 0 where the tool has applied the threshold itself
    e_value: float = 0.0  # of the whole sequence


def rank(row: Row) -> tuple[float, float, str, bool, int]:
    """Where a row stands among others."""
    return row[:5]


@dataclass
class Found:
    """What a query has found so far in a database or a shard of it, held to the rows that can still matter."""

    rows: list[Row] = field(default_factory=list)
    reported: int = 0  # sequences below the E-value: HMMER's domZ

    def add(self, other: "Found", search: Search) -> None:
        """Take in the rows of another part of the same database; memory stays bounded by the recipe's limit."""
        self.rows = list(heapq.merge(self.rows, other.rows, key=rank))
        self.reported += other.reported
        if len(self.rows) > 2 * search.recipe.max_rows:
            self._cut(search)

    def _cut(self, search: Search) -> None:
        """Drop rows that no later count of reported sequences can bring among the first: domZ is at most Z."""
        sure = 0
        for index, row in enumerate(self.rows):
            sure += row.p_value * search.z <= search.recipe.inc_dom_e
            if sure == search.recipe.max_rows:
                del self.rows[index + 1 :]
                return

    def included(self, search: Search) -> list[Row]:
        """The rows of the alignment, without the query's, in order, within the recipe's limit."""
        recipe, dom_z = search.recipe, search.z if search.z_given else self.reported
        rows = [row for row in self.rows if recipe.kind == "rna" or row.p_value * dom_z <= recipe.inc_dom_e]
        return rows[: recipe.max_rows - 1]


def joined(parts: Iterable[Found], search: Search) -> Found:
    """The finds of all shards of a database as one."""
    whole = Found()
    for part in parts:
        whole.add(part, search)
    return whole


@dataclass(frozen=True)
class Alignment:
    """Headers and a3m rows; the first row is the query."""

    headers: tuple[str, ...]
    rows: tuple[str, ...]

    @property
    def query(self) -> str:
        """The sequence that the rows are aligned to."""
        return self.rows[0]

    def a3m(self) -> str:
        """The alignment as text."""
        return "".join(f">{header}\n{row}\n" for header, row in zip(self.headers, self.rows, strict=True))


def alignment_of(query: str, rows: Sequence[Row] = ()) -> Alignment:
    """A query and what it found."""
    return Alignment(("query", *(row.header for row in rows)), (query, *(row.text for row in rows)))


def parse_a3m(text: str) -> Alignment:
    """An alignment from the text that `Alignment.a3m` writes."""
    lines = text.removesuffix("\n").split("\n")
    return Alignment(tuple(line[1:] for line in lines[::2]), tuple(lines[1::2]))


def read_a3m(text: str, what: str) -> Alignment:
    """An alignment from any a3m: wrapped lines, `#` lines, dots and Windows line ends are read.

    Raises:
        InputError: rows of different length; `what` names the alignment.
    """
    lines = [line.strip("\0 \t\r") for line in text.split("\n")]
    records = "\n".join(line for line in lines if line and not line.startswith("#")).split(">")[1:]
    parts = [record.partition("\n") for record in records]
    rows = [body.replace("\n", "").replace(".", "") for _, _, body in parts]
    lengths = [len(row.translate(_LOWER)) for row in rows]
    if len(set(lengths)) > 1:
        odd = next(i for i, length in enumerate(lengths) if length != lengths[0])
        raise InputError(
            f"{what}: row {odd + 1} has {lengths[odd]} match columns, the first has {lengths[0]}: mend the a3m"
        )
    return Alignment(tuple(header for header, _, _ in parts), tuple(rows))


def merged(parts: Sequence[Alignment], *, deduplicate: bool) -> Alignment:
    """The alignments of one query in several databases one below the other (AF3 data/msa.py:56-130).

    `deduplicate` keeps the first of rows that are equal but for insertions. Without it AlphaFold 3 repeats the query's
    row once per database; it merges a single one so.
    """
    headers, rows, seen = [], [], set()
    for part in parts:
        for header, row in zip(part.headers, part.rows, strict=True):
            columns = row.translate(_LOWER) if deduplicate else ""
            if not deduplicate or columns not in seen:
                seen.add(columns)
                headers.append(header)
                rows.append(row)
    return Alignment(tuple(headers), tuple(rows))
