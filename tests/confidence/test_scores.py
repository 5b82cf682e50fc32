"""Scores against Protenix's definitions on the whole [N, N, 64] array of probabilities."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_weights import draw, tiny_network
from tiny_features import tiny_features, with_garbage

from foldline.confidence import ErrorSums, confidences, reduce_errors
from foldline.models import Batch
from foldline.models.spec import PROTENIX_V1
from foldline.ops import Rows, select
from foldline.tensors import Confidences, Features

FEATURES = tiny_features()
N, N_ATOM = FEATURES.n_token, FEATURES.n_atom
CENTERS = np.arange(64) * 0.5 + 0.25


def probabilities(seed: int, n: int = N) -> np.ndarray:
    """PAE probabilities [N, N, 64] with peaks of different heights."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((n, n, 64)) - 0.2 * np.arange(64) * rng.random((n, 1, 1))
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def sums_of(p: np.ndarray, asym: np.ndarray, pde: np.ndarray | None = None) -> ErrorSums:
    """What streaming leaves of the whole array."""
    bins = np.stack([p[:, asym == c].sum(1) for c in range(asym.max() + 1)], axis=1)
    pae = (p @ CENTERS).astype(np.float32)
    return ErrorSums(pae, pae.T.copy() if pde is None else pde, bins.astype(np.float32))


def tm(p: np.ndarray, frame: np.ndarray, asym: np.ndarray, keep: np.ndarray, *, interface: bool) -> float:
    """pTM or ipTM of the kept tokens, written out; NaN where Protenix has nothing to take the best of."""
    p, frame, asym = p[keep][:, keep], frame[keep], asym[keep]
    n = len(asym)
    d0 = 1.24 * (max(n, 19) - 15) ** (1 / 3) - 1.8
    value = (p / (1 + (CENTERS / d0) ** 2)).sum(-1)
    rows = []
    for i in np.flatnonzero(frame):
        other = asym != asym[i] if interface else np.ones(n, bool)
        if other.any():
            rows.append(value[i, other].sum() / (other.sum() + (1e-8 if interface else 0)))
    return max(rows) if rows else np.nan


def scored(features: Features, p: np.ndarray, seed: int = 0, x: np.ndarray | None = None) -> tuple[Confidences, dict]:
    rng = np.random.default_rng(seed)
    n, a = features.n_token, features.n_atom
    plddt, contact = rng.random(a).astype(np.float32), rng.random((n, n)).astype(np.float32)
    pde = (10 * rng.random((n, n))).astype(np.float32)
    x = 100 * rng.standard_normal((a, 3)).astype(np.float32) if x is None else x
    sums = sums_of(p, features.asym_id[:n], pde)
    return confidences(features, sums, plddt, x, contact, PROTENIX_V1), {"plddt": plddt, "contact": contact, "pde": pde}


@pytest.mark.parametrize("seed", range(4))
def test_tm_scores(seed: int) -> None:
    p, asym, frame = probabilities(seed), FEATURES.asym_id, FEATURES.has_frame
    found, _ = scored(FEATURES, p, seed)
    everything = np.ones(N, bool)
    assert found.ptm == pytest.approx(tm(p, frame, asym, everything, interface=False), abs=1e-6)
    assert found.iptm == pytest.approx(tm(p, frame, asym, everything, interface=True), abs=1e-6)
    wanted = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            keep = (asym == a) | (asym == b)
            wanted[a, b] = tm(p, frame, asym, keep, interface=a != b)
    assert np.allclose(found.chain_pair_iptm, wanted, atol=1e-6)
    assert np.allclose(found.chain_ptm, np.diagonal(wanted), atol=1e-6)
    iptm = [np.mean([wanted[i, j] for i in range(3) for j in range(3) if i != j and c in (i, j)]) for c in range(3)]
    assert np.allclose(found.chain_iptm, iptm, atol=1e-6)
    assert found.ranking_score == pytest.approx(0.8 * found.iptm + 0.2 * found.ptm, abs=1e-9)
    assert not found.has_clash


def test_normalisation_lengths_differ() -> None:
    """A chain pair has its own length: with the whole complex's, the score would be another."""
    big = replace_chains(np.repeat([0, 1, 2], [30, 30, 60]))
    p = probabilities(1, 120)
    found, _ = scored(big, p)
    pair = np.arange(120) < 60
    assert found.chain_pair_iptm[0, 1] == pytest.approx(
        tm(p, big.has_frame, big.asym_id, pair, interface=True), abs=1e-6
    )
    whole = [p[i] @ (1 / (1 + (CENTERS / (1.24 * 105 ** (1 / 3) - 1.8)) ** 2)) for i in range(60)]
    other = max(w[(30 if i < 30 else 0) : (60 if i < 30 else 30)].mean() for i, w in enumerate(whole))
    assert abs(found.chain_pair_iptm[0, 1] - other) > 1e-3


def replace_chains(chain: np.ndarray, frame: np.ndarray | None = None) -> Features:
    """Features of tokens with one atom each, in these chains."""
    n = len(chain)
    base = FEATURES.pad_to(N_token=max(n, N), N_atom=max(n, N_ATOM))
    atoms = np.arange(len(base.atom_mask))
    return replace(
        base,
        token_mask=np.arange(len(base.token_mask)) < n,
        asym_id=np.pad(chain, (0, len(base.token_mask) - n)).astype(np.int32),
        has_frame=np.pad(np.ones(n, bool) if frame is None else frame, (0, len(base.token_mask) - n)),
        atom_mask=atoms < n,
        atom_to_token=np.minimum(atoms, n - 1).astype(np.int32),
        is_ligand=np.zeros(len(atoms), bool),
    )


