"""Atom columns: reference conformer, charge, element and name (AF3 SI table 5, `ref_*`).

The conformer is centred per residue and not posed: the random pose is drawn per seed, elsewhere. Knows no tokens.
"""

from dataclasses import dataclass

import gemmi
import numpy as np

from foldline.errors import InputError
from foldline.features.tokens import name_chars
from foldline.structure.atoms import Topology


@dataclass(frozen=True)
class AtomColumns:
    """Columns [N_atom] of `Features`."""

    ref_pos: np.ndarray  # float32 [N_atom, 3] Å
    ref_mask: np.ndarray  # bool
    ref_charge: np.ndarray  # float32
    ref_element: np.ndarray  # int16
    ref_atom_name_chars: np.ndarray  # int8 [N_atom, 4]
    ref_space_uid: np.ndarray  # int32
    is_ligand: np.ndarray  # bool


def atom_columns(topology: Topology) -> AtomColumns:
    """Atom features of a topology (Protenix: core/featurizer.py:401-449).

    Raises:
        InputError: an atom is of no known element.
    """
    return AtomColumns(
        ref_pos=_centred(topology),
        ref_mask=topology.ref_mask.astype(bool),
        ref_charge=topology.charge.astype(np.float32),
        ref_element=(_atomic_numbers(topology) - 1).astype(np.int16),
        ref_atom_name_chars=name_chars(topology.atom_name),
        ref_space_uid=topology.atom_res.astype(np.int32),
        is_ligand=(topology.chain_kind == "ligand")[topology.atom_chain],
    )


def _centred(topology: Topology) -> np.ndarray:
    """Reference positions minus the mean over the atoms of the residue, float32 [N_atom, 3]."""
    counts = np.bincount(topology.atom_res)
    position = topology.ref_pos.astype(np.float64)
    sums = [np.bincount(topology.atom_res, weights=position[:, axis]) for axis in range(3)]
    means = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
    return (position - means[topology.atom_res]).astype(np.float32)


def _atomic_numbers(topology: Topology) -> np.ndarray:
    """Atomic number of every atom, int64 [N_atom]."""
    symbols = np.ascontiguousarray(topology.element.astype("<U2")).view(np.uint64)
    distinct, first, which = np.unique(symbols, return_index=True, return_inverse=True)
    numbers = np.array([gemmi.Element(str(topology.element[i])).atomic_number for i in first.tolist()], np.int64)
    if len(distinct) and numbers.min() < 1:
        atom = int(first[int(numbers.argmin())])
        residue = topology.atom_res[atom]
        chain = topology.res_chain[residue]
        raise InputError(
            f"atom {str(topology.atom_name[atom])!r} of component {str(topology.res_name[residue])!r} in chain"
            f" {topology.chain_id[chain]} is of no element ({str(topology.element[atom])!r}): give another component",
            path=f"$.sequences[{topology.chain_given[chain]}].{topology.chain_kind[chain]}",
        )
    return numbers[which]
