"""Ligands from SMILES and from files: atoms, names, and refusals that say why."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import AllChem

from foldline.chem.smiles import atom_names, component_of_text
from foldline.errors import InputError


def test_names_elements_charges_and_bonds_follow_the_smiles() -> None:
    ligand = component_of_text("C[N+](C)(C)CC(=O)[O-]", "LIG_A")
    assert ligand.atom_name[ligand.heavy].tolist() == ["C1", "N1", "C2", "C3", "C4", "C5", "O1", "O2"]
    assert ligand.charge[ligand.heavy].tolist() == [0, 1, 0, 0, 0, 0, 0, -1]
    names = ligand.atom_name[ligand.bond_atoms].tolist()
    double = [pair for pair, order in zip(names, ligand.bond_order.tolist(), strict=True) if order == 2]
    assert double == [["C5", "O1"]]
    assert (ligand.code, ligand.kind, ligand.source, ligand.formula) == ("LIG_A", "ligand", "smiles", "C5H11NO2")
    assert ligand.leaving_groups == {}


def test_aromatic_rings_have_kekule_orders_and_a_flag() -> None:
    ring = component_of_text("c1ccccc1", "LIG_A")
    heavy = ring.heavy[ring.bond_atoms].all(axis=1)
    assert sorted(ring.bond_order[heavy].tolist()) == [1, 1, 1, 2, 2, 2]
    assert ring.bond_aromatic[heavy].all()


@pytest.mark.parametrize(
    ("smiles", "elements", "charge"),
    [("[Ca+2]", ["CA"], 2), ("[Na+]", ["NA"], 1), ("[Fe]", ["FE"], 0), ("[Cl-]", ["CL"], -1), ("[Zn++]", ["ZN"], 2)],
)
def test_ions_keep_their_elements(smiles: str, elements: list[str], charge: int) -> None:
    ion = component_of_text(smiles, "LIG_A")
    assert ion.element.tolist() == elements
    assert ion.atom_name.tolist() == [f"{elements[0]}1"]
    assert ion.charge.tolist() == [charge]


def test_halogens_are_bonded_and_named() -> None:
    ligand = component_of_text("Brc1ccc(Cl)cc1", "LIG_A")
    names = {frozenset(pair) for pair in ligand.atom_name[ligand.bond_atoms].tolist()}
    assert {frozenset(("BR1", "C1")), frozenset(("CL1", "C4"))} <= names
    assert ligand.element[ligand.heavy].tolist() == ["BR", "C", "C", "C", "C", "CL", "C", "C"]


def test_a_ligand_with_more_than_99_chlorines_has_short_unique_names() -> None:
    ligand = component_of_text("C(Cl)(Cl)" * 60, "LIG_A")
    names = ligand.atom_name[ligand.heavy].tolist()
    assert len(set(names)) == len(names) == 180
    assert max(map(len, names)) <= 4
    assert [name for name in names if name.startswith("CL")][97:102] == ["CL98", "CL99", "CLA0", "CLA1", "CLA2"]


@given(st.lists(st.sampled_from(["C", "CL", "SI", "H", "BR"]), max_size=400), st.integers(0, 900))
def test_atom_names_are_unique_and_short(elements: list[str], carbons: int) -> None:
    names = atom_names(elements + ["C"] * carbons)
    assert len(set(names)) == len(names)
    assert all(len(name) <= 4 and name.startswith(element) for name, element in zip(names, elements, strict=False))


def test_too_many_atoms_of_an_element() -> None:
    with pytest.raises(InputError, match="BR"):
        atom_names(["BR"] * (99 + 26 * 36 + 1))


def test_the_same_text_and_code_are_one_component() -> None:
    assert component_of_text("CCO", "LIG_B") is component_of_text(" CCO ", "LIG_B")


@pytest.mark.parametrize(
    ("smiles", "words"),
    [
        ("CC(C", ["not a SMILES", "extra open parentheses", "position 3"]),
        ("C1CC", ["not a SMILES", "unclosed ring"]),
        ("***@***", ["not a SMILES", "position 4"]),
        ("CC(Xx)", ["position 4"]),
        ("*CC", ["atom 1", "element"]),
        ("c1cccc1", ["kekulize", "0 1 2 3 4"]),
        ("CN(C)(C)(C)C", ["valence", "N", "atom 2 of the SMILES"]),
        ("CCO.[Na+]", ["2 molecules", "CCO, [Na+]"]),
        ("", ["empty"]),
        ("[H][H]", ["hydrogen"]),
        ("not a smiles", ["not a SMILES"]),
    ],
)
def test_refusals_give_the_reason_and_the_place(
    smiles: str, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError) as caught:
        component_of_text(smiles, "LIG_A", path="$.sequences[1].ligand.smiles")
    assert all(word in str(caught.value) for word in ["$.sequences[1].ligand.smiles", *words]), str(caught.value)
    assert capfd.readouterr() == ("", "")  # RDKit says nothing on its own


@pytest.mark.parametrize("suffix", [".sdf", ".mol", ".pdb"])
def test_a_file_in_the_place_of_a_smiles_is_read(suffix: str, tmp_path: Path) -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles("CC(=O)NC"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    write = {".sdf": Chem.MolToMolFile, ".mol": Chem.MolToMolFile, ".pdb": Chem.MolToPDBFile}[suffix]
    file = tmp_path / f"ligand{suffix}"
    write(mol, str(file))
    ligand = component_of_text(str(file), "LIG_A")
    assert ligand.element[ligand.heavy].tolist() == ["C", "C", "O", "N", "C"]
    assert ligand.source == "file"
    heavy = mol.GetConformer().GetPositions()[:5]
    np.testing.assert_allclose(ligand.model[ligand.heavy], heavy, atol=1e-3)


def test_bad_files(tmp_path: Path) -> None:
    flat = tmp_path / "flat.mol"
    Chem.MolToMolFile(Chem.MolFromSmiles("CCO"), str(flat))
    broken = tmp_path / "broken.sdf"
    broken.write_text("nothing\n")
    for file, word in ((flat, "no 3D"), (broken, "cannot read"), (tmp_path / "x.mol2", "no such file")):
        with pytest.raises(InputError, match=word):
            component_of_text(str(file), "LIG_A")
