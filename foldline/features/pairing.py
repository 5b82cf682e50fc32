"""Pairing rows of different chains by species (AF3 SI 2.3; Protenix: msa/msa_utils.py:261-386), vectorised.

Knows species and row numbers; knows no residues.
"""

import re
from collections.abc import Sequence

import numpy as np

MAX_PER_SPECIES = 600
_UNIPROT = re.compile(rb"(?:tr|sp)\|[A-Z0-9]{6,10}(?:_\d+)?\|(?:[A-Z0-9]{1,10}_)([A-Z0-9]{1,5})")
_UNIREF = re.compile(rb"UniRef100_[^_]+_([^_/]+)")


def species_of(headers: Sequence[bytes]) -> np.ndarray:
    """Species of every row from `tr|ACC|NAME_SPECIES` and `UniRef100_ACC_TAXID/` headers, b"" = none, object [n]."""
    found = np.empty(len(headers), object)
    for index, header in enumerate(headers):
        match = _UNIPROT.match(header) or _UNIREF.match(header)
        found[index] = match[1] if match else b""
    return found


def pair_rows(species: Sequence[np.ndarray], *, limit: int, per_species: int = MAX_PER_SPECIES) -> np.ndarray:
    """Which row of every chain stands in each paired row, int32 [n_paired, n_chain], -1 = a gap row.

    `species[c]` holds one entry per row of chain c. The first paired row is the query of every chain. Then come the
    species that most chains share; within one such group by rising product of row numbers. The sort is numpy's default,
    which is not stable, as Protenix's is: rows of equal product keep Protenix's order.
    """
    chains = [_SpeciesRows(ids) for ids in species]
    numbers: dict[bytes, int] = {}
    for chain in chains:
        for name in chain.names:
            numbers.setdefault(name, len(numbers))
    starts = np.full((len(chains), len(numbers)), -1)
    counts = np.zeros((len(chains), len(numbers)), np.int64)
    for row, chain in enumerate(chains):
        at = [numbers[name] for name in chain.names]
        starts[row, at], counts[row, at] = chain.starts, chain.counts
    n_chain = (counts > 0).sum(axis=0)
    if b"" in numbers:
        n_chain[numbers[b""]] = 0
    depth = np.where(counts > 0, counts, per_species).min(axis=0, initial=per_species)

    paired, total = [np.zeros((1, len(chains)), np.int32)], 0
    for shared in sorted(set(n_chain[n_chain > 1].tolist()), reverse=True):
        which = np.flatnonzero(n_chain == shared)
        n_rows = depth[which]
        number = np.repeat(which, n_rows)
        rank = np.arange(len(number)) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
        rows = np.stack([chain.rows_at(starts[c, number], rank) for c, chain in enumerate(chains)], axis=1)
        product = np.sum(np.log(np.abs(rows.astype(np.float32)) + 1e-10), axis=1)
        paired.append(rows[np.argsort(product)])
        total += len(rows)
        if total >= limit:
            break
    return np.concatenate(paired)[:limit]


class _SpeciesRows:
    """Rows of one chain grouped by species; a chain with nothing but its query has no species."""

    def __init__(self, ids: np.ndarray) -> None:
        alone = ids.size == 0 or (ids.size == 1 and not ids[0])
        self.order = np.zeros(0, np.int32) if alone else ids.argsort().astype(np.int32)
        self.names, self.starts, self.counts = [], np.zeros(0, np.int64), np.zeros(0, np.int64)
        if not alone:
            names, self.starts, self.counts = np.unique(ids[self.order], return_index=True, return_counts=True)
            self.names = names.tolist()

    def rows_at(self, starts: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """Row numbers at `rank` within the species that begin at `starts` (-1 = the chain has none), int32."""
        if not self.order.size:
            return np.full(len(starts), -1, np.int32)
        at = np.where(starts < 0, 0, starts + rank)
        return np.where(starts < 0, np.int32(-1), self.order[at])
