"""FASTA: `:` between chains, typed headers, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from foldline.inputs import Job, Ligand, Polymer, Text, jobs_from_fasta


def good(text: str, **keys: Any) -> list[Job]:
    jobs, errors = jobs_from_fasta(text, **keys)
    assert not errors, errors
    return jobs


def test_one_job_per_record() -> None:
    first, second = good(">dimer of two\nMKT:\nAYI\n:MKT\n\n>mono\nGGG\nGG\n", source="x.fasta")
    assert (first.name, first.seeds, first.source) == ("dimer", (1,), "x.fasta")
    assert first.entities == (
        Polymer("protein", ("A",), "MKT", description="of two"),
        Polymer("protein", ("B",), "AYI", description="of two"),
        Polymer("protein", ("C",), "MKT", description="of two"),
    )
    assert second.entities == (Polymer("protein", ("A",), "GGGGG"),)


def test_equal_neighbours_are_copies() -> None:
    (job,) = good(">x\nMKT:MKT:AYI\n")
    assert job.entities == (Polymer("protein", ("A", "B"), "MKT"), Polymer("protein", ("C",), "AYI"))


def test_boltz_headers_make_one_job(tmp_path: Path) -> None:
    (tmp_path / "a.a3m").write_text(">q\nMKT\n")
    text = (
        ">B|protein|a.a3m\nMKT\n>A|Protein|empty\nMKT\n>C|dna\nACGT\n>D|rna|\nACGU\n"
        ">E|smiles\nCC(=O)O\n>F|ccd\nATP\n>G|ligand\nCCD_MG\n"
    )
    (job,) = good(text, name="complex", folder=tmp_path)
    assert job.name == "complex"
    assert job.entities == (
        Polymer("protein", ("B",), "MKT", unpaired_msa=Text(path=(tmp_path / "a.a3m").resolve()), paired_msa=Text("")),
        Polymer("protein", ("A",), "MKT", unpaired_msa=Text(""), paired_msa=Text("")),
        Polymer("dna", ("C",), "ACGT"),
        Polymer("rna", ("D",), "ACGU"),
        Ligand(("E",), smiles="CC(=O)O"),
        Ligand(("F",), ("ATP",)),
        Ligand(("G",), ("MG",)),
    )


def test_chai_headers_make_one_job() -> None:
    (job,) = good(">protein|name=long\nMKT\n>ligand|acid\nCC(=O)O\n")
    assert job.entities == (
        Polymer("protein", ("A",), "MKT", description="name=long"),
        Ligand(("B",), smiles="CC(=O)O", description="acid"),
    )


@pytest.mark.parametrize(
    ("header", "name", "description"),
    [
        ("sp|P0CG48|UBC_HUMAN Ubiquitin", "P0CG48", "UBC_HUMAN Ubiquitin"),
        ("tr|A0A1-2|A0A1_X", "A0A1-2", "A0A1_X"),
        ("1BRS_2|Chain D|BARSTAR|Bacillus (1390)", "1BRS_2", "BARSTAR|Bacillus (1390)"),
        ("7K43_1|Chain A[auth X]|Spike|Virus", "7K43_1", "Spike|Virus"),
        ("1BRS:A|PDBID|CHAIN|SEQUENCE", "1BRS_A", None),
        ("pdb|1BRS|A Chain A, Barnase", "1BRS_A", "Chain A, Barnase"),
        ("ref|NP_000508.1| hemoglobin", "NP_000508.1", "hemoglobin"),
        ("AFDB:AF-P69905-F1 Hemoglobin", "AFDB:AF-P69905-F1", "Hemoglobin"),
    ],
)
def test_database_headers_are_no_types(header: str, name: str, description: str | None) -> None:
    """They name the job so that its folder is recognised."""
    (job,) = good(f">{header}\nMQIF\n")
    assert (job.name, job.entities[0].description, job.notes) == (name, description, ())


def test_copies_that_a_header_of_the_pdb_lists_are_told_of() -> None:
    header = ">1BRS_1|Chains A, B[auth X], C|BARNASE|Bacillus amyloliquefaciens (1390)"
    first, second = good(f"{header}\nAQVI\n>1BRS_2|Chain D|BARSTAR|Bacillus\nKKAV\n")
    assert [first.name, second.name] == ["1BRS_1", "1BRS_2"]
    (note,) = first.notes
    assert note.startswith(
        "line 1: the header lists the chains A, B[auth X], C, and one copy is predicted: for 3 copies"
    )
    assert second.notes == ()
    assert first.entities == (
        Polymer("protein", ("A",), "AQVI", description="BARNASE|Bacillus amyloliquefaciens (1390)"),
    )
    (whole,) = good(f"{header}\nAQVI:AQVI:AQVI\n")
    assert whole.entities[0].ids == ("A", "B", "C") and whole.notes == ()


def test_bases_without_a_type_are_a_protein_with_a_note() -> None:
    (job,) = good(">x\nACGTACGT\n")
    assert job.entities[0].kind == "protein"
    assert job.notes == ('line 1: chain 1 is read as a protein: for DNA or RNA write ">A|dna" or ">A|rna"',)


def test_a_bare_header_takes_the_name_of_the_file() -> None:
    assert good(">\nMKT\n", name="stem")[0].name == "stem"


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("", "", "no FASTA record"),
        ("MKT\n>x\nMKT\n", "line 1", "before the first header"),
        (">x\n\n>y\nMKT", "line 1", "empty"),
        (">x\nMKT::MKT\n", "line 1", "chain 2 between the colons"),
        (">x\nMKT:\n", "line 1", "chain 2"),
        (">x\nMK*\n", "line 1", '"*" at position 3'),
        (">A|protein\nMKT\n>x\nMKT\n", "line 3", "has no type"),
        (">A|protien\nMKT\n", "line 1", 'did you mean "protein"?'),
        (">A|protein\nMKT\n>A|dna\nACGT\n", "line 3", "used twice"),
        (">a|protein\nMKT\n", "line 1", "capital letters"),
        (">A|dna\nACGU\n", "line 1", "cannot hold U"),
        (">A|protein|gone.a3m\nMKT\n", "line 1", "does not exist"),
        (">A|dna|gone.a3m\nACGT\n", "line 1", "no alignment"),
        (">A|smiles\n\n", "line 1", "SMILES is empty"),
    ],
)
def test_faults(text: str, path: str, words: str) -> None:
    jobs, errors = jobs_from_fasta(text, source="x.fasta")
    assert errors[0].path == path
    assert errors[0].source == "x.fasta"
    assert words in errors[0].message
    assert len(errors) == 1
    assert len(jobs) == (1 if ">y" in text else 0)