def test_a_single_chain_has_no_iptm() -> None:
    found, _ = scored(replace_chains(np.zeros(N, int)), probabilities(2))
    assert np.isnan(found.iptm) and np.isnan(found.chain_iptm).all()
    assert found.chain_pair_iptm.shape == (1, 1) and found.chain_pair_iptm[0, 0] == pytest.approx(found.ptm, abs=1e-6)
    assert found.ranking_score == pytest.approx(0.2 * found.ptm, abs=1e-9)


def test_chains_without_frames() -> None:
    """An ion has no frame: its own pTM is undefined, its pairs are scored from the other chain's frames."""
    chain = np.repeat([0, 1, 2], [12, 12, 1])
    frame = chain != 2
    p = probabilities(3, 25)
    features = replace_chains(chain, frame)
    found, _ = scored(features, p)
    assert np.isnan(found.chain_ptm[2]) and np.isfinite(found.chain_ptm[:2]).all()
    pair = tm(p, frame, chain, (chain == 0) | (chain == 2), interface=True)
    assert found.chain_pair_iptm[0, 2] == found.chain_pair_iptm[2, 0] == pytest.approx(pair, abs=1e-6)
    m = found.chain_pair_iptm
    assert found.chain_iptm[2] == pytest.approx((m[0, 2] + m[1, 2]) / 2, abs=1e-6)
    # the pair (2, 0) does not count for chain 0, as chain 2 has no frames
    assert found.chain_iptm[0] == pytest.approx((m[0, 1] + m[1, 0] + m[0, 2]) / 3, abs=1e-6)


def test_nothing_has_frames() -> None:
    found, _ = scored(replace_chains(np.repeat([0, 1], [3, 2]), np.zeros(5, bool)), probabilities(4, 5))
    assert np.isnan([found.ptm, found.iptm]).all() and np.isnan(found.chain_pair_iptm).all()
    assert np.isnan(found.chain_iptm).all() and found.ranking_score == 0


def test_means_and_minima() -> None:
    p = probabilities(5)
    found, made = scored(FEATURES, p)
    pae = p @ CENTERS
    asym = FEATURES.asym_id
    assert np.allclose(found.pae, pae, atol=1e-4) and np.array_equal(found.pde, made["pde"])
    assert np.allclose(found.atom_plddt, 100 * made["plddt"]) and found.atom_plddt.dtype == np.float32
    assert found.plddt == pytest.approx(100 * made["plddt"].astype(float).mean(), rel=1e-5)
    gpde = (made["pde"] * made["contact"]).astype(float).sum() / made["contact"].astype(float).sum()
    assert found.gpde == pytest.approx(gpde, rel=1e-6)
    of_atom = asym[FEATURES.atom_to_token]
    for a in range(3):
        assert found.chain_plddt[a] == pytest.approx(100 * made["plddt"][of_atom == a].mean(), rel=1e-5)
        for b in range(3):
            least = pae[np.ix_(asym == a, asym == b)].min()
            assert found.chain_pair_pae_min[a, b] == pytest.approx(least, rel=1e-5)


def test_a_clash_of_polymers_costs_a_hundred() -> None:
    features = replace(FEATURES, is_ligand=FEATURES.asym_id[FEATURES.atom_to_token] == 2)
    plain, _ = scored(features, probabilities(6))
    chain = features.asym_id[features.atom_to_token]
    x = np.zeros((N_ATOM, 3), np.float32)
    x[chain == 0] = x[chain == 1] = 10 * np.arange(int((chain == 0).sum()))[:, None]
    x[chain == 2] = -50
    clashed, _ = scored(features, probabilities(6), x=x)
    assert clashed.has_clash and not plain.has_clash
    assert clashed.ranking_score == pytest.approx(plain.ranking_score - 100, abs=1e-9)
    x[chain == 1] += 5
    x[chain == 2] = x[0]
    ligand, _ = scored(features, probabilities(6), x=x)
    assert not ligand.has_clash


@torch.inference_mode()
@pytest.mark.parametrize("rows", [Rows(), Rows(point=N * 3), Rows(point=1)], ids=str)
@pytest.mark.parametrize("padded", [False, True])
def test_streaming_leaves_what_the_whole_array_holds(rows: Rows, padded: bool) -> None:
    network = tiny_network()
    features = with_garbage(FEATURES, N_token=41, N_atom=200) if padded else FEATURES
    batch = Batch.of(features, FEATURES.ref_pos, "cpu", 9)
    z = torch.full((batch.n_token, batch.n_token, network.spec.c_z), 1e4)
    z[:N, :N] = draw("z", N, N, network.spec.c_z)
    (whole,) = network.confidence.error_rows(z[:N, :N], select(Rows(point=10**9)))
    found = reduce_errors(network.confidence, z, batch, network.spec, N, select(rows))
    wanted = sums_of(whole.pae.double().numpy(), FEATURES.asym_id, whole.pde.numpy() @ CENTERS)
    assert np.allclose(found.pae, wanted.pae, atol=1e-4) and found.pae.dtype == np.float32
    assert np.allclose(found.pde, wanted.pde, atol=1e-4)
    assert found.chain_bins.shape == (N, 3, 64) and np.allclose(found.chain_bins, wanted.chain_bins, atol=1e-5)
