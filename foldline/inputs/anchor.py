"""Alignments of another sequence than the chain's own: their columns moved to the chain's residues, row by row.

Knows rows and residues; whether that is wanted is decided in `repair`.
"""

import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from foldline.chem.residues import MSA_RESTYPE
from foldline.errors import InputError
from foldline.inputs.job import Mending
from foldline.inputs.records import record_blocks

# Of the shorter sequence's residues. Unrelated proteins reach a quarter (20 residues in 300 a third), unrelated RNA 0.6
# (50 bases in 300 0.7); above 0.4 alignments of two proteins can be trusted (Rost, Protein Eng. 1999).
LEAST_IDENTITY = {"protein": 0.5, "rna": 0.8}
SHORTEST = 5  # residues; a shorter chain uses no alignment (Protenix: msa_featurizer.py:196)
MAX_CELLS = 10**8  # of the alignment of two sequences, at 12 bytes each
_GAPS = {"protein": (-11, -1), "rna": (-15, -3)}  # first and further ones; with BLOSUM62 and 5 and -4 for bases
_UPPER = bytes(range(ord("A"), ord("Z") + 1))
_LOWER = _UPPER.lower()
_LETTERS = {"protein": (b"ACDEFGHIKLMNPQRSTVWYBZ",) * 2, "rna": (b"ACGTU", b"ACGTT")}  # as the library has them
_UNKNOWN = {"protein": ord("X"), "rna": ord("N")}
_IS_COLUMN = np.ones(256, bool)
_IS_COLUMN[np.frombuffer(_LOWER, np.uint8)] = False
_AS_INSERTION = np.full(256, ord("x"), np.uint8)
_AS_INSERTION[np.frombuffer(_UPPER + _LOWER, np.uint8)] = np.frombuffer(_LOWER + _LOWER, np.uint8)
_GAP = ord("-")
_T_AS_U = bytes.maketrans(b"Tt", b"Uu")
_BATCH = 1 << 18  # letters that are moved at once, in about a hundred bytes each


@dataclass(frozen=True)
class Anchoring:
    """How the columns of a first row belong to a query, as in `Mending`; `identity` from 0 to 1."""

    partners: tuple[int, ...]
    identity: float  # equal residues, as a share of the shorter sequence


def match_columns(row: bytes) -> bytes:
    """A row without its insertions."""
    return row.translate(None, _LOWER)


def is_query(first: bytes, query: str, kind: str) -> bool:
    """Whether the match columns of a row are the query, by residue class."""
    return len(first) == len(query) and bool((_classes(first, kind) == _classes(query.encode(), kind)).all())


def anchored(first: bytes, query: str, kind: str) -> Anchoring:
    """The residue of the query for each column of the first row, from the alignment of the two without end gaps.

    `first` are match columns, gaps among them. Where both have stretches of equal length without partners between the
    same neighbours, they are partners. Two of equal length are laid on each other as they are if that is as good.

    Raises:
        ValueError: more than `MAX_CELLS`.
    """
    columns, residues = _classes(first, kind), _classes(query.encode(), kind)
    with_residue = np.flatnonzero(np.frombuffer(first, np.uint8) != _GAP)
    shorter = min(len(with_residue), len(query))
    if len(with_residue) * len(query) > MAX_CELLS:
        raise ValueError(f"{len(with_residue)} and {len(query)} residues")
    if shorter == 0:
        return Anchoring((-1,) * len(first), 0.0)
    partners = np.full(len(first), -1)
    one, other = _pairs(first.replace(b"-", b""), query.encode(), kind)
    partners[with_residue[one]] = other
    _fill(partners, len(query))
    same = _equal(columns, residues, partners)
    if len(first) == len(query) and _equal(columns, residues, np.arange(len(first))) >= same:
        partners = np.arange(len(first))
        same = _equal(columns, residues, partners)
    return Anchoring(tuple(partners.tolist()), same / shorter)


def _classes(letters: bytes, kind: str) -> np.ndarray:
    return MSA_RESTYPE[kind][np.frombuffer(letters, np.uint8)]


