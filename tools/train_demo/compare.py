"""A predicted and an experimental structure atom by atom, superposed by Biotite. Knows files, not networks."""

from dataclasses import dataclass
from pathlib import Path

import biotite.structure as struc
import gemmi
import numpy as np

from foldline.errors import InputError

Place = tuple[str, int, str]  # label_asym_id, residue number, atom name
Chains = dict[str, dict[str, str | int]]  # chain of the job -> its chain in the experiment and the number of its first


def atoms_by_place(path: Path) -> dict[Place, tuple[float, float, float]]:
    """Positions in Å of the first model; the first alternative counts.

    The components of a ligand have no residue numbers: they are counted from 1.

    Raises:
        InputError: not a readable structure.
    """
    try:
        structure = gemmi.read_structure(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"not a readable structure ({error})", path="structure", source=str(path)) from error
    if not len(structure):
        raise InputError("holds no model", path="structure", source=str(path))
    structure.setup_entities()
    found: dict[Place, tuple[float, float, float]] = {}
    for chain in structure[0]:
        for part in chain.subchains():
            for number, residue in enumerate(part, start=1):
                place = residue.label_seq if residue.label_seq is not None else number
                for atom in residue:
                    x, y, z = atom.pos.tolist()
                    found.setdefault((part.subchain_id(), place, atom.name), (x, y, z))
    return found


def in_experiment(place: Place, chains: Chains) -> Place:
    """The place of an atom of the job in the experimental file."""
    chain, number, name = place
    there = chains[chain]
    return str(there["chain"]), number - 1 + int(there["first"]), name


@dataclass(frozen=True)
class Deviation:
    """RMSD in Å after superposing the polymers' CA and C1' atoms; ligand: NaN where there is none."""

    polymer: float
    ligand: float
    n_polymer: int


def deviation(model: Path, experiment: Path, chains: Chains, ligands: set[str]) -> Deviation:
    """Compare a model with an experiment.

    Args:
        model: mmCIF of a prediction, chains named as in its job.
        experiment: mmCIF of the experiment.
        chains: where the job's chains are in it.
        ligands: those chains of the job that are ligands.

    Raises:
        InputError: an unreadable file, or fewer than three CA and C1' atoms in common.
    """
    predicted, observed = atoms_by_place(model), atoms_by_place(experiment)
    common = [(place, in_experiment(place, chains)) for place in predicted if place[0] in chains]
    common = [(here, there) for here, there in common if there in observed]
    x = np.array([predicted[here] for here, _ in common]).reshape(-1, 3)
    y = np.array([observed[there] for _, there in common]).reshape(-1, 3)
    ligand = np.array([here[0] in ligands for here, _ in common], bool)
    backbone = np.array([here[2] in ("CA", "C1'") for here, _ in common], bool) & ~ligand
    if backbone.sum() < 3:
        raise InputError("has nothing in common with the prediction", path="structure", source=str(experiment))
    _, move = struc.superimpose(y[backbone], x[backbone])
    moved = np.asarray(move.apply(x))
    return Deviation(
        float(struc.rmsd(y[backbone], moved[backbone])),
        float(struc.rmsd(y[ligand], moved[ligand])) if ligand.any() else float("nan"),
        int(backbone.sum()),
    )
