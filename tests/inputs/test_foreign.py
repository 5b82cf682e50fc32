"""Jobs of other programs are refused as such, in one sentence that says what to write instead."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldline.errors import InputError
from foldline.inputs import InputErrors, Job, jobs_from_json, read_jobs

CHAIN = {"sequence": "MKTAYIAK", "count": 1}
FOLDER = {"precomputed_msa_dir": "msa/1", "pairing_db": "uniref100"}


def chains(*sequences: dict[str, Any], **top: Any) -> list[dict[str, Any]]:
    return [{"name": "x", "modelSeeds": [1], "sequences": list(sequences), **top}]


def protein(**keys: Any) -> dict[str, Any]:
    return {"proteinChain": CHAIN | keys}


S = "$[0].sequences[0]"


@pytest.mark.parametrize(
    ("job", "place", "words"),
    [
        (chains(protein(id=["A"], msa=FOLDER)), f"{S}.proteinChain.msa", '"unpairedMsaPath" (its non_pairing.a3m)'),
        (chains(protein(precomputed_msa_dir="m")), f"{S}.proteinChain.precomputed_msa_dir", "pairing.a3m"),
        (chains(protein(id=["A"])), f"{S}.proteinChain.id", '"count" left out'),
        (chains(protein(pairedMsa="")), f"{S}.proteinChain.pairedMsa", '"protein" for "proteinChain"'),
        (chains(protein(templatesPath="x.hhr")), f"{S}.proteinChain.templatesPath", '"templates" for'),
        (
            chains({"rnaSequence": {"sequence": "ACGU", "count": 1, "unpairedMsaPath": "a.a3m"}}),
            f"{S}.rnaSequence.unpairedMsaPath",
            '"rna" for "rnaSequence"',
        ),
        (chains(protein(), covalent_bonds=[]), "$[0].covalent_bonds", '"bondedAtomPairs" for "covalent_bonds"'),
        (chains(protein(), constraint={}), "$[0].constraint", "left out"),
        (chains({"ligand": {"ligand": "CC(=O)O", "count": 1}}), f"{S}.ligand.ligand", '"ccdCodes" or "smiles"'),
        (chains({"ligand": {"ligand": "CCD_NAG_NAG", "count": 1}}), f"{S}.ligand.ligand", '"ccdCodes" or "smiles"'),
        (chains({"ligand": {"ligand": "FILE_a.sdf", "count": 1}}), f"{S}.ligand.ligand", '"ccdCodes" or "smiles"'),
        (chains({"ion": {"ion": "MG", "count": 1, "id": ["A"]}}), f"{S}.ion.id", 'a "ligand" with "ccdCodes"'),
    ],
)
def test_protenix_jobs(job: Any, place: str, words: str, faults: Callable[[Any], list[InputError]]) -> None:
    (error,) = faults(job)
    assert error.path == place
    assert error.message.startswith("this is a Protenix job, which is not read: write it in the dialect alphafold3")
    assert words in error.message


def test_what_both_formats_have_is_a_server_job(read: Callable[[Any], Job]) -> None:
    mixed = protein(modifications=[{"ptmType": "CCD_SEP", "ptmPosition": 3}])
    job = read(chains(mixed, {"ligand": {"ligand": "CCD_ATP", "count": 1}}, {"ion": {"ion": "MG", "count": 1}}))
    assert [entity.kind for entity in job.entities] == ["protein", "ligand", "ligand"]


def test_alphafold3_jobs_are_not_taken_for_others(read: Callable[[Any], Job], af3: Callable[..., Any]) -> None:
    bonds = [[["A", 1, "N"], ["L", 1, "C1"]]]
    chain = {"protein": {"id": "A", "sequence": "MKT", "unpairedMsa": "", "pairedMsa": ""}}
    read(af3(chain, {"ligand": {"id": "L", "ccdCodes": ["NAG"]}}, bondedAtomPairs=bonds))
    assert read(af3({"ligand": {"id": "L", "smiles": "CC(=O)O"}})).entities[0].smiles == "CC(=O)O"


def test_a_slip_in_an_alphafold3_job_is_a_slip(
    af3: Callable[..., Any], faults: Callable[[Any], list[InputError]]
) -> None:
    (error,) = faults(af3({"proteinChain": {"id": "A", "sequence": "MKT", "unpairedMsa": "", "pairedMsa": ""}}))
    assert error.message == 'unknown key "proteinChain": did you mean "protein"?'


def test_queries_of_openfold3(faults: Callable[[Any], list[InputError]]) -> None:
    query = {"chains": [{"molecule_type": "protein", "chain_ids": ["A"], "sequence": "MKT"}]}
    (error,) = faults({"seeds": [1], "queries": {"x": query}})
    assert error.path == "$.queries" and "query set of OpenFold3" in error.message


def test_a_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("version: 1\nsequences:\n  - protein:\n      id: A\n")
    with pytest.raises(InputErrors, match="YAML, as Boltz has it, is not read: write"):
        read_jobs(tmp_path / "x.yaml")


def test_real_protenix_jobs(shared_data: Path) -> None:
    files = sorted((shared_data / "protenix_jobs").glob("*.json"))
    assert files
    for path in files:
        jobs, (error,) = jobs_from_json(path.read_bytes())
        assert not jobs and "this is a Protenix job" in error.message, path
