"""Programs that users read results with, run on ours: their rows and numbers are looked at, not their exit codes."""

import csv
import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest

from foldline.cli import main
from foldline.outputs.layout import PredictedJob, write_prediction
from foldline.structure.atoms import Topology
from foldline.tensors.results import Samples

pytestmark = pytest.mark.clients
EXAMPLES = Path(__file__).parents[2] / "examples"
MORE = [{"ligand": {"id": "C", "ccdCodes": ["ATP"]}}, {"ligand": {"id": "D", "ccdCodes": ["ZN"]}}]
PREDICTED: dict[str, tuple[str, list[dict], int]] = {  # the job, what is added to it, its tokens
    "predicted_protein_protein": ("demo_dimer", [], 2 * 83),
    "predicted_protein_ligand_ion": ("demo_dimer", MORE, 2 * 83 + 31 + 1),
    "predicted_protein_nucleic": ("demo_protein_dna", [], 45 + 18 + 2 * 20),
}
DRAWN = ("protein_protein", "protein_ligand_ion", "protein_nucleic")
SEEDS, COUNT = (1, 2), 2


@dataclass(frozen=True)
class Result:
    """A folder of a job, and what the programs are to find in it."""

    folder: Path
    chains: list[str]  # polymers
    n_token: int

    @property
    def name(self) -> str:
        return self.folder.name


@pytest.fixture(scope="module", params=[*DRAWN, *PREDICTED])
def result(
    request: pytest.FixtureRequest,
    jobs: dict[str, PredictedJob],
    random_samples: Callable[[Topology, int, int], Samples],
    clients_python: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Result:
    """A result of each kind of complex: of scores of all sizes by our writer, and of a network by the command."""
    folder = tmp_path_factory.mktemp("results") / request.param
    if request.param in PREDICTED:
        predict(folder, *PREDICTED[request.param][:2])
        return Result(folder, ["A", "B"], PREDICTED[request.param][2])
    job = jobs[request.param]
    samples = [random_samples(job.topology, seed, COUNT) for seed in SEEDS]
    write_prediction(folder, job, samples, json.dumps({"name": job.name}), {})
    chains = job.topology.chain_id[job.topology.chain_kind != "ligand"].tolist()
    return Result(folder, chains, int(job.atom_to_token.max()) + 1)


def predict(folder: Path, example: str, more: list[dict]) -> None:
    """`foldline predict` with the network of the package, which knows the complexes of the examples."""
    job = json.loads((EXAMPLES / f"{example}.json").read_text())
    job |= {"name": folder.name, "modelSeeds": list(SEEDS), "sequences": [*job["sequences"], *more]}
    given = folder.with_suffix(".json")
    given.write_text(json.dumps(job))
    options = ["--model", "demo", "--samples", str(COUNT), "--steps", "5", "--recycles", "0", "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(given), "--out", str(folder.parent), "--progress", "none", *options])
    assert not ended.value.code


def run(python: Path, program: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(python.parent / program), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done


def summaries(result: Result) -> dict[str, dict]:
    """Summary confidences by sample folder."""
    paths = sorted(result.folder.glob("seed-*/*_summary_confidences.json"))
    return {path.parent.name: json.loads(path.read_text()) for path in paths}


def test_alphajudge(result: Result, clients_python: Path) -> None:
    """One row per sample and pair of polymer chains, all of it read as AlphaFold 3's."""
    table = result.folder.parent / f"{result.name}.csv"
    options = ["--no-report", "--skip_pae_png", "--skip_biophysical_scores", "--force_recompute", "-o", str(table)]
    run(clients_python, "alphajudge", result.folder, "--models_to_analyse", "all", *options, cwd=result.folder.parent)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    pairs = {"_".join(pair) for pair in combinations(result.chains, 2)}
    found = {(row["model_used"], row["interface"]) for row in rows}
    read = summaries(result)
    assert found == {(sample, pair) for sample in read for pair in pairs} and len(rows) == len(found)
    assert len(read) == len(SEEDS) * COUNT and {row["backend"] for row in rows} == {"af3"}
    for row in rows:
        summary = read[row["model_used"]]
        first, second = (summary["chain_ids"].index(chain) for chain in row["interface"].split("_"))
        assert float(row["iptm"]) == pytest.approx(summary["chain_pair_iptm"][first][second])
        assert float(row["confidence_score"]) == pytest.approx(summary["ranking_score"])
        assert row["interface_contact_prob_source"] == "af3_contact_probs"
        for score in ("interface_ipSAE", "interface_pDockQ2", "interface_LIS", "average_interface_pae"):
            assert math.isfinite(float(row[score]))


def test_foldmetrics(result: Result, clients_python: Path) -> None:
    """It makes tokens from the mmCIF by itself: their number and PAE must be ours."""
    detected = run(clients_python, "fmx", "detect", result.folder, cwd=result.folder.parent)
    kinds = [line.split()[0] for line in detected.stdout.splitlines()]
    assert kinds == ["alphafold3"] * len(SEEDS) * COUNT
    table = result.folder.parent / f"{result.name}.json"
    done = run(clients_python, "fmx", "score", result.folder, "-o", table, cwd=result.folder.parent)
    assert "note" not in (done.stdout + done.stderr).lower()
    rows = {row["model"]: row for row in json.loads(table.read_text())}
    read = summaries(result)
    assert set(rows) == {f"{result.name}_{sample}" for sample in read}
    for sample, summary in read.items():
        row = rows[f"{result.name}_{sample}"]
        full = json.loads((result.folder / sample / f"{result.name}_{sample}_confidences.json").read_text())
        assert row["tool"] == "alphafold3" and row["has_pae"] is True
        assert row["n_tokens"] == len(full["pae"]) == result.n_token
        between = ~np.eye(row["n_tokens"], dtype=bool)
        assert row["pae_mean"] == pytest.approx(np.array(full["pae"])[between].mean())
        assert row["chains"].split(",") == summary["chain_ids"]
        assert row["iptm"] == summary["iptm"] and row["ranking_score"] == summary["ranking_score"]


def test_ipsae(result: Result, clients_python: Path) -> None:
    """A row per ordered pair of polymer chains, and a score per residue."""
    for sample, summary in summaries(result).items():
        stem = result.folder / sample / f"{result.name}_{sample}"
        run(
            clients_python,
            "ipsae",
            f"{stem}_confidences.json",
            f"{stem}_model.cif",
            "10",
            "10",
            cwd=result.folder.parent,
        )
        lines = Path(f"{stem}_model_10_10.txt").read_text().split("\n")
        rows = [dict(zip(lines[1].split(), line.split(), strict=False)) for line in lines[2:] if line.strip()]
        asymmetric = [row for row in rows if row["Type"] == "asym"]
        pairs = [(row["Chn1"], row["Chn2"]) for row in asymmetric]
        assert sorted(pairs) == sorted(permutations(result.chains, 2))
        for row in asymmetric:
            assert math.isfinite(float(row["ipSAE"])) and 0 < float(row["LIS"]) <= 1
            first, second = (summary["chain_ids"].index(row[end]) for end in ("Chn1", "Chn2"))
            assert float(row["ipTM_af"]) == pytest.approx(summary["chain_pair_iptm"][first][second])
