"""One protein chain of a template file as arrays over its residues, those without atoms included.

Knows mmCIF through gemmi; knows no queries and no slots.
"""

from dataclasses import dataclass

import gemmi
import numpy as np

from foldline.chem.residues import MSA_RESTYPE
from foldline.errors import InputError
from foldline.inputs.job import Text
from foldline.inputs.text import read_text

_BACKBONE = ("N", "CA", "C", "CB", "O")
_SIDE_CHAIN = (
    "CG CG1 CG2 OG OG1 SG CD CD1 CD2 ND1 ND2 OD1 OD2 SD CE CE1 CE2 CE3 NE NE1 NE2 OE1 OE2 CH2 NH1 NH2 OH CZ CZ2 CZ3 NZ"
)
ATOMS = (*_BACKBONE, *_SIDE_CHAIN.split(), "OXT")  # atom37 order of AlphaFold 2
N, CA, C, CB = range(4)
_PLACE = {name: place for place, name in enumerate(ATOMS)}


@dataclass(frozen=True)
class TemplateChain:
    """A chain of n residues. Positions are centred on the mean of all its atoms, zero where there is none."""

    letters: str  # one-letter codes, modified residues as their parents
    classes: np.ndarray  # int8 [n], residue classes
    position: np.ndarray  # float32 [n, 37, 3] Å
    mask: np.ndarray  # bool [n, 37]
    notes: tuple[str, ...] = ()

    @property
    def any_atom(self) -> np.ndarray:
        """Which residues have an atom, bool [n]."""
        return np.any(self.mask, axis=1)


def read_template_chain(text: Text, what: str, path: str) -> TemplateChain:
    """The protein chain of a template; of several the first, which a note says.

    Residues are those of the chain's full sequence where the file has one, else those with atoms, in order.

    Raises:
        InputError: the text is no mmCIF or holds no protein.
    """
    content = read_text(text, what)
    source = str(text.path or "")
    try:
        block = gemmi.cif.read_string(content).sole_block()
        structure = gemmi.make_structure_from_block(block)
    except (RuntimeError, ValueError) as fault:
        raise InputError(f"{what} is not a readable mmCIF ({fault})", path=f"{path}.mmcif", source=source) from fault
    if not len(structure) or not structure[0].count_atom_sites():
        raise InputError(f"{what} holds no atoms", path=f"{path}.mmcif", source=source)
    structure.setup_entities()
    chains = [
        (sub.subchain_id(), sub) for chain in structure[0] for sub in chain.subchains() if _is_protein(structure, sub)
    ]
    if not chains:
        raise InputError(f"{what} holds no protein chain", path=f"{path}.mmcif", source=source)
    notes = (f"{what}: chain {chains[0][0]} of {len(chains)} protein chains is used",) if len(chains) > 1 else ()
    names, numbers, residues = _residues(structure, chains[0][1])
    position = np.zeros((len(names), len(ATOMS), 3), np.float32)
    mask = np.zeros((len(names), len(ATOMS)), bool)
    for number, residue in zip(numbers, residues, strict=True):
        _add_atoms(residue, position[number], mask[number])
    if mask.any():
        position[mask] -= position[mask].mean(axis=0)
    letters = "".join(map(_letter, names))
    classes = MSA_RESTYPE["protein"][np.frombuffer(letters.encode(), np.uint8)]
    return TemplateChain(letters, classes, position, mask, notes)


def _is_protein(structure: gemmi.Structure, chain: gemmi.ResidueSpan) -> bool:
    entity = structure.get_entity_of(chain)
    if entity is None or entity.entity_type != gemmi.EntityType.Polymer:
        return False
    kind = entity.polymer_type
    if kind == gemmi.PolymerType.Unknown:
        kind = chain.check_polymer_type()
    return kind in (gemmi.PolymerType.PeptideL, gemmi.PolymerType.PeptideD)


def _residues(structure: gemmi.Structure, chain: gemmi.ResidueSpan) -> tuple[list[str], list[int], list[gemmi.Residue]]:
    """Names of the full sequence, and for every residue with atoms its place in it."""
    present = list(chain.first_conformer())
    entity = structure.get_entity_of(chain)
    names = [gemmi.Entity.first_mon(name) for name in entity.full_sequence]
    numbers = [residue.label_seq for residue in present]
    if not names or any(number is None or not 1 <= number <= len(names) for number in numbers):
        return [residue.name for residue in present], list(range(len(present))), present
    return names, [number - 1 for number in numbers if number is not None], present


def _add_atoms(residue: gemmi.Residue, position: np.ndarray, mask: np.ndarray) -> None:
    """Write the atoms of one residue; of alternatives the one with the highest occupancy."""
    best: dict[int, float] = {}
    for atom in residue:
        name = "SD" if atom.name == "SE" and residue.name == "MSE" else atom.name
        place = _PLACE.get(name)
        if place is None or atom.occ <= best.get(place, -1.0):
            continue
        best[place] = atom.occ
        position[place] = atom.pos.tolist()
        mask[place] = True


def _letter(name: str) -> str:
    info = gemmi.find_tabulated_residue(name)
    return info.one_letter_code.upper() if info.is_amino_acid() and info.one_letter_code.strip() else "X"
