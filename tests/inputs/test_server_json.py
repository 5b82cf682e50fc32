"""The dialect alphafoldserver (acceptance cases A41, A45)."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from foldline.errors import InputError
from foldline.inputs import Job, Ligand, Modification, Polymer, jobs_from_json

JOB = {
    "name": "server job",
    "modelSeeds": ["1190523073", 5],
    "sequences": [
        {
            "proteinChain": {
                "sequence": "MKTAYIAK",
                "count": 2,
                "modifications": [{"ptmType": "CCD_SEP", "ptmPosition": 3}],
                "useStructureTemplate": False,
            }
        },
        {
            "dnaSequence": {
                "sequence": "ACGT",
                "count": 1,
                "modifications": [{"modificationType": "CCD_5CM", "basePosition": 2}],
            }
        },
        {"rnaSequence": {"sequence": "ACGU"}},
        {"ligand": {"ligand": "CCD_ATP", "count": 1}},
        {"ion": {"ion": "MG", "count": 2}},
    ],
    "dialect": "alphafoldserver",
    "version": 1,
}


def changed(**chain: Any) -> dict[str, Any]:
    return {**JOB, "sequences": [{"proteinChain": {"sequence": "GG", **chain}}]}


def test_a_list_of_jobs() -> None:
    plain = {key: value for key, value in JOB.items() if key not in ("dialect", "version")} | {"name": "other"}
    jobs, errors = jobs_from_json(json.dumps([JOB, plain]))
    assert not errors
    assert [job.name for job in jobs] == ["server job", "other"]
    for job in jobs:
        assert job.seeds == (1190523073, 5)
        assert job.entities == (
            Polymer("protein", ("A", "B"), "MKTAYIAK", (Modification("SEP", 3),), templates=()),
            Polymer("dna", ("C",), "ACGT", (Modification("5CM", 2),)),
            Polymer("rna", ("D",), "ACGU"),
            Ligand(("E",), ("ATP",)),
            Ligand(("F", "G"), ("MG",)),
        )


def test_a_single_job_is_accepted(read: Callable[[Any], Job]) -> None:
    assert read(JOB).name == "server job"
    assert read({"name": "x", "sequences": [{"ligand": {"ligand": "CCD_ATP"}}], "modelSeeds": [1]}).entities == (
        Ligand(("A",), ("ATP",)),
    )


def test_a_code_that_is_a_smiles_too_is_told_of(read: Callable[[Any], Job]) -> None:
    """Ethanol, to Protenix; the server's codes begin with CCD_."""
    told = [read({**JOB, "sequences": [{"ligand": {"ligand": code}}]}).notes for code in ("CCO", "CCD_CCO", "ATP")]
    assert told[1:] == [(), ()]
    assert told[0] == ('$.sequences[0].ligand.ligand: "CCO" is read as the component of that code, not as a SMILES',)


def test_ids_go_on_after_z(read: Callable[[Any], Job]) -> None:
    job = read(changed(count=29))
    assert job.entities[0].ids[24:] == ("Y", "Z", "AA", "BA", "CA")


@pytest.mark.parametrize("seeds", [[], None, "absent"])
def test_a_job_without_seeds_has_the_same_one_at_every_reading(read: Callable[[Any], Job], seeds: object) -> None:
    """It can be resumed: the seed is that of the job's content, here written out, however the file is laid out."""
    job = {**JOB, "modelSeeds": seeds}
    if seeds == "absent":
        del job["modelSeeds"]
    first = read(job)
    assert first.seeds == (1989862960,)
    assert any("1989862960" in note and "has no seed" in note for note in first.notes)
    shuffled = {key: job[key] for key in reversed(job) if key not in ("dialect", "version")}
    assert read(shuffled).seeds == read([shuffled]).seeds == first.seeds


def test_other_jobs_without_seeds_have_others(read: Callable[[Any], Job]) -> None:
    plain = {key: value for key, value in changed().items() if key != "modelSeeds"}
    others = [plain | {"name": "other"}, {**plain, "sequences": [{"proteinChain": {"sequence": "GGG"}}]}]
    seeds = {seed for job in (plain, *others) for seed in read(job).seeds}
    assert len(seeds) == 3 and all(0 <= seed < 2**32 for seed in seeds)


def test_templates_are_searched_unless_switched_off(read: Callable[[Any], Job]) -> None:
    assert read(changed(useStructureTemplate=True)).entities[0].templates is None
    assert read(changed()).entities[0].templates is None
    assert read(changed(glycans=[])).entities[0].templates is None


P = "$.sequences[0].proteinChain"


@pytest.mark.parametrize(
    ("job", "path", "words"),
    [
        (changed(glycans=[{"residues": "NAG", "position": 8}]), f"{P}.glycans", "bondedAtomPairs"),
        (changed(maxTemplateDate="2018-01-20"), f"{P}.maxTemplateDate", "take the key out"),
        (changed(count=0), f"{P}.count", "count 0"),
        (changed(count="2"), f"{P}.count", "whole number"),
        (changed(sequance=""), f"{P}.sequance", "unknown key"),
        (changed(sequence="G1"), f"{P}.sequence", "position 2"),
        ({**JOB, "modelSeeds": ["x"]}, "$.modelSeeds[0]", '"x"'),
        ({**JOB, "modelSeeds": ["4294967296"]}, "$.modelSeeds[0]", "out of range"),
        ({**JOB, "modelSeeds": [1.5]}, "$.modelSeeds[0]", "1.5"),
        ({**JOB, "modelSeeds": 7}, "$.modelSeeds", "a list"),
        ({**JOB, "version": 2}, "$.version", "use 1"),
        ({key: value for key, value in JOB.items() if key != "version"}, "$", "belong together"),
        ({**JOB, "sequences": []}, "$.sequences", "no chains"),
        ({**JOB, "sequences": [{"protein": {"id": "A", "sequence": "G"}}]}, "$.sequences[0].protein", "proteinChain"),
        ({**JOB, "sequences": [{"ion": {"ion": "MG"}, "count": 2}]}, "$.sequences[0]", "exactly one"),
        ({**JOB, "bondedAtomPairs": []}, "$.bondedAtomPairs", "unknown key"),
    ],
)
def test_faults(job: dict[str, Any], path: str, words: str, faults: Callable[[Any], list[InputError]]) -> None:
    (error,) = faults(job)
    assert error.path == path
    assert words in error.message
