"""Bad jobs: one sentence per fault with its JSON path and remedy (acceptance cases A1, A2, A16-A29, A40, A41, A44)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldline.errors import InputError
from foldline.inputs import InputErrors, count_refused, jobs_from_json, read_jobs


def protein(**keys: Any) -> dict[str, Any]:
    return {"protein": {"id": "A", "sequence": "MKTAYIAK", **keys}}


def ligand(**keys: Any) -> dict[str, Any]:
    return {"ligand": {"id": "L", **keys}}


def template(query: list[int], hit: list[int]) -> dict[str, Any]:
    return protein(templates=[{"mmcif": "data_t", "queryIndices": query, "templateIndices": hit}])


P = "$.sequences[0].protein"

CASES = {
    "A1 empty sequence": ([protein(sequence="")], {}, f"{P}.sequence", "empty"),
    "A1 only white space": ([protein(sequence=" \n")], {}, f"{P}.sequence", "empty"),
    "A16 mol2 file": ([ligand(smiles="./x.mol2")], {}, "$.sequences[0].ligand.smiles", "file name"),
    "A16 sdf file": ([ligand(smiles="x.SDF")], {}, "$.sequences[0].ligand.smiles", "file name"),
    "A22 star": ([protein(sequence="MKT*")], {}, f"{P}.sequence", '"*" at position 4'),
    "A22 dash": ([protein(sequence="M-K-")], {}, f"{P}.sequence", '"-" at position 2, 4'),
    "A22 underscore": ([protein(sequence="M_K")], {}, f"{P}.sequence", '"_" at position 2'),
    "A22 digit": ([protein(sequence="M K1")], {}, f"{P}.sequence", '"1" at position 3'),
    "A22 not ASCII": ([protein(sequence="MÉK")], {}, f"{P}.sequence", '"É" at position 2'),
    "A22 sharp s grows in upper case": ([protein(sequence="Mß")], {}, f"{P}.sequence", '"ß" at position 2'),
    "A23 RNA with T": ([{"rna": {"id": "A", "sequence": "GTU"}}], {}, "$.sequences[0].rna.sequence", "position 2"),
    "A23 DNA with U": ([{"dna": {"id": "A", "sequence": "GTU"}}], {}, "$.sequences[0].dna.sequence", "position 3"),
    "A24 letters of no base": (
        [{"dna": {"id": "A", "sequence": "ACEL"}}],
        {},
        "$.sequences[0].dna.sequence",
        '"E" at position 3',
    ),
    "A25 duplicate id": ([protein(), protein()], {}, "$.sequences[1].protein.id", '"A" is used twice'),
    "A25 duplicate in a list": ([protein(id=["A", "A"])], {}, f"{P}.id", "used twice"),
    "A27 digit in id": ([protein(id="A1")], {}, f"{P}.id", '"A1" is not a chain id'),
    "A27 lower case": ([protein(id="a")], {}, f"{P}.id", "capital"),
    "A27 mixed case": ([protein(id=["Ab"])], {}, f"{P}.id", "capital"),
    "A27 accent": ([protein(id="É")], {}, f"{P}.id", "capital"),
    "A27 NaN": ([protein(id="NaN")], {}, f"{P}.id", "capital"),
    "no ids": ([protein(id=[])], {}, f"{P}.id", "no chain id"),
    "empty id": ([protein(id="")], {}, f"{P}.id", "capital"),
    "A28 no such chain": (
        [protein()],
        {"bondedAtomPairs": [[["A", 1, "N"], ["Z", 1, "C"]]]},
        "$.bondedAtomPairs[0][1][0]",
        '"Z"',
    ),
    "A28 residue range": (
        [protein()],
        {"bondedAtomPairs": [[["A", 9, "N"], ["A", 1, "C"]]]},
        "$.bondedAtomPairs[0][0][1]",
        "1 to 8",
    ),
    "A28 residue 0": (
        [protein()],
        {"bondedAtomPairs": [[["A", 1, "N"], ["A", 0, "C"]]]},
        "$.bondedAtomPairs[0][1][1]",
        "1 to 8",
    ),
    "A29 SMILES ligand": (
        [protein(), ligand(smiles="CCO")],
        {"bondedAtomPairs": [[["A", 1, "N"], ["L", 1, "C1"]]]},
        "$.bondedAtomPairs[0][1][0]",
        "SMILES ligand",
    ),
    "bond twice": (
        [protein()],
        {"bondedAtomPairs": [[["A", 1, "N"], ["A", 2, "C"]], [["A", 2, "C"], ["A", 1, "N"]]]},
        "$.bondedAtomPairs[1]",
        "twice",
    ),
    "bond to itself": (
        [protein()],
        {"bondedAtomPairs": [[["A", 1, "N"], ["A", 1, "N"]]]},
        "$.bondedAtomPairs[0]",
        "itself",
    ),
    "bond of one end": ([protein()], {"bondedAtomPairs": [[["A", 1, "N"]]]}, "$.bondedAtomPairs[0][1]", "missing"),
    "bond of three ends": (
        [protein()],
        {"bondedAtomPairs": [[["A", 1, "N"], ["A", 2, "N"], ["A", 3, "N"]]]},
        "$.bondedAtomPairs[0]",
        "3 values where 2 belong",
    ),
    "bond with a text residue": (
        [protein()],
        {"bondedAtomPairs": [[["A", "1", "N"], ["A", 2, "C"]]]},
        "$.bondedAtomPairs[0][0][1]",
        "whole number",
    ),
    "A40 lengths": ([template([0, 1], [0])], {}, f"{P}.templates[0]", "2 queryIndices against 1"),
    "A40 past the end": ([template([0, 8], [0, 1])], {}, f"{P}.templates[0].queryIndices[1]", "last residue is 7"),
    "A40 negative query": ([template([-1], [0])], {}, f"{P}.templates[0].queryIndices[0]", "negative"),
    "A40 negative template": ([template([0], [-2])], {}, f"{P}.templates[0].templateIndices[0]", "negative"),
    "query index twice": ([template([1, 1], [0, 1])], {}, f"{P}.templates[0].queryIndices", "repeated"),
    "template without structure": (
        [protein(templates=[{"queryIndices": [0], "templateIndices": [0]}])],
        {},
        f"{P}.templates[0]",
        "mmcifPath",
    ),
    "template with an empty structure": (
        [protein(templates=[{"mmcif": "", "queryIndices": [0], "templateIndices": [0]}])],
        {},
        f"{P}.templates[0]",
        "no structure",
    ),
    "A41 no seeds": ([protein()], {"modelSeeds": []}, "$.modelSeeds", "no seed"),
    "A41 text": ([protein()], {"modelSeeds": ["1190523073"]}, "$.modelSeeds[0]", "without quotes"),
    "A41 negative": ([protein()], {"modelSeeds": [1, -1]}, "$.modelSeeds[1]", "out of range"),
    "A41 too large": ([protein()], {"modelSeeds": [2**32]}, "$.modelSeeds[0]", "out of range"),
    "A41 fraction": ([protein()], {"modelSeeds": [1.5]}, "$.modelSeeds[0]", "1.5 is not a whole number"),
    "A41 true": ([protein()], {"modelSeeds": [True]}, "$.modelSeeds[0]", "true is not a whole number"),
    "A41 no list": ([protein()], {"modelSeeds": 1}, "$.modelSeeds", "a list belongs"),
    "A44 unknown key": ([protein()], {"modelSeed": 1}, "$.modelSeed", 'did you mean "modelSeeds"?'),
    "A44 key of Boltz": ([protein(msa="a.a3m")], {}, f"{P}.msa", 'AlphaFold 3 calls it "unpairedMsa"'),
    "A44 key of Protenix": ([protein()], {"covalent_bonds": []}, "$.covalent_bonds", '"bondedAtomPairs"'),
    "A44 unknown key in a chain": ([protein(unpairedMSA="")], {}, f"{P}.unpairedMSA", 'did you mean "unpairedMsa"?'),
    "A44 unknown chain": (
        [{"ligands": {"id": "A", "smiles": "C"}}],
        {},
        "$.sequences[0].ligands",
        'did you mean "ligand"?',
    ),
    "A44 unknown key in a template": (
        [protein(templates=[{"mmCif": "x", "mmcif": "data_", "queryIndices": [], "templateIndices": []}])],
        {},
        f"{P}.templates[0].mmCif",
        'did you mean "mmcif"?',
    ),
    "A44 unknown key far from all": ([protein(colour="red")], {}, f"{P}.colour", "take it out"),
    "A44 alignment of a DNA": (
        [{"dna": {"id": "A", "sequence": "AC", "unpairedMsa": ""}}],
        {},
        "$.sequences[0].dna.unpairedMsa",
        "unknown key",
    ),
    "A44 version": ([protein()], {"version": 5}, "$.version", "1, 2, 3, 4"),
    "A44 version as text": ([protein()], {"version": "4"}, "$.version", "whole number"),
    "A44 dialect": ([protein()], {"dialect": "alphafold4"}, "$.dialect", '"alphafoldserver"'),
    "missing sequence": ([{"protein": {"id": "A"}}], {}, f"{P}.sequence", 'the key "sequence" is missing'),
    "two chains in one": ([{**protein(), **ligand(smiles="C")}], {}, "$.sequences[0]", "exactly one"),
    "chain that is a text": (["MKT"], {}, "$.sequences[0]", '"MKT" stands where'),
    "sequence that is a number": ([protein(sequence=5)], {}, f"{P}.sequence", "5 stands where text belongs"),
    "protein that is a text": ([{"protein": "MKT"}], {}, P, "an object"),
    "modification past the end": (
        [protein(modifications=[{"ptmType": "SEP", "ptmPosition": 9}])],
        {},
        f"{P}.modifications[0].ptmPosition",
        "1 to 8",
    ),
    "modification at 0": (
        [{"rna": {"id": "A", "sequence": "GG", "modifications": [{"modificationType": "2MG", "basePosition": 0}]}}],
        {},
        "$.sequences[0].rna.modifications[0].basePosition",
        "1 to 2",
    ),
    "modified twice": (
        [protein(modifications=[{"ptmType": "SEP", "ptmPosition": 2}, {"ptmType": "TPO", "ptmPosition": 2}])],
        {},
        f"{P}.modifications[1].ptmPosition",
        "twice",
    ),
    "prefixed code": (
        [protein(modifications=[{"ptmType": "CCD_SEP", "ptmPosition": 2}])],
        {},
        f"{P}.modifications[0].ptmType",
        'write "SEP"',
    ),
    "both forms of a ligand": ([ligand(smiles="C", ccdCodes=["ATP"])], {}, "$.sequences[0].ligand", "keep one"),
    "no form of a ligand": ([ligand()], {}, "$.sequences[0].ligand", "ccdCodes"),
    "no codes": ([ligand(ccdCodes=[])], {}, "$.sequences[0].ligand.ccdCodes", "at least one"),
    "code that is a number": ([ligand(ccdCodes=[5])], {}, "$.sequences[0].ligand.ccdCodes[0]", "double quotes"),
    "empty code": ([ligand(ccdCodes=["ATP", ""])], {}, "$.sequences[0].ligand.ccdCodes[1]", "not a component code"),
    "codes as text": ([ligand(ccdCodes="ATP")], {}, "$.sequences[0].ligand.ccdCodes", "a list"),
    "empty SMILES": ([ligand(smiles=" ")], {}, "$.sequences[0].ligand.smiles", "empty"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_fault_one_sentence(
    case: str, af3: Callable[..., dict[str, Any]], faults: Callable[[Any], list[InputError]]
) -> None:
    sequences, top, path, words = CASES[case]
    errors = faults(af3(*sequences, **top))
    assert [error.path for error in errors] == [path]
    assert words in errors[0].message


def test_no_chains(af3: Callable[..., dict[str, Any]], faults: Callable[[Any], list[InputError]]) -> None:
    """A2."""
    assert faults({**af3(), "sequences": []})[0].path == "$.sequences"


def test_missing_dialect_and_version(
    faults: Callable[[Any], list[InputError]], af3: Callable[..., dict[str, Any]]
) -> None:
    """A44: as in AF3 both are needed in a job that is not a list of server jobs."""
    job = af3()
    del job["dialect"], job["version"]
    (error,) = faults(job)
    assert '"dialect": "alphafold3", "version": 4' in error.message
    (error,) = faults({key: value for key, value in af3().items() if key != "version"})
    assert error.message.startswith('the job does not say its "version"')
    (error,) = faults([job])
    assert error.path == "$[0]"


def test_all_faults_of_a_file_at_once(
    faults: Callable[[Any], list[InputError]], af3: Callable[..., dict[str, Any]]
) -> None:
    """A fault does not hide those beside it, not even in the same chain."""
    job = af3(
        protein(sequence="MK1", colour="red", modifications=[{"ptmType": "SEP", "ptmPosition": 9}]),
        {"dna": {"id": "a", "sequence": "ACU"}},
        {"rna": {"id": "C"}},
        modelSeeds=[-1],
        extra=1,
    )
    del job["name"]
    paths = {error.path for error in faults(job)}
    assert paths == {
        "$.name",
        "$.extra",
        f"{P}.colour",
        f"{P}.sequence",
        f"{P}.modifications[0].ptmPosition",
        "$.sequences[1].dna.id",
        "$.sequences[1].dna.sequence",
        "$.sequences[2].rna.sequence",
        "$.modelSeeds[0]",
    }


def test_one_bad_job_does_not_hurt_the_others(af3: Callable[..., dict[str, Any]]) -> None:
    good, bad = af3(name="good"), af3(protein(sequence=""), name="bad")
    jobs, errors = jobs_from_json(json.dumps([good, bad, 5, af3(name="last")]))
    assert [job.name for job in jobs] == ["good", "last"]
    assert [error.path for error in errors] == ["$[1].sequences[0].protein.sequence", "$[2]"]


SYNTAX = {
    "trailing comma in an object": (b'{\n "name": "x",\n}', "line 2 column 13", "comma"),
    "trailing comma in a list": (b'{"modelSeeds": [1,]}', "line 1 column 18", "comma"),
    "line comment": (b'{\n // a job\n "name": "x"}', "line 2 column 2", "comment"),
    "block comment after a value": (b'{"name": "x" /* a */}', "line 1 column 14", "comment"),
    "hash comment": (b'# a job\n{"name": "x"}', "line 1 column 1", "comment"),
    "byte order mark": (b'\xef\xbb\xbf{"name": "x"}', "line 1 column 1", "byte order mark"),
    "UTF-16 with mark": ('{"name": "x"}'.encode("utf-16"), "line 1 column 1", "UTF-16"),
    "UTF-16 without mark": ('{"name": "x"}'.encode("utf-16-le"), "line 1 column 1", "UTF-16"),
    "Latin-1": (b'{\n"name": "\xe9"}', "line 2 column 10", "UTF-8"),
    "single quotes": (b"{'name': 1}", "line 1 column 2", "double quotes"),
    "two jobs": (b'{"name": "x"}\n{"name": "y"}', "line 2 column 1", "list of jobs"),
    "cut off": (b'{"name": ', "line 1 column 10", "too early"),
    "empty file": (b"  \n", "line 1 column 1", "empty"),
    "Python's None": (b'{"name": None}', "line 1 column 10", "null"),
    "NaN": (b'{"name": "NaN",\n "modelSeeds": [NaN]}', "line 2 column 17", "NaN is not JSON"),
    "infinity": (b'{"modelSeeds": [-Infinity]}', "line 1 column 17", "-Infinity is not JSON"),
    "repeated key": (b'{"a": {"name": "x"},\n "name": 1, "name": 2}', "line 2 column 13", '"name" stands twice'),
    "line break in a text": (b'{"name": "a\nb"}', "line 1 column 12", "line break"),
    "missing comma": (b'{"a": 1\n "b": 2}', "line 2 column 2", "not valid JSON"),
    "first half of a character": (b'{"a": 1,\n "name": "x\\ud83dx"}', "line 2 column 12", "half of a character"),
    "second half of a character": (b'{"name": "\\ud83d\\ude00 \\ude00"}', "line 1 column 24", "half of a character"),
}


@pytest.mark.parametrize("case", SYNTAX)
def test_json_syntax(case: str, tmp_path: Path) -> None:
    """A44: faults of the JSON itself come with line and column."""
    data, place, words = SYNTAX[case]
    (tmp_path / "job.json").write_bytes(data)
    with pytest.raises(InputErrors) as caught:
        read_jobs(tmp_path / "job.json")
    (error,) = caught.value.errors
    assert error.source.endswith("job.json")
    assert error.message.startswith(f"{place}: ")
    assert words in error.message


@pytest.mark.parametrize("name", [r"\ud83d\ude00", r"a\\ud83d", r"\u00e9"])
def test_whole_characters_may_be_escaped(name: str, af3: Callable[..., dict[str, Any]]) -> None:
    text = json.dumps(af3()).replace('"name": "job"', f'"name": "{name}"')
    (job,), errors = jobs_from_json(text)
    assert not errors and job.name == json.loads(f'"{name}"')


@pytest.mark.parametrize("data", ["[" * 100_000, "[" + "9" * 5000 + "]", '"text"', "[]", "[[]]", "null"])
def test_json_that_is_no_job(data: str, faults: Callable[[Any], list[InputError]]) -> None:
    faults(data)


def test_jobs_are_counted_that_have_faults(tmp_path: Path, af3: Callable[..., dict[str, Any]]) -> None:
    """However many faults each has; two of a list are two, a second job of a name is one."""
    bad = af3({"protein": {"id": "a", "sequence": ""}}, modelSeeds=[])
    (tmp_path / "1.json").write_text(json.dumps(bad))
    (tmp_path / "2.json").write_text(json.dumps([bad, af3(), bad]))
    (tmp_path / "3.json").write_text(json.dumps(af3()))
    (tmp_path / "4.fasta").write_text(">x\nM*\n>y\nM*\n>z\nMK\n")
    (tmp_path / "5.json").write_text("{")
    jobs, errors = read_jobs([tmp_path, tmp_path / "gone.json", tmp_path / "lost.json"], on_error="collect")
    assert [job.name for job in jobs] == ["job", "z"]
    assert len(errors) > 12
    assert count_refused(errors) == 1 + 2 + 1 + 2 + 1 + 2
    assert count_refused([]) == 0
