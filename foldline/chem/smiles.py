"""Ligands written as SMILES, or as the path of an SDF, MOL, MOL2 or PDB file: text to `Component`.

Atoms are named element plus counter in RDKit's order, as Protenix does (json_parser.py:341-433); past 99 (two-letter
elements) or 999 the counter goes on in base 36, so that no name is longer than four characters. Knows no chains.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from foldline.chem.component import Component
from foldline.errors import InputError

FILE_SUFFIXES = (".sdf", ".mol", ".mol2", ".pdb")
_ORDER = {Chem.BondType.SINGLE: 1, Chem.BondType.DOUBLE: 2, Chem.BondType.TRIPLE: 3, Chem.BondType.AROMATIC: 4}
_ORDER[Chem.BondType.DATIVE] = 1
_LOG_PREFIX = re.compile(r"^\[\d\d:\d\d:\d\d\] *(SMILES Parse Error: )?")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def component_of_text(text: str, code: str, *, path: str = "") -> Component:
    """Component `code` of a SMILES string or of a ligand file named in its place.

    Raises:
        InputError: with RDKit's reason and the position, or what is wrong with the file.
    """
    text = text.strip()
    if text.lower().endswith(FILE_SUFFIXES):
        return component_of_file(Path(text), code, path=path)
    try:
        return _component_of_smiles(text, code)
    except InputError as error:
        raise InputError(error.message, path=path) from None


def molecule_of_smiles(smiles: str) -> Chem.Mol:
    """RDKit molecule with explicit hydrogens, in SMILES order.

    Raises:
        InputError: the SMILES cannot be read, or is not one molecule of known elements.
    """
    if not smiles:
        raise InputError("the SMILES is empty")
    with rdkit_log() as lines:
        mol = Chem.MolFromSmiles(smiles, sanitize=False)
    if mol is None:
        raise InputError(f"{smiles!r} is not a SMILES: {_reason(lines)}")
    with rdkit_log():
        problems = Chem.DetectChemistryProblems(mol)
    if problems:
        raise InputError(
            f"SMILES {smiles!r} is not a possible molecule: {'; '.join(_problem(mol, p) for p in problems)}"
        )
    with rdkit_log():
        mol = Chem.MolFromSmiles(smiles)
    wild = [atom.GetIdx() + 1 for atom in mol.GetAtoms() if atom.GetAtomicNum() == 0]
    if wild:
        raise InputError(f"SMILES {smiles!r} has unknown atoms (*) at {_list(wild)}; every atom needs an element")
    fragments = Chem.GetMolFrags(mol, asMols=True)
    if len(fragments) > 1:
        parts = ", ".join(Chem.MolToSmiles(fragment) for fragment in fragments)
        raise InputError(f"SMILES {smiles!r} holds {len(fragments)} molecules; give each a ligand of its own: {parts}")
    if not any(atom.GetAtomicNum() > 1 for atom in mol.GetAtoms()):
        raise InputError(f"SMILES {smiles!r} has no atom but hydrogen")
    return Chem.AddHs(mol)


@lru_cache(maxsize=1024)
def _component_of_smiles(smiles: str, code: str) -> Component:
    return component_of_molecule(molecule_of_smiles(smiles), code, source="smiles", text=smiles)


def component_of_file(file: Path, code: str, *, path: str = "") -> Component:
    """Component of the first molecule of an SDF, MOL, MOL2 or PDB file, whose coordinates become its conformer.

    Raises:
        InputError: the file is absent, cannot be read as a molecule, or has no 3D coordinates.
    """
    if not file.is_file():
        raise InputError(f"{str(file)!r} looks like a ligand file, but there is no such file", path=path)
    suffix = file.suffix.lower()
    with rdkit_log() as lines:
        if suffix == ".sdf":
            mol = next(iter(Chem.SDMolSupplier(str(file))), None)
        else:
            read = {".mol": Chem.MolFromMolFile, ".mol2": Chem.MolFromMol2File, ".pdb": Chem.MolFromPDBFile}[suffix]
            mol = read(str(file))
    if mol is None or not mol.GetNumAtoms():
        raise InputError(f"RDKit cannot read a molecule from {str(file)!r}: {_reason(lines)}", path=path)
    if not mol.GetNumConformers() or not mol.GetConformer().Is3D():
        raise InputError(f"{str(file)!r} has no 3D coordinates; give the molecule as SMILES instead", path=path)
    if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
        raise InputError(f"{str(file)!r} has atoms without an element", path=path)
    return component_of_molecule(mol, code, source="file", text=str(file))


def component_of_molecule(mol: Chem.Mol, code: str, *, source: str, text: str = "") -> Component:
    """Columns of an RDKit molecule; coordinates of its conformer, if it has one, become the model coordinates."""
    kekule = Chem.Mol(mol)
    Chem.Kekulize(kekule)
    atoms, bonds = list(mol.GetAtoms()), list(kekule.GetBonds())
    element = np.array([atom.GetSymbol().upper() for atom in atoms])
    names = np.array(atom_names(element.tolist()))
    missing = np.full((len(atoms), 3), np.nan, np.float32)
    xyz = mol.GetConformer().GetPositions().astype(np.float32) if mol.GetNumConformers() else missing
    return Component(
        code=code,
        name=text,
        formula=CalcMolFormula(mol, separateIsotopes=False, abbreviateHIsotopes=True),
        type="NON-POLYMER",
        one_letter_code="",
        parent="",
        atom_name=names,
        alt_atom_name=names,
        element=element,
        charge=np.array([atom.GetFormalCharge() for atom in atoms], np.int8),
        leaving=np.zeros(len(atoms), bool),
        aromatic=np.array([atom.GetIsAromatic() for atom in atoms], bool),
        stereo=np.array([atom.GetProp("_CIPCode") if atom.HasProp("_CIPCode") else "N" for atom in atoms]),
        ideal=missing,
        model=xyz,
        bond_atoms=np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in bonds], np.int32).reshape(-1, 2),
        bond_order=np.array([_ORDER.get(bond.GetBondType(), 0) for bond in bonds], np.int8),
        bond_aromatic=np.array([mol.GetBondWithIdx(bond.GetIdx()).GetIsAromatic() for bond in bonds], bool),
        bond_stereo=np.array([_bond_stereo(bond) for bond in bonds], "U1"),
        source=source,
    )


def atom_names(elements: list[str]) -> list[str]:
    """Unique names of at most four characters: C1 .. C99 .. C999, CA0 .. in base 36 after the last decimal.

    Raises:
        InputError: an element occurs more often than four characters can count.
    """
    counts: dict[str, int] = {}
    names = []
    for element in elements:
        counts[element] = counts.get(element, 0) + 1
        names.append(element + _counter(counts[element], 4 - len(element), element))
    return names


def _counter(number: int, width: int, element: str) -> str:
    """Decimal while it fits, then base-36 words that start with a letter."""
    if number < 10**width:
        return str(number)
    rest = number - 10**width
    if rest >= 26 * 36 ** (width - 1):
        raise InputError(f"a ligand cannot have {number} atoms of {element}; split it into several components")
    word = ""
    for _ in range(width - 1):
        rest, digit = divmod(rest, 36)
        word = _DIGITS[digit] + word
    return _DIGITS[10 + rest] + word


def _bond_stereo(bond: Chem.Bond) -> str:
    return {Chem.BondStereo.STEREOE: "E", Chem.BondStereo.STEREOZ: "Z"}.get(bond.GetStereo(), "N")


def _problem(mol: Chem.Mol, problem: Any) -> str:
    message = problem.Message()
    if hasattr(problem, "GetAtomIdx"):
        index = problem.GetAtomIdx()
        return f"{message} (atom {index + 1} of the SMILES, {mol.GetAtomWithIdx(index).GetSymbol()})"
    return message


@contextmanager
def rdkit_log() -> Iterator[list[str]]:
    """Collect what RDKit logs instead of letting it reach the terminal."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.getLogger("rdkit")
    rdBase.LogToPythonLogger()
    before, propagate = list(logger.handlers), logger.propagate
    logger.handlers, logger.propagate = [Keep()], False
    try:
        yield lines
    finally:
        logger.handlers, logger.propagate = before, propagate
        rdBase.LogToCppStreams()


def _reason(lines: list[str]) -> str:
    text = (_LOG_PREFIX.sub("", line).strip() for line in "\n".join(lines).splitlines())
    kept = [line.rstrip(":") for line in text if line.strip("~^ ") and "Failed parsing" not in line]
    return "; ".join(dict.fromkeys(kept)) or "RDKit gives no reason"


def _list(numbers: list[int]) -> str:
    return ("atom " if len(numbers) == 1 else "atoms ") + ", ".join(map(str, numbers))
