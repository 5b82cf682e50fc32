"""One chemical component as numpy columns: atoms, bonds and dictionary coordinates. Knows neither files nor chains;
`components` reads them from the dictionary, `user_ccd` and `smiles` make them from what a user gives."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

BOND_ORDERS = {"SING": 1, "DOUB": 2, "TRIP": 3, "AROM": 4}  # anything else (QUAD, DELO, PI, POLY) is 0, unknown
HYDROGENS = ("H", "D", "T")


def polymer_kind(component_type: str) -> str:
    """Polymer of a `_chem_comp.type`: "protein", "dna", "rna" or "ligand" (Protenix: core/ccd.py:143-178)."""
    kind = component_type.upper()
    if "PEPTIDE" in kind and kind != "PEPTIDE-LIKE":
        return "protein"
    if "DNA" in kind:
        return "dna"
    return "rna" if "RNA" in kind else "ligand"


@dataclass(frozen=True, eq=False)
class Component:
    """Columns over atoms [n], hydrogens included, in dictionary order, and over bonds [m]. Compared by identity."""

    code: str
    name: str
    formula: str
    type: str  # _chem_comp.type, for example "L-PEPTIDE LINKING"
    one_letter_code: str  # "" where the dictionary has none
    parent: str  # code of the standard parent, "" where there is none
    atom_name: np.ndarray  # str
    alt_atom_name: np.ndarray  # str
    element: np.ndarray  # str, upper case
    charge: np.ndarray  # int8, formal, as the dictionary has it
    leaving: np.ndarray  # bool
    aromatic: np.ndarray  # bool
    stereo: np.ndarray  # str: "R" | "S" | "N"
    ideal: np.ndarray  # float32 [n, 3], Å, NaN where missing
    model: np.ndarray  # float32 [n, 3], Å, NaN where missing
    bond_atoms: np.ndarray  # int32 [m, 2]
    bond_order: np.ndarray  # int8: 1 2 3, 4 = aromatic, 0 = unknown (Kekulé orders where the dictionary gives them)
    bond_aromatic: np.ndarray  # bool
    bond_stereo: np.ndarray  # str: "E" | "Z" | "N"
    source: str = "dictionary"  # "dictionary" | "user" | "smiles" | "file"

    @cached_property
    def kind(self) -> str:
        """Polymer that this component links into: "protein", "dna", "rna" or "ligand"."""
        return polymer_kind(self.type)

    @cached_property
    def heavy(self) -> np.ndarray:
        """Which atoms are not hydrogen or deuterium, bool [n]."""
        return ~np.isin(self.element, HYDROGENS)

    @cached_property
    def leaving_groups(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Per staying heavy atom: the groups of leaving heavy atoms that hang on it, in dictionary order of the atoms.

        A group is every leaving atom that is connected to the first one; a group that is bonded to a second staying
        atom is none. Protenix fails on such a component (core/ccd.py:56-61, json_parser.py:205).
        """
        neighbours: dict[int, list[int]] = {}
        for a, b in self.bond_atoms[self.heavy[self.bond_atoms].all(axis=1)].tolist():
            neighbours.setdefault(a, []).append(b)
            neighbours.setdefault(b, []).append(a)
        groups: dict[str, tuple[tuple[str, ...], ...]] = {}
        for centre in np.flatnonzero(self.heavy & ~self.leaving).tolist():
            firsts = sorted(n for n in neighbours.get(centre, []) if self.leaving[n])
            found = [self._leaving_group(centre, first, neighbours) for first in firsts]
            names = tuple(tuple(str(self.atom_name[i]) for i in group) for group in found if group)
            if names:
                groups[str(self.atom_name[centre])] = names
        return groups

    def _leaving_group(self, centre: int, first: int, neighbours: dict[int, list[int]]) -> list[int]:
        group, queue = {first}, [first]
        while queue:
            atom = queue.pop()
            for other in neighbours[atom]:
                if (atom == first and other == centre) or other in group:
                    continue
                if not self.leaving[other]:
                    return []
                group.add(other)
                queue.append(other)
        return sorted(group)
