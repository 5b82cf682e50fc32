"""Topology: every chain, residue, atom and bond of a job in the order of the network's atom axis. No coordinates of a
prediction, no tokens: tokens are made from this in `features`, mmCIF in `outputs`."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Topology:
    """Columns over chains [N_chain], residues [N_res], atoms [N_atom] and bonds [N_bond]; index columns point upwards.

    A residue of a ligand is one component; ions are ligands. Leaving atoms and hydrogens are already gone.
    """

    # chains
    chain_id: np.ndarray  # str, as given in the job
    chain_kind: np.ndarray  # str: "protein" | "dna" | "rna" | "ligand"
    chain_given: np.ndarray  # int32, index into Job.entities
    chain_entity: np.ndarray  # int32, 0-based: chains of equal content share one, wherever the job lists them
    chain_copy: np.ndarray  # int32, 0-based copy within the entity
    chain_sequence: np.ndarray  # object: one-letter sequence of a polymer as given, "" for a ligand
    # residues
    res_chain: np.ndarray  # int32 -> chain
    res_id: np.ndarray  # int32, 1-based within the chain
    res_name: np.ndarray  # str, component code ("LIG_G" style names for SMILES ligands)
    res_modified: np.ndarray  # bool: a polymer residue that is not one of the standard components
    res_parent: np.ndarray  # str, one-letter code of the parent residue for a polymer, "" for a ligand
    # atoms
    atom_res: np.ndarray  # int32 -> residue
    atom_name: np.ndarray  # str
    element: np.ndarray  # str, upper case
    charge: np.ndarray  # int8, formal
    ref_pos: np.ndarray  # float32 [N_atom, 3], Å: reference conformer of the atom's residue, no random pose
    ref_mask: np.ndarray  # bool: the conformer has this atom
    # bonds, once each, both ends kept
    bond_atoms: np.ndarray  # int32 [N_bond, 2]
    bond_order: np.ndarray  # int8: 1 2 3, 4 = aromatic, 0 = unknown (RDKit/CCD meaning)
    bond_declared: np.ndarray  # bool: from the job's bondedAtomPairs
    # what the builder adds; a topology made by hand may leave them out
    res_kind: np.ndarray = field(default_factory=lambda: np.zeros(0, "U7"))  # str: what the component itself links into
    notes: tuple[str, ...] = field(default=(), compare=False)  # what the builder changed or wants said

    @property
    def n_atom(self) -> int:
        """Number of atoms."""
        return len(self.atom_res)

    @property
    def atom_chain(self) -> np.ndarray:
        """Chain index of every atom, int32 [N_atom]."""
        return self.res_chain[self.atom_res]
