"""Clashes against all pairs of atoms, and the limits of the verdict."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldline.confidence import clash as clash_module
from foldline.confidence import has_clash
from foldline.confidence.clash import clash_counts


def by_all_pairs(x: np.ndarray, chain: np.ndarray) -> dict[tuple[int, int], int]:
    """Every pair of atoms of different chains, differences in the precision of the positions."""
    found: dict[tuple[int, int], int] = {}
    close = np.square(x[:, None] - x[None]).sum(-1) < np.float32(1.1) ** 2
    for i, j in zip(*np.nonzero(np.triu(close, 1)), strict=True):
        a, b = sorted((int(chain[i]), int(chain[j])))
        if a != b:
            found[a, b] = found.get((a, b), 0) + 1
    return found


@st.composite
def complexes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Clouds of atoms, dense or sparse, on a lattice or not, near the origin or far from it."""
    n = draw(st.integers(1, 80))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.sampled_from([0.5, 3.0, 10.0, 60.0]))
    x = rng.uniform(-width, width, (n, 3)) + draw(st.sampled_from([0.0, -7.3, 900.0]))
    if draw(st.booleans()):
        x = np.round(x / 0.55) * 0.55  # many pairs at exactly the limit
    return x.astype(np.float32), rng.integers(0, draw(st.integers(1, 4)), n)


@settings(max_examples=300, deadline=None)
@given(complexes())
def test_counts_are_those_of_all_pairs(case: tuple[np.ndarray, np.ndarray]) -> None:
    x, chain = case
    assert clash_counts(x, chain) == by_all_pairs(x, chain)


@pytest.mark.parametrize("start", [0.0, 400.0, 1500.0, -3000.0])
@pytest.mark.parametrize("corner", [0.0, 0.3, 77.7])
def test_pairs_just_under_the_limit_are_seen_anywhere(start: float, corner: float) -> None:
    """Neighbours on a line whose distance is one rounding step under the limit, at all offsets to the cells."""
    n = 4000
    left = (start + np.arange(n) * 5 + np.linspace(0, 1.1, n)).astype(np.float32)
    right = left + np.float32(1.1)
    too_far = np.square(right - left) >= np.float32(1.1) ** 2
    while too_far.any():
        right[too_far] = np.nextafter(right[too_far], np.float32(-np.inf))
        too_far = np.square(right - left) >= np.float32(1.1) ** 2
    x = np.zeros((2 * n + 1, 3), np.float32)
    x[:-1, 0] = np.concatenate([left, right])
    x[-1] = start - corner, 100, 0
    assert clash_counts(x, np.repeat([0, 1, 0], [n, n, 1])) == {(0, 1): n}


def test_rounding_far_from_the_corner_loses_no_pair() -> None:
    x = np.zeros((3, 3), np.float32)
    x[:, 0] = 1849.4589, 1850.5588, -50.24115
    x[2, 1] = 90
    chain = np.array([0, 1, 1])
    assert clash_counts(x, chain) == by_all_pairs(x, chain) == {(0, 1): 1}


