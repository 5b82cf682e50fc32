"""Topologies: equal to recorded ones of upstream Protenix, and what it gets wrong or refuses."""

import json
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foldline.chem.component import Component
from foldline.chem.components import Components
from foldline.chem.conformer import Conformer
from foldline.chem.molecules import clean_charges
from foldline.errors import InputError
from foldline.structure.assemble import assemble
from foldline.structure.atoms import Topology
from foldline.structure.entities import EntitySpec

RECORDED = json.loads((Path(__file__).parent / "upstream_topologies.json").read_text())["cases"]


def named_positions(component: Component) -> Conformer:
    """A conformer, in another order, whose positions follow from component code and atom name alone."""
    names = component.atom_name[component.heavy][::-1]
    seeds = [zlib.crc32(f"{component.code} {name}".encode()) for name in names.tolist()]
    pos = np.array([[seed % 97, seed // 97 % 89, seed // 8633 % 83] for seed in seeds], np.float32)
    return Conformer(names, pos, np.ones(len(names), bool))


class End(NamedTuple):
    chain_id: str
    residue: int
    atom: str


def protein(sequence: str, modifications: dict[int, str] | None = None, ids: str = "A") -> EntitySpec:
    return EntitySpec("protein", tuple(ids), sequence, modifications or {}, path="$.sequences[0].protein")


def ligand(*codes: str, ids: str = "L") -> EntitySpec:
    return EntitySpec("ligand", tuple(ids), ccd_codes=codes, path="$.sequences[1].ligand")


def build(components: Components, *entities: EntitySpec, bonds: list[tuple[End, End]] | None = None) -> Topology:
    return assemble(entities, bonds or [], components, named_positions)


def atoms_of(top: Topology, chain: str, residue: int) -> list[str]:
    here = (top.chain_id[top.atom_chain] == chain) & (top.res_id[top.atom_res] == residue)
    return top.atom_name[here].tolist()


def bonds_of(top: Topology) -> set[frozenset[str]]:
    names = [
        f"{top.chain_id[top.res_chain[r]]}{top.res_id[r]}.{name}"
        for r, name in zip(top.atom_res.tolist(), top.atom_name.tolist(), strict=True)
    ]
    return {frozenset((names[a], names[b])) for a, b in top.bond_atoms.tolist()}


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["name"])
def test_equals_upstream_atom_for_atom(case: dict, components: Components) -> None:
    entities = [
        EntitySpec(
            kind=entity["kind"],
            chain_ids=tuple(entity["chain_ids"]),
            sequence=entity.get("sequence", ""),
            modifications={int(key): code for key, code in entity.get("modifications", {}).items()},
            ccd_codes=tuple(entity.get("ccd_codes", ())),
            smiles=entity.get("smiles"),
        )
        for entity in case["entities"]
    ]
    top = assemble(entities, [(End(*a), End(*b)) for a, b in case["bonds"]], components, cleaned_charges)
    residues: list[list[str]] = []
    for res, name, element, charge in zip(top.atom_res, top.atom_name, top.element, top.charge, strict=True):
        head = f"{top.chain_id[top.res_chain[res]]} {top.res_id[res]} {top.res_name[res]}"
        if not residues or residues[-1][0] != head:
            residues.append([head, ""])
        word = f"{name}:{element}" + (f":{charge}" if charge else "")
        residues[-1][1] = f"{residues[-1][1]} {word}".strip()
    ours = [[head.replace(f"LIG_{head[0]}", "l01"), atoms] for head, atoms in residues]
    assert ours == [list(row) for row in case["residues"]]
    pairs = [(int(a), int(a) + int(step)) for a, step in (word.split("+") for word in case["atom_pairs"].split())]
    assert sorted(map(tuple, top.bond_atoms.tolist())) == pairs


def cleaned_charges(component: Component) -> Conformer:
    plain = named_positions(component)
    charge = clean_charges(component)[component.heavy][::-1]
    return Conformer(plain.atom_names, plain.pos, plain.mask, charge)


def test_chains_of_equal_content_are_copies_of_one_entity_wherever_they_are_listed(components: Components) -> None:
    once = build(components, protein("GSAK", ids="AB"), ligand("NAG", ids="C"))
    apart = build(components, protein("GSAK"), ligand("NAG", ids="C"), protein("GSAK", ids="B"))
    assert apart.chain_given.tolist() == [0, 1, 2] and apart.chain_entity.tolist() == [0, 1, 0]
    assert apart.chain_copy.tolist() == [0, 0, 1]
    assert once.chain_given.tolist() == once.chain_entity.tolist() == [0, 0, 1]
    different = (
        *(protein("GSAK"), protein("GSAK", {2: "SEP"}, ids="B"), EntitySpec("dna", ("C",), "GA")),
        *(EntitySpec("rna", ("D",), "GA"), ligand("MG", ids="E"), EntitySpec("ligand", ("F",), smiles="[Mg+2]")),
    )
    assert build(components, *different).chain_entity.tolist() == [0, 1, 2, 3, 4, 5]


def test_columns_of_a_job_with_every_entity_type(components: Components) -> None:
    top = build(
        components,
        protein("GSAK", {2: "SEP"}, ids="AB"),
        EntitySpec("dna", ("C",), "AT"),
        EntitySpec("rna", ("D",), "GU"),
        ligand("NAG", "BMA", ids="E"),
        EntitySpec("ligand", ("F", "G"), smiles="CC(=O)[O-]"),
        ligand("MG", ids="H"),
    )
    assert top.chain_id.tolist() == list("ABCDEFGH")
    assert top.chain_kind.tolist() == ["protein"] * 2 + ["dna", "rna"] + ["ligand"] * 4
    assert top.chain_given.tolist() == top.chain_entity.tolist() == [0, 0, 1, 2, 3, 4, 4, 5]
    assert top.chain_copy.tolist() == [0, 1, 0, 0, 0, 0, 1, 0]
    assert top.res_name.tolist() == [
        *["GLY", "SEP", "ALA", "LYS"] * 2,
        *["DA", "DT", "G", "U", "NAG", "BMA", "LIG_F", "LIG_F", "MG"],
    ]
    assert top.res_id.tolist() == [1, 2, 3, 4] * 2 + [1, 2, 1, 2, 1, 2, 1, 1, 1]
    assert top.res_modified.tolist() == [False, True, False, False] * 2 + [False] * 9
    assert top.res_parent.tolist() == list("GSAK") * 2 + list("ATGU") + [""] * 5
    assert top.res_kind.tolist() == ["protein"] * 8 + ["dna"] * 2 + ["rna"] * 2 + ["ligand"] * 5
    assert top.charge[top.res_name[top.atom_res] == "LIG_F"].tolist() == [0, 0, 0, -1] * 2
    assert top.charge[-1] == 2
    assert top.element[-1] == "MG"
    for name in ("charge", "ref_pos", "ref_mask", "atom_name", "element"):
        assert len(getattr(top, name)) == top.n_atom == len(top.atom_res)


def test_reference_positions_follow_the_atom_names(components: Components) -> None:
    top = build(components, protein("MK", {1: "MSE"}), ligand("ATP"))
    for residue in range(len(top.res_name)):
        code = ["MSE", "LYS", "ATP"][residue]
        component = components.require(code)
        conformer = named_positions(component)
        expected = dict(zip(conformer.atom_names.tolist(), conformer.pos.tolist(), strict=True))
        here = top.atom_res == residue
        names = ["SE" if code == "MSE" and name == "SD" else name for name in top.atom_name[here].tolist()]
        assert top.ref_pos[here].tolist() == [expected[name] for name in names]


def test_an_atom_without_a_conformer_has_a_false_mask_and_zeros(components: Components) -> None:
    def headless(component: Component) -> Conformer:
        full = named_positions(component)
        keep = full.atom_names != "CB"
        return Conformer(full.atom_names[keep], full.pos[keep] + 1, full.mask[keep])

    top = assemble([protein("AG")], [], components, headless)
    assert top.atom_name[~top.ref_mask].tolist() == ["CB"]
    assert not top.ref_pos[~top.ref_mask].any()


def test_selenomethionine_of_a_polymer_becomes_methionine_and_of_a_ligand_does_not(components: Components) -> None:
    top = build(components, protein("AMA", {2: "MSE"}), ligand("MSE"))
    assert top.res_name.tolist() == ["ALA", "MET", "ALA", "MSE"]
    assert not top.res_modified.any()
    assert set(zip(top.atom_name.tolist(), top.element.tolist(), strict=True)) >= {("SD", "S"), ("SE", "SE")}
    assert top.res_parent[1] == "M"


@pytest.mark.parametrize(("first", "last"), [("ACE", "NME"), ("FOR", "NH2")])
def test_caps_are_bonded_and_take_the_leaving_atom(components: Components, first: str, last: str) -> None:
    top = build(components, protein("XAGX", {1: first, 4: last}))
    assert {frozenset(("A1.C", "A2.N")), frozenset(("A3.C", "A4.N"))} <= bonds_of(top)
    assert "OXT" not in top.atom_name
    assert top.notes == ()
    assert top.res_kind.tolist() == ["ligand", "protein", "protein", "ligand"]


def test_a_residue_that_cannot_be_bonded_is_said(components: Components) -> None:
    top = build(components, protein("AGA", {2: "BEN"}))
    assert [note.split(":")[0] for note in top.notes] == ["chain A", "chain A"]
    assert "GLY" not in top.res_name


def test_rare_letters(components: Components) -> None:
    top = build(components, protein("UOBZJX"))
    assert top.res_name.tolist() == ["SEC", "PYL", "UNK", "UNK", "UNK", "UNK"]
    assert [note.split(": ")[1] for note in top.notes] == [
        f"letter {letter} at {place} is built as UNK" for letter, place in (("B", 3), ("J", 5), ("Z", 4))
    ]
    rna = build(components, EntitySpec("rna", ("R",), "ACGUNXIRY"))
    assert rna.res_name.tolist() == ["A", "C", "G", "U", "N", "N", "I", "N", "N"]
    assert len(rna.notes) == 2


@pytest.mark.parametrize(
    ("entity", "words"),
    [
        (EntitySpec("rna", ("R",), "ACGT", path="$.s"), ["$.s.sequence", "position 4", "write U"]),
        (EntitySpec("protein", ("P",), "AC*D", path="$.s"), ["$.s.sequence", "position 3", "'*'"]),
        (EntitySpec("dna", ("D",), "ACd", path="$.s"), ["position 3", "'d'"]),
        (EntitySpec("protein", ("P",), "", path="$.s"), ["$.s.sequence", "empty"]),
        (
            EntitySpec("protein", ("P",), "AC", {3: "SEP"}, path="$.s"),
            ["$.s.modifications[0]", "position 3", "2 residues"],
        ),
        (EntitySpec("protein", ("P",), "AC", {1: "SEPX"}, path="$.s"), ["$.s.modifications[0]", "'SEPX'", "20"]),
        (EntitySpec("ligand", ("L",), ccd_codes=("ATP", "QQQQQ"), path="$.s"), ["$.s.ccdCodes[1]", "'QQQQQ'"]),
        (EntitySpec("ligand", ("L",), smiles="C1CC", path="$.s"), ["$.s.smiles", "unclosed ring"]),
    ],
)
def test_bad_entities(components: Components, entity: EntitySpec, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        build(components, entity)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("bond", "words"),
    [
        ((End("A", 2, "ND3"), End("L", 1, "C1")), ["$.bondedAtomPairs[0][0]", "ASN 2", "'ND3'", "ND2", "OD1"]),
        ((End("A", 2, "ND2"), End("Q", 1, "C1")), ["$.bondedAtomPairs[0][1]", "'Q'", "A, L"]),
        ((End("A", 4, "ND2"), End("L", 1, "C1")), ["$.bondedAtomPairs[0][0]", "1 to 3", "4"]),
        ((End("A", 0, "N"), End("L", 1, "C1")), ["1 to 3"]),
        ((End("A", 1, "OXT"), End("L", 1, "C1")), ["left for a bond along the chain"]),
        ((End("L", 1, "C1"), End("L", 1, "C1")), ["itself"]),
    ],
)
def test_bad_bonds(components: Components, bond: tuple[End, End], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        build(components, protein("ANG"), ligand("NAG"), bonds=[bond])
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_glycan_bond_takes_one_oxygen_of_the_bonded_copy_only(components: Components) -> None:
    top = build(
        components, protein("ANG", ids="AB"), ligand("NAG", ids="LM"), bonds=[(End("B", 2, "ND2"), End("M", 1, "C1"))]
    )
    assert "O1" in atoms_of(top, "L", 1)
    assert "O1" not in atoms_of(top, "M", 1)
    assert frozenset(("B2.ND2", "M1.C1")) in bonds_of(top)
    assert top.bond_declared.sum() == 1
    assert top.bond_atoms[top.bond_declared].tolist() == [
        [
            int(np.flatnonzero((top.atom_name == "ND2") & (top.chain_id[top.atom_chain] == "B"))[0]),
            int(np.flatnonzero((top.atom_name == "C1") & (top.chain_id[top.atom_chain] == "M"))[0]),
        ]
    ]


def test_bonds_of_every_kind(components: Components) -> None:
    """Disulfide, head to tail, and a thiol on a SMILES ligand."""
    top = build(
        components,
        protein("CAGC"),
        EntitySpec("ligand", ("S",), smiles="C=CC(N)=O"),
        bonds=[(End("A", 1, "N"), End("A", 4, "C")), (End("A", 1, "SG"), End("S", 1, "C1"))],
    )
    assert {frozenset(("A1.N", "A4.C")), frozenset(("A1.SG", "S1.C1"))} <= bonds_of(top)
    assert "OXT" not in top.atom_name  # the ring takes it
    assert top.bond_declared.sum() == 2


def test_a_leaving_group_is_chosen_in_dictionary_order_and_never_a_bonded_atom(components: Components) -> None:
    # phosphate of a chain's first nucleotide has one leaving oxygen; two bonds on P take no second group
    rna = EntitySpec("rna", ("R",), "AC")
    once = build(components, rna, ligand("ETA"), bonds=[(End("R", 1, "P"), End("L", 1, "O"))])
    assert "OP3" not in atoms_of(once, "R", 1)
    kept = build(
        components,
        rna,
        ligand("ETA"),
        bonds=[(End("R", 1, "P"), End("L", 1, "O")), (End("R", 1, "OP3"), End("L", 1, "CA"))],
    )
    assert "OP3" in atoms_of(kept, "R", 1)


@pytest.mark.parametrize(
    ("entity", "gone", "kept"),
    [
        (protein("GGG", {2: "9NE"}), "OXT", "O"),  # the dictionary lists O before OXT
        (protein("GGG", {2: "05N"}), "OXT", "O"),
        (EntitySpec("dna", ("A",), "AAA", {2: "6FK"}), "OP3", "OP1"),
        (EntitySpec("rna", ("A",), "AAA", {2: "2AU"}), "OP3", "OP2"),
    ],
)
def test_along_a_chain_the_terminal_oxygen_leaves(
    components: Components, entity: EntitySpec, gone: str, kept: str
) -> None:
    top = build(components, entity)
    groups = components.require(entity.modifications[2]).leaving_groups
    assert any({(gone,), (kept,)} <= set(choice) for choice in groups.values())
    names = top.atom_name[top.res_id[top.atom_res] == 2].tolist()
    assert gone not in names
    assert kept in names


def test_repeated_bonds_are_used_once_and_said(components: Components) -> None:
    bond = (End("A", 2, "ND2"), End("L", 1, "C1"))
    top = build(
        components,
        protein("ANG"),
        ligand("NAG"),
        bonds=[bond, bond[::-1], (End("A", 1, "C"), End("A", 2, "N")), (End("L", 1, "C1"), End("L", 1, "C2"))],
    )
    assert top.bond_declared.sum() == 1
    assert len(top.notes) == 3
    assert len({tuple(pair) for pair in top.bond_atoms.tolist()}) == len(top.bond_atoms)


@pytest.mark.parametrize(("code", "kind"), [("ALA", "protein"), ("GDP", "rna"), ("DU", "dna")])
def test_an_amino_acid_given_as_a_ligand_is_a_ligand(components: Components, code: str, kind: str) -> None:
    """So is GDP, which the dictionary has as a nucleotide."""
    assert components.require(code).kind == kind
    top = build(components, protein("AG"), ligand(code))
    assert top.res_kind.tolist() == ["protein", "protein", "ligand"]
    assert top.res_parent.tolist() == ["A", "G", ""]
    part = components.require(code)
    assert atoms_of(top, "L", 1) == part.atom_name[part.heavy].tolist()


def test_what_upstream_cannot_build(components: Components) -> None:
    """No ideal coordinates, a leaving group on two atoms, and no bond at all."""
    no_ideal, shared = components.require("CPO"), components.require("6LL")
    assert np.isnan(no_ideal.ideal).any()
    top = build(components, protein("AC"), ligand("6LL"), bonds=[(End("A", 2, "SG"), End("L", 1, "MO1"))])
    lost = set(shared.atom_name[shared.heavy].tolist()) - set(top.atom_name[top.res_name[top.atom_res] == "6LL"])
    assert lost == {"O13"}
    alone = build(components, ligand("CPO"), ligand("MG", ids="M"))
    assert alone.atom_name.tolist()[-1] == "MG"
    assert build(components, ligand("MG", "HOH", ids="MN")).bond_atoms.shape == (0, 2)


def test_fallback_conformers_are_said(components: Components) -> None:
    def ideal(component: Component) -> Conformer:
        full = named_positions(component)
        return Conformer(full.atom_names, full.pos, full.mask, method="ideal")

    top = assemble([ligand("HEM")], [], components, ideal)
    assert top.notes == (
        "component HEM: RDKit finds no conformer; the reference positions are the dictionary's ideal coordinates",
    )


def test_a_component_without_a_conformer_is_named_with_its_place(components: Components) -> None:
    def none(component: Component) -> Conformer:
        if component.code == "ATP":
            raise InputError("no conformer")
        return named_positions(component)

    with pytest.raises(InputError) as caught:
        assemble([protein("AG"), ligand("MG", "ATP")], [], components, none)
    assert str(caught.value) == "$.sequences[1].ligand: no conformer"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["protein", "dna", "rna"]), data=st.data())
def test_any_polymer_is_one_connected_molecule_with_its_end_atoms(
    kind: str, data: st.DataObject, components: Components
) -> None:
    letters = {"protein": "ACDEFGHIKLMNPQRSTVWYXUO", "dna": "ACGTNI", "rna": "ACGUNI"}[kind]
    sequence = data.draw(st.text(letters, min_size=1, max_size=40))
    top = build(components, EntitySpec(kind, ("A",), sequence))
    label = np.arange(top.n_atom)
    for _ in range(top.n_atom):  # connected components by spreading the smallest label
        before = label.copy()
        np.minimum.at(label, top.bond_atoms[:, 0], before[top.bond_atoms[:, 1]])
        np.minimum.at(label, top.bond_atoms[:, 1], before[top.bond_atoms[:, 0]])
        if (label == before).all():
            break
    assert not label.any()
    ends = top.res_id[top.atom_res[top.atom_name == ("OXT" if kind == "protein" else "OP3")]]
    assert ends.tolist() == [len(sequence) if kind == "protein" else 1]
    within = list(zip(top.atom_res.tolist(), top.atom_name.tolist(), strict=True))
    assert len(set(within)) == len(within)
