"""The dialect alphafold3: every field in, AlphaFold 3's text out, and the meaning of null, empty text and paths."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldline.errors import InputError
from foldline.inputs import (
    AtomRef,
    Job,
    Ligand,
    Modification,
    Polymer,
    Template,
    Text,
    jobs_from_json,
    json_pieces,
    read_jobs,
    to_json,
)

EVERYTHING = {
    "name": "Every thing",
    "dialect": "alphafold3",
    "version": 4,
    "modelSeeds": [7, 4294967295, 0],
    "sequences": [
        {
            "protein": {
                "id": ["B", "A"],
                "sequence": "MKTAYIAK",
                "modifications": [{"ptmType": "SEP", "ptmPosition": 3}],
                "description": "two copies",
                "unpairedMsa": ">q\nMKTAYIAK\n",
                "pairedMsa": "",
                "templates": [{"mmcif": "data_t\n", "queryIndices": [0, 1, 7], "templateIndices": [4, 5, 6]}],
            }
        },
        {"protein": {"id": "C", "sequence": "GG", "templates": []}},
        {
            "rna": {
                "id": "R",
                "sequence": "GGU",
                "unpairedMsa": "",
                "modifications": [{"modificationType": "2MG", "basePosition": 1}],
            }
        },
        {"dna": {"id": "D", "sequence": "ACGT", "modifications": [{"modificationType": "5CM", "basePosition": 2}]}},
        {"ligand": {"id": ["E", "F"], "ccdCodes": ["NAG", "NAG"]}},
        {"ligand": {"id": "G", "smiles": "CC(=O)O", "description": "acetate"}},
    ],
    "bondedAtomPairs": [[["E", 1, "O4"], ["E", 2, "C1"]], [["A", 2, "NZ"], ["D", 4, "C7"]]],
    "userCCD": "data_LIG-1\n_chem_comp.id LIG-1\n",
}

WRITTEN = """{
  "dialect": "alphafold3",
  "version": 4,
  "name": "two",
  "sequences": [
    {
      "protein": {
        "id": [
          "A",
          "B"
        ],
        "sequence": "MK",
        "modifications": [
          {
            "ptmType": "SEP",
            "ptmPosition": 1
          }
        ],
        "unpairedMsa": "",
        "pairedMsa": "",
        "templates": [
          {
            "mmcif": "data_\\u00e9",
            "queryIndices": [0, 1],
            "templateIndices": [3, 4]
          }
        ]
      }
    },
    {
      "ligand": {
        "id": "C",
        "ccdCodes": [
          "MG"
        ],
        "description": "ion"
      }
    }
  ],
  "modelSeeds": [
    1,
    2
  ],
  "bondedAtomPairs": [
    [
      [
        "A",
        1,
        "O"
      ],
      [
        "C",
        1,
        "MG"
      ]
    ]
  ],
  "userCCD": null
}"""


def test_every_field(read: Callable[[Any], Job]) -> None:
    job = read(EVERYTHING)
    assert (job.name, job.seeds) == ("Every thing", (7, 4294967295, 0))
    template = Template(Text("data_t\n"), (0, 1, 7), (4, 5, 6))
    assert job.entities == (
        Polymer(
            "protein",
            ("B", "A"),
            "MKTAYIAK",
            (Modification("SEP", 3),),
            Text(">q\nMKTAYIAK\n"),
            Text(""),
            (template,),
            "two copies",
        ),
        Polymer("protein", ("C",), "GG", templates=()),
        Polymer("rna", ("R",), "GGU", (Modification("2MG", 1),), Text("")),
        Polymer("dna", ("D",), "ACGT", (Modification("5CM", 2),)),
        Ligand(("E", "F"), ("NAG", "NAG")),
        Ligand(("G",), smiles="CC(=O)O", description="acetate"),
    )
    assert job.bonds == (
        (AtomRef("E", 1, "O4"), AtomRef("E", 2, "C1")),
        (AtomRef("A", 2, "NZ"), AtomRef("D", 4, "C7")),
    )
    assert job.user_ccd == Text("data_LIG-1\n_chem_comp.id LIG-1\n")
    assert job.notes == ()
    assert read(json.loads(to_json(job))) == job


def test_text_as_alphafold3_writes_it(read: Callable[[Any], Job]) -> None:
    """Layout of AF3 `Input.to_json`: key order, indent 2, index arrays on one line, ASCII, neighbours merged."""
    protein = {
        "sequence": "MK",
        "modifications": [{"ptmType": "SEP", "ptmPosition": 1}],
        "unpairedMsa": "",
        "pairedMsa": "",
        "templates": [{"mmcif": "data_é", "queryIndices": [0, 1], "templateIndices": [3, 4]}],
    }
    job = read(
        {
            "dialect": "alphafold3",
            "version": 1,
            "name": "two",
            "modelSeeds": [1, 2],
            "bondedAtomPairs": [[["A", 1, "O"], ["C", 1, "MG"]]],
            "sequences": [
                {"protein": {"id": "A", **protein}},
                {"protein": {"id": "B", **protein}},
                {"ligand": {"id": "C", "ccdCodes": ["MG"], "description": "ion"}},
            ],
        }
    )
    assert to_json(job) == WRITTEN
    assert to_json(read(json.loads(WRITTEN))) == WRITTEN


def test_copies_apart_stay_apart(read: Callable[[Any], Job], af3: Callable[..., dict[str, Any]]) -> None:
    """AF3 merges neighbours only, which keeps the order of chains."""
    gg, ion = {"sequence": "GG"}, {"ccdCodes": ["MG"]}
    job = read(af3({"protein": {"id": "A", **gg}}, {"ligand": {"id": "B", **ion}}, {"protein": {"id": "C", **gg}}))
    ids = [next(iter(item.values()))["id"] for item in json.loads(to_json(job))["sequences"]]
    assert ids == ["A", "B", "C"]


def test_null_means_search_and_empty_means_none(read: Callable[[Any], Job], af3: Callable[..., dict[str, Any]]) -> None:
    job = read(
        af3(
            {"protein": {"id": "A", "sequence": "GG"}},
            {"protein": {"id": "B", "sequence": "GG", "unpairedMsa": None, "pairedMsa": None, "templates": None}},
            {"protein": {"id": "C", "sequence": "GG", "unpairedMsa": "", "pairedMsa": "", "templates": []}},
        )
    )
    absent, null, empty = job.entities
    assert absent == Polymer("protein", ("A",), "GG")
    assert (null.unpaired_msa, null.paired_msa, null.templates) == (None, None, None)
    assert (empty.unpaired_msa, empty.paired_msa, empty.templates) == (Text(""), Text(""), ())


def test_older_templates_wrote_null_indices(read: Callable[[Any], Job], af3: Callable[..., dict[str, Any]]) -> None:
    chain = {
        "id": "A",
        "sequence": "GG",
        "templates": [{"mmcif": "data_t", "queryIndices": [], "templateIndices": None}],
    }
    assert read(af3({"protein": chain})).entities[0].templates == (Template(Text("data_t"), (), ()),)


def test_paths_are_relative_to_the_file(tmp_path: Path, af3: Callable[..., dict[str, Any]]) -> None:
    (tmp_path / "msa").mkdir()
    for name in ("u.a3m", "p.a3m", "t.cif", "c.cif"):
        (tmp_path / "msa" / name).write_text(f"text of {name}")
    chain = {
        "id": "A",
        "sequence": "GG",
        "unpairedMsaPath": "msa/u.a3m",
        "pairedMsaPath": str(tmp_path / "msa/p.a3m"),
        "templates": [{"mmcifPath": "msa/t.cif", "queryIndices": [1], "templateIndices": [9]}],
    }
    (tmp_path / "job.json").write_text(json.dumps(af3({"protein": chain}, userCCDPath="msa/../msa/c.cif")))
    (job,) = read_jobs(tmp_path / "job.json")
    root = tmp_path.resolve() / "msa"
    protein = job.entities[0]
    assert protein.unpaired_msa == Text(path=root / "u.a3m")
    assert protein.paired_msa == Text(path=root / "p.a3m")
    assert protein.templates[0].mmcif == Text(path=root / "t.cif")
    assert job.user_ccd == Text(path=root / "c.cif")
    written = json.loads(to_json(job))
    assert written["sequences"][0]["protein"]["unpairedMsaPath"] == str(root / "u.a3m")
    assert "unpairedMsa" not in written["sequences"][0]["protein"]
    assert jobs_from_json(to_json(job), source=job.source)[0] == [job]
    inline = json.loads(to_json(job, inline=True))
    assert inline["sequences"][0]["protein"]["unpairedMsa"] == "text of u.a3m"
    assert inline["userCCD"] == "text of c.cif"


def test_a_file_is_read_in_by_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut anywhere, the text is that of the job which has it inline; marks are not mistaken for a text's own."""
    text = '>q "é\U0001f9ec\\\nGG\n>x\n\tGA\n'
    (tmp_path / "u.a3m").write_text(text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    monkeypatch.setattr("foldline.inputs.af3_json._BLOCK_CHARS", 3)
    one, other = (
        Job(
            name="two",
            entities=(Polymer("protein", ("A",), "GG", unpaired_msa=given, paired_msa=Text("")),),
            seeds=(1,),
        )
        for given in (Text(path=tmp_path / "u.a3m"), Text(text))
    )
    pieces = list(json_pieces(one, inline=True))
    assert len(pieces) > len(text) / 3 and "".join(pieces) == to_json(other)


def test_empty_text_gives_way_to_a_path(tmp_path: Path, af3: Callable[..., dict[str, Any]]) -> None:
    (tmp_path / "u.a3m").write_text(">q\nGG\n")
    chain = {
        "id": "A",
        "sequence": "GG",
        "unpairedMsa": "",
        "unpairedMsaPath": "u.a3m",
        "pairedMsa": "",
        "pairedMsaPath": "",
    }
    (jobs, errors) = jobs_from_json(json.dumps(af3({"protein": chain})), folder=tmp_path)
    assert not errors
    assert jobs[0].entities[0].unpaired_msa == Text(path=(tmp_path / "u.a3m").resolve())
    assert "gives way" in jobs[0].notes[0]


@pytest.mark.parametrize(
    ("chain", "path", "words"),
    [
        ({"unpairedMsaPath": "gone.a3m", "pairedMsa": ""}, "unpairedMsaPath", "does not exist"),
        ({"unpairedMsaPath": ".", "pairedMsa": ""}, "unpairedMsaPath", "is a folder"),
        ({"unpairedMsa": "u.a3m", "pairedMsa": ""}, "unpairedMsa", '"unpairedMsaPath"'),
        ({"unpairedMsaPath": "a\0b", "pairedMsa": ""}, "unpairedMsaPath", "not a possible file name"),
    ],
)
def test_bad_paths(
    tmp_path: Path, af3: Callable[..., dict[str, Any]], chain: dict[str, str], path: str, words: str
) -> None:
    """A35: a missing file or a folder is a fault; a file name as text is one too."""
    (tmp_path / "u.a3m").write_text(">q\nGG\n")
    value = af3({"protein": {"id": "A", "sequence": "GG", **chain}})
    jobs, (error,) = jobs_from_json(json.dumps(value), folder=tmp_path)
    assert not jobs
    assert error.path == f"$.sequences[0].protein.{path}"
    assert words in error.message


def test_text_and_path_or_one_of_two_alignments(
    af3: Callable[..., dict[str, Any]], faults: Callable[[Any], list[InputError]]
) -> None:
    """A36: the sentence says which."""
    both = {"id": "A", "sequence": "GG", "unpairedMsa": ">q\nGG", "unpairedMsaPath": "x", "pairedMsa": ""}
    assert '"unpairedMsa" and "unpairedMsaPath"' in faults(af3({"protein": both}))[0].message
    one = {"id": "A", "sequence": "GG", "pairedMsa": ">q\nGG"}
    assert '"pairedMsa" is set and "unpairedMsa" is not' in faults(af3({"protein": one}))[0].message
    (error,) = faults(af3(userCCD="data_x", userCCDPath="y"))
    assert '"userCCD" and "userCCDPath"' in error.message


def test_user_components(
    tmp_path: Path,
    af3: Callable[..., dict[str, Any]],
    read: Callable[[Any], Job],
    faults: Callable[[Any], list[InputError]],
) -> None:
    """A19: byte order mark, Windows line ends, escaped line breaks and a path are accepted, other text is refused."""
    assert read(af3(userCCD="\ufeffdata_X\r\n_chem_comp.id X\r\n")).user_ccd is not None
    escaped = read(af3(userCCD="data_X\\n_chem_comp.id X\\n"))
    assert escaped.user_ccd == Text("data_X\n_chem_comp.id X\n")
    assert "escaped" in escaped.notes[0]
    (tmp_path / "x.cif").write_text("data_X\n")
    jobs, errors = jobs_from_json(json.dumps(af3(userCCD="x.cif")), folder=tmp_path)
    assert not errors
    assert jobs[0].user_ccd == Text(path=(tmp_path / "x.cif").resolve())
    assert "userCCDPath" in jobs[0].notes[0]
    (error,) = faults(af3(userCCD="_chem_comp.id X\n"))
    assert error.path == "$.userCCD"
    assert "data_" in error.message


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_later_keys_in_older_versions_are_read_with_a_note(
    af3: Callable[..., dict[str, Any]], read: Callable[[Any], Job], version: int
) -> None:
    """A44: AF3 reads all keys in all versions."""
    job = read(af3({"protein": {"id": "A", "sequence": "GG", "description": "x"}}, version=version))
    assert job.entities[0].description == "x"
    assert any('"description" belongs to version 4' in note for note in job.notes) == (version < 4)


def test_real_jobs_round_trip(shared_data: Path) -> None:
    jobs = read_jobs(shared_data / "af3_jobs")
    assert len(jobs) >= 11
    for job in jobs:
        back, errors = jobs_from_json(to_json(job), source=job.source)
        assert not errors
        assert back == [job]


def test_writing_an_unreadable_path_inline_is_an_input_error(
    tmp_path: Path, af3: Callable[..., dict[str, Any]]
) -> None:
    (tmp_path / "u.a3m").write_text(">q\nGG\n")
    chain = {"id": "A", "sequence": "GG", "unpairedMsaPath": "u.a3m", "pairedMsa": ""}
    (job,), _ = jobs_from_json(json.dumps(af3({"protein": chain})), folder=tmp_path)
    (tmp_path / "u.a3m").unlink()
    with pytest.raises(InputError, match="does not exist"):
        to_json(job, inline=True)


def test_a_smiles_is_not_taken_for_a_file(tmp_path: Path, af3: Callable[..., dict[str, Any]]) -> None:
    """A16: a file beside the job that is called like a SMILES does no harm, a file name with an ending is refused."""
    for name in ("C", "lig.pdbqt"):
        (tmp_path / name).write_text("x")
    good, bad = ({"ligand": {"id": "A", "smiles": smiles}} for smiles in ("C", "lig.pdbqt"))
    jobs, errors = jobs_from_json(json.dumps([af3(good), af3(bad)]), folder=tmp_path)
    assert [job.entities[0].smiles for job in jobs] == ["C"]
    assert [error.path for error in errors] == ["$[1].sequences[0].ligand.smiles"]
