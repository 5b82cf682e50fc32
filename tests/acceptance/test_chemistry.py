"""Ligands, modifications, letters and bonds that have to work: from a job to its topology and features."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_jobs import ccd, dna, job, protein, rna, smiles

from foldline.features.build import FeatureSet
from foldline.structure.atoms import Topology

Featurised = Callable[[Any], FeatureSet]
CYCLOSPORIN = (
    "CC[C@H]1C(=O)N(CC(=O)N([C@H](C(=O)N[C@H](C(=O)N([C@H](C(=O)N[C@H](C(=O)N[C@@H](C(=O)N([C@H](C(=O)N([C@H](C(=O)"
    "N([C@H](C(=O)N([C@H](C(=O)N1)[C@@H]([C@H](C)C/C=C/C)O)C)C(C)C)C)CC(C)C)C)CC(C)C)C)C)C)CC(C)C)C)C(C)C)CC(C)C)C)C"
)
HEME = "CC1=C(CCC(=O)O)C2=CC3=[N+]4C(=CC5=C(C)C(C=C)=C6C=C7C(C)=C(C=C)C8=[N+]7[Fe-2]4(N2C1=C8)N56)C(C)=C3CCC(=O)O"


def chain_of_sugars(count: int, ring: int = 10) -> str:
    """Hexoses, each on the first carbon of the one before."""
    rest = "" if count == 1 else chain_of_sugars(count - 1, ring + 1)[1:]
    return f"O[C@@H]%{ring}[C@@H](CO)O[C@H](O{rest})[C@H](O)[C@H]%{ring}O"


def names(top: Topology, chain: str, residue: int) -> list[str]:
    here = (top.chain_id[top.res_chain] == chain) & (top.res_id == residue)
    return top.atom_name[here[top.atom_res]].tolist()


def bonds(top: Topology) -> set[frozenset[str]]:
    """Bonds between residues, an end written as A1.SG."""

    def end(atom: int) -> str:
        residue = top.atom_res[atom]
        return f"{top.chain_id[top.res_chain[residue]]}{top.res_id[residue]}.{top.atom_name[atom]}"

    outer = top.bond_atoms[top.atom_res[top.bond_atoms[:, 0]] != top.atom_res[top.bond_atoms[:, 1]]]
    return {frozenset((end(a), end(b))) for a, b in outer.tolist()}


def well_placed(made: FeatureSet) -> bool:
    """Every atom has a reference position, and bonded ones of a component are as far apart as bonded atoms are."""
    top = made.topology
    a, b = top.bond_atoms[top.atom_res[top.bond_atoms[:, 0]] == top.atom_res[top.bond_atoms[:, 1]]].T
    apart = np.linalg.norm(top.ref_pos[a] - top.ref_pos[b], axis=1)
    return bool(top.ref_mask.all()) and bool(((apart > 0.9) & (apart < 2.6)).all())


@pytest.mark.parametrize(
    ("chain", "iron"),
    [(ccd("HEM"), 1), (smiles(HEME), 1), (smiles("[Fe]"), 1)],
    ids=["HEM", "heme by SMILES", "iron"],
)
def test_a09_heme_and_iron(featurised: Featurised, chain: dict[str, Any], iron: int) -> None:
    made = featurised(job(chain))
    assert (made.topology.element == "FE").sum() == iron and well_placed(made)


def test_a10_cyclosporin(featurised: Featurised) -> None:
    made = featurised(job(smiles(CYCLOSPORIN)))
    assert made.features.n_token == 85 and well_placed(made)


def test_a11_twelve_sugars_are_never_dropped(featurised: Featurised) -> None:
    made = featurised(job(protein(), smiles(chain_of_sugars(12))))
    assert (made.topology.chain_id[made.topology.atom_chain] == "L").sum() == 11 * 12 + 1 and well_placed(made)


def test_a12_more_than_99_atoms_with_chlorine_silicon_and_bromine(featurised: Featurised) -> None:
    top = featurised(job(smiles("C(Cl)(Cl)" * 52 + "[Si](C)(C)Br"))).topology
    assert top.n_atom > 150 and len(set(top.atom_name.tolist())) == top.n_atom
    assert max(map(len, top.atom_name.tolist())) <= 4
    assert (top.element == "CL").sum() == 104 and {"SI", "BR"} <= set(top.element[100:].tolist())


def test_a13_250_heavy_atoms(featurised: Featurised) -> None:
    made = featurised(job(smiles("NCC(=O)" * 62 + "NC")))
    assert made.features.n_token == 250 and made.topology.ref_mask.all()


@pytest.mark.parametrize("halogen", ["Br", "Cl"])
def test_a14_aryl_halides(featurised: Featurised, halogen: str) -> None:
    made = featurised(job(smiles(f"c1cc({halogen})ccc1O")))
    (at,) = np.flatnonzero(made.topology.element == halogen.upper())
    assert (made.topology.bond_atoms == at).any() and well_placed(made)
    assert made.topology.atom_name[at] == f"{halogen.upper()}1"


@pytest.mark.parametrize(("code", "means"), [("zn", "ZN"), ("hEm", "HEM"), ("A1JBI", "A1JBI")])
def test_a18_codes_in_any_case_and_new_ones(featurised: Featurised, code: str, means: str) -> None:
    assert set(featurised(job(ccd(code))).topology.res_name.tolist()) == {means}


USER = (
    "data_MINE\n_chem_comp.id MINE\n_chem_comp.type non-polymer\nloop_\n_chem_comp_atom.atom_id\n"
    "_chem_comp_atom.type_symbol\n_chem_comp_atom.charge\nC1 C 0\nO1 O 0\nloop_\n_chem_comp_bond.atom_id_1\n"
    "_chem_comp_bond.atom_id_2\n_chem_comp_bond.value_order\nC1 O1 SING\n"
)


@pytest.mark.parametrize("form", ["plain", "BOM", "CRLF", "escaped", "path", "name of a file"])
def test_a19_ways_to_give_a_component(featurised: Featurised, write: Callable[..., Path], form: str) -> None:
    write(USER, "mine.cif")
    texts = {"plain": USER, "BOM": "\ufeff" + USER, "CRLF": USER.replace("\n", "\r\n")}
    texts |= {"escaped": USER.replace("\n", "\\n"), "name of a file": "mine.cif"}
    given = {"userCCDPath": "mine.cif"} if form == "path" else {"userCCD": texts[form]}
    top = featurised(job(ccd("MINE"), **given)).topology
    assert top.atom_name.tolist() == ["C1", "O1"] and top.ref_mask.all()


def test_a20_a_modified_residue_with_the_alignment_of_its_parent(featurised: Featurised) -> None:
    sequence = "MKTAYIAKQRQIK"
    rows = f">q\n{sequence}\n>x\nMRTAYIARQRQIR\n"
    chain = protein(sequence, unpairedMsa=rows, modifications=[{"ptmType": "2OP", "ptmPosition": 13}])
    made = featurised(job(chain))
    assert made.msa_depth == {"A": 2} and made.topology.res_name[12] == "2OP"
    rare = made.features.n_token - 12
    assert rare > 1 and (made.features.msa[-1, 12:] == made.features.msa[-1, 1]).all()  # R in every token of 2OP


def test_a20_a_modification_of_another_residue_is_told_of(featurised: Featurised) -> None:
    """A position counted from 0: predicted as AlphaFold 3 does, but not without a word."""
    right = [{"ptmType": "SEP", "ptmPosition": 2}, {"ptmType": "sec", "ptmPosition": 4}]
    wrong = [{"ptmType": "TPO", "ptmPosition": 3}, {"ptmType": "SEP", "ptmPosition": 5}]
    bases = [{"modificationType": "5CM", "basePosition": number} for number in (2, 3)]
    chain = protein("GSKCX", ["A", "B"], modifications=right + wrong)
    made = featurised(job(chain, dna("ACG", modifications=bases)))
    assert [note for note in made.notes if "is a modified" in note] == [
        f"{place}: look whether that is the right position, counted from 1"
        for place in (
            "chains A, B: position 3 is K, and TPO is a modified THR (T)",
            "chain D: position 3 is G, and 5CM is a modified DC (C)",
        )
    ]
    assert made.topology.res_name[2] == "TPO"


def test_a21_rare_letters(featurised: Featurised) -> None:
    made = featurised(job(protein("MUOBZJXK")))
    assert made.topology.res_name.tolist()[1:7] == ["SEC", "PYL", "UNK", "UNK", "UNK", "UNK"]
    assert any("outside the twenty standard amino acids" in note for note in made.notes)


def test_a22_white_space_and_lower_case(featurised: Featurised) -> None:
    made = featurised(job(protein("mk t\nAY\r\n")))
    assert made.topology.chain_sequence.tolist() == ["MKTAY"]
    assert any("lower-case" in note for note in made.notes) and any("white space" in note for note in made.notes)


@pytest.mark.parametrize(("chain", "code"), [(dna("ACRXN"), "DN"), (rna("ACRXN"), "N")])
def test_a24_ambiguous_bases(featurised: Featurised, chain: dict[str, Any], code: str) -> None:
    made = featurised(job(chain))
    assert made.topology.res_name.tolist()[2:] == [code] * 3
    (note,) = [note for note in made.notes if "ambiguous" in note]
    assert "R at 3" in note and "X at 4" in note


def test_a29_disulfide_between_polymers(featurised: Featurised) -> None:
    made = featurised(job(protein("ACG", ["A", "B"]), bondedAtomPairs=[[["A", 2, "SG"], ["B", 2, "SG"]]]))
    assert frozenset(("A2.SG", "B2.SG")) in bonds(made.topology)


def test_a30_leaving_atoms_of_a_covalent_ligand(foldline: Callable[..., Any], predicted: Callable[..., Any]) -> None:
    pair = [["A", 2, "NZ"], ["L", 1, "C15"]]
    done = predicted(job(protein("AKG"), ccd("RET"), bondedAtomPairs=[pair]))
    text = (done.folder / "job" / "job_model.cif").read_text()
    assert "covale" in text
    ligand = [line.split()[3] for line in text.splitlines() if line.startswith("HETATM") and " RET " in line]
    assert "C15" in ligand and "O1" not in ligand


def test_a31_glycans(featurised: Featurised) -> None:
    """One oxygen is lost per bond; a sugar on its own keeps all."""
    pairs = [[["A", 2, "ND2"], ["G", 1, "C1"]], [["G", 1, "O4"], ["G", 2, "C1"]]]
    chains = protein("ANG"), ccd("NAG", "NAG", ids="G"), ccd("NAG", ids="H")
    top = featurised(job(*chains, bondedAtomPairs=pairs)).topology
    assert {frozenset(("A2.ND2", "G1.C1")), frozenset(("G1.O4", "G2.C1"))} <= bonds(top)
    assert "O1" not in names(top, "G", 1) and "O4" in names(top, "G", 1)
    assert "O1" not in names(top, "G", 2) and "O1" in names(top, "H", 1)


def test_a27_ids_are_kept_as_they_are(featurised: Featurised, write: Callable[..., Path]) -> None:
    content = json.loads(json.dumps(job(ccd("ZN", ids=["HA", "ZZZ", "AA"]))))
    assert featurised(content).topology.chain_id.tolist() == ["HA", "ZZZ", "AA"]
