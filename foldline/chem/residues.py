"""Tables of the 32 residue classes and of the 31 standard residues: letters, atom order, representative atoms.

Derived from AlphaFold 3 SI tables 2, 3 and 13 and from Protenix (data/constants.py:268-365, core/parser.py:2642-2822).
Knows no chains and no dictionary file.
"""

from collections.abc import Sequence
from functools import cache
from types import MappingProxyType

import numpy as np

# fmt: off
PROTEIN_RESIDUES = (
    "ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE", "LEU", "LYS", "MET", "PHE", "PRO", "SER",
    "THR", "TRP", "TYR", "VAL", "UNK",
)
# fmt: on
RNA_RESIDUES = ("A", "G", "C", "U", "N")
DNA_RESIDUES = ("DA", "DG", "DC", "DT", "DN")
GAP = "-"
RESIDUE_CLASSES = (*PROTEIN_RESIDUES, *RNA_RESIDUES, *DNA_RESIDUES, GAP)
RESTYPE = MappingProxyType({name: index for index, name in enumerate(RESIDUE_CLASSES)})
STANDARD_RESIDUES = frozenset(RESIDUE_CLASSES[:-1])
UNKNOWN_RESTYPE = RESTYPE["UNK"]  # every ligand atom has it
GAP_RESTYPE = RESTYPE[GAP]
UNKNOWN_OF_KIND = MappingProxyType({"protein": "UNK", "rna": "N", "dna": "DN"})

_LETTERS = "ARNDCQEGHILKMFPSTWYVX"
PROTEIN_LETTER = MappingProxyType(dict(zip(PROTEIN_RESIDUES, _LETTERS, strict=True)))  # component -> letter

# Component of a letter in a job's sequence. Protenix fails on U and O of a protein (json_parser.py:33-76).
SEQUENCE_CODES = MappingProxyType(
    {
        "protein": MappingProxyType(dict(zip(_LETTERS, PROTEIN_RESIDUES, strict=True)) | {"U": "SEC", "O": "PYL"}),
        "dna": MappingProxyType(
            {"A": "DA", "G": "DG", "C": "DC", "T": "DT", "X": "DN", "N": "DN", "I": "DI", "U": "DU"}
        ),
        "rna": MappingProxyType({"A": "A", "G": "G", "C": "C", "U": "U", "X": "N", "N": "N", "I": "I"}),
    }
)
AMBIGUOUS_LETTERS = MappingProxyType(
    {"protein": "BZJ", "dna": "RYKMSWBDHV", "rna": "RYKMSWBDHV"}
)  # to the unknown residue

# Residue class of a letter of an alignment row; a letter that is not here is the unknown residue of its kind.
_SAME_AS = {"B": "D", "U": "C", "Z": "E", "J": "X", "O": "X"}


def _msa_table(kind: str) -> np.ndarray:
    unknown = RESTYPE[UNKNOWN_OF_KIND[kind]]
    table = np.full(256, unknown, np.int8)
    if kind == "protein":
        letters = dict(zip(_LETTERS, PROTEIN_RESIDUES, strict=True))
        letters |= {letter: letters[same] for letter, same in _SAME_AS.items()}
    else:
        letters = {name[-1]: name for name in (RNA_RESIDUES if kind == "rna" else DNA_RESIDUES)}
    for letter, name in letters.items():
        table[ord(letter)] = RESTYPE[name]
    table[ord(GAP)] = GAP_RESTYPE
    table.setflags(write=False)
    return table


MSA_RESTYPE = MappingProxyType(
    {kind: _msa_table(kind) for kind in ("protein", "rna", "dna")}
)  # int8 [256], by character code


def restype_ids(kinds: Sequence[str] | np.ndarray, parents: Sequence[str] | np.ndarray) -> np.ndarray:
    """Residue class of each residue's place in the canonical sequence, int32 [n]: from its own kind and parent letter.

    A ligand, and a residue whose component links into no polymer, is UNK; a letter without a class is the unknown
    residue of the kind (Protenix: core/parser.py:2847-2892).
    """
    return np.array([restype_of(str(kind), str(parent)) for kind, parent in zip(kinds, parents, strict=True)], np.int32)


@cache
def restype_of(kind: str, parent: str) -> int:
    """Residue class id of a parent letter within a polymer kind; "ligand" is UNK."""
    if kind == "protein":
        return RESTYPE[dict(zip(_LETTERS, PROTEIN_RESIDUES, strict=True)).get(parent, "UNK")]
    if kind == "dna":
        return RESTYPE.get(f"D{parent}", RESTYPE["DN"]) if parent else RESTYPE["DN"]
    if kind == "rna":
        return RESTYPE[parent] if parent in RNA_RESIDUES else RESTYPE["N"]
    return UNKNOWN_RESTYPE


