"""Inverted stereocentres: the reference itself, its mirror image, one centre alone, and what cannot be judged."""

from pathlib import Path

import numpy as np
import pytest

from foldline.chem.components import Components
from foldline.chem.conformers import Conformers, EmbeddingLimits
from foldline.chem.smiles import component_of_text
from foldline.outputs.stereo import Stereocentres, stereocentres
from foldline.structure.assemble import assemble
from foldline.structure.atoms import Topology
from foldline.structure.entities import EntitySpec

THREONINE = {"L": "C[C@@H](O)[C@H](N)C(=O)O", "D": "C[C@H](O)[C@@H](N)C(=O)O", "either": "CC(O)C(N)C(=O)O"}


@pytest.fixture(scope="module")
def made(components: Components, tmp_path_factory: pytest.TempPathFactory) -> tuple[Topology, Stereocentres]:
    """Six residues, a nucleotide pair and both enantiomers, with their reference conformers."""
    conformers = Conformers(tmp_path_factory.mktemp("conformers"), EmbeddingLimits(seconds=5, limit=5))
    ligands = [EntitySpec("ligand", (word[0],), smiles=text) for word, text in THREONINE.items()]
    entities = [EntitySpec("protein", ("A",), "GATIVW"), EntitySpec("dna", ("B",), "AC"), *ligands]
    extra = {f"LIG_{word[0]}": component_of_text(text, f"LIG_{word[0]}") for word, text in THREONINE.items()}
    topology = assemble(entities, [], components, conformers)
    conformers.close()
    return topology, stereocentres(topology, lambda code: extra.get(code) or components.get(code))


def test_which_atoms_are_stereocentres(made: tuple[Topology, Stereocentres]) -> None:
    """Glycine has none, threonine and isoleucine two each; sugars of DNA have three; SMILES without @ have none."""
    names = made[1].names
    assert [name for name in names if name.startswith("A")] == [
        "A:2:CA", "A:3:CA", "A:3:CB", "A:4:CA", "A:4:CB", "A:5:CA", "A:6:CA",
    ]  # fmt: skip
    assert [name for name in names if name.startswith("B:2")] == ["B:2:C4'", "B:2:C3'", "B:2:C1'"]
    assert sum(name.startswith("L:") for name in names) == sum(name.startswith("D:") for name in names) == 2
    assert not any(name.startswith("e:") for name in names)


def test_a_mirror_image_has_all_inverted(made: tuple[Topology, Stereocentres]) -> None:
    topology, centres = made
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned *= np.sign(np.linalg.det(turned))
    shifted = topology.ref_pos @ turned.T.astype(np.float32) + 30 * topology.atom_res[:, None]
    assert centres.inverted(shifted.astype(np.float32)) == []
    assert centres.inverted(shifted * np.array([1, 1, -1], np.float32)) == list(centres.names)


def test_one_centre_is_told_from_the_others(made: tuple[Topology, Stereocentres]) -> None:
    """The methyl and the hydroxyl of a threonine change places."""
    topology, centres = made
    x = topology.ref_pos.copy()
    here = topology.atom_res == 2
    swapped = [int(np.flatnonzero(here & (topology.atom_name == name))[0]) for name in ("CG2", "OG1")]
    x[swapped] = x[swapped[::-1]]
    assert centres.inverted(x) == ["A:3:CB"]


def test_enantiomers_are_each_others_inverse(made: tuple[Topology, Stereocentres]) -> None:
    topology, centres = made
    chain = topology.atom_chain
    left, right = (np.flatnonzero(chain == list(topology.chain_id).index(word)) for word in "LD")
    assert topology.atom_name[left].tolist() == topology.atom_name[right].tolist()
    x = topology.ref_pos.copy()
    x[left] = topology.ref_pos[right]
    assert sorted(centres.inverted(x)) == sorted(name for name in centres.names if name.startswith("L:"))


def test_a_job_without_stereocentres(components: Components, tmp_path: Path) -> None:
    conformers = Conformers(tmp_path, EmbeddingLimits(seconds=5, limit=5))
    topology = assemble([EntitySpec("ligand", ("Z",), ccd_codes=("ZN",))], [], components, conformers)
    conformers.close()
    found = stereocentres(topology, components.get)
    assert found.names == () and found.inverted(np.zeros((1, 3), np.float32)) == []
