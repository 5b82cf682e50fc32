"""Residue blocks: the heavy atoms of one component after some atoms left, made once and then copied by gathering.
Knows one residue at a time, no chains."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from foldline.chem.component import Component
from foldline.chem.conformer import Conformer, ConformerSource


@dataclass(frozen=True)
class Variant:
    """What decides a residue's atoms: its component, the atoms that left it, and whether MSE becomes MET."""

    component: Component
    removed: frozenset[str] = frozenset()
    polymer: bool = False

    @property
    def res_name(self) -> str:
        """Component code that the network and the output see; a polymer's MSE is MET (AF3 SI 2.1)."""
        return "MET" if self._is_selenomethionine else self.component.code

    @property
    def _is_selenomethionine(self) -> bool:
        return self.polymer and self.component.code == "MSE"

    def names(self) -> list[str]:
        """Names of the atoms that stay, as in the component (before MSE becomes MET), in order."""
        return [name for name in self.component.atom_name[self.component.heavy].tolist() if name not in self.removed]


@dataclass(frozen=True, eq=False)
class Block:
    """Columns of one residue's atoms [n] and inner bonds [m]."""

    atom_name: np.ndarray
    element: np.ndarray
    charge: np.ndarray
    ref_pos: np.ndarray
    ref_mask: np.ndarray
    bond_atoms: np.ndarray
    bond_order: np.ndarray
    index: dict[str, int]  # component's atom name -> place in the block


@lru_cache(maxsize=4096)
def make_block(variant: Variant, conformer: Conformer) -> Block:
    """The atoms of a variant; an atom that the conformer lacks gets zeros and a False mask."""
    component = variant.component
    keep = component.heavy & ~np.isin(component.atom_name, list(variant.removed))
    names = component.atom_name[keep]
    place = {name: row for row, name in enumerate(conformer.atom_names.tolist())}
    rows = np.array([place.get(name, -1) for name in names.tolist()], np.int64)
    mask = (rows >= 0) & conformer.mask[rows]
    pos = np.where(mask[:, None], conformer.pos[rows], 0).astype(np.float32)
    charge = component.charge[keep]
    if conformer.charge is not None:
        charge = np.where(rows >= 0, conformer.charge[rows], charge).astype(np.int8)
    new_index = np.cumsum(keep) - 1
    bonds = keep[component.bond_atoms].all(axis=1)
    index = {name: row for row, name in enumerate(names.tolist())}
    element = component.element[keep]
    if variant.res_name != component.code:
        selenium = names == "SE"
        names, element = np.where(selenium, "SD", names), np.where(selenium, "S", element)
    return Block(
        atom_name=names,
        element=element,
        charge=charge,
        ref_pos=pos,
        ref_mask=mask,
        bond_atoms=new_index[component.bond_atoms[bonds]].astype(np.int32).reshape(-1, 2),
        bond_order=component.bond_order[bonds],
        index=index,
    )


class BlockTable:
    """The distinct blocks of one structure under each other, and gathers of their rows."""

    def __init__(self, variants: Sequence[Variant], conformers: ConformerSource) -> None:
        """Make the block of every variant."""
        self.conformers = {part: conformers(part) for part in dict.fromkeys(variant.component for variant in variants)}
        self.blocks = [make_block(variant, self.conformers[variant.component]) for variant in variants]
        self._n_atom = np.array([len(block.atom_name) for block in self.blocks], np.int64)
        self._n_bond = np.array([len(block.bond_order) for block in self.blocks], np.int64)

    def starts(self, residues: np.ndarray) -> np.ndarray:
        """First atom of each residue and the number of all atoms, int64 [n_res + 1], from the block id per residue."""
        return np.concatenate([[0], np.cumsum(self._n_atom[residues])])

    def atom_res(self, residues: np.ndarray) -> np.ndarray:
        """Residue of every atom, int32 [n_atom]."""
        return np.repeat(np.arange(len(residues), dtype=np.int32), self._n_atom[residues])

    def atoms(self, column: str, residues: np.ndarray) -> np.ndarray:
        """A column of `Block` over all atoms of the structure."""
        table = np.concatenate([getattr(block, column) for block in self.blocks])
        return table[_rows(self._n_atom, residues)]

    def bonds(self, residues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bonds within residues: structure-wide atom pairs int64 [m, 2] and orders int8 [m]."""
        rows = _rows(self._n_bond, residues)
        first_atom = np.repeat(self.starts(residues)[:-1], self._n_bond[residues])
        pairs = np.concatenate([block.bond_atoms for block in self.blocks])[rows]
        return pairs + first_atom[:, None], np.concatenate([block.bond_order for block in self.blocks])[rows]


def _rows(counts: np.ndarray, residues: np.ndarray) -> np.ndarray:
    """Rows of the table of all blocks, residue after residue."""
    block_start = np.concatenate([[0], np.cumsum(counts)])[:-1]
    length = counts[residues]
    residue_start = np.concatenate([[0], np.cumsum(length)])[:-1]
    return np.arange(int(length.sum())) + np.repeat(block_start[residues] - residue_start, length)
