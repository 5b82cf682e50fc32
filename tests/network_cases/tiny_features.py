"""Features of a made-up complex: two copies of a short chain and a charged ligand, every column filled."""

from dataclasses import replace

import numpy as np

from foldline.tensors import Features
from foldline.tensors.features import AXES

N_RESIDUE, N_LIGAND, N_MSA = 11, 6, 70


def tiny_features(seed: int = 0, n_msa: int = N_MSA, n_residue: int = N_RESIDUE) -> Features:
    """28 tokens, over three atom windows, not a multiple of 32 atoms; four template slots, three of them distinct.

    Larger ones have 2 `n_residue` + 6 tokens, and from 3 to 8 atoms for each residue.
    """
    rng = np.random.default_rng(seed)
    per_residue = np.tile(rng.integers(3, 9, n_residue), 2)
    per_token = np.concatenate([per_residue, np.ones(N_LIGAND, np.int64)])
    n_token, n_atom = len(per_token), int(per_token.sum())
    chain = np.repeat([0, 1, 2], [n_residue, n_residue, N_LIGAND]).astype(np.int32)
    first = np.cumsum(per_token) - per_token
    residue = np.concatenate([np.tile(np.arange(1, n_residue + 1), 2), np.ones(N_LIGAND, int)]).astype(np.int32)
    uid = np.concatenate([np.arange(2 * n_residue), np.full(N_LIGAND, 2 * n_residue)])
    ligand = np.arange(2 * n_residue, n_token)
    ring = [(a, b) for a, b in zip(ligand, np.roll(ligand, 1), strict=True)] + [(3, int(ligand[0]))]
    templates = 0.5 * rng.standard_normal((4, n_token, 3, 3)).cumsum(1) * 4
    backbone_mask = rng.random((4, n_token)) < 0.8
    aatype = rng.integers(0, 20, (4, n_token))
    for slot in (2, 3):  # equal empty slots
        templates[slot], backbone_mask[slot], aatype[slot] = 0, False, 31
    return Features(
        token_mask=np.ones(n_token, bool),
        token_index=np.arange(n_token, dtype=np.int32),
        residue_index=residue,
        asym_id=chain,
        entity_id=np.array([0, 0, 1], np.int32)[chain],
        sym_id=np.array([0, 1, 0], np.int32)[chain],
        restype=rng.integers(0, 20, n_token).astype(np.int8),
        profile=rng.dirichlet(np.ones(32), n_token).astype(np.float32),
        deletion_mean=rng.random(n_token).astype(np.float32),
        has_frame=np.arange(n_token) % 7 != 3,
        rep_atom=(first + rng.integers(0, per_token)).astype(np.int32),
        bond_tokens=np.array(ring + [(b, a) for a, b in ring], np.int32),
        bond_mask=np.ones(2 * len(ring), bool),
        atom_mask=np.ones(n_atom, bool),
        ref_pos=(2 * rng.standard_normal((n_atom, 3))).astype(np.float32),
        ref_mask=rng.random(n_atom) < 0.95,
        ref_charge=rng.integers(-2, 3, n_atom).astype(np.float32),
        ref_element=rng.choice([5, 6, 7, 15, 16, 29], n_atom).astype(np.int16),
        ref_atom_name_chars=rng.integers(0, 64, (n_atom, 4)).astype(np.int8),
        ref_space_uid=np.repeat(uid, per_token).astype(np.int32),
        atom_to_token=np.repeat(np.arange(n_token), per_token).astype(np.int32),
        atom_in_token=(np.arange(n_atom) - np.repeat(first, per_token)).astype(np.int32),
        is_ligand=np.repeat(chain == 2, per_token),
        msa=rng.integers(0, 32, (n_msa, n_token)).astype(np.int8),
        deletions=(rng.integers(0, 9, (n_msa, n_token)) * (rng.random((n_msa, n_token)) < 0.2)).astype(np.uint8),
        msa_mask=np.ones(n_msa, bool),
        template_aatype=aatype.astype(np.int8),
        template_pseudo_beta=templates[:, :, 1].astype(np.float32) + np.float32(0.7) * backbone_mask[..., None],
        template_pseudo_beta_mask=backbone_mask,
        template_backbone=templates.astype(np.float32),
        template_backbone_mask=backbone_mask & (rng.random((4, n_token)) < 0.9),
    )


MASKS = ("token_mask", "atom_mask", "msa_mask", "bond_mask")


def with_garbage(features: Features, **sizes: int) -> Features:
    """The features grown to `sizes`, all padding filled with NaN, large numbers or True; only the masks are right."""
    before, padded = features.sizes, features.pad_to(**sizes)
    changed = {}
    for name, axes in AXES.items():
        if name in MASKS:
            continue
        array = getattr(padded, name).copy()
        outside = np.ones(array.shape, bool)
        outside[tuple(slice(before.get(axis)) for axis in axes)] = False
        largest = np.nan if array.dtype.kind == "f" else True if array.dtype == bool else np.iinfo(array.dtype).max
        array[outside] = largest
        changed[name] = array
    return replace(padded, **changed)


def rel_rms(ours: np.ndarray, theirs: np.ndarray) -> float:
    """RMS difference over the RMS of `theirs`; infinite where anything is not finite."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    return float(np.sqrt(np.square(ours - theirs).mean() / np.square(theirs).mean()))
