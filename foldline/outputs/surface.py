"""Accessible surface of atoms by points on their spheres, in little memory for any arrangement. Knows no residues.

Shrake and Rupley 1973 (doi 10.1016/0022-2836(73)90011-9). The same points and the same float32 comparisons as
biotite 1.6's `sasa` (structure/sasa.pyx:20-300), so the same areas; that function holds atoms times the most
neighbours that any of them has, which is all pairs where a chain has collapsed.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_ROWS = tuple(itertools.product((-1, 0, 1), repeat=2))
_WIDER = 1.01  # by more than rounding moves an atom in its cell
_CANDIDATES = 512  # of an atom that are looked at before it is asked whether anything of it is left to be hidden
_PAIRS = 1 << 16  # atoms and candidates at once


def accessible_surface(xyz: np.ndarray, radii: np.ndarray, point_number: int) -> np.ndarray:
    """Area of every atom's sphere that lies in no other sphere, Å², float32 [N_atom].

    Atoms at the very same place do not hide each other. Peak: 30 MB at 42,000 atoms, however they lie.

    Args:
        xyz: positions [N_atom, 3], Å, finite.
        radii: of the spheres, the probe included [N_atom], Å.
        point_number: points on a sphere.
    """
    spheres = np.column_stack([xyz, radii]).astype(np.float32)
    # equal spheres are hidden by the same others, and two of them hide no more than one
    spheres, same = np.unique(spheres, axis=0, return_inverse=True)
    points = sphere_points(point_number)
    cells = _Cells.of(spheres)
    spheres = cells.spheres
    left = np.zeros(len(spheres), np.float32)
    for atoms, hidden in _hidden_points(cells, points):
        left[atoms] = point_number - hidden.sum(1)
    area = np.float32(4 * np.pi / point_number) * left * np.square(spheres[:, 3])
    found = np.empty_like(area)
    found[cells.order] = area
    return found[same.ravel()]


def sphere_points(n: int) -> np.ndarray:
    """Points on the unit sphere along a golden spiral, float32 [n, 3]."""
    turn = (3 - np.sqrt(5)) * np.pi * np.arange(n)
    z = np.linspace(1 - 1 / n, 1 / n - 1, n)
    around = np.sqrt(1 - z * z)
    return np.column_stack([around * np.cos(turn), around * np.sin(turn), z]).astype(np.float32)


@dataclass(frozen=True)
class _Cells:
    """Spheres sorted by cells so wide that those which touch are in the same cell or in neighbours."""

    spheres: np.ndarray  # float32 [N, 4]: position and radius
    order: np.ndarray  # [N]: their places before they were sorted; by chance within a cell
    key: np.ndarray  # int64 [N], ascending
    span: int  # of the key, between cells that are neighbours along the second axis; its square along the first

    @classmethod
    def of(cls, spheres: np.ndarray) -> "_Cells":
        width = 2 * _WIDER * float(spheres[:, 3].max(initial=1.0))
        place = np.zeros((len(spheres), 3), np.int64)
        for axis in range(3):
            levels, at = np.unique(np.floor(spheres[:, axis].astype(np.float64) / width), return_inverse=True)
            # of two cells that are no neighbours it does not matter how far apart they are
            place[:, axis] = 1 + np.cumsum(np.minimum(np.diff(levels, prepend=levels[:1]), 2))[at.ravel()]
        span = int(place.max(initial=0)) + 2
        key = (place[:, 0] * span + place[:, 1]) * span + place[:, 2]
        chance = np.random.default_rng(0).permutation(len(spheres))
        order = chance[np.argsort(key[chance], kind="stable")]
        return cls(spheres[order], order, key[order], span)

    def candidates(self, atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and last + 1 of the spheres near each of `atoms`, in 9 rows of 3 cells, [n, 9] each."""
        rows = self.key[atoms, None] + np.array([(dx * self.span + dy) * self.span for dx, dy in _ROWS])
        return np.searchsorted(self.key, rows - 1, "left"), np.searchsorted(self.key, rows + 1, "right")


