"""Which tokens have a frame (AF3 SI 4.3.2): polymer residues by their backbone, single atoms by their neighbours.

Works residue by residue: nothing is of size N_atom x N_atom.
"""

import numpy as np

from foldline.chem.residues import DNA_RESIDUES, FRAME_ATOMS, PROTEIN_RESIDUES, RESIDUE_ATOMS, RNA_RESIDUES
from foldline.features.tokens import Tokens
from foldline.structure.atoms import Topology

MIN_ANGLE = 25.0  # degrees from a line
BLOCK_PAIRS = 1 << 22


def _frame_places() -> np.ndarray:
    """Places of the three frame atoms within every standard residue, int64 [31, 3]."""
    kinds = ["protein"] * len(PROTEIN_RESIDUES) + ["rna"] * len(RNA_RESIDUES) + ["dna"] * len(DNA_RESIDUES)
    names = PROTEIN_RESIDUES + RNA_RESIDUES + DNA_RESIDUES
    return np.array(
        [
            [RESIDUE_ATOMS[name].index(atom) for atom in FRAME_ATOMS[kind]]
            for name, kind in zip(names, kinds, strict=True)
        ]
    )


_FRAME_PLACES = _frame_places()


def has_frame(topology: Topology, tokens: Tokens, ref_pos: np.ndarray, ref_mask: np.ndarray) -> np.ndarray:
    """Whether each token has a frame, bool [N_token] (Protenix: core/featurizer.py:142-341).

    A token that is one atom takes the two nearest atoms of its residue in the reference conformer: no frame where the
    residue has fewer than three atoms, the conformer lacks one of the three, two coincide, or the angle is within 25
    degrees of a line.
    """
    frames = _polymer_frames(topology, tokens)
    sizes = np.bincount(topology.atom_res, minlength=len(tokens.residue_class))
    first_atom = np.cumsum(sizes) - sizes
    candidates = np.flatnonzero((tokens.residue_class < 0) & (sizes >= 3))
    for size in np.unique(sizes[candidates]).tolist():
        residues = candidates[sizes[candidates] == size]
        step = max(1, BLOCK_PAIRS // size**2)
        for start in range(0, len(residues), step):
            atoms = first_atom[residues[start : start + step], None] + np.arange(size)
            frames[tokens.atom_to_token[atoms]] = _atom_frames(ref_pos[atoms].astype(np.float64), ref_mask[atoms])
    return frames


def _polymer_frames(topology: Topology, tokens: Tokens) -> np.ndarray:
    """True for standard residues that hold all three of their frame atoms, bool [N_token]."""
    classes = tokens.residue_class[topology.atom_res]
    in_frame = (classes >= 0) & (tokens.atom_in_token[:, None] == _FRAME_PLACES[classes]).any(axis=1)
    return np.bincount(tokens.atom_to_token[in_frame], minlength=tokens.n_token) == 3


def _atom_frames(position: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Frames of the atoms of residues of one size, bool [n, size], from float64 [n, size, 3] and bool [n, size]."""
    n, size = mask.shape
    nearest = np.empty((n, size, 2), np.int64)
    step = max(1, BLOCK_PAIRS // (n * size))
    for low in range(0, size, step):
        rows = np.arange(low, min(low + step, size))
        square = np.square(position[:, rows, None] - position[:, None]).sum(axis=-1)
        square[:, np.arange(len(rows)), rows] = np.inf
        two = np.argpartition(square, 1, axis=2)[:, :, :2]
        order = np.argsort(np.take_along_axis(square, two, axis=2), axis=2)
        nearest[:, rows] = np.take_along_axis(two, order, axis=2)
    group = np.arange(n)[:, None]
    a, c = nearest[..., 0], nearest[..., 1]
    present = mask & mask[group, a] & mask[group, c]
    to_b, to_c = position - position[group, a], position[group, c] - position
    lengths = np.linalg.norm(to_b, axis=-1), np.linalg.norm(to_c, axis=-1)
    cosine = (to_b * to_c).sum(axis=-1) / (lengths[0] * lengths[1] + 1e-4)
    angle = np.degrees(np.arccos(cosine.clip(-1, 1)))
    apart = (lengths[0] > 1e-8) & (lengths[1] > 1e-8)
    return present & apart & (angle > MIN_ANGLE) & (angle < 180 - MIN_ANGLE)
