"""Alignments and templates that have to be read: from a job to its features."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest
from small_jobs import ccd, job, protein, rna

from foldline.chem.residues import RESIDUE_CLASSES
from foldline.features.build import FeatureSet

Featurised = Callable[[Any], FeatureSet]
TEMPLATE = Path(__file__).parent / "template.pdb"
QUERY = "MKTAYIAK"


def letters(made: FeatureSet) -> list[str]:
    """Rows of the alignment as classes of residues."""
    return [" ".join(RESIDUE_CLASSES[i] for i in row) for row in made.features.msa.tolist()]


def test_a32_an_untidy_alignment(featurised: Featurised) -> None:
    tidy = featurised(job(protein(unpairedMsa=f">q\n{QUERY}\n>x\nMKaTAYIA-\n>y\nMRTAYIAK\n")))
    text = f"#8\t1\r\n>q\r\n{QUERY}\r\n>x\r\nMKaTA\r\nYIA-\r\n>y\r\nMRTAYIAK\r\n>z\r\nMRTAYIAK\r\n\r\n\0"
    untidy = featurised(job(protein(unpairedMsa=text)))
    assert np.array_equal(tidy.features.msa, untidy.features.msa)
    assert np.array_equal(tidy.features.deletions, untidy.features.deletions)
    assert tidy.features.deletions.max() == 1 and tidy.msa_depth == untidy.msa_depth == {"A": 3}


def test_a34_letters_outside_the_alphabet(featurised: Featurised) -> None:
    made = featurised(job(protein(unpairedMsa=f">q\n{QUERY}\n>x\nMK*A1IAK\n")))
    assert letters(made)[-1] == "MET LYS UNK ALA UNK ILE ALA LYS"
    assert any("2 letters outside the protein alphabet are read as UNK" in note for note in made.notes)


@pytest.mark.parametrize("text", ["", f">q\n{QUERY}\n"])
def test_a35_no_alignment_and_the_query_alone(featurised: Featurised, text: str) -> None:
    made = featurised(job(protein(unpairedMsa=text)))
    assert set(letters(made)) == {"MET LYS THR ALA TYR ILE ALA LYS"} and made.msa_depth == {"A": 1}


@pytest.mark.parametrize("key", ["unpairedMsa", "unpairedMsaPath"])
def test_a36_text_or_path(featurised: Featurised, write: Callable[..., Path], key: str) -> None:
    text = f">q\n{QUERY}\n>x\nMRTAYIAK\n"
    write(text, "a.a3m")
    chain = protein()
    del chain["protein"]["unpairedMsa"]
    chain["protein"][key] = text if key == "unpairedMsa" else "a.a3m"
    assert featurised(job(chain)).msa_depth == {"A": 2}


def test_a37_a_deep_alignment_is_bounded(featurised: Featurised, write: Callable[..., Path]) -> None:
    """20,000 distinct rows in 64 MB of text: far less than the file is ever held."""
    letters = list("ACDEFGHIKLMNPQRSTVWY")
    rng = np.random.default_rng(0)
    rows = ["".join(row) for row in rng.choice(letters, (20_000, 60))]
    path = write("".join(f">r{i}\n{row}{'a' * 3200}\n" for i, row in enumerate(rows)), "deep.a3m")
    chain = protein(rows[0])
    del chain["protein"]["unpairedMsa"]
    chain["protein"]["unpairedMsaPath"] = path.name
    tracemalloc.start()
    made = featurised(job(chain))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.msa_depth == {"A": 20_000} and made.features.msa.shape[0] < 20_000
    assert path.stat().st_size > 64e6 and peak < 50e6, f"{peak / 1e6:.0f} MB"


def test_a38_rna_beside_a_protein_has_its_own_alphabet(featurised: Featurised) -> None:
    other = ">q\nACGU\n>x\nAAGT\n"
    made = featurised(job(protein(unpairedMsa=f">q\n{QUERY}\n>x\nACGTAIAK\n"), rna("ACGU", unpairedMsa=other)))
    seen = {RESIDUE_CLASSES[i] for i in made.features.msa[:, 8:].ravel().tolist()}
    assert seen <= {"A", "C", "G", "U", "GAP"} and {"A", "U"} <= seen
    assert {"ALA", "CYS"} <= {RESIDUE_CLASSES[i] for i in made.features.msa[:, :8].ravel().tolist()}


def as_cif(change: Callable[[gemmi.Structure], None] | None = None) -> str:
    found = gemmi.read_pdb(str(TEMPLATE))
    found.setup_entities()
    if change is not None:
        change(found)
    return found.make_mmcif_document().as_string()


def add_ligand(found: gemmi.Structure) -> None:
    chain, residue, atom = gemmi.Chain("Z"), gemmi.Residue(), gemmi.Atom()
    residue.name, residue.seqid, residue.het_flag = "ZN", gemmi.SeqId("1"), "H"
    atom.name, atom.element = "ZN", gemmi.Element("Zn")
    residue.add_atom(atom)
    chain.add_residue(residue)
    found[0].add_chain(chain, pos=0)


def add_chain(found: gemmi.Structure) -> None:
    copy = found[0]["A"].clone()
    copy.name = "B"
    found[0].add_chain(copy)


FORMS: dict[str, Callable[[], str]] = {
    "PDB": TEMPLATE.read_text,
    "no date": as_cif,
    "with a ligand": lambda: as_cif(add_ligand),
    "two chains": lambda: as_cif(add_chain),
    "edited": lambda: "data_x\n" + as_cif()[as_cif().index("loop_\n_atom_site.") :],
}


@pytest.mark.parametrize("form", FORMS)
def test_a39_templates_of_every_kind(featurised: Featurised, form: str) -> None:
    given = {"mmcif": FORMS[form](), "queryIndices": [0, 1, 2, 3], "templateIndices": [0, 1, 2, 3]}
    made = featurised(job(protein(templates=[given]), ccd("ZN")))
    mask = made.features.template_backbone_mask
    assert mask[0].tolist() == [True] * 4 + [False] * 5 and not mask[1:].any()
    assert [RESIDUE_CLASSES[i] for i in made.features.template_aatype[0, :4]] == ["MET", "LYS", "THR", "ALA"]