def _hidden_points(cells: _Cells, points: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Atoms [n] and which points of their spheres lie in others [n, N_point], some atoms after others."""
    step = _PAIRS // _CANDIDATES
    for start in range(0, len(cells.key), step):
        atoms = np.arange(start, min(start + step, len(cells.key)))
        hidden = np.zeros((len(atoms), len(points)), bool)
        first, last = cells.candidates(atoms)
        rounds = -((first - last).sum(1) // _CANDIDATES)
        alive, number = np.arange(len(atoms)), 0
        while len(alive):
            i, j = _pairs(first[alive], last[alive], rounds[alive], number)
            _hide(cells.spheres, atoms, (alive[i], j), points, hidden)
            number += 1
            alive = alive[(rounds[alive] > number) & ~hidden[alive].all(1)]
        yield atoms, hidden


def _pairs(first: np.ndarray, last: np.ndarray, rounds: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and candidates of a round, sorted by rows: every round takes some from all around."""
    count = last - first
    total = count.sum(1)
    ends, start = np.cumsum(count), np.cumsum(total) - total
    some = -((number - total) // rounds)  # of candidates number, number + rounds, number + 2 rounds ...
    i = np.repeat(np.arange(len(total)), some)
    place = np.arange(len(i)) - np.repeat(np.cumsum(some) - some, some)
    place = place * rounds[i] + (start + number)[i]
    at = np.searchsorted(ends, place, "right")
    return i, place + (first.ravel() - ends + count.ravel())[at]


def _hide(
    spheres: np.ndarray, atoms: np.ndarray, pairs: tuple[np.ndarray, np.ndarray], points: np.ndarray, hidden: np.ndarray
) -> None:
    """Mark in `hidden` the points of `atoms`' spheres that lie in the spheres paired with them.

    A point u R + a lies in the sphere of radius r at b where u (b - a) is above (R^2 + |b - a|^2 - r^2) / 2 R. Where
    rounding could decide, the distance does.
    """
    i, j = pairs
    a, b = spheres[atoms[i]], spheres[j]
    delta = b[:, :3] - a[:, :3]
    apart = _square(delta)
    near = (apart != 0) & (apart < np.square(a[:, 3] + b[:, 3]))
    i, j, delta, apart, own, other = i[near], j[near], delta[near], apart[near], a[near, 3], b[near, 3]
    if not len(i):
        return
    cut = (np.square(own) - np.square(other) + apart) / (2 * own)
    planes = np.column_stack([delta, -cut])
    directions = np.concatenate([points, np.ones((len(points), 1), np.float32)], 1).T.copy()
    unsure = 1e-5 + 4 * float(np.spacing(np.abs(spheres[atoms]).max() + own.max()))
    starts = np.flatnonzero(np.diff(i, prepend=-1))
    for row, start, stop in zip(i[starts].tolist(), starts.tolist(), [*starts[1:].tolist(), len(i)], strict=True):
        open_ = np.flatnonzero(~hidden[row])
        most = (planes[start:stop] @ directions[:, open_]).max(0)
        hidden[row, open_[most > unsure]] = True
        asked = open_[np.abs(most) <= unsure]
        if len(asked):
            hidden[row, asked] = _within(spheres[atoms[row]], spheres[j[start:stop]], points[asked])


def _within(own: np.ndarray, others: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which points of a sphere lie in others, by their distances, bool [n]."""
    places = points * own[3] + own[:3]
    return np.any(_square(places[:, None] - others[:, :3]) < np.square(others[:, 3]), axis=1)


def _square(delta: np.ndarray) -> np.ndarray:
    """Squared length of every vector, added up in the order x, y, z."""
    x, y, z = np.moveaxis(delta, -1, 0)
    return x * x + y * y + z * z
