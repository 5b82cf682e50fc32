"""The residue tables against the dictionary and against each other."""

import numpy as np
import pytest

from foldline.chem.components import Components
from foldline.chem.residues import (
    BACKBONE_ATOMS,
    CENTRE_ATOM,
    FRAME_ATOMS,
    GAP_RESTYPE,
    MSA_RESTYPE,
    REPRESENTATIVE_ATOM,
    RESIDUE_ATOMS,
    RESIDUE_CLASSES,
    RESTYPE,
    SEQUENCE_CODES,
    STANDARD_RESIDUES,
    atom_to_tokatom_idx,
    restype_ids,
)


def test_the_32_classes_stand_in_alphafold_order() -> None:
    assert len(RESIDUE_CLASSES) == 32
    assert [RESTYPE[name] for name in ("ALA", "VAL", "UNK", "A", "N", "DA", "DN", "-")] == [
        0,
        19,
        20,
        21,
        25,
        26,
        30,
        31,
    ]
    assert RESIDUE_CLASSES[21:31] == ("A", "G", "C", "U", "N", "DA", "DG", "DC", "DT", "DN")


@pytest.mark.parametrize("residue", sorted(STANDARD_RESIDUES))
def test_atoms_of_a_standard_residue_are_those_of_the_dictionary(residue: str, components: Components) -> None:
    component = components.require(residue)
    assert set(RESIDUE_ATOMS[residue]) == set(component.atom_name[component.heavy].tolist())
    assert len(RESIDUE_ATOMS[residue]) <= 24
    kind = component.kind
    assert set(BACKBONE_ATOMS[kind]) <= set(RESIDUE_ATOMS[residue])
    for atom in (CENTRE_ATOM[residue], REPRESENTATIVE_ATOM[residue], *FRAME_ATOMS[kind]):
        assert atom in RESIDUE_ATOMS[residue]


def test_representative_atoms() -> None:
    assert [REPRESENTATIVE_ATOM[name] for name in ("GLY", "ALA", "UNK", "DG", "A", "DT", "C", "N", "DN")] == [
        *["CA", "CB", "CB", "C4", "C4", "C2", "C2", "C1'", "C1'"]
    ]


def test_index_within_the_token() -> None:
    assert atom_to_tokatom_idx("SER", np.array(["N", "OG", "OXT"])).tolist() == [0, 5, 6]
    assert atom_to_tokatom_idx("G", ["OP3", "O2'", "C4"]).tolist() == [0, 11, 23]
    assert atom_to_tokatom_idx("SEP", ["N", "P"]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("kind", "letters", "names"),
    [
        ("protein", "ARNDCQEGHILKMFPSTWYVX", RESIDUE_CLASSES[:21]),
        ("protein", "BZUJO*", ("ASP", "GLU", "CYS", "UNK", "UNK", "UNK")),
        ("rna", "AGCUNTRX", ("A", "G", "C", "U", "N", "N", "N", "N")),
        ("dna", "AGCTNUX", ("DA", "DG", "DC", "DT", "DN", "DN", "DN")),
    ],
)
def test_letters_of_alignments(kind: str, letters: str, names: tuple[str, ...]) -> None:
    table = MSA_RESTYPE[kind]
    codes = np.frombuffer(letters.encode(), np.uint8)
    assert [RESIDUE_CLASSES[i] for i in table[codes]] == list(names)
    assert table[ord("-")] == GAP_RESTYPE
    assert table.dtype == np.int8


def test_classes_of_residues_by_their_parents() -> None:
    kinds = ["protein", "protein", "protein", "dna", "dna", "dna", "rna", "rna", "ligand", "ligand"]
    parents = ["S", "U", "X", "A", "I", "U", "U", "I", "", "A"]
    names = ["SER", "UNK", "UNK", "DA", "DN", "DN", "U", "N", "UNK", "UNK"]
    assert [RESIDUE_CLASSES[i] for i in restype_ids(kinds, parents)] == names


@pytest.mark.parametrize("kind", ["protein", "dna", "rna"])
def test_every_letter_of_a_sequence_has_a_component_of_that_kind(kind: str, components: Components) -> None:
    for code in SEQUENCE_CODES[kind].values():
        assert components.require(code).kind == kind
