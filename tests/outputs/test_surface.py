"""Accessible surfaces against biotite's own, value for value, and their memory where a chain has collapsed."""

import tracemalloc

import numpy as np
import pytest
from biotite.structure import AtomArray
from biotite.structure.sasa import sasa

from foldline.outputs.surface import accessible_surface, sphere_points

PROBE, POINTS = np.float32(1.4), 401
RADII = np.array([1.65, 1.87, 1.76, 1.4, 1.8], np.float32)
BOUND = 30e6  # bytes


def by_biotite(x: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Areas by biotite in one call, which holds all atoms times the most neighbours."""
    atoms = AtomArray(len(x))
    atoms.coord, atoms.element = x, np.full(len(x), "C")
    return sasa(atoms, probe_radius=1.4, ignore_ions=False, point_number=POINTS, vdw_radii=radii)


def arranged(kind: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in Å and radii without the probe."""
    rng = np.random.default_rng(n)
    x = rng.uniform(0, (n / 0.05) ** (1 / 3), (n, 3))  # at the density of a protein
    if kind == "at one place":
        x[:] = 17.3
    elif kind == "on a line":
        x = np.arange(n)[:, None] * np.array([0.4, 0, 0])
    elif kind == "on a lattice":
        x = np.round(x / 2) * 2
    elif kind == "moved":
        x += 300
    elif kind == "in two":
        x += rng.integers(0, 2, (n, 1)) * 1e9
    elif kind.startswith("within"):
        x = 20 + rng.normal(0, float(kind.split()[1]), (n, 3))
    return x.astype(np.float32), rng.choice(RADII, n)


@pytest.mark.parametrize("n", [1, 2, 30, 700])
@pytest.mark.parametrize(
    "kind",
    ["packed", "moved", "at one place", "on a line", "on a lattice", "within 4 Å", "within 0.5 Å", "within 0.001 Å"],
)
def test_areas_are_those_of_biotite(kind: str, n: int) -> None:
    x, radii = arranged(kind, n)
    assert accessible_surface(x, radii + PROBE, POINTS).tolist() == by_biotite(x, radii).tolist()


def test_an_atom_alone_and_one_inside_another() -> None:
    x, radii = np.zeros((2, 3)), np.array([3.0, 1.0], np.float32)
    x[1, 0] = 0.5
    area = accessible_surface(x, radii, 100)
    assert area == pytest.approx([36 * np.pi, 0])
    assert accessible_surface(x[:1], radii[:1], 7) == pytest.approx([36 * np.pi])


def test_points_are_spread_over_the_unit_sphere() -> None:
    points = sphere_points(POINTS)
    assert np.linalg.norm(points, axis=1) == pytest.approx(1, abs=1e-6)
    assert np.abs(points.mean(0)).max() < 0.005
    near = np.sort(np.linalg.norm(points[:, None] - points, axis=-1), axis=1)[:, 1]
    assert near.min() > 0.5 * near.max()


def test_parts_worlds_apart_do_not_see_each_other() -> None:
    x, radii = arranged("in two", 300)
    assert np.isfinite(accessible_surface(x, radii + PROBE, POINTS)).all()
    side = x[:, 0] > 1e8
    both = accessible_surface(x, radii + PROBE, POINTS)
    for half in (side, ~side):
        assert both[half].tolist() == accessible_surface(x[half], radii[half] + PROBE, POINTS).tolist()


@pytest.mark.parametrize("kind", ["packed", "at one place", "within 1 Å", "within 0.001 Å"])
def test_memory_is_bounded_however_atoms_lie(kind: str) -> None:
    """10,000 atoms; a list of neighbours of all of them would be 400 MB where the chain has collapsed."""
    x, radii = arranged(kind, 10_000)
    tracemalloc.start()
    try:
        area = accessible_surface(x, radii + PROBE, POINTS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BOUND
    whole = 4 * np.pi * (radii + PROBE) ** 2
    assert ((area >= 0) & (area <= whole + 1e-3)).all()
    if kind == "at one place":
        assert area == pytest.approx(whole)
