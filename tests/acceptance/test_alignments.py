"""Alignments and templates that have to be read: from a job to its features."""

import json
import os
import shutil
import subprocess
import sys
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


def deep_alignment(path: Path, depth: int, n_insertion: int) -> str:
    """`depth` distinct rows of 60 columns and of `n_insertion` letters in lower case each; gives the query."""
    letters, rng = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8), np.random.default_rng(0)
    at_once = 5000
    rows = letters[rng.integers(0, 20, (at_once, 60))]
    query = rows[0].tobytes().decode()
    insertions = np.full((at_once, n_insertion), ord("a"), np.uint8)
    header, end = (np.tile(np.frombuffer(text, np.uint8), (at_once, 1)) for text in (b">r\n", b"\n"))
    with path.open("wb") as file:
        file.write(f">query\n{query}\n".encode())
        for start in range(0, depth - 1, at_once):
            number = np.arange(start, start + at_once)
            for digit in range(5):
                rows[:, digit] = letters[number // 20**digit % 20]
            file.write(np.hstack([header, rows, insertions, end])[: depth - 1 - start].tobytes())
    return query


def test_a37_a_gigabyte_is_read_in_the_memory_of_a_hundredth_of_it(tmp_path: Path, checkpoint: Path) -> None:
    """500,000 distinct rows in 1 GB of text, from the job to its result, beside 5,000 rows: resident memory alike."""
    peaks, records = {}, {}
    (tmp_path / "foldline.toml").write_text("threads = 1\nrecycles = 0\nsteps = 2\nsamples = 1\nworkers = 0\n")
    for name, depth in (("shallow", 5_000), ("deep", 500_000)):
        alignment, made = tmp_path / f"{name}.a3m", tmp_path / "out" / name
        chain = protein(deep_alignment(alignment, depth, 1950))
        del chain["protein"]["unpairedMsa"]
        chain["protein"]["unpairedMsaPath"] = alignment.name
        (tmp_path / f"{name}.json").write_text(json.dumps(job(chain, name=name)))
        command = [sys.executable, "-m", "foldline", "predict", f"{name}.json", "--out", "out", "--model", checkpoint]
        process = subprocess.Popen([*command, "--device", "cpu"], cwd=tmp_path, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks[name], records[name] = used.ru_maxrss * 1024, json.loads((made / f"{name}_run.json").read_text())
        size, written = alignment.stat().st_size, (made / f"{name}_data.json").stat().st_size
        alignment.unlink()
        shutil.rmtree(made)
        assert written > size, "the alignment as it was read is in the record of the job"
    assert size > 1e9 and any("500,000 distinct rows" in text for text in records["deep"]["warnings"])
    assert peaks["deep"] - peaks["shallow"] < 300e6, peaks


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
