"""Targets of the demo network as files: features as Foldline makes them, and the positions to reproduce.

Needs Foldline with its chemistry libraries; what it writes can be trained on by torch and numpy alone.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from foldline.chem.components import Components
from foldline.features.build import build_features
from foldline.inputs import read_jobs
from foldline.structure.atoms import Topology
from foldline.weights.card import job_keys
from tools.train_demo.compare import Chains, atoms_by_place, in_experiment

HERE = Path(__file__).parent


def target_positions(topology: Topology, chains: Chains, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions float32 [N_atom, 3] in Å of the atoms of a job, centred, and which of them were observed, bool."""
    atoms = atoms_by_place(path)
    x = np.zeros((topology.n_atom, 3), np.float32)
    mask = np.zeros(topology.n_atom, bool)
    for i in range(topology.n_atom):
        residue = topology.atom_res[i]
        chain, number = str(topology.chain_id[topology.res_chain[residue]]), int(topology.res_id[residue])
        place = in_experiment((chain, number, str(topology.atom_name[i])), chains)
        if place in atoms:
            x[i], mask[i] = atoms[place], True
    x -= x[mask].mean(0)
    return np.where(mask[:, None], x, 0), mask


def main() -> None:
    """Write NAME.features.safetensors, NAME.target.npz and NAME.entities.json of every target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=Path, required=True, help="folder of the jobs (examples/)")
    parser.add_argument("--structures", type=Path, required=True, help="folder of the experimental mmCIF files")
    parser.add_argument("--targets", type=Path, default=HERE / "targets.json")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    components = Components.open()
    for target in json.loads(options.targets.read_text()):
        (job,) = read_jobs([options.jobs / target["job"]])
        made = build_features(job, components=components)
        x, mask = target_positions(made.topology, target["chains"], options.structures / target["structure"])
        made.features.save(options.out / f"{target['name']}.features.safetensors")
        (options.out / f"{target['name']}.entities.json").write_text(json.dumps(job_keys(job)))
        np.savez_compressed(options.out / f"{target['name']}.target.npz", x=x, mask=mask)
        print(target["name"], made.features.sizes, f"{mask.sum()} of {len(mask)} atoms observed", *made.notes)


if __name__ == "__main__":
    main()