def _pairs(first: bytes, query: bytes, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Places of two ungapped sequences that stand under each other, by Needleman and Wunsch with free ends."""
    from biotite.sequence import NucleotideSequence, ProteinSequence
    from biotite.sequence.align import SubstitutionMatrix, align_optimal  # pyright: ignore[reportAttributeAccessIssue]

    table = np.full(256, _UNKNOWN[kind], np.uint8)
    ours, theirs = (np.frombuffer(letters, np.uint8) for letters in _LETTERS[kind])
    table[ours] = theirs
    texts = [bytes(table[np.frombuffer(letters, np.uint8)]).decode() for letters in (first, query)]
    if kind == "protein":
        sequences, matrix = [ProteinSequence(text) for text in texts], SubstitutionMatrix.std_protein_matrix()
    else:
        sequences = [NucleotideSequence(text, ambiguous=True) for text in texts]
        matrix = SubstitutionMatrix.std_nucleotide_matrix()
    best = align_optimal(*sequences, matrix, gap_penalty=_GAPS[kind], terminal_penalty=False, max_number=1)[0]
    trace = best.trace[(best.trace >= 0).all(axis=1)]
    return trace[:, 0], trace[:, 1]


def _fill(partners: np.ndarray, n_residue: int) -> None:
    """Pair stretches of as many columns as residues that stand between the same partners."""
    paired = np.flatnonzero(partners >= 0)
    columns = np.concatenate([[-1], paired, [len(partners)]])
    residues = np.concatenate([[-1], partners[paired], [n_residue]])
    lengths = np.diff(columns) - 1
    for at in np.flatnonzero((lengths > 0) & (lengths == np.diff(residues) - 1)):
        partners[columns[at] + 1 : columns[at + 1]] = np.arange(residues[at] + 1, residues[at + 1])


def _equal(columns: np.ndarray, residues: np.ndarray, partners: np.ndarray) -> int:
    """How many columns have their partner's residue."""
    paired = partners >= 0
    return int((columns[paired] == residues[partners[paired]]).sum())


def mended(stream: TextIO, mending: Mending, source: str) -> TextIO:
    """The text of a stream, mended as it is read, in blocks of bounded memory. `source` names the file in errors.

    Columns without a residue become insertions, in lower case and after the column before them; residues without a
    column are gaps in every row. The query comes first; the file's first row follows where it is another.

    Raises:
        InputError: when it is read: a row has another number of match columns than the first.
    """
    pieces = _Pieces(_pieces(stream, mending, source))
    return io.TextIOWrapper(io.BufferedReader(pieces, _BATCH), "utf-8", newline="\n")


class _Pieces(io.RawIOBase):
    """A stream of pieces that are made when they are asked for."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, memoryview(b"")

    def readable(self) -> bool:
        """This stream can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        size = min(len(view), len(self._left))
        view[:size], self._left = self._left[:size], self._left[size:]
        return size


def _pieces(stream: TextIO, mending: Mending, source: str) -> Iterator[bytes]:
    def fail(message: str) -> InputError:
        return InputError(message, path=mending.place, source=source)

    move = _Move(mending) if mending.partners else None
    number = 0
    for headers, rows in record_blocks(stream, fail):
        if mending.bases:
            rows = [row.translate(_T_AS_U) for row in rows]
        if move is not None:
            lengths = move.lengths(rows)
            wrong = np.flatnonzero(lengths != len(mending.partners))
            if wrong.size:
                at = int(wrong[0])
                name = headers[at][:40].decode(errors="replace") or "no name"
                raise fail(
                    f"row {number + at + 1} ({name}) has {lengths[at]} match columns where row 1 has"
                    f" {len(mending.partners)}: an a3m row has a capital or '-' for each, insertions in lower case"
                )
            rows = move(rows)
            if number == 0 and rows[0] != mending.query.encode():
                yield f">query\n{mending.query}\n".encode()
        number += len(rows)
        yield b"".join(b">%b\n%b\n" % record for record in zip(headers, rows, strict=True))


class _Move:
    """Moves the letters of rows.

    A place in a row is a column c, or what is inserted before it, which counts as c + n_column + 1.
    """

    def __init__(self, mending: Mending) -> None:
        partners, n_residue = np.array(mending.partners), len(mending.query)
        self.n_column = len(partners)
        paired = partners >= 0
        alone = np.ones(n_residue, bool)
        alone[partners[paired]] = False
        self._n_alone = int(alone.sum())
        alone_before = np.concatenate([[0], np.cumsum(alone)])  # each residue
        residue = np.concatenate([[0], np.maximum.accumulate(partners) + 1])  # before which insertions belong
        at_column = np.where(paired, partners, residue[:-1])
        # Residues without a column that come before each place, and which places are columns of a residue.
        self._shift = alone_before[np.concatenate([at_column, [0], residue])].astype(np.int32)
        self._kept = np.concatenate([paired, np.zeros(self.n_column + 2, bool)])

    def lengths(self, rows: list[bytes]) -> np.ndarray:
        """Match columns of each row."""
        return np.fromiter((len(match_columns(row)) for row in rows), np.int64, len(rows))

    def __call__(self, rows: list[bytes]) -> list[bytes]:
        """Rows with as many columns as the query has residues."""
        ends = np.cumsum([len(row) for row in rows])
        cuts = np.searchsorted(ends, np.arange(_BATCH, ends[-1], _BATCH))
        bounds = itertools.pairwise(np.unique([0, *cuts, len(rows)]).tolist())
        return [row for start, end in bounds for row in self._moved(rows[start:end])]

    def _moved(self, rows: list[bytes]) -> list[bytes]:
        letters = np.frombuffer(b"".join(rows), np.uint8)
        number = np.arange(len(rows), dtype=np.int32)
        row = np.repeat(number, [len(one) for one in rows])
        is_column = _IS_COLUMN[letters]
        place = np.cumsum(is_column, dtype=np.int32)
        place -= row * np.int32(self.n_column)
        place += np.where(is_column, np.int32(-1), np.int32(self.n_column + 1))
        kept = self._kept[place]
        stays = np.flatnonzero(kept | (letters != _GAP))
        row, kept = row[stays], kept[stays]
        letters, place = letters[stays], place[stays]
        letters[~kept] = _AS_INSERTION[letters[~kept]]
        sizes = np.bincount(row, minlength=len(rows)) + self._n_alone
        ends = np.cumsum(sizes)
        out = np.full(ends[-1], _GAP, np.uint8)
        # Before a letter come those before it, this row's residues without a column, and all of those of earlier rows.
        out[np.arange(len(letters), dtype=np.int32) + row * np.int32(self._n_alone) + self._shift[place]] = letters
        text = out.tobytes()
        return [text[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)]
