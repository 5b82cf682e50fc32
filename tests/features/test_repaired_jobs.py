"""A job that was mended has the features of one that was written without the fault (A23, A27, A33)."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldline.chem.component import Component
from foldline.chem.components import Components
from foldline.chem.conformer import Conformer
from foldline.features.a3m import A3mSource
from foldline.features.build import FeatureSet, build_features
from foldline.features.msa import read_msa
from foldline.inputs import Job, Polymer, jobs_from_json, to_json
from foldline.tensors import Features

ODD = ["a", "A1", "É", "Ab", "NaN", "", "b-c"]
GOOD = ["A", "B", "C", "AA", "Z"]
CHAINS: list[dict[str, Any]] = [
    {
        "protein": {
            "sequence": "MKCAYIAK",
            "unpairedMsa": ">q\nMKCAYIAK\n>x\nMK-aAYIAW\n",
            "pairedMsa": "",
            "templates": [],
        }
    },
    {"protein": {"sequence": "GGCTA", "unpairedMsa": "", "pairedMsa": ">q\nGGCTA\n", "templates": []}},
    {"dna": {"sequence": "GATC"}},
    {"rna": {"sequence": "GAUCG", "unpairedMsa": ">q\nGAUCG\n>x\nGACCG\n"}},
    {"ligand": {"ccdCodes": ["ZN"]}},
    {"ligand": {"smiles": "CCO"}},
]


class Grid:
    """Reference conformers that need no chemistry: atoms one after the other on a line."""

    def __call__(self, component: Component) -> Conformer:
        names = component.atom_name[component.heavy]
        x = np.zeros((len(names), 3), np.float32)
        x[:, 0] = np.arange(len(names))
        return Conformer(names, x, np.ones(len(names), bool))


@pytest.fixture(scope="module")
def components() -> Components:
    return Components.open()


def read(chains: list[dict[str, Any]], repair: tuple[str, ...] = (), bonds: list[Any] | None = None) -> Job:
    value = {"name": "j", "dialect": "alphafold3", "version": 4, "modelSeeds": [1], "sequences": chains}
    (job,), errors = jobs_from_json(json.dumps(value | {"bondedAtomPairs": bonds}), repair=repair)
    assert not errors
    return job


def same(one: FeatureSet, other: FeatureSet) -> bool:
    for field in fields(Features):
        found, wanted = getattr(one.features, field.name), getattr(other.features, field.name)
        if isinstance(found, Mapping):
            assert found.keys() == wanted.keys()
        np.testing.assert_array_equal(found, wanted, err_msg=field.name)
    for name in ("chain_id", "chain_entity", "atom_name", "bond_atoms", "res_name"):
        np.testing.assert_array_equal(getattr(one.topology, name), getattr(other.topology, name), err_msg=name)
    return one.msa_depth == other.msa_depth


@st.composite
def named_chains(draw: st.DrawFn) -> list[tuple[int, str]]:
    kinds = draw(st.lists(st.sampled_from(range(len(CHAINS))), min_size=1, max_size=5))
    names = draw(st.permutations(ODD + GOOD))
    return list(zip(kinds, names, strict=False))


@settings(max_examples=25, deadline=None)
@given(named_chains())
def test_a27_renamed_chains(components: Components, chains: list[tuple[int, str]]) -> None:
    def written(names: list[str]) -> list[dict[str, Any]]:
        texts = json.dumps([CHAINS[kind] for kind, _ in chains])
        made = json.loads(texts)
        for item, name in zip(made, names, strict=True):
            next(iter(item.values()))["id"] = name
        return made

    def bonds(names: list[str]) -> list[Any]:
        """Cysteines of the first kind of chain, one after the other."""
        at = [name for name, (kind, _) in zip(names, chains, strict=True) if kind == 0]
        return [[[one, 3, "SG"], [other, 3, "SG"]] for one, other in zip(at[::2], at[1::2], strict=False)]

    odd = [name for _, name in chains]
    job = read(written(odd), ("chain_ids",), bonds(odd))
    names = [entity.ids[0] for entity in job.entities]
    assert (names == odd) == (not set(odd) & set(ODD)) == (not job.notes)
    plain = read(written(names), (), bonds(names))
    assert to_json(job) == to_json(plain)
    made = [build_features(one, components=components, conformers=Grid()) for one in (job, plain)]
    assert same(*made)


@pytest.mark.parametrize(("kind", "odd", "good"), [("rna", "GATUG", "GAUUG"), ("dna", "GAUTG", "GATTG")])
def test_a23_mended_bases(components: Components, kind: str, odd: str, good: str) -> None:
    more = {"unpairedMsa": ""} if kind == "rna" else {}
    jobs = [
        read([{kind: {"id": "A", "sequence": sequence, **more}}], repair)
        for sequence, repair in ((odd, ("nucleotides",)), (good, ()))
    ]
    one, other = (build_features(job, components=components, conformers=Grid()) for job in jobs)
    assert same(one, other)


def test_a33_moved_alignments(components: Components) -> None:
    query, tagged = "MKTAYIAKQRQISFVKSHFSRQ", "GSHMKTAYIAKQRQISFVKSHFSRQ"
    text = f">w\n{tagged}\n>x\nGS-MKTAYIAKQRwwQISFVKSHFSR-\n"
    moved = f">query\n{query}\n>w\ngsh{query}\n>x\ngsMKTAYIAKQRwwQISFVKSHFSR-\n"
    chain = {"id": "A", "sequence": query, "pairedMsa": "", "templates": []}
    job = read([{"protein": chain | {"unpairedMsa": text}}], ("alignments",))
    wanted = read([{"protein": chain | {"unpairedMsa": moved}}])
    again, errors = jobs_from_json(to_json(job, inline=True))
    assert not errors
    made = [build_features(one, components=components, conformers=Grid()) for one in (job, wanted, *again)]
    assert same(made[0], made[1]) and same(made[0], made[2])
    assert made[0].features.msa.shape[0] == 3 and made[0].features.deletions[2, 0] == 2
    entity = job.entities[0]
    assert isinstance(entity, Polymer) and entity.unpaired_msa is not None
    found = read_msa(A3mSource(entity.unpaired_msa, "it", "protein", query), None, pairing=False)
    np.testing.assert_array_equal(found.deletions[1], [2, *[0] * 9, 2, *[0] * 11])
    assert found.depth == 2
