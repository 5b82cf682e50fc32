"""The alignment of one sequence: deduplicated rows, rows to be paired, profile. One per entity, shared by its copies.

Knows a3m texts and residue classes; how chains are put side by side is `columns`.
"""

from dataclasses import dataclass

import numpy as np

from foldline.chem.residues import MSA_RESTYPE, RESIDUE_CLASSES
from foldline.features.a3m import MAX_DELETIONS, A3mSource, Distinct, Rows, count_deletions, encode, head, read_rows
from foldline.features.pairing import species_of
from foldline.inputs.anchor import SHORTEST

MAX_ROWS = 16384  # rows of the network's alignment, paired ones included (Protenix: msa_featurizer.py:166)
KEPT_ROWS = 2 * MAX_ROWS  # of the unpaired alignment; the profile counts all
READ_PAIRED_ROWS = 4 * MAX_ROWS
N_CLASS = len(RESIDUE_CLASSES)


@dataclass(frozen=True)
class SequenceMsa:
    """The alignment of one sequence of L residues; row 0 of both blocks is the query.

    `paired` are all rows of the pairing file, in its order, or the query alone where nothing is paired.
    """

    kind: str
    rows: np.ndarray  # int8 [M, L], residue classes, distinct
    deletions: np.ndarray  # uint8 [M, L]
    paired: np.ndarray  # int8 [M_paired, L]
    paired_deletions: np.ndarray  # uint8 [M_paired, L]
    species: np.ndarray  # object [M_paired]: bytes, b"" = none
    profile: np.ndarray  # float32 [L, 32], over all distinct rows
    deletion_mean: np.ndarray  # float32 [L]
    depth: int  # distinct rows, those beyond KEPT_ROWS included
    notes: tuple[str, ...] = ()


def query_msa(kind: str, query: str) -> SequenceMsa:
    """The alignment that holds the query alone."""
    row, _ = encode([query.encode()], kind)
    none = np.zeros(row.shape, np.uint8)
    return SequenceMsa(
        kind=kind,
        rows=row,
        deletions=none,
        paired=row,
        paired_deletions=none,
        species=np.array([b""], object),
        profile=np.eye(N_CLASS, dtype=np.float32)[row[0]],
        deletion_mean=np.zeros(row.shape[1], np.float32),
        depth=1,
    )


def read_msa(unpaired: A3mSource, paired: A3mSource | None, *, pairing: bool) -> SequenceMsa:
    """The alignment of a sequence from its two files; either may be empty.

    The unpaired alignment is the union of both, paired rows first, first of equal rows kept (Protenix:
    msa_pair_as_unpair, msa_featurizer.py:640-643). `pairing` says whether rows of other sequences will be paired.

    Raises:
        InputError: see `read_rows`.
    """
    alone = query_msa(unpaired.kind, unpaired.query)
    if len(unpaired.query) < SHORTEST:
        return alone
    union, pairs, notes = _Union(unpaired), _Pairs(unpaired), []
    for rows, cut in head(read_rows(paired), READ_PAIRED_ROWS) if paired else ():
        union.add(rows)
        if pairing:
            pairs.add(rows)
        if cut and paired:
            notes.append(f"{paired.what}: only the first {READ_PAIRED_ROWS:,} rows are read")
    for rows in read_rows(unpaired):
        union.add(rows)
    if union.depth == 0:
        return alone
    if union.unknown:
        unknown = RESIDUE_CLASSES[MSA_RESTYPE[unpaired.kind][0]]
        notes.append(
            f"{unpaired.what}: {union.unknown} letters outside the {unpaired.kind} alphabet are read as {unknown}"
        )
    if union.depth > KEPT_ROWS:
        notes.append(
            f"{unpaired.what}: {union.depth:,} distinct rows, of which at most {MAX_ROWS:,} are used beside the profile"
        )
    rows, deletions = union.stacked()
    paired_rows, paired_deletions, species = (
        pairs.stacked() if pairs.blocks else (alone.paired, alone.deletions, alone.species)
    )
    return SequenceMsa(
        kind=unpaired.kind,
        rows=rows,
        deletions=deletions,
        paired=paired_rows,
        paired_deletions=paired_deletions,
        species=species,
        profile=(union.counts / union.depth).astype(np.float32),
        deletion_mean=(union.deletion_sum / union.depth).astype(np.float32),
        depth=union.depth,
        notes=tuple(notes),
    )


class _Union:
    """Distinct rows of several blocks: sums over all of them, arrays of the first KEPT_ROWS."""

    def __init__(self, source: A3mSource) -> None:
        self.kind, n_column = source.kind, len(source.query)
        self.counts = np.zeros((n_column, N_CLASS), np.int64)
        self.deletion_sum = np.zeros(n_column, np.int64)
        self.depth = self.unknown = 0
        self._distinct = Distinct()
        self._rows: list[np.ndarray] = []
        self._deletions: list[np.ndarray] = []

    def add(self, rows: Rows) -> None:
        fresh = rows.take(self._distinct.new(rows.matches))
        if not fresh.rows:
            return
        codes, unknown = encode(fresh.matches, self.kind)
        deletions = count_deletions(fresh.rows, codes.shape[1])
        cells = codes + np.arange(codes.shape[1]) * N_CLASS
        self.counts += np.bincount(cells.ravel(), minlength=self.counts.size).reshape(self.counts.shape)
        self.deletion_sum += deletions.sum(axis=0)
        if (room := KEPT_ROWS - self.depth) > 0:
            self._rows.append(codes[:room].copy())  # not a view, which would keep the whole block
            self._deletions.append(_clipped(deletions[:room]))
        self.depth += len(fresh.rows)
        self.unknown += unknown

    def stacked(self) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate(self._rows), np.concatenate(self._deletions)


class _Pairs:
    """All rows of a pairing file with their species."""

    def __init__(self, source: A3mSource) -> None:
        self.kind = source.kind
        self.blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, rows: Rows) -> None:
        if rows.rows:
            codes, _ = encode(rows.matches, self.kind)
            deletions = _clipped(count_deletions(rows.rows, codes.shape[1]))
            self.blocks.append((codes, deletions, species_of(rows.headers)))

    def stacked(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        codes, deletions, species = zip(*self.blocks, strict=True)
        return np.concatenate(codes), np.concatenate(deletions), np.concatenate(species)


def _clipped(deletions: np.ndarray) -> np.ndarray:
    return np.minimum(deletions, MAX_DELETIONS).astype(np.uint8)
