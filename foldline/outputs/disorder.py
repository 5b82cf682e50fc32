"""Fraction of disordered protein residues from solvent accessibility, as AlphaFold 3 reports it. Knows no confidences.

Sources: AlphaFold 3, model/confidences.py:21-120 (windowed relative accessible surface and its cut-off); DSSP (Kabsch
and Sander 1983) for radii and probe. AlphaFold 3 calls mkdssp; here DSSP's radii go into a surface of points.
"""

import numpy as np

from foldline.outputs.surface import accessible_surface
from foldline.structure.atoms import Topology

# Largest accessible surface per residue, Å² (Rost and Sander 1994, doi 10.1002/prot.340200303); others count as ALA.
MAX_ACCESSIBLE_SURFACE = {
    "ALA": 106.0, "ARG": 248.0, "ASN": 157.0, "ASP": 163.0, "CYS": 135.0, "GLN": 198.0, "GLU": 194.0, "GLY": 84.0,
    "HIS": 184.0, "ILE": 169.0, "LEU": 164.0, "LYS": 205.0, "MET": 188.0, "PHE": 197.0, "PRO": 136.0, "SER": 130.0,
    "THR": 142.0, "TRP": 227.0, "TYR": 222.0, "VAL": 142.0,
}  # fmt: skip
WINDOW = 25
DISORDERED_ABOVE = 0.581
_BACKBONE_RADII = {"N": 1.65, "CA": 1.87, "C": 1.76, "O": 1.40}
_SIDE_CHAIN_RADIUS = 1.80
_PROBE_RADIUS = 1.40
_SPHERE_POINTS = 401


def fraction_disordered(topology: Topology, coordinates: np.ndarray) -> float:
    """Share of protein residues whose windowed relative accessible surface is above 0.581; 0.0 without protein.

    Every chain is looked at alone; of chains with equal sequences the first stands for all.

    Args:
        topology: the job's chains.
        coordinates: [N_atom, 3], Å.
    """
    by_sequence: dict[tuple[str, ...], np.ndarray] = {}
    found = []
    atom_chain = topology.atom_chain
    for chain in np.flatnonzero(topology.chain_kind == "protein").tolist():
        sequence = tuple(topology.res_name[topology.res_chain == chain].tolist())
        if sequence not in by_sequence:
            by_sequence[sequence] = windowed(
                relative_surface(topology, coordinates, np.flatnonzero(atom_chain == chain))
            )
        found.append(by_sequence[sequence])
    return float((np.concatenate(found) > DISORDERED_ABOVE).mean()) if found else 0.0


def relative_surface(topology: Topology, coordinates: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Accessible surface of every residue of one chain, given by its atoms, relative to the largest; at most 1, [n]."""
    names = topology.atom_name[atoms].tolist()
    radii = np.array([_BACKBONE_RADII.get(name, _SIDE_CHAIN_RADIUS) for name in names], np.float32)
    surface = accessible_surface(coordinates[atoms], radii + np.float32(_PROBE_RADIUS), _SPHERE_POINTS)
    residues, index = np.unique(topology.atom_res[atoms], return_inverse=True)
    total = np.floor(np.bincount(index, weights=surface) + 0.5)  # DSSP's table holds whole Å²
    largest = [
        MAX_ACCESSIBLE_SURFACE.get(name, MAX_ACCESSIBLE_SURFACE["ALA"]) for name in topology.res_name[residues].tolist()
    ]
    return np.minimum(total / np.array(largest), 1.0)


def windowed(values: np.ndarray) -> np.ndarray:
    """Mean over 25 residues around each, the chain mirrored at its ends."""
    half = (WINDOW - 1) // 2
    return np.convolve(np.pad(values, (half, half), "reflect"), np.ones(WINDOW), "valid") / WINDOW
