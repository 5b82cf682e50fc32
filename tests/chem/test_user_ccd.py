"""The userCCD field: what is forgiven and what is named."""

import numpy as np
import pytest

from foldline.chem.user_ccd import read_user_ccd
from foldline.errors import InputError

TEXT = """data_OWN1
_chem_comp.id OWN1
_chem_comp.name 'my acid'
_chem_comp.type 'L-PEPTIDE LINKING'
_chem_comp.one_letter_code S
_chem_comp.mon_nstd_parent_comp_id SER
loop_
_chem_comp_atom.comp_id
_chem_comp_atom.atom_id
_chem_comp_atom.type_symbol
_chem_comp_atom.charge
_chem_comp_atom.pdbx_leaving_atom_flag
_chem_comp_atom.pdbx_model_Cartn_x_ideal
_chem_comp_atom.pdbx_model_Cartn_y_ideal
_chem_comp_atom.pdbx_model_Cartn_z_ideal
OWN1 "C1'" C 0 N 0.0 0.0 0.0
OWN1 O1 O . N 1.2 0.0 0.0
OWN1 O2 O -1 Y -0.6 1.1 ?
loop_
_chem_comp_bond.atom_id_1
_chem_comp_bond.atom_id_2
_chem_comp_bond.value_order
_chem_comp_bond.pdbx_aromatic_flag
"C1'" O1 doub N
"C1'" O2 SING N
"""


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "\ufeff" + TEXT,
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "\\n").replace('"', '\\"'),
        TEXT.replace("data_OWN1\n", ""),
        "# a comment\n\n" + TEXT,
    ],
    ids=["plain", "byte order mark", "CRLF", "escaped", "without data_", "comment"],
)
def test_ways_to_write_it(text: str) -> None:
    component = read_user_ccd(text)["OWN1"]
    assert component.atom_name.tolist() == ["C1'", "O1", "O2"]
    assert component.charge.tolist() == [0, 0, -1]
    assert component.bond_atoms.tolist() == [[0, 1], [0, 2]]
    assert component.bond_order.tolist() == [2, 1]
    assert component.leaving_groups == {"C1'": (("O2",),)}
    assert (component.name, component.kind, component.one_letter_code, component.parent) == (
        "my acid",
        "protein",
        "S",
        "SER",
    )
    assert np.isnan(component.ideal[2, 2])
    assert component.ideal[1].tolist() == pytest.approx([1.2, 0.0, 0.0])
    assert np.isnan(component.model).all()


def test_several_components_and_none() -> None:
    two = read_user_ccd(TEXT + TEXT.replace("OWN1", "OWN2"))
    assert list(two) == ["OWN1", "OWN2"]
    assert read_user_ccd(" \n") == {}


def test_an_ion_needs_no_bonds() -> None:
    ion = read_user_ccd(
        "data_QQ\n_chem_comp_atom.atom_id ZN\n_chem_comp_atom.type_symbol Zn\n_chem_comp_atom.charge 2\n"
    )
    assert ion["QQ"].element.tolist() == ["ZN"]
    assert ion["QQ"].kind == "ligand"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data_A\n_chem_comp.id OWN1\n", ["_chem_comp_atom.atom_id", "_chem_comp_atom.type_symbol"]),
        (
            TEXT[: TEXT.index("loop_\n_chem_comp_bond")],
            ["OWN1", "_chem_comp_bond.atom_id_1", "_chem_comp_bond.value_order"],
        ),
        (TEXT.replace("data_OWN1\n_chem_comp.id OWN1\n", "data_\n"), ["_chem_comp.id"]),
        (TEXT.replace("O2 O -1", "O2 O x"), ["_chem_comp_atom.charge", "'x'"]),
        (TEXT.replace("-0.6 1.1", "-0.6 y"), ["Cartn_y_ideal", "'y'"]),
        (TEXT.replace("O2 SING", "O9 SING"), ["O9"]),
        (TEXT.replace("O1 O .", "O1 Qq ."), ["type_symbol", "'QQ'"]),
        (TEXT.replace("OWN1 O2", "OWN1 O1"), ["twice", "O1"]),
        (TEXT.replace("O2", "LONGO"), ["4", "'LONGO'"]),
        (TEXT + TEXT, ["OWN1"]),
        ("/home/me/ligand.cif", ["not mmCIF", "userCCDPath"]),
        (TEXT.replace("_chem_comp_atom.charge\n", ""), ["not mmCIF"]),
    ],
)
def test_faults_are_named(text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        read_user_ccd(text)
    assert all(word in str(caught.value) for word in ["$.userCCD", *words]), str(caught.value)
