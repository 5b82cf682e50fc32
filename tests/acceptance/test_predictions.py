"""What has to be predicted: from a job to the files of its result, with a small random checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest
from small_jobs import ccd, job, protein, rna, server_job, smiles

from foldline.features.build import FeatureSet

Predicted = Callable[..., Any]


def structure(folder: Path, name: str = "job") -> gemmi.Structure:
    """The best structure, which both readers of mmCIF accept."""
    found = gemmi.read_structure(str(folder / name / f"{name}_model.cif"))
    found.setup_entities()
    return found


def elements(found: gemmi.Structure, chain: str) -> list[str]:
    return [atom.element.name.upper() for residue in found[0][chain] for atom in residue]


@pytest.mark.parametrize("chain", [protein("M"), rna("G")], ids=["residue", "nucleotide"])
def test_a03_one_residue(predicted: Predicted, chain: dict[str, Any]) -> None:
    done = predicted(job(chain))
    summary = done.json("job", "summary_confidences")
    assert 0 <= summary["ptm"] <= 1 and summary["iptm"] is None
    text = (done.folder / "job" / "job_confidences.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert len(elements(structure(done.folder), next(iter(chain.values()))["id"])) > 5


@pytest.mark.parametrize("sequence", ["YPGKRDEYTR", "GSGGSGGGSGGGGSGGGGSGGGSGG"])
def test_a04_a_peptide_without_hits(predicted: Predicted, sequence: str) -> None:
    done = predicted(job(protein(sequence)))
    record = done.json("job", "run")
    assert record["n_token"] == len(sequence)
    assert len(structure(done.folder)[0]["A"]) == len(sequence)


@pytest.mark.parametrize(("chain", "atoms"), [(ccd("ZN"), ["ZN"]), (smiles("CCO"), ["C", "C", "O"])])
def test_a05_an_ion_alone(predicted: Predicted, chain: dict[str, Any], atoms: list[str]) -> None:
    done = predicted(job(chain))
    summary = done.json("job", "summary_confidences")
    assert summary["iptm"] is None and summary["chain_iptm"] == [None]
    assert elements(structure(done.folder), "L") == atoms
    block = gemmi.cif.read_file(str(done.folder / "job" / "job_model.cif")).sole_block()
    assert block.find_value("_entity.type") == "non-polymer" and not block.find_mmcif_category("_entity_poly.")


def test_a06_a_smiles_ligand_alone(predicted: Predicted) -> None:
    done = predicted(job(smiles("CC(=O)Oc1ccccc1C(=O)O")))
    assert done.json("job", "summary_confidences")["iptm"] is None
    assert sorted(elements(structure(done.folder), "L")) == ["C"] * 9 + ["O"] * 4


def test_a07_ions_by_smiles_keep_their_elements(predicted: Predicted) -> None:
    done = predicted(job(protein(), smiles("[Ca+2]", "B"), smiles("[Na+]", "C")))
    found = structure(done.folder)
    assert (elements(found, "B"), elements(found, "C")) == (["CA"], ["NA"])
    assert done.json("job", "summary_confidences")["chain_ids"] == ["A", "B", "C"]


def test_a08_copies_and_seeds_of_one_smiles(predicted: Predicted, featurised: Callable[[Any], FeatureSet]) -> None:
    content = job(smiles("OC(=O)[C@@H](N)Cc1c[nH]cn1", ["A", "B", "C", "D"]))
    top = featurised(content).topology
    first, *others = np.split(top.ref_pos, 4)
    assert top.ref_mask.all() and all(np.array_equal(first, other) for other in others)
    done = predicted(content, "--num-seeds", "20")
    rows = (done.folder / "job" / "job_ranking_scores.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, 21))


@pytest.mark.parametrize("count", [27, 63, 105])
def test_a26_many_chains(predicted: Predicted, count: int) -> None:
    letters = [chr(65 + i) for i in range(26)]
    ids = [*letters, *(a + b for a in letters for b in letters)][:count]
    done = predicted(job(ccd("MG", ids=ids)))
    assert [chain.name for chain in structure(done.folder)[0]] == ids
    assert done.json("job", "summary_confidences")["chain_ids"] == ids
    assert done.json("job", "confidences")["token_chain_ids"] == ids


def test_a41_seeds_are_run_once_each(predicted: Predicted) -> None:
    done = predicted(job(ccd("ZN"), modelSeeds=[5, 1, 5]))
    assert "repeated seeds run once: 5" in done.err
    rows = (done.folder / "job" / "job_ranking_scores.csv").read_text().splitlines()[1:]
    assert sorted(row.split(",")[0] for row in rows) == ["1", "5"]


def test_a41_the_server_writes_seeds_as_text(predicted: Predicted) -> None:
    done = predicted([server_job({"ion": {"ion": "ZN", "count": 1}}, modelSeeds=["1190523073"])])
    assert json.loads((done.folder / "job" / "job_data.json").read_text())["modelSeeds"] == [1190523073]


NAMES = ["..", ".", "a/b", "../../x", "/etc/x", "", "n" * 300, "two words", "é漢", "🧬", "-rf", "CON", "a\nb", "%s{}"]


def test_a42_names_stay_in_the_folder(predicted: Predicted, tmp_path: Path) -> None:
    before = set(tmp_path.parent.iterdir())
    done = predicted([job(ccd("ZN"), name=name) for name in NAMES], "--progress", "json")
    assert set(tmp_path.parent.iterdir()) == before
    assert {path.name for path in tmp_path.iterdir()} == {"foldline.toml", "job.json", "out"}
    folders = done.jobs
    assert len(folders) == len(NAMES) and "two_words" in folders
    kept = {json.loads(path.read_text())["name"] for path in done.folder.glob("*/*_data.json")}
    assert kept == set(NAMES)


def test_a43_names_that_differ_have_folders_of_their_own(predicted: Predicted) -> None:
    done = predicted([job(ccd("ZN"), name=name) for name in ("1*2", "1+2", "12")])
    assert len(done.jobs) == 3


def test_a44_a_list_of_jobs(predicted: Predicted) -> None:
    done = predicted([job(ccd("ZN"), name="one"), job(ccd("MG"), name="two")])
    assert done.jobs == ["one", "two"]


def test_a45_server_jobs_have_the_same_meaning(predicted: Predicted) -> None:
    done = predicted(
        [
            server_job(
                {"proteinChain": {"sequence": "MKT", "count": 2, "useStructureTemplate": False}},
                {"ion": {"ion": "MG", "count": 1}},
                {"ligand": {"ligand": "CCD_NAG", "count": 1}},
            )
        ],
        "--msa",
        "none",
    )
    found = structure(done.folder)
    assert [chain.name for chain in found[0]] == ["A", "B", "C", "D"]
    assert elements(found, "C") == ["MG"] and found[0]["D"][0].name == "NAG"


def test_a46_ignored_files_are_named(foldline: Predicted, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "one.json").write_text(json.dumps(job(ccd("ZN"))))
    (folder / "two.fasta.txt").write_text(">A\nMKT\n")
    done = foldline("predict", folder, "--out", "out", "--model", checkpoint)
    assert done.code == 0 and "two.fasta.txt" in done.err
