"""Bonds between tokens: those that tell the network what a chain's sequence does not (AF3 SI table 5, `token_bonds`).

Knows residues, atoms and tokens.
"""

import numpy as np

from foldline.features.tokens import Tokens, residue_kinds
from foldline.structure.atoms import Topology


def token_bonds(topology: Topology, tokens: Tokens) -> np.ndarray:
    """Entries (i, j) of the bond matrix, both directions, sorted, int32 [N_bond, 2].

    Kept are bonds with a ligand, bonds within a modified residue, and bonds between polymer residues that are not
    neighbours in one chain (Protenix: core/featurizer.py:470-522 with include_discont_poly_poly_bonds).
    """
    pairs = topology.bond_atoms
    residues = topology.atom_res[pairs]
    polymer = (residue_kinds(topology) != "ligand")[residues]
    standard = (tokens.residue_class >= 0)[residues]
    along = polymer.all(axis=1) & (standard.any(axis=1) | (residues[:, 0] != residues[:, 1]))
    chains, numbers = topology.res_chain[residues], topology.res_id[residues].astype(np.int64)
    apart = (np.abs(numbers[:, 0] - numbers[:, 1]) > 1) | (chains[:, 0] != chains[:, 1])
    kept = tokens.atom_to_token[pairs[~along | apart]].astype(np.int64)
    both = np.concatenate([kept, kept[:, ::-1]])
    flat = np.unique(both[:, 0] * tokens.n_token + both[:, 1])
    return np.stack(np.divmod(flat, max(tokens.n_token, 1)), axis=1).astype(np.int32).reshape(-1, 2)
