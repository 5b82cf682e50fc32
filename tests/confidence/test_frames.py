"""Frames by predicted positions against a stable sort of all distances, and without any array of all pairs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from live_bytes import LiveBytes
from torch import Tensor

from foldline.confidence import frames
from foldline.confidence.frames import has_frame, nearest_two


def by_sorting(x: Tensor, chain: Tensor, mask: Tensor, atoms: Tensor) -> Tensor:
    """All distances of all pairs as upstream writes them, sorted by a stable sort, itself left out."""
    d = torch.sum(1e-8 + (x[..., :, None, :] - x[..., None, :, :]) ** 2, -1) ** 0.5
    n = x.shape[-2]
    good = mask & mask[:, None] & (chain == chain[:, None]) & ~torch.eye(n, dtype=torch.bool)
    d = torch.where(good, d, math.inf)
    d = torch.cat([d, torch.full((*d.shape[:-1], 2), math.inf)], -1)
    order = d.argsort(dim=-1, stable=True)[..., :2]
    return torch.where(d.gather(-1, order).isfinite(), order, -1)[..., atoms, :]


def upstream(x: Tensor, chain: Tensor, mask: Tensor, to_token: Tensor, standard: Tensor) -> Tensor:
    """The rule as OpenFold3 writes it (its first neighbour is the atom itself), token by token."""
    d = torch.sum(1e-8 + (x[:, None] - x) ** 2, -1) ** 0.5
    pair = mask & mask[:, None] & (chain == chain[:, None])
    d = d * pair + 1e9 * ~pair
    three = d.argsort(dim=-1, stable=True)[:, :3]
    out = standard.clone()
    for token in range(len(standard)):
        own = (mask & (to_token == token)).nonzero()[:, 0]
        if len(own) != 1 or len(x) < 3:
            continue
        b, (a, c) = own[0], three[own[0], 1:]
        u, v = x[a] - x[b], x[c] - x[b]
        cosine = (u @ v) / ((1e-8 + (u**2).sum()) ** 0.5 * (1e-8 + (v**2).sum()) ** 0.5)
        angle = math.cos(math.radians(155)) < cosine < math.cos(math.radians(25))
        out[token] = bool(angle and mask[a] and mask[c] and chain[a] == chain[b] == chain[c])
    return out


Case = tuple[Tensor, Tensor, Tensor]


@st.composite
def clouds(draw: st.DrawFn) -> Case:
    """Samples of atoms: scattered, in clumps, on a lattice (many ties) or all at one place; padding anywhere."""
    n, samples = draw(st.integers(1, 60)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["scattered", "clumps", "lattice", "one place"]))
    x = rng.normal(0, 20, (samples, n, 3))
    if kind == "clumps":
        x = x[:, rng.integers(0, n, n)] + rng.normal(0, 1e-3, (samples, n, 3))
    elif kind == "lattice":
        x = np.round(x / 8) * 1.5
    elif kind == "one place":
        x = np.broadcast_to(x[:, :1], x.shape).copy()
    mask = rng.random(n) < draw(st.sampled_from([1.0, 0.7]))
    x[:, ~mask] = draw(st.sampled_from([0.0, 1e4, math.nan]))
    chain = rng.integers(0, draw(st.integers(1, 5)), n)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(chain), torch.from_numpy(mask)


@settings(max_examples=300, deadline=None)
@given(clouds(), st.sampled_from([1, 7, 1 << 18]))
def test_neighbours_are_those_of_a_stable_sort(case: Case, block: int) -> None:
    x, chain, mask = case
    atoms = mask.nonzero()[:, 0]
    atoms = atoms[torch.randperm(len(atoms), generator=torch.Generator().manual_seed(len(x)))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "_BLOCK", block)
        found = nearest_two(x, chain, mask, atoms)
    assert torch.equal(found, by_sorting(x.nan_to_num(), chain, mask, atoms))


@settings(max_examples=200, deadline=None)
@given(clouds())
def test_frames_are_those_of_upstream(case: Case) -> None:
    x, chain, mask = case
    x = x.nan_to_num()
    n = len(chain)
    rng = np.random.default_rng(n)
    to_token = torch.from_numpy(np.sort(rng.integers(0, n, n)))
    size = torch.bincount(to_token[mask], minlength=n + 3)
    standard = torch.from_numpy(rng.random(n + 3) < 0.5) & (size > 1)
    found = has_frame(x, chain, mask, to_token, standard)
    for sample, frames_of in zip(x, found, strict=True):
        assert torch.equal(frames_of, upstream(sample, chain, mask, to_token, standard))
    assert torch.equal(has_frame(x[0], chain, mask, to_token, standard), found[0])


def frame_of(*positions: tuple[float, float, float], chain: tuple[int, ...] = ()) -> bool:
    """Whether the first of some single atoms has a frame."""
    n = len(positions)
    chains = torch.tensor(chain or (0,) * n)
    mask, none = torch.ones(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    return bool(has_frame(torch.tensor(positions), chains, mask, torch.arange(n), none)[0])


def test_the_rule() -> None:
    here, right, up = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.1, 0.0)
    assert frame_of(here, right, up) and frame_of(here, up, right)
    assert not frame_of(here) and not frame_of(here, right), "two atoms make no frame"
    assert not frame_of(here, right, up, chain=(0, 0, 1)), "a neighbour of another chain"
    assert not frame_of(here, right, (-1.0, 0.0, 0.0)) and not frame_of(here, right, (2.0, 0.0, 0.0)), "a line"
    assert frame_of(here, here, right), "an atom at the place of another"
    for degrees, good in ((24.9, False), (25.1, True), (154.9, True), (155.1, False)):
        turned = (1.2 * math.cos(math.radians(degrees)), 1.2 * math.sin(math.radians(degrees)), 0.0)
        assert frame_of(here, right, turned) is good, degrees


def test_memory_does_not_grow_with_all_pairs() -> None:
    n = 6000
    x = torch.randn(2, n, 3, generator=torch.Generator().manual_seed(0)) * 30
    chain, mask = torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.bool)
    none = torch.zeros(n, dtype=torch.bool)
    with LiveBytes() as live:
        assert has_frame(x, chain, mask, torch.arange(n), none).float().mean() > 0.5
    assert live.peak < 5_000_000 < n * n


def test_many_ions_take_no_time() -> None:
    n = 40_000
    x = torch.randn(n, 3)
    found = nearest_two(x, torch.arange(n), torch.ones(n, dtype=torch.bool), torch.arange(n))
    assert bool((found == -1).all())
