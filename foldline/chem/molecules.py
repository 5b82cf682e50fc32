"""Component to RDKit molecule, cleaned up so that it can be embedded. Knows neither conformers nor caches."""

import numpy as np
from rdkit import Chem
from rdkit.Geometry import Point3D

from foldline.chem.component import Component
from foldline.chem.smiles import molecule_of_smiles, rdkit_log

_BOND = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE, 4: Chem.BondType.AROMATIC}
_NON_METAL_NUMBERS = (1, 2, *range(5, 11), *range(14, 19), *range(32, 37), *range(52, 55), 85, 86)
_NON_METALS = frozenset(Chem.GetPeriodicTable().GetElementSymbol(number) for number in _NON_METAL_NUMBERS)
_REPAIRS = 10


def molecule_of(component: Component) -> Chem.Mol | None:
    """Molecule of the component's atoms in their order, with hydrogens; None where RDKit cannot sanitise it.

    An atom with too many bonds lends a pair to a metal (dative bond); the stereocentres come from the dictionary's
    coordinates. A component without hydrogens (a user's own) gets them from the valences.
    """
    if component.source == "smiles":
        return molecule_of_smiles(component.name)
    with rdkit_log():
        mol = _raw(component)
        if mol is None or not _sanitised(mol):
            return None
        _assign_stereo(mol, component)
        if component.heavy.all():
            mol = Chem.AddHs(mol)
    return mol


def clean_charges(component: Component) -> np.ndarray:
    """Formal charges int8 [n] after RDKit's clean-up, which writes nitro groups and the like in one way.

    Protenix: reference charges are those of the cleaned-up molecule, core/ccd.py:279.
    """
    if component.source != "dictionary" and component.source != "user":
        return component.charge
    with rdkit_log():
        mol = _raw(component)
        if mol is None:
            return component.charge
        Chem.SanitizeMol(mol, Chem.SanitizeFlags.SANITIZE_CLEANUP)
    return np.array([atom.GetFormalCharge() for atom in mol.GetAtoms()], np.int8)


def _raw(component: Component) -> Chem.RWMol | None:
    mol = Chem.RWMol()
    has_hydrogen = not component.heavy.all()
    table = Chem.GetPeriodicTable()
    for element, charge in zip(component.element.tolist(), component.charge.tolist(), strict=True):
        symbol = "H" if element in ("D", "T") else element.capitalize()
        if element != "X" and not _is_element(table, symbol):
            return None
        atom = Chem.Atom("*" if element == "X" else symbol)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(has_hydrogen)
        mol.AddAtom(atom)
    for (a, b), order in zip(component.bond_atoms.tolist(), component.bond_order.tolist(), strict=True):
        if a != b and mol.GetBondBetweenAtoms(a, b) is None:
            mol.AddBond(a, b, _BOND.get(order, Chem.BondType.SINGLE))
            if order == 4:
                mol.GetBondBetweenAtoms(a, b).SetIsAromatic(True)
                mol.GetAtomWithIdx(a).SetIsAromatic(True)
                mol.GetAtomWithIdx(b).SetIsAromatic(True)
    return mol


def _is_element(table: Chem.PeriodicTable, symbol: str) -> bool:
    try:
        return table.GetAtomicNumber(symbol) > 0
    except RuntimeError:
        return False


def _sanitised(mol: Chem.RWMol) -> bool:
    for _ in range(_REPAIRS):
        problems = Chem.DetectChemistryProblems(mol)
        if not problems:
            return Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE
        repaired = False
        for problem in problems:
            if problem.GetType() == "AtomValenceException":
                repaired |= _lend_to_metal(mol, problem.GetAtomIdx())
        if not repaired:
            return False
    return False


def _lend_to_metal(mol: Chem.RWMol, atom: int) -> bool:
    """Turn one covalent bond of `atom` to a metal into a dative one."""
    for bond in list(mol.GetAtomWithIdx(atom).GetBonds()):
        metal = bond.GetOtherAtom(mol.GetAtomWithIdx(atom))
        if metal.GetSymbol() in _NON_METALS or bond.GetBondType() == Chem.BondType.DATIVE:
            continue
        mol.RemoveBond(atom, metal.GetIdx())
        mol.AddBond(atom, metal.GetIdx(), Chem.BondType.DATIVE)
        mol.UpdatePropertyCache(strict=False)
        return True
    return False


def _assign_stereo(mol: Chem.RWMol, component: Component) -> None:
    for xyz in (component.ideal, component.model):
        if np.isfinite(xyz).all() and len(np.unique(xyz, axis=0)) > len(xyz) // 2:
            conformer = Chem.Conformer(len(xyz))
            for index, (x, y, z) in enumerate(xyz.tolist()):
                conformer.SetAtomPosition(index, Point3D(x, y, z))
            mol.AddConformer(conformer, assignId=True)
            Chem.AssignStereochemistryFrom3D(mol)
            mol.RemoveAllConformers()
            return
