"""Clashes between polymer chains by a cell list: exact distances, no matrix of all atom pairs."""

import itertools
from collections.abc import Iterator

import numpy as np

CLASH_DISTANCE = 1.1  # Å
_FAR = 1e9  # Å; an atom beyond this, or at NaN, is nowhere
_CELL = 1.01 * CLASH_DISTANCE  # wider by more than a distance is rounded
MAX_CLASHES, MAX_SHARE = 100, 0.5
_PAIRS_AT_ONCE = 500_000


def has_clash(x: np.ndarray, chain: np.ndarray, polymer: np.ndarray) -> bool:
    """Whether two polymer chains clash: over 100 atom pairs under 1.1 Å, or over half of the smaller chain's atoms.

    Protenix: counts atom pairs between different polymer chains, protenix/metrics/clash.py:140-230 (AlphaFold 3 counts
    atoms). Distances are differences, not the matrix form of `cdist`.

    Args:
        x: positions float [N_atom, 3], Å.
        chain: chain index of every atom [N_atom].
        polymer: atoms of polymer chains [N_atom].
    """
    x, chain = x[polymer], chain[polymer]
    sizes = np.bincount(chain)
    return any(
        n > MAX_CLASHES or n / min(sizes[a], sizes[b]) > MAX_SHARE
        for counts in _running_counts(x, chain)
        for (a, b), n in counts.items()
    )


def clash_counts(x: np.ndarray, chain: np.ndarray) -> dict[tuple[int, int], int]:
    """Number of atom pairs closer than 1.1 Å for every pair of different chains (a < b) that has any."""
    found: dict[tuple[int, int], int] = {}
    for counts in _running_counts(x, chain):
        found = counts
    return found


def _running_counts(x: np.ndarray, chain: np.ndarray) -> Iterator[dict[tuple[int, int], int]]:
    """The counts of `clash_counts`, growing: whoever has seen enough stops, before a collapsed job takes long."""
    x = x.astype(np.float32)
    somewhere = (np.abs(x) < _FAR).all(1)
    x, chain = x[somewhere], chain[somewhere]
    if len(x) == 0:
        return
    # in float32, one atom far away would move the others by many cells
    cell = np.floor((x - x.min(0).astype(np.float64)) / _CELL).astype(np.int64) + 1
    span = cell.max(0) + 2
    key = (cell[:, 0] * span[1] + cell[:, 1]) * span[2] + cell[:, 2]
    order = np.argsort(key, kind="stable")
    x, chain, key = x[order], chain[order].astype(np.int64), key[order]
    total: dict[tuple[int, int], int] = {}
    starts, sizes = np.unique(key, return_index=True, return_counts=True)[1:]
    top = np.repeat(np.maximum.reduceat(chain, starts), sizes)  # the last chain in the cell of every atom
    for dx, dy, dz in itertools.product((-1, 0, 1), repeat=3):
        wanted = key + (dx * span[1] + dy) * span[2] + dz
        first, last = np.searchsorted(key, wanted, "left"), np.searchsorted(key, wanted, "right")
        last = np.where(top[np.minimum(first, len(x) - 1)] > chain, last, first)  # a cell without a later chain
        ends = np.cumsum(last - first)
        start = 0
        while start < len(x):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, "right")))
            for pair, count in _count(x, chain, (first, last), slice(start, stop)):
                total[pair] = total.get(pair, 0) + count
            start = stop
            yield total


def _count(
    x: np.ndarray, chain: np.ndarray, ranges: tuple[np.ndarray, np.ndarray], rows: slice
) -> Iterator[tuple[tuple[int, int], int]]:
    """Number of close pairs (atom of `rows`, atom of its range) for every pair of chains that has any."""
    first, last = ranges[0][rows], ranges[1][rows]
    n = last - first
    i = np.repeat(np.arange(rows.start, rows.start + len(n)), n)
    j = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + np.repeat(first, n)
    apart = chain[i] < chain[j]
    i, j = i[apart], j[apart]
    close = np.square(x[i] - x[j]).sum(-1) < CLASH_DISTANCE**2
    span = int(chain.max()) + 1
    pairs, counts = np.unique(chain[i[close]] * span + chain[j[close]], return_counts=True)
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        yield divmod(pair, span), count
