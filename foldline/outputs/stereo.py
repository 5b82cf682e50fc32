"""Stereocentres of a predicted structure that are mirror images of the job's. Knows geometry, not files or scores.

A centre is told from its mirror image by the volume that three of its neighbours span: its sign in the reference
conformer, which has the stereochemistry of the component, against its sign in the prediction.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from foldline.chem.component import Component
from foldline.structure.atoms import Topology

FLAT = 0.3  # Å^3; a centre whose reference spans less is left out (a regular one with bonds of 1.5 Å spans 2.6)


@dataclass(frozen=True)
class Stereocentres:
    """The centres [N] of a job that can be judged: marked R or S, with three bonded heavy atoms in their residue."""

    atom: np.ndarray  # int [N]
    neighbours: np.ndarray  # int [N, 3]
    positive: np.ndarray  # bool [N]: sign of the volume in the reference
    names: tuple[str, ...]  # chain:residue:atom

    def inverted(self, x: np.ndarray) -> list[str]:
        """Names of the centres that are inverted in positions x [N_atom, 3], Å."""
        wrong = (_volume(x, self.atom, self.neighbours) > 0) != self.positive
        return [self.names[i] for i in np.flatnonzero(wrong)]


def stereocentres(topology: Topology, component_of: Callable[[str], Component | None]) -> Stereocentres:
    """The stereocentres of all residues and ligands whose component is known.

    Neighbours in other residues do not count: a reference conformer is one residue's own.
    """
    marked = np.zeros(topology.n_atom, bool)
    codes = topology.res_name[topology.atom_res]
    for code in np.unique(topology.res_name).tolist():
        component = component_of(code)
        if component is not None and (centres := component.atom_name[component.stereo != "N"]).size:
            marked |= (codes == code) & np.isin(topology.atom_name, centres)
    ends = np.concatenate([topology.bond_atoms, topology.bond_atoms[:, ::-1]])
    one_residue = topology.atom_res[ends[:, 0]] == topology.atom_res[ends[:, 1]]
    ends = ends[one_residue & marked[ends[:, 0]] & topology.ref_mask[ends].all(1)]
    ends = ends[np.lexsort((ends[:, 1], ends[:, 0]))]
    atom, first, count = np.unique(ends[:, 0], return_index=True, return_counts=True)
    atom, first = atom[count >= 3], first[count >= 3]
    neighbours = ends[first[:, None] + np.arange(3), 1] if len(atom) else np.zeros((0, 3), int)
    volume = _volume(topology.ref_pos, atom, neighbours)
    clear = np.abs(volume) > FLAT
    atom, neighbours, volume = atom[clear], neighbours[clear], volume[clear]
    residue = topology.atom_res[atom]
    columns = topology.chain_id[topology.res_chain[residue]], topology.res_id[residue], topology.atom_name[atom]
    names = tuple(f"{chain}:{number}:{name}" for chain, number, name in zip(*columns, strict=True))
    return Stereocentres(atom, neighbours, volume > 0, names)


def _volume(x: np.ndarray, atom: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Triple product of the bonds to three neighbours, Å^3 [N]."""
    a, b, c = np.moveaxis(x[neighbours].astype(np.float64) - x[atom][:, None], 1, 0)
    return (np.cross(a, b) * c).sum(-1)