# Heavy atoms of the standard residues in the order of the atom-in-token index.
_SIDE_CHAINS = {
    "ALA": "CB",
    "ARG": "CB CG CD NE CZ NH1 NH2",
    "ASN": "CB CG OD1 ND2",
    "ASP": "CB CG OD1 OD2",
    "CYS": "CB SG",
    "GLN": "CB CG CD OE1 NE2",
    "GLU": "CB CG CD OE1 OE2",
    "GLY": "",
    "HIS": "CB CG ND1 CD2 CE1 NE2",
    "ILE": "CB CG1 CG2 CD1",
    "LEU": "CB CG CD1 CD2",
    "LYS": "CB CG CD CE NZ",
    "MET": "CB CG SD CE",
    "PHE": "CB CG CD1 CD2 CE1 CE2 CZ",
    "PRO": "CB CG CD",
    "SER": "CB OG",
    "THR": "CB OG1 CG2",
    "TRP": "CB CG CD1 CD2 NE1 CE2 CE3 CZ2 CZ3 CH2",
    "TYR": "CB CG CD1 CD2 CE1 CE2 CZ OH",
    "VAL": "CB CG1 CG2",
    "UNK": "CB CG",
}
_BASES = {
    "A": "N9 C8 N7 C5 C6 N6 N1 C2 N3 C4",
    "G": "N9 C8 N7 C5 C6 O6 N1 C2 N2 N3 C4",
    "C": "N1 C2 O2 N3 C4 N4 C5 C6",
    "U": "N1 C2 O2 N3 C4 O4 C5 C6",
    "T": "N1 C2 O2 N3 C4 O4 C5 C7 C6",
    "N": "",
}
PROTEIN_BACKBONE = ("N", "CA", "C", "O")
DNA_BACKBONE = ("OP3", "P", "OP1", "OP2", "O5'", "C5'", "C4'", "O4'", "C3'", "O3'", "C2'", "C1'")
RNA_BACKBONE = ("OP3", "P", "OP1", "OP2", "O5'", "C5'", "C4'", "O4'", "C3'", "O3'", "C2'", "O2'", "C1'")
BACKBONE_ATOMS = MappingProxyType({"protein": PROTEIN_BACKBONE, "dna": DNA_BACKBONE, "rna": RNA_BACKBONE})
RESIDUE_ATOMS = MappingProxyType(
    {name: (*PROTEIN_BACKBONE, *side.split(), "OXT") for name, side in _SIDE_CHAINS.items()}
    | {name: (*RNA_BACKBONE, *_BASES[name].split()) for name in RNA_RESIDUES}
    | {name: (*DNA_BACKBONE, *_BASES[name[1]].split()) for name in DNA_RESIDUES}
)

# One atom per standard residue. Centre: token centre (SI 2.6). Representative: distogram and confidence heads (SI 4.4).
CENTRE_ATOM = MappingProxyType({name: "CA" if name in PROTEIN_RESIDUES else "C1'" for name in STANDARD_RESIDUES})
REPRESENTATIVE_ATOM = MappingProxyType(
    {name: "CA" if name == "GLY" else "CB" for name in PROTEIN_RESIDUES}
    | dict.fromkeys(("A", "G", "DA", "DG"), "C4")
    | dict.fromkeys(("C", "U", "DC", "DT"), "C2")
    | dict.fromkeys(("N", "DN"), "C1'")
)
# The three atoms of a polymer token's frame, the middle one its origin (SI 4.3.2).
FRAME_ATOMS = MappingProxyType(
    {"protein": ("N", "CA", "C"), "dna": ("C1'", "C3'", "C4'"), "rna": ("C1'", "C3'", "C4'")}
)


@cache
def _token_atom_index(residue: str) -> dict[str, int]:
    return {name: index for index, name in enumerate(RESIDUE_ATOMS[residue])}


def atom_to_tokatom_idx(res_name: str, atom_names: Sequence[str] | np.ndarray) -> np.ndarray:
    """Index of each atom within its token, int32 [n]: its place in RESIDUE_ATOMS, 0 in any other residue."""
    if res_name not in RESIDUE_ATOMS:
        return np.zeros(len(atom_names), np.int32)
    table = _token_atom_index(res_name)
    return np.array([table[str(name)] for name in atom_names], np.int32)
