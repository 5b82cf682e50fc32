"""Features of any shape that a job may have: from one atom to several chains, all columns filled at random."""

import random

import numpy as np

from foldline.tensors import Features

SLOTS = (4, 4, 4, 4, 1, 0)


def made_up_features(random_: random.Random, most: int = 16) -> Features:
    """A job of up to about `most` tokens: chains of residues, some equal, ligands, any number of everything else."""
    rng = np.random.default_rng(random_.getrandbits(32))
    sizes, chain, entity, residue, ligand = _chains(random_, rng, most)
    n_token, n_atom = len(sizes), int(sizes.sum())
    first = np.cumsum(sizes) - sizes
    seen: dict[int, list[int]] = {}
    for c, e in zip(chain.tolist(), entity.tolist(), strict=True):
        if c not in seen.setdefault(e, []):
            seen[e].append(c)
    sym = np.array([seen[e].index(c) for c, e in zip(chain.tolist(), entity.tolist(), strict=True)], np.int32)
    uid = np.unique(np.stack([chain, residue]), axis=1, return_inverse=True)[1].reshape(-1)
    ends = [tuple(sorted(random_.choices(range(n_token), k=2))) for _ in range(random_.choice((0, 0, 1, 3, 9)))]
    bonds = sorted({pair for pair in ends if pair[0] != pair[1]})
    both = np.array([*bonds, *(pair[::-1] for pair in bonds)], np.int32).reshape(-1, 2)
    n_msa = random_.choice((1, 1, 2, 3, 10, 40))
    frame = np.ones(n_token, bool) if random_.random() < 0.1 else rng.random(n_token) < random_.choice((0.0, 0.5, 0.9))
    return Features(
        token_mask=np.ones(n_token, bool),
        token_index=np.arange(n_token, dtype=np.int32),
        residue_index=residue,
        asym_id=chain,
        entity_id=entity,
        sym_id=sym,
        restype=rng.integers(0, 32, n_token).astype(np.int8),
        profile=rng.dirichlet(np.ones(32), n_token).astype(np.float32),
        deletion_mean=rng.random(n_token).astype(np.float32),
        has_frame=frame,
        rep_atom=(first + rng.integers(0, sizes)).astype(np.int32),
        bond_tokens=both,
        bond_mask=np.ones(len(both), bool),
        atom_mask=np.ones(n_atom, bool),
        ref_pos=(2 * rng.standard_normal((n_atom, 3))).astype(np.float32),
        ref_mask=rng.random(n_atom) < 0.95,
        ref_charge=rng.integers(-2, 3, n_atom).astype(np.float32),
        ref_element=rng.integers(0, 128, n_atom).astype(np.int16),
        ref_atom_name_chars=rng.integers(0, 64, (n_atom, 4)).astype(np.int8),
        ref_space_uid=np.repeat(uid, sizes).astype(np.int32),
        atom_to_token=np.repeat(np.arange(n_token), sizes).astype(np.int32),
        atom_in_token=(np.arange(n_atom) - np.repeat(first, sizes)).astype(np.int32),
        is_ligand=np.repeat(ligand, sizes),
        msa=rng.integers(0, 32, (n_msa, n_token)).astype(np.int8),
        deletions=(rng.integers(0, 256, (n_msa, n_token)) * (rng.random((n_msa, n_token)) < 0.2)).astype(np.uint8),
        msa_mask=np.ones(n_msa, bool),
        **made_up_templates(random_, n_token),
    )


def made_up_templates(random_: random.Random, n_token: int) -> dict[str, np.ndarray]:
    """Columns of four template slots, or fewer: any number of templates, some alike, the others empty."""
    rng = np.random.default_rng(random_.getrandbits(32))
    kinds = [random_.randrange(5) for _ in range(random_.choice(SLOTS))]  # slots of one number are alike; 4 is empty
    n_kind = 5
    backbone = 2 * rng.standard_normal((n_kind, n_token, 3, 3)).cumsum(1)
    mask = rng.random((n_kind, n_token)) < 0.8
    aatype = rng.integers(0, 20, (n_kind, n_token))
    beta = backbone[:, :, 1] + 0.7 * mask[..., None]
    backbone_mask = mask & (rng.random((n_kind, n_token)) < 0.9)
    backbone[4], beta[4], mask[4], backbone_mask[4], aatype[4] = 0, 0, False, False, random_.choice((0, 31))
    return {
        "template_aatype": aatype[kinds].astype(np.int8),
        "template_pseudo_beta": beta[kinds].astype(np.float32),
        "template_pseudo_beta_mask": mask[kinds],
        "template_backbone": backbone[kinds].astype(np.float32),
        "template_backbone_mask": backbone_mask[kinds],
    }


def _chains(random_: random.Random, rng: np.random.Generator, most: int) -> tuple[np.ndarray, ...]:
    """Atoms, chain, entity, residue and whether it is a ligand's, for every token."""
    kind = random_.random()
    sizes: list[list[int]] = []
    if kind < 0.06:
        sizes = [[1]]  # an ion alone
    elif kind < 0.12:
        sizes = [[random_.randint(2, 24)]]  # all atoms in one token
    else:
        while len(sizes) < 5 and (not sizes or random_.random() < 0.6):
            left = most - sum(map(len, sizes))
            if left < 1:
                break
            same = random_.choice(sizes) if sizes and random_.random() < 0.3 else None
            n = random_.randint(1, min(left, random_.choice((2, 6, 16))))
            atoms = random_.choice((1, 1, 4, 8))
            sizes.append(same if same is not None and len(same) <= left else rng.integers(1, atoms + 1, n).tolist())
    entities: dict[int, int] = {}
    numbers = [entities.setdefault(id(chain), len(entities)) for chain in sizes]
    lengths = [len(chain) for chain in sizes]
    ligands = [max(chain) == 1 for chain in sizes]
    residues = [[1] * len(c) if ligand else [*range(1, len(c) + 1)] for c, ligand in zip(sizes, ligands, strict=True)]
    return (
        np.concatenate(sizes).astype(np.int64),
        np.repeat(np.arange(len(sizes)), lengths).astype(np.int32),
        np.repeat(numbers, lengths).astype(np.int32),
        np.concatenate(residues).astype(np.int32),
        np.repeat(ligands, lengths),
    )
