"""Reference conformers: the ladder, the child process, the cache, and what comes with the package."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from foldline.chem import conformers as room
from foldline.chem.component import Component
from foldline.chem.components import Components
from foldline.chem.conformer import Conformer, as_source
from foldline.chem.conformers import Conformers, EmbeddingLimits, content_key, shipped_codes
from foldline.chem.molecules import clean_charges, molecule_of
from foldline.chem.residues import STANDARD_RESIDUES
from foldline.chem.smiles import component_of_text
from foldline.chem.user_ccd import read_user_ccd
from foldline.errors import InputError


def bond_lengths(component: Component, conformer: Conformer) -> np.ndarray:
    index = {name: row for row, name in enumerate(conformer.atom_names.tolist())}
    heavy = component.bond_atoms[component.heavy[component.bond_atoms].all(axis=1)]
    a, b = ([index[name] for name in component.atom_name[column].tolist()] for column in heavy.T)
    return np.linalg.norm(conformer.pos[a] - conformer.pos[b], axis=1)


@pytest.fixture
def without_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_shipped", dict)


def test_every_standard_residue_is_shipped_with_sound_geometry(components: Components, conformers: Conformers) -> None:
    for code in sorted(STANDARD_RESIDUES):
        component = components.require(code)
        conformer = conformers(component)
        assert conformer.atom_names.tolist() == component.atom_name[component.heavy].tolist()
        assert conformer.mask.all()
        lengths = bond_lengths(component, conformer)
        assert lengths.min() > 1.1, code
        assert lengths.max() < 1.95, code
    assert not list(conformers.folder.glob("*/*")), "a standard residue was made, not taken from the package"


def test_the_shipped_conformers_are_what_this_rdkit_makes(
    components: Components, tmp_path: Path, without_shipped: None
) -> None:
    source = Conformers(tmp_path)
    packed = room.pack_conformers([components.require(code) for code in shipped_codes()], source)
    source.close()
    with np.load(Path(room.__file__).parent / room.SHIPPED_FILE) as shipped:
        for name in ("key", "count", "atom_names", "mask", "charge"):
            assert (packed[name] == shipped[name]).all(), name
        np.testing.assert_allclose(packed["pos"], shipped["pos"], atol=1e-3)


@pytest.mark.parametrize("code", ["ATP", "HEM", "SEP", "NAG"])
def test_components_are_embedded_with_sound_geometry(code: str, components: Components, conformers: Conformers) -> None:
    component = components.require(code)
    conformer = conformers(component)
    assert conformer.method == "etkdg"
    lengths = bond_lengths(component, conformer)
    assert (lengths > 1.1).all()
    assert (lengths < 2.3).all()


def test_stereocentres_of_the_dictionary_are_kept(components: Components, conformers: Conformers) -> None:
    for code, sign in (("ALA", 1), ("DAL", -1)):
        conformer = conformers(components.require(code))
        n, ca, c, cb = (conformer.pos[conformer.atom_names.tolist().index(name)] for name in ("N", "CA", "C", "CB"))
        assert np.sign(np.dot(np.cross(n - ca, c - ca), cb - ca)) == sign, code


def test_enantiomers_by_smiles_differ(conformers: Conformers) -> None:
    volumes = []
    for smiles in ("F[C@](Cl)(Br)I", "F[C@@](Cl)(Br)I"):
        pos = conformers(component_of_text(smiles, "LIG_A")).pos
        volumes.append(np.dot(np.cross(pos[0] - pos[1], pos[2] - pos[1]), pos[3] - pos[1]))
    assert volumes[0] * volumes[1] < 0


def test_an_ion_lies_at_the_origin(components: Components, conformers: Conformers) -> None:
    conformer = conformers(components.require("ZN"))
    assert conformer.pos.tolist() == [[0, 0, 0]]
    assert conformer.mask.all()
    assert conformer.charge is not None
    assert conformer.charge.tolist() == [2]


def test_copies_and_processes_share_one_conformer(components: Components, tmp_path: Path) -> None:
    first = Conformers(tmp_path / "a")
    a = first(components.require("GOL"))
    assert first(components.require("GOL")) is a
    second = Conformers(tmp_path / "b")
    np.testing.assert_array_equal(second(components.require("GOL")).pos, a.pos)
    one, other = (first(component_of_text("CC(=O)OC1CC1", code)) for code in ("LIG_A", "LIG_B"))
    np.testing.assert_array_equal(one.pos, other.pos)
    first.close()
    second.close()


def test_the_disk_cache_is_used_and_survives_damage(
    components: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = components.require("GOL")
    source = Conformers(tmp_path)
    made = source(component)
    (file,) = source.folder.glob("*/*.npz")
    assert file.stem == content_key(component)
    assert not list(source.folder.glob("*/*.tmp"))
    source.close()
    with monkeypatch.context() as patch:
        patch.setattr(room, "molecule_of", lambda component: pytest.fail("made again"))
        again = Conformers(tmp_path)(component)
    np.testing.assert_array_equal(again.pos, made.pos)
    assert (again.method, again.charge.tolist()) == (made.method, made.charge.tolist())  # type: ignore[union-attr]
    file.write_bytes(file.read_bytes()[:100])
    repaired = Conformers(tmp_path)
    np.testing.assert_array_equal(repaired(component).pos, made.pos)
    repaired.close()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_a_hanging_child_is_killed_and_replaced(components: Components, tmp_path: Path) -> None:
    source = Conformers(tmp_path, EmbeddingLimits(seconds=5, limit=1))
    assert source(components.require("GOL")).method == "etkdg"
    process = source._worker._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    assert source(components.require("GLC")).method == "etkdg-random"  # the second rung has a new child
    assert process.poll() is not None
    assert source(components.require("PEG")).method == "etkdg"
    source.close()


@pytest.mark.parametrize(("waiting", "kept"), [("while True: pass", 1), ("time.sleep(60)", 0)])
def test_a_fallback_for_want_of_processor_time_is_not_kept(
    components: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: str, kept: int
) -> None:
    """A conformer must not depend for good on how busy the machine was when it was first needed."""
    child = tmp_path / "child.py"
    child.write_text(f"import sys, time\nfor line in sys.stdin:\n    {waiting}\n")
    monkeypatch.setattr(room.embedding, "__file__", str(child))
    monkeypatch.setattr(room, "_was_fair", lambda used, elapsed: used > 0.05 * elapsed)  # other tests may run beside
    source = Conformers(tmp_path / "cache", EmbeddingLimits(limit=1))
    assert source(components.require("GLC")).method == "ideal"
    assert source(components.require("GLC")).method == "ideal", "one process does not try twice"
    source.close()
    assert len(list(source.folder.glob("*/*.npz"))) == kept


def test_when_no_child_answers_the_ideal_coordinates_are_used(
    components: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = tmp_path / "deaf.py"
    deaf.write_text("import sys\nfor line in sys.stdin:\n    pass\n")
    monkeypatch.setattr(room.embedding, "__file__", str(deaf))
    source = Conformers(tmp_path, EmbeddingLimits(limit=1))
    component = components.require("GLC")
    fallen = source(component)
    assert fallen.method == "ideal"
    np.testing.assert_allclose(fallen.pos, component.ideal[component.heavy])
    source.close()


def test_a_child_that_died_is_replaced(components: Components, tmp_path: Path) -> None:
    source = Conformers(tmp_path)
    source(components.require("GOL"))
    process = source._worker._process
    assert process is not None
    process.kill()
    process.wait()
    assert source(components.require("PEG")).method == "etkdg"
    source.close()


def test_what_rdkit_cannot_sanitise_has_the_ideal_coordinates(components: Components, conformers: Conformers) -> None:
    component = components.require("10S")
    assert molecule_of(component) is None
    conformer = conformers(component)
    assert conformer.method == "ideal"
    np.testing.assert_allclose(conformer.pos, component.ideal[component.heavy])


def user_component(*rows: str, ideal: bool = False) -> Component:
    items = [
        "atom_id",
        "type_symbol",
        *(f"{'pdbx_' if ideal else ''}model_Cartn_{a}{'_ideal' if ideal else ''}" for a in "xyz"),
    ]
    tags = "\n".join(f"_chem_comp_atom.{item}" for item in items)
    bonds = "loop_\n_chem_comp_bond.atom_id_1\n_chem_comp_bond.atom_id_2\n_chem_comp_bond.value_order\n"
    bonds += "".join(f"B1 F{i} SING\n" for i in range(1, len(rows)))
    return read_user_ccd(f"data_BAD\nloop_\n{tags}\n" + "\n".join(rows) + "\n" + bonds)["BAD"]


def test_model_coordinates_come_after_ideal_ones_and_gaps_are_masked(conformers: Conformers) -> None:
    """Boron with seven fluorines: no molecule to RDKit."""
    rows = ["B1 B 0 0 0", *(f"F{i} F {i} 0 {'?' if i == 7 else 0}" for i in range(1, 8))]
    conformer = conformers(user_component(*rows))
    assert conformer.method == "model"
    assert conformer.mask.tolist() == [True] * 7 + [False]
    assert conformer.pos[-1].tolist() == [0, 0, 0]
    assert conformers(user_component(*rows, ideal=True)).method == "ideal"


def test_without_any_coordinates_the_component_is_named(conformers: Conformers) -> None:
    with pytest.raises(InputError, match="'BAD'.*userCCD"):
        conformers(user_component("B1 B ? ? ?", *(f"F{i} F ? ? ?" for i in range(1, 8))))


def test_a_user_component_without_hydrogens_gets_them_for_the_embedding(conformers: Conformers) -> None:
    component = user_component("B1 C ? ? ?", *(f"F{i} C ? ? ?" for i in range(1, 5)))
    mol = molecule_of(component)
    assert mol is not None
    assert mol.GetNumAtoms() == 17
    conformer = conformers(component)
    assert conformer.method == "etkdg"
    np.testing.assert_allclose(bond_lengths(component, conformer), 1.53, atol=0.06)


def test_a_file_ligand_keeps_its_coordinates(tmp_path: Path, conformers: Conformers) -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    conformer = Chem.Conformer(mol.GetNumAtoms())
    for i in range(mol.GetNumAtoms()):
        conformer.SetAtomPosition(i, (float(i), 0.5, 1.0))
    mol.AddConformer(conformer)
    Chem.MolToMolFile(mol, str(tmp_path / "x.mol"))
    found = conformers(component_of_text(str(tmp_path / "x.mol"), "LIG_A"))
    assert found.method == "given"
    assert found.pos.tolist() == [[0, 0.5, 1], [1, 0.5, 1], [2, 0.5, 1]]


def test_charges_are_those_of_the_cleaned_up_molecule(components: Components) -> None:
    perchlorate = components.require("LCP")
    assert perchlorate.charge.tolist() == [0, 0, 0, 0, -1]
    assert clean_charges(perchlorate).tolist() == [3, -1, -1, -1, -1]
    for code in ("ATP", "ARG", "B12"):
        component = components.require(code)
        assert (clean_charges(component) == component.charge).all(), code


def test_an_alkane_too_long_for_the_clock_is_embedded_without_hydrogens(tmp_path: Path) -> None:
    source = Conformers(tmp_path, EmbeddingLimits(seconds=4, limit=20))
    component = component_of_text("C" * 200, "LIG_A")
    conformer = source(component)
    source.close()
    assert conformer.method == "heavy-random"
    assert conformer.mask.all()
    np.testing.assert_allclose(bond_lengths(component, conformer), 1.5, atol=0.25)


def test_large_rings_and_sugars_are_embedded(conformers: Conformers) -> None:
    cyclosporin = (
        "CC[C@H]1C(=O)N(CC(=O)N([C@H](C(=O)N[C@H](C(=O)N([C@H](C(=O)N[C@H](C(=O)N[C@@H](C(=O)N([C@H](C(=O)N([C@H](C(=O)"
        "N([C@H](C(=O)N([C@H](C(=O)N1)[C@@H]([C@H](C)C/C=C/C)O)C)C(C)C)C)CC(C)C)C)CC(C)C)C)C)C)CC(C)C)C)C(C)C)CC(C)C)C)C"
    )
    component = component_of_text(cyclosporin, "LIG_A")
    conformer = conformers(component)
    assert conformer.mask.sum() == component.heavy.sum() == 85
    assert bond_lengths(component, conformer).max() < 1.75


def test_a_mapping_is_a_source(components: Components) -> None:
    component = components.require("ZN")
    given = Conformer(np.array(["ZN"]), np.ones((1, 3), np.float32), np.ones(1, bool))
    assert as_source({"ZN": given})(component) is given
    with pytest.raises(InputError, match="'ATP'"):
        as_source({"ZN": given})(components.require("ATP"))


def test_the_child_needs_nothing_of_the_package() -> None:
    text = Path(room.embedding.__file__).read_text()
    assert "foldline" not in text
    assert sys.executable
