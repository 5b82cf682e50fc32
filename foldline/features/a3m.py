"""Reading a3m alignments into arrays, in blocks of bounded memory: one row per record, insertions counted per column.

Knows residue classes and rows; knows no chains, no species and no job.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

import numpy as np

from foldline.chem.residues import MSA_RESTYPE
from foldline.errors import InputError
from foldline.inputs.job import Text
from foldline.inputs.records import record_blocks
from foldline.inputs.text import open_text

MAX_DELETIONS = 127  # Protenix: counts are clipped to int8, msa_featurizer.py:352-359
_UPPER = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWER = _UPPER.lower()
_KNOWN = {"protein": _UPPER + b"-", "rna": b"ACGUN-", "dna": b"ACGTN-"}
_IS_COLUMN = np.ones(256, bool)
_IS_COLUMN[np.frombuffer(_LOWER, np.uint8)] = False


@dataclass(frozen=True)
class Rows:
    """Records of one block, in file order. `matches` are the match columns as text, `rows` the same with insertions."""

    headers: list[bytes]
    matches: list[bytes]
    rows: list[bytes]

    def take(self, indices: list[int]) -> "Rows":
        """The records at `indices`."""
        return Rows(*([column[i] for i in indices] for column in (self.headers, self.matches, self.rows)))


@dataclass(frozen=True)
class A3mSource:
    """An alignment and what it is called in errors. `kind` picks the alphabet, `query` is the sequence of its chain."""

    text: Text
    what: str
    kind: str
    query: str
    path: str = ""  # JSON path

    def fail(self, message: str) -> InputError:
        """The error that names this alignment."""
        return InputError(f"{self.what}: {message}", path=self.path, source=str(self.text.path or ""))


def read_rows(source: A3mSource) -> Iterator[Rows]:
    """Blocks of checked rows of an a3m: none for an empty text, else the query's row comes first.

    Raises:
        InputError: no records, a first row that is not the query, or a row with another number of match columns.
    """
    number = 0
    with open_text(source.text, source.what) as stream:
        for headers, rows in record_blocks(stream, source.fail):
            matches = [row.translate(None, _LOWER) for row in rows]
            if number == 0:
                _check_query(source, headers[0], matches[0])
            lengths = np.fromiter(map(len, matches), np.int64, len(matches))
            wrong = np.flatnonzero(lengths != len(source.query))
            if wrong.size:
                at = int(wrong[0])
                raise source.fail(
                    f"row {number + at + 1} ({_short(headers[at])}) has {lengths[at]} match columns where the sequence"
                    f" has {len(source.query)} residues: an a3m row has a capital or '-' for each, insertions in lower"
                    " case"
                )
            number += len(rows)
            yield Rows(headers, matches, rows)


def _check_query(source: A3mSource, header: bytes, first: bytes) -> None:
    table = MSA_RESTYPE[source.kind]
    query = source.query.encode()
    if len(first) == len(query) and np.array_equal(table[_codes(first)], table[_codes(query)]):
        return
    if first.replace(b"-", b"") == query:
        why = "has gaps"
    elif len(first) != len(query):
        why = f"has {len(first)} match columns where the sequence has {len(query)} residues"
    else:
        at = int(np.flatnonzero(table[_codes(first)] != table[_codes(query)])[0])
        letter = first[at : at + 1].decode(errors="replace")
        why = f"has {letter} at position {at + 1} where the sequence has {source.query[at]}"
    raise source.fail(
        f"row 1 ({_short(header)}) is not the chain's own sequence, it {why}: put the ungapped query first, or set "
        'repair = ["alignments"]'
    )


def _short(header: bytes) -> str:
    return header[:40].decode(errors="replace") or "no name"


def _codes(text: bytes) -> np.ndarray:
    return np.frombuffer(text, np.uint8)


def encode(matches: list[bytes], kind: str) -> tuple[np.ndarray, int]:
    """Residue classes of rows of equal length, int8 [n, L], and how many letters were outside the alphabet."""
    joined = b"".join(matches)
    rows = MSA_RESTYPE[kind][_codes(joined)].reshape(len(matches), -1)
    return rows, len(joined.translate(None, _KNOWN[kind]))


def count_deletions(rows: list[bytes], n_column: int) -> np.ndarray:
    """Number of insertion letters left of every match column, int32 [n, L]; those after the last column are dropped."""
    counts = np.zeros((len(rows), n_column), np.int32)
    with_insertions = [i for i, row in enumerate(rows) if len(row) != n_column]
    if not with_insertions:
        return counts
    texts = [rows[i] for i in with_insertions]
    columns = np.flatnonzero(_IS_COLUMN[_codes(b"".join(texts))]).reshape(len(texts), n_column)
    ends = np.cumsum([len(text) for text in texts])
    starts = np.concatenate([[0], ends[:-1]])
    found = np.diff(columns, axis=1, prepend=starts[:, None] - 1) - 1
    counts[with_insertions] = found
    return counts


class Distinct:
    """Keeps the first of rows whose match columns are the same text, in 16 bytes a row."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def new(self, matches: list[bytes]) -> list[int]:
        """Indices of the rows not seen before."""
        seen, fresh = self._seen, []
        for index, match in enumerate(matches):
            key = blake2b(match, digest_size=16).digest() if len(match) > 16 else match
            if key not in seen:
                seen.add(key)
                fresh.append(index)
        return fresh


def head(rows: Iterator[Rows], limit: int) -> Iterator[tuple[Rows, bool]]:
    """The first `limit` rows; the flag of the last block says whether rows were left out."""
    left = limit
    for block in rows:
        n = len(block.rows)
        if n > left:
            yield block.take(list(islice(range(n), left))), True
            return
        left -= n
        yield block, False
