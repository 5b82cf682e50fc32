"""Fraction of disordered residues: surfaces against geometry, windows against a plain loop, jobs without protein."""

from collections.abc import Callable
from pathlib import Path

import biotite.structure as bs
import numpy as np
import pytest
from biotite.structure.io import pdbx

from foldline.outputs.disorder import fraction_disordered, relative_surface, windowed
from foldline.structure.atoms import Topology
from foldline.structure.entities import EntitySpec

Assemble = Callable[..., Topology]


def test_surface_of_lone_atoms(assembled: Assemble) -> None:
    """Atoms far apart show their whole spheres: N 1.65, CA 1.87, C 1.76, O 1.40, others 1.80, probe 1.40 Å."""
    topology = assembled([EntitySpec("protein", ("A",), "WG")])
    coordinates = np.arange(topology.n_atom)[:, None] * np.full(3, 20.0, np.float32)
    assert topology.atom_name[:5].tolist() == ["N", "CA", "C", "O", "CB"]
    for atom, radius in enumerate((1.65, 1.87, 1.76, 1.4, 1.8)):
        area = 4 * np.pi * (radius + 1.4) ** 2
        assert relative_surface(topology, coordinates, np.array([atom])) == pytest.approx(area / 227, abs=0.51 / 227)
    assert relative_surface(topology, coordinates, np.arange(topology.n_atom)).tolist() == [1.0, 1.0]


def test_atoms_far_apart_need_no_more_memory(assembled: Assemble) -> None:
    """Two halves of a chain show what each shows alone, whether side by side in space or worlds apart."""
    topology = assembled([EntitySpec("protein", ("A",), "W" * 20)])
    atoms = np.arange(topology.n_atom)
    half = topology.atom_res < 10
    coordinates = np.random.default_rng(0).uniform(-5, 5, (topology.n_atom, 3)).astype(np.float32)
    alone = [relative_surface(topology, coordinates, atoms[side]) for side in (half, ~half)]
    for apart in (1e2, 1e5):
        moved = coordinates + half[:, None] * np.array([apart, -apart, apart], np.float32)
        assert relative_surface(topology, moved, atoms) == pytest.approx(np.concatenate(alone), abs=0.03)
    assert 0.1 < np.concatenate(alone).mean() < 0.9


@pytest.mark.parametrize("length", [1, 2, 12, 13, 25, 60])
def test_window_is_a_mirrored_mean(length: int) -> None:
    values = np.random.default_rng(length).uniform(0, 1, length)
    period = max(1, 2 * (length - 1))

    def mirrored(i: int) -> float:
        i %= period
        return values[i if i < length else period - i]

    expected = [np.mean([mirrored(i + d) for d in range(-12, 13)]) for i in range(length)]
    assert windowed(values) == pytest.approx(expected)


def test_extended_is_disordered_and_packed_is_not(assembled: Assemble) -> None:
    topology = assembled([EntitySpec("protein", ("A", "B"), "K" * 40)])
    residue = topology.atom_res.astype(np.float32)
    spread = np.random.default_rng(0).uniform(-3, 3, (topology.n_atom, 3)).astype(np.float32)
    stretched = spread + residue[:, None] * np.array([12, 0, 0], np.float32)
    assert fraction_disordered(topology, stretched) == 1.0
    packed = np.random.default_rng(0).uniform(-9, 9, (topology.n_atom, 3)).astype(np.float32)
    assert fraction_disordered(topology, packed) == 0.0


def test_chains_are_looked_at_alone(assembled: Assemble) -> None:
    """Chain B of another sequence sits on chain A and changes nothing; half of the residues are disordered."""
    topology = assembled([EntitySpec("protein", ("A",), "K" * 40), EntitySpec("protein", ("B",), "R" * 40)])
    rng = np.random.default_rng(0)
    coordinates = rng.uniform(-9, 9, (topology.n_atom, 3)).astype(np.float32)
    in_a = topology.atom_chain == 0
    coordinates[in_a] += topology.atom_res[in_a, None] * np.array([12, 0, 0], np.float32)
    assert fraction_disordered(topology, coordinates) == 0.5


@pytest.mark.parametrize(
    "entities",
    [
        [EntitySpec("ligand", ("A",), ccd_codes=("ZN",))],
        [EntitySpec("dna", ("A",), "ACGT")],
    ],
)
def test_no_protein_is_zero(entities: list[EntitySpec], assembled: Assemble) -> None:
    topology = assembled(entities)
    assert fraction_disordered(topology, np.zeros((topology.n_atom, 3), np.float32)) == 0.0


def test_real_protein_is_ordered(shared_data: Path, assembled: Assemble) -> None:
    """Myoglobin: its mean relative surface is that of a globular protein and no residue counts as disordered."""
    atoms = pdbx.get_structure(pdbx.CIFFile.read(shared_data / "structures" / "102m.cif"), model=1)
    atoms = atoms[bs.filter_canonical_amino_acids(atoms)]
    sequence = "".join(bs.info.one_letter_code(name) for name in atoms.res_name[bs.get_residue_starts(atoms)])
    topology = assembled([EntitySpec("protein", ("A",), sequence)])
    place = {(int(r), str(n)): i for i, (r, n) in enumerate(zip(topology.atom_res, topology.atom_name, strict=True))}
    residue = np.cumsum(np.isin(np.arange(len(atoms)), bs.get_residue_starts(atoms))) - 1
    rows = [place[int(r), str(n)] for r, n in zip(residue, atoms.atom_name, strict=True)]
    coordinates = np.zeros((topology.n_atom, 3), np.float32)
    coordinates[rows] = atoms.coord
    surface = relative_surface(topology, coordinates, np.array(sorted(rows)))
    assert 0.2 < surface.mean() < 0.4
    assert fraction_disordered(topology, coordinates) == 0.0
