"""Frames of single atoms, bonds between tokens and representative atoms, on molecules small enough to see."""

from dataclasses import replace

import numpy as np
import pytest

from foldline.chem.components import Components
from foldline.chem.conformer import Conformer
from foldline.errors import InputError
from foldline.features.build import FeatureSet, build_features
from foldline.features.tokens import make_tokens
from foldline.inputs import AtomRef, Job, Ligand, Modification, Polymer, Text
from foldline.structure.atoms import Topology
from foldline.tensors import Features


@pytest.fixture(scope="module")
def components() -> Components:
    return Components.open()


def protein(sequence: str, *ids: str) -> Polymer:
    return Polymer("protein", ids, sequence, unpaired_msa=Text(""), paired_msa=Text(""), templates=())


def carbon_dioxide(components: Components, bend: float, *, mask: tuple[bool, ...] = (True,) * 3) -> Features:
    """CO2 bent by `bend` degrees, in the dictionary's order C O1 O2."""
    angle = np.deg2rad(bend)
    pos = np.array([[0, 0, 0], [-1.2, 0, 0], [1.2 * np.cos(angle), 1.2 * np.sin(angle), 0]], np.float32)
    given = {"CO2": Conformer(np.array(["C", "O1", "O2"]), pos, np.array(mask))}
    return build_features(
        Job("co2", (1,), (Ligand(("A",), ("CO2",)),)), components=components, conformers=given
    ).features


@pytest.mark.parametrize(
    ("bend", "framed"), [(0, False), (20, False), (24, False), (26, True), (90, True), (154, True)]
)
def test_a_frame_needs_an_angle_of_25_degrees(components: Components, bend: float, framed: bool) -> None:
    assert bool(carbon_dioxide(components, bend).has_frame[0]) == framed


def test_no_frame_on_an_atom_that_the_conformer_lacks(components: Components) -> None:
    assert not carbon_dioxide(components, 90, mask=(True, False, True)).has_frame.any()


def test_reference_positions_are_centred_per_residue(components: Components) -> None:
    features = carbon_dioxide(components, 90)
    np.testing.assert_allclose(features.ref_pos.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(features.ref_pos[0] - features.ref_pos[1]), 1.2, rtol=1e-6)


def bonded(components: Components) -> FeatureSet:
    bonds = (
        (AtomRef("A", 1, "SG"), AtomRef("A", 3, "SG")),
        (AtomRef("A", 1, "CA"), AtomRef("A", 2, "CB")),
        (AtomRef("A", 4, "ND2"), AtomRef("C", 1, "C1")),
    )
    entities = (protein("CACN", "A", "B"), Ligand(("C",), ("NAG",)))
    return build_features(Job("bonds", (1,), entities, bonds=bonds), components=components)


def test_bonds_between_tokens_are_those_that_the_sequence_does_not_tell(components: Components) -> None:
    """A disulphide across two residues and a glycan are kept, a bond of neighbours and the peptide bonds are not."""
    pairs = {tuple(pair) for pair in bonded(components).features.bond_tokens.tolist()}
    polymer = {pair for pair in pairs if max(pair) < 8}
    assert polymer == {(0, 2), (2, 0)}
    crossing = {pair for pair in pairs if min(pair) < 8 <= max(pair)}
    assert len(crossing) == 2 and {min(pair) for pair in crossing} == {3}
    assert all((j, i) in pairs for i, j in pairs)


def test_a_polymer_of_odd_components_is_no_ligand(components: Components) -> None:
    """Whatever its components link into: the job says what a chain is."""
    entities = (
        replace(protein("AG", "A"), modifications=(Modification("BTN", 2),)),
        Ligand(("B",), ("BTN",)),
    )
    made = build_features(Job("odd", (1,), entities), components=components)
    in_protein = made.topology.atom_chain == 0
    assert (made.topology.res_kind[made.topology.atom_res[in_protein]] == "ligand").mean() > 0.5
    assert made.features.is_ligand.tolist() == (~in_protein).tolist()


def test_representative_atoms(components: Components) -> None:
    entities = (
        protein("GAW", "A"),
        Polymer("dna", ("B",), "ACGT"),
        Polymer("rna", ("C",), "UN", unpaired_msa=Text("")),
    )
    one = build_features(Job("rep", (1,), entities), components=components)
    names = one.topology.atom_name[one.features.rep_atom].tolist()
    assert names == ["CA", "CB", "CB", "C4", "C2", "C4", "C2", "C2", "C1'"]


def test_a_standard_residue_with_a_foreign_atom_is_named(components: Components) -> None:
    topology: Topology = bonded(components).topology
    names = topology.atom_name.copy()
    names[1] = "QQ"
    changed = replace(topology, atom_name=names)
    with pytest.raises(InputError, match="residue CYS 1 of chain A holds 'QQ'"):
        make_tokens(changed)


def test_an_atom_of_no_known_element_is_named(components: Components) -> None:
    component = components.require("CO2")
    odd = replace(component, code="ODD", element=np.array(["C", "O", "ZZ"]), source="user")
    given = {"ODD": Conformer(component.atom_name, np.eye(3, dtype=np.float32), np.ones(3, bool))}
    job = Job("odd", (1,), (Ligand(("A",), ("ODD",)),))
    with pytest.raises(InputError, match="'O2' of component 'ODD' in chain A is of no element") as caught:
        build_features(job, components=components.with_user({"ODD": odd}), conformers=given)
    assert caught.value.path == "$.sequences[0].ligand"