@pytest.mark.parametrize("far", [-2e5, -3e7, 9e8])
def test_one_atom_far_away_hides_no_clash(far: float) -> None:
    """In float32 the others' distances from it are rounded to several cells."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 200, (400, 3)).astype(np.float32)
    x[200:] = x[:200] + rng.uniform(-0.6, 0.6, (200, 3)).astype(np.float32)
    x[7] = far
    chain = np.repeat([0, 1], 200)
    assert clash_counts(x, chain) == by_all_pairs(x, chain) and clash_counts(x, chain)[0, 1] > 190


def test_large_jobs_are_walked_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, chain = rng.uniform(0, 8, (600, 3)).astype(np.float32), rng.integers(0, 3, 600)
    whole = clash_counts(x, chain)
    assert sum(whole.values()) > 500
    monkeypatch.setattr(clash_module, "_PAIRS_AT_ONCE", 50)
    assert clash_counts(x, chain) == whole == by_all_pairs(x, chain)


def test_nothing_and_one_chain() -> None:
    assert clash_counts(np.zeros((0, 3), np.float32), np.zeros(0, int)) == {}
    assert clash_counts(np.zeros((50, 3), np.float32), np.zeros(50, int)) == {}


def pairs(n_pair: int, n_first: int, n_second: int) -> tuple[np.ndarray, np.ndarray]:
    """Two chains with `n_pair` close pairs, every atom in one pair at most."""
    x = np.zeros((n_first + n_second, 3), np.float32)
    x[:n_first, 0] = np.arange(n_first) * 10
    x[n_first:, 0] = np.arange(n_second) * 10
    x[n_first + n_pair :, 1] = 50
    x[n_first:, 2] = 1.0
    return x, np.repeat([0, 1], [n_first, n_second])


@pytest.mark.parametrize(
    ("n_pair", "n_first", "n_second", "verdict"),
    [
        (100, 1000, 1000, False),
        (101, 1000, 1000, True),
        (10, 20, 500, False),
        (11, 20, 500, True),
        (11, 500, 20, True),
        (0, 5, 5, False),
        (1, 1, 300, True),
    ],
)
def test_limits_of_the_verdict(n_pair: int, n_first: int, n_second: int, verdict: bool) -> None:
    """Over 100 pairs, or over half of the atoms of the smaller chain."""
    x, chain = pairs(n_pair, n_first, n_second)
    assert sum(clash_counts(x, chain).values()) == n_pair
    assert has_clash(x, chain, np.ones(len(x), bool)) is verdict


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_atoms_that_are_nowhere_clash_with_nothing(value: float) -> None:
    """A network that fails must not cost minutes of counting: its result is refused where it is written."""
    rng = np.random.default_rng(2)
    x, chain = rng.uniform(0, 200, (20_000, 3)).astype(np.float32), np.repeat([0, 1], 10_000)
    wanted = clash_counts(x[:5000], chain[:5000])
    x[5000:, 1] = value
    assert clash_counts(x, chain) == wanted
    assert clash_counts(x[5000:], chain[5000:]) == {}


def test_only_polymers_clash() -> None:
    x, chain = pairs(20, 20, 20)
    assert has_clash(x, chain, np.ones(40, bool))
    assert not has_clash(x, chain, chain == 0)
    assert not has_clash(x, chain, np.zeros(40, bool))


def test_chain_numbers_may_have_holes() -> None:
    x, chain = pairs(20, 20, 20)
    assert has_clash(x, chain * 5 + 2, np.ones(40, bool))
    assert clash_counts(x, chain * 5 + 2) == {(2, 7): 20}


def test_memory_does_not_grow_with_all_pairs() -> None:
    import tracemalloc

    rng = np.random.default_rng(1)
    n = 8000
    x = (rng.uniform(0, 1, (n, 3)) * 46).astype(np.float32)  # as dense as a protein
    chain = np.repeat(np.arange(4), n // 4)
    tracemalloc.start()
    try:
        clash_counts(x, chain)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6 < 4 * n * n / 8, "the matrix of all pairs"


def test_a_collapsed_job_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict does not wait for the other pairs: there are 10^9 of them here."""
    batches: list[int] = []
    real = clash_module._count
    monkeypatch.setattr(clash_module, "_count", lambda *given: batches.append(1) or real(*given))
    n = 42_000
    assert has_clash(np.zeros((n, 3), np.float32), np.repeat([0, 1], n // 2), np.ones(n, bool))
    assert len(batches) < 40


def test_memory_stays_under_the_bound() -> None:
    """42,000 atoms, a few or very many pairs of them: far under 200 MB."""
    n = 42_000
    rng = np.random.default_rng(0)
    for width, many in ((100.0, False), (12.0, True)):
        x, chain = rng.uniform(0, width, (n, 3)).astype(np.float32), np.arange(n) // 300
        tracemalloc.start()
        found = clash_counts(x, chain)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (sum(found.values()) > 10**6) is many and peak < 100e6, peak
