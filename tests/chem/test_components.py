"""The component store: made once, complete, tolerant of case, clear about what it lacks."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from biotite.structure.info.ccd import get_ccd

from foldline.chem import components as store
from foldline.chem.component import Component, polymer_kind
from foldline.chem.components import Components
from foldline.chem.user_ccd import read_user_ccd
from foldline.errors import InputError

USER = """data_OWN1
_chem_comp.id OWN1
loop_
_chem_comp_atom.atom_id
_chem_comp_atom.type_symbol
C1 C
O1 O
loop_
_chem_comp_bond.atom_id_1
_chem_comp_bond.atom_id_2
_chem_comp_bond.value_order
C1 O1 DOUB
"""


def small_columns() -> dict[str, np.ndarray]:
    """A dictionary of one ion, in the layout of the whole."""
    empty = {"bond_start": np.zeros(2, np.int64), "bond_atoms": np.zeros((0, 2), np.int16)}
    empty |= {"bond_order": np.zeros(0, np.int8), "bond_aromatic": np.zeros(0, bool), "bond_stereo": np.zeros(0, "S1")}
    texts = {
        f"{name}_text": np.frombuffer(b"ion", np.uint8)
        for name in ("name", "formula", "type", "one_letter_code", "parent")
    }
    texts |= {name.replace("_text", "_start"): np.array([0, 3]) for name in texts}
    atom = {"atom_name": np.array([b"ZN"]), "alt_atom_name": np.array([b"ZN"]), "element": np.array([b"ZN"])}
    atom |= {"stereo": np.array([b"N"]), "leaving": np.zeros(1, bool), "aromatic": np.zeros(1, bool)}
    atom |= {
        "charge": np.array([2], np.int8),
        "ideal": np.zeros((1, 3), np.float32),
        "model": np.zeros((1, 3), np.float32),
    }
    return {"code": np.array([b"ZN"]), "atom_start": np.array([0, 1]), **empty, **texts, **atom}


class Here:
    """In place of children: runs what they would in this process, where it can be replaced."""

    def __init__(self, _count: int) -> None:
        pass

    def run(self, function: Callable[[Path], None], scratch: Path) -> None:
        function(scratch)

    def close(self) -> None:
        pass


def test_the_store_is_made_once_in_a_versioned_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(store, "Children", Here)
    monkeypatch.setattr(store, "dictionary_columns", lambda: made.append(1) or small_columns())
    for _ in range(2):
        opened = Components.open(tmp_path)
        assert opened.require("zn").charge.tolist() == [2]
    assert made == [1]
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert [path.name.split("-")[0] for path in folders] == ["components"]
    assert folders[0].name.endswith(f"-{store.SCHEMA}")


def test_a_half_made_store_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, np.ndarray]:
        raise OSError("no space left on device")

    monkeypatch.setattr(store, "Children", Here)
    monkeypatch.setattr(store, "dictionary_columns", broken)
    with pytest.raises(InputError, match="no space left on device.*cache_dir"):
        Components.open(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    monkeypatch.setattr(store, "dictionary_columns", small_columns)
    folder = tmp_path / Components.open(tmp_path).folder.name
    (folder / "info.json").unlink()  # as a kill in between would leave it
    assert "ZN" in Components.open(tmp_path)


def test_the_whole_dictionary_is_in_the_store(components: Components) -> None:
    block = get_ccd()
    columns = {path.stem: np.load(path, mmap_mode="r") for path in components.folder.glob("*.npy")}
    assert len(components) == len(columns["code"]) == block["chem_comp"].row_count
    assert len(columns["atom_name"]) == columns["atom_start"][-1] == block["chem_comp_atom"].row_count
    assert len(columns["bond_order"]) == columns["bond_start"][-1] == block["chem_comp_bond"].row_count
    n_atom = np.repeat(np.diff(columns["atom_start"]), np.diff(columns["bond_start"]))
    assert (columns["bond_atoms"] >= 0).all()
    assert (columns["bond_atoms"] < n_atom[:, None]).all()
    assert (columns["code"][:-1] < columns["code"][1:]).all()


def test_the_opened_store_is_what_the_code_makes_now(components: Components) -> None:
    """Fails where the layout changed and SCHEMA did not."""
    made = store.dictionary_columns()
    assert sorted(made) == sorted(path.stem for path in components.folder.glob("*.npy"))
    for name, column in made.items():
        kept = np.load(components.folder / f"{name}.npy", mmap_mode="r")
        assert np.array_equal(kept, column, equal_nan=column.dtype.kind == "f"), name


@pytest.mark.parametrize("code", ["ATP", "HEM", "SEP", "DA", "A1LU6", "FE2"])
def test_a_component_is_that_of_the_dictionary(code: str, components: Components) -> None:
    block = get_ccd()
    component = components.require(code)
    atoms, bonds = block["chem_comp_atom"], block["chem_comp_bond"]
    rows = np.flatnonzero(atoms["comp_id"].as_array(str) == code)
    assert component.atom_name.tolist() == atoms["atom_id"].as_array(str)[rows].tolist()
    assert component.element.tolist() == [text.upper() for text in atoms["type_symbol"].as_array(str)[rows]]
    assert component.charge.tolist() == atoms["charge"].as_array(int)[rows].tolist()
    assert component.leaving.tolist() == (atoms["pdbx_leaving_atom_flag"].as_array(str)[rows] == "Y").tolist()
    ideal = np.stack([atoms[f"pdbx_model_Cartn_{axis}_ideal"].as_array(float)[rows] for axis in "xyz"], axis=1)
    np.testing.assert_allclose(component.ideal, ideal, atol=1e-4)
    rows = np.flatnonzero(bonds["comp_id"].as_array(str) == code)
    orders = {1: "SING", 2: "DOUB", 3: "TRIP"}
    ours = {
        (*component.atom_name[pair].tolist(), orders[order], bool(ring))
        for pair, order, ring in zip(
            component.bond_atoms, component.bond_order.tolist(), component.bond_aromatic, strict=True
        )
    }
    theirs = [
        bonds[name].as_array(str)[rows].tolist()
        for name in ("atom_id_1", "atom_id_2", "value_order", "pdbx_aromatic_flag")
    ]
    assert ours == {(a, b, order, ring == "Y") for a, b, order, ring in zip(*theirs, strict=True)}


def test_head_line_of_a_component(components: Components) -> None:
    component = components.require("SEP")
    assert (component.name, component.formula) == ("PHOSPHOSERINE", "C3 H8 N O6 P")
    assert (component.type, component.kind, component.one_letter_code, component.parent) == (
        "L-PEPTIDE LINKING",
        "protein",
        "S",
        "SER",
    )


@pytest.mark.parametrize(("asked", "code"), [("zn", "ZN"), ("Atp", "ATP"), ("a1lu6", "A1LU6")])
def test_codes_fold_their_case(asked: str, code: str, components: Components) -> None:
    assert components.require(asked) is components.require(code)
    assert asked in components


def test_an_unknown_code_is_answered_with_near_ones_and_the_date(components: Components) -> None:
    with pytest.raises(InputError) as caught:
        components.require("ATPX", path="$.x")
    message = str(caught.value)
    assert message.startswith("$.x: component 'ATPX'")
    assert "ATP" in components.near("ATPX")
    assert components.date in message
    assert "userCCD" in message
    assert components.date >= "2025"


@pytest.mark.parametrize("code", ["", "~QS", "TOOLONGCODE", "É"])
def test_strange_codes_are_unknown(code: str, components: Components) -> None:
    assert components.get(code) is None
    assert code not in components


def test_a_component_without_atoms_is_refused(components: Components) -> None:
    with pytest.raises(InputError, match="'UNL' has no atoms"):
        components.require("UNL")


@pytest.mark.parametrize("code", ["H", "D8U"])
def test_a_component_of_hydrogen_alone_is_refused_at_its_place(code: str, components: Components) -> None:
    with pytest.raises(InputError, match=f"'{code}' has no atom but hydrogen") as caught:
        components.require(code, path="$.sequences[0].ligand.ccdCodes[0]")
    assert caught.value.path == "$.sequences[0].ligand.ccdCodes[0]"


def test_user_components_lie_over_the_dictionary(components: Components) -> None:
    own = read_user_ccd(USER)
    with_user = components.with_user(own | {"ATP": own["OWN1"]})
    assert with_user.require("own1").atom_name.tolist() == ["C1", "O1"]
    assert with_user.require("ATP").source == "user"
    assert components.require("ATP").source == "dictionary"
    assert len(with_user) == len(components) + 1
    assert "OWN1" not in components


@pytest.mark.parametrize(
    ("code", "groups"),
    [
        ("ALA", {"C": (("OXT",),)}),
        ("DA", {"P": (("OP3",),)}),
        ("NAG", {"C1": (("O1",),)}),
        ("RET", {"C15": (("O1",),)}),
        ("ATP", {}),
    ],
)
def test_leaving_groups(code: str, groups: dict[str, tuple], components: Components) -> None:
    assert components.require(code).leaving_groups == groups


def test_a_leaving_group_of_several_atoms_goes_as_one_and_a_bridge_is_none() -> None:
    def make(pairs: list[tuple[int, int]]) -> Component:
        text = USER.replace("C1 C\nO1 O\n", "C1 C N\nC2 C N\nO1 O Y\nO2 O Y\nH1 H Y\n")
        text = text.replace(
            "_chem_comp_atom.type_symbol\n", "_chem_comp_atom.type_symbol\n_chem_comp_atom.pdbx_leaving_atom_flag\n"
        )
        names = ["C1", "C2", "O1", "O2", "H1"]
        bonds = "".join(f"{names[a]} {names[b]} SING\n" for a, b in pairs)
        return read_user_ccd(text.replace("C1 O1 DOUB\n", bonds))["OWN1"]

    assert make([(0, 1), (0, 2), (2, 3), (3, 4)]).leaving_groups == {"C1": (("O1", "O2"),)}
    assert make([(0, 1), (0, 2), (1, 3), (2, 3)]).leaving_groups == {}
    assert make([(0, 1), (0, 3), (0, 2), (0, 4)]).leaving_groups == {"C1": (("O1",), ("O2",))}


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("L-peptide linking", "protein"),
        ("PEPTIDE-LIKE", "ligand"),
        ("DNA OH 3 prime terminus", "dna"),
        ("RNA LINKING", "rna"),
        ("L-RNA LINKING", "rna"),
        ("D-saccharide", "ligand"),
        ("", "ligand"),
    ],
)
def test_polymer_kinds(type_: str, kind: str) -> None:
    assert polymer_kind(type_) == kind


def test_info_says_where_the_store_came_from(components: Components) -> None:
    info = json.loads((components.folder / "info.json").read_text())
    assert info["biotite"] in components.folder.name
