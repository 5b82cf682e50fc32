"""How well `--model demo` recalls its structures: RMSD of every sample at the default settings, beside the experiments.

    demo.py STRUCTURES [--out benchmarks/results/demo.txt]     STRUCTURES: folder of the PDB entries as mmCIF

Superposed by the project's own code and once more by Biotite; a difference over 0.01 Å ends in an error.
"""

import argparse
import datetime
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import biotite
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import foldline  # noqa: E402
from tools.train_demo.compare import atoms_by_place, in_experiment  # noqa: E402
from tools.train_demo.losses import align  # noqa: E402
from tools.train_demo.table import TARGETS, rows_of  # noqa: E402

BOUND, LIGAND_BOUND = 2.5, 3.0  # Å, of the best ranked sample


def own_deviation(model: Path, experiment: Path, target: dict) -> tuple[float, float]:
    """RMSD in Å of CA and C1', and of the ligand (NaN: none), by the rigid alignment that the training uses."""
    predicted, observed = atoms_by_place(model), atoms_by_place(experiment)
    pairs = [(place, in_experiment(place, target["chains"])) for place in predicted if place[0] in target["chains"]]
    pairs = [(here, there) for here, there in pairs if there in observed]
    x = torch.tensor([predicted[here] for here, _ in pairs])
    y = torch.tensor([observed[there] for _, there in pairs])
    ligand = np.array([here[0] in target["ligands"] for here, _ in pairs])
    backbone = np.array([here[2] in ("CA", "C1'") for here, _ in pairs]) & ~ligand
    moved = align(x[None], y[None], torch.from_numpy(backbone).float())[0]
    squares = (moved - y).square().sum(-1).numpy()
    return float(squares[backbone].mean() ** 0.5), float(squares[ligand].mean() ** 0.5) if ligand.any() else np.nan


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Predict every memorised structure and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("structures", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/demo.txt")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    engine = foldline.Engine("demo", config=foldline.EngineConfig(device="cpu", threads=options.threads))
    versions = f"foldline {foldline.__version__}, torch {torch.__version__}, biotite {biotite.__version__}"
    lines = [
        f"{datetime.date.today()}, {processor()}, {options.threads} threads, {versions}",
        f"checkpoint {engine.checkpoint_sha256}, {engine.spec.sampler.n_step} steps, 5 samples, seed 1",
        "RMSD in Å of CA and C1' / of the ligand in that superposition, samples best ranked first",
        "",
    ]
    missed = []
    for target in json.loads(TARGETS.read_text()):
        experiment = options.structures / target["structure"]
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            jobs = foldline.read_jobs([ROOT / "examples" / target["job"]])
            (prediction,) = engine.predict(jobs, out=folder)
            seconds = time.perf_counter() - started
            if prediction.error is not None or prediction.directory is None:
                raise SystemExit(f"{target['name']}: {prediction.error}")
            lines.append(f"{target['name']} ({target['what']}): {prediction.n_token} tokens, {seconds:.1f} s")
            for rank, row in enumerate(rows_of(prediction.directory, experiment)):
                model = prediction.directory / row.name / f"{target['name']}_{row.name}_model.cif"
                polymer, ligand = own_deviation(model, experiment, target)
                assert row.deviation is not None
                other = (row.deviation.polymer, row.deviation.ligand)
                if not np.allclose((polymer, ligand), other, atol=0.01, equal_nan=True):
                    raise SystemExit(f"{model}: {polymer:.3f} {ligand:.3f} Å here, {other} by Biotite")
                lines.append(
                    f"  {row.name}: score {row.ranking_score:.3f}, pLDDT {row.plddt:.1f}, pTM {row.ptm:.3f}, "
                    f"{polymer:.2f}" + ("" if np.isnan(ligand) else f" / {ligand:.2f}")
                )
                if rank == 0 and (polymer > BOUND or ligand > LIGAND_BOUND):
                    missed.append(target["name"])
    lines += ["", f"bound of the best ranked sample: {BOUND} Å, ligand {LIGAND_BOUND} Å; missed: {missed or 'none'}"]
    text = "\n".join(lines) + "\n"
    print(text)
    options.out.write_text(text)


if __name__ == "__main__":
    main()
