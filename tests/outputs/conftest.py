"""Topologies of small complexes and random results of theirs: coordinates are random walks, scores random numbers."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from foldline.chem.component import Component
from foldline.chem.components import Components
from foldline.chem.conformer import Conformer
from foldline.inputs.job import AtomRef
from foldline.outputs.layout import PredictedJob
from foldline.outputs.modelcif import Provenance
from foldline.structure.assemble import assemble
from foldline.structure.atoms import Topology
from foldline.structure.entities import EntitySpec
from foldline.tensors.results import Confidences, Samples

sys.path.append(str(Path(__file__).parent))
PROVENANCE = Provenance(version="0.1.0", model="protenix-v1", checkpoint="ab" * 32)
COMPLEXES: dict[str, tuple[list[EntitySpec], list[tuple[AtomRef, AtomRef]]]] = {
    "protein_protein": (
        [
            EntitySpec("protein", ("A", "B"), "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEV"),
            EntitySpec("protein", ("C",), "GSHMLEDPVDAFKLLRAGCWNTYKEQ"),
        ],
        [],
    ),
    "protein_ligand_ion": (
        [
            EntitySpec("protein", ("A",), "MKTAYSCHWGTYKEMKTAYICK", {6: "SEP"}),
            EntitySpec("protein", ("B",), "GSHMLEDCVDAFKNLRA"),
            EntitySpec("ligand", ("C", "D"), ccd_codes=("ATP",)),
            EntitySpec("ligand", ("E",), ccd_codes=("NAG", "NAG")),
            EntitySpec("ligand", ("F",), smiles="c1ccccc1CCBr"),
            EntitySpec("ligand", ("G",), ccd_codes=("ZN",)),
            EntitySpec("ligand", ("AA",), ccd_codes=("CA",)),
        ],
        [
            (AtomRef("B", 14, "ND2"), AtomRef("E", 1, "C1")),
            (AtomRef("E", 1, "O4"), AtomRef("E", 2, "C1")),
        ],
    ),
    "protein_nucleic": (
        [
            EntitySpec("protein", ("A",), "MKTAYIAKQRQISFVKSH"),
            EntitySpec("protein", ("B",), "GSHMLEDPVDAFK"),
            EntitySpec("dna", ("C",), "ACGTTGCA"),
            EntitySpec("dna", ("D",), "TGCAACGT"),
            EntitySpec("rna", ("E",), "GGCUAACC"),
        ],
        [],
    ),
}

Assemble = Callable[..., Topology]


@pytest.fixture(scope="session")
def components() -> Components:
    """The component dictionary."""
    return Components.open()


@pytest.fixture(scope="session")
def assembled(components: Components) -> Assemble:
    """A function from entities and bonds to a topology; reference conformers are zeros, which no output reads."""

    def no_conformer(component: Component) -> Conformer:
        n = len(component.atom_name)
        return Conformer(component.atom_name, np.zeros((n, 3), np.float32), np.ones(n, bool))

    def make(entities: Sequence[EntitySpec], bonds: Sequence[tuple[AtomRef, AtomRef]] = ()) -> Topology:
        return assemble(entities, bonds, components, no_conformer)

    return make


@pytest.fixture(scope="session")
def job_of(components: Components) -> Callable[[Topology, str], PredictedJob]:
    """A function from a topology and a name to what the writers need."""
    return lambda topology, name: PredictedJob(name, topology, tokens_of(topology), components, PROVENANCE)


@pytest.fixture(scope="session", params=list(COMPLEXES))
def job(
    request: pytest.FixtureRequest, assembled: Assemble, job_of: Callable[[Topology, str], PredictedJob]
) -> PredictedJob:
    """Each of the three complexes."""
    return job_of(assembled(*COMPLEXES[request.param]), request.param)


@pytest.fixture(scope="session")
def jobs(assembled: Assemble, job_of: Callable[[Topology, str], PredictedJob]) -> dict[str, PredictedJob]:
    """The three complexes by name."""
    return {name: job_of(assembled(*parts), name) for name, parts in COMPLEXES.items()}


@pytest.fixture(scope="session")
def random_samples() -> Callable[[Topology, int, int], Samples]:
    """A function from a topology, a seed and a number of samples to random results."""
    return samples_of


def tokens_of(topology: Topology) -> np.ndarray:
    """Token of every atom: one per standard residue of a polymer, else one per atom (AF3 SI 2.6)."""
    polymer = topology.chain_kind[topology.res_chain] != "ligand"
    whole = (polymer & ~topology.res_modified)[topology.atom_res]
    new = ~whole | np.diff(topology.atom_res, prepend=-1).astype(bool)
    return (np.cumsum(new) - 1).astype(np.int32)


def samples_of(topology: Topology, seed: int, count: int) -> Samples:
    """All samples of one seed; a function of topology, seed and count."""
    rng = np.random.default_rng(seed)
    n_token = int(tokens_of(topology)[-1]) + 1
    return Samples(
        seed=seed,
        coordinates=np.stack([_walk(topology, rng) for _ in range(count)]),
        contact_probs=rng.uniform(0, 1, (n_token, n_token)).astype(np.float32),
        confidences=tuple(_confidences(topology, n_token, rng) for _ in range(count)),
    )


def _walk(topology: Topology, rng: np.random.Generator) -> np.ndarray:
    """Every chain a random walk of 3.8 Å steps around the origin, atoms within 1.5 Å of their residue."""
    steps = rng.normal(size=(len(topology.res_id), 3))
    walk = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
    for chain in range(len(topology.chain_id)):
        walk[topology.res_chain == chain] -= walk[topology.res_chain == chain].mean(axis=0)
    return (walk[topology.atom_res] + rng.uniform(-1.5, 1.5, (topology.n_atom, 3))).astype(np.float32)


def _confidences(topology: Topology, n_token: int, rng: np.random.Generator) -> Confidences:
    """Random scores; ions have no pTM and a lone chain no ipTM, as in a network's output."""
    n_chain = len(topology.chain_id)
    pair = rng.uniform(0, 1, (n_chain, n_chain)).astype(np.float32)
    chain_ptm = rng.uniform(0, 1, n_chain).astype(np.float32)
    chain_ptm[np.bincount(topology.atom_chain) < 3] = np.nan
    plddt = rng.uniform(20, 100, topology.n_atom).astype(np.float32)
    return Confidences(
        atom_plddt=plddt,
        pae=rng.uniform(0.2, 31.8, (n_token, n_token)).astype(np.float32),
        pde=rng.uniform(0.2, 31.8, (n_token, n_token)).astype(np.float32),
        plddt=float(plddt.mean()),
        ptm=float(rng.uniform()),
        iptm=float(rng.uniform()) if n_chain > 1 else float("nan"),
        gpde=1.25,
        chain_ptm=chain_ptm,
        chain_iptm=rng.uniform(0, 1, n_chain).astype(np.float32),
        chain_pair_iptm=(pair + pair.T) / 2,
        chain_pair_pae_min=rng.uniform(0.8, 20, (n_chain, n_chain)).astype(np.float32),
        chain_plddt=rng.uniform(20, 100, n_chain).astype(np.float32),
        has_clash=False,
        ranking_score=float(rng.uniform()),
    )
