"""Files, folders and globs (acceptance cases A43, A46, A47)."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from foldline.errors import InputError
from foldline.inputs import InputErrors, read_inputs, read_jobs


@pytest.fixture
def folder(tmp_path: Path, af3: Callable[..., dict[str, Any]]) -> Path:
    (tmp_path / "b.json").write_text(json.dumps(af3(name="b")))
    (tmp_path / "a.JSON").write_text(json.dumps([af3(name="a1"), af3(name="a2")]))
    (tmp_path / "c.fasta").write_bytes(b"\xef\xbb\xbf>c1\r\nMKT\r\n>c2\r\nGGK\r\n")
    return tmp_path


def test_a_folder_is_read_in_order(folder: Path) -> None:
    jobs = read_jobs(folder)
    assert [job.name for job in jobs] == ["a1", "a2", "b", "c1", "c2"]
    assert jobs[2].source == str(folder / "b.json")
    assert all(job.notes == () for job in jobs[1:])
    assert jobs[0].notes == (several(folder / "c.fasta"),)


def several(file: object) -> str:
    """The note on a FASTA file of two records."""
    remedy = 'write its chains in one record with ":" between them, or a type in every header (">A|protein")'
    return f"{file}: 2 jobs, one for each record: for one complex {remedy}"


def test_records_that_are_jobs_of_their_own_are_told_of(tmp_path: Path) -> None:
    file = tmp_path / "c.fasta"
    file.write_text(">c1\nMKT\n>c2\nGGK\n")
    assert read_inputs(file).notes == [several(file)]
    for text in (">c1\nMKT:GGK\n", ">A|protein\nMKT\n>B|protein\nGGK\n", ">c1\nMK*\n>c2\nGGK\n"):
        file.write_text(text)
        reading = read_inputs(file)
        assert len(reading.jobs) == 1 and reading.notes == []


def test_ignored_files_are_named(folder: Path) -> None:
    (folder / "d.fasta.txt").write_text(">d\nMKT\n")
    (folder / "sub").mkdir()
    jobs = read_jobs([folder])
    assert len(jobs) == 5
    ignored = f"in the folder {folder} these were not read: d.fasta.txt, sub/"
    assert jobs[0].notes == (ignored, several(folder / "c.fasta"))


@pytest.mark.parametrize("inputs", ["", "*"])
def test_ignored_files_are_named_whatever_becomes_of_the_jobs(folder: Path, inputs: str) -> None:
    """A46: also where the first file, or every file, has a fault."""
    (folder / "a.JSON").write_text("{")
    (folder / "notes.txt").write_text("")
    (folder / "sub").mkdir()
    where = f"the glob {folder}/*" if inputs else f"the folder {folder}"
    for left, bad in ((3, 1), (0, 3)):
        jobs, errors, notes = read_inputs(str(folder / inputs))
        assert (len(jobs), len(errors)) == (left, bad)
        assert notes[0] == f"in {where} these were not read: notes.txt, sub/"
        assert all(job.notes == () for job in jobs)
        (folder / "b.json").write_text("{")
        (folder / "c.fasta").write_text("MKT")


def test_globs_and_single_files(folder: Path) -> None:
    assert [job.name for job in read_jobs(str(folder / "*.json"))] == ["b"]
    assert [job.name for job in read_jobs([folder / "c.fasta", str(folder / "[ab].*")])] == [
        "c1",
        "c2",
        "a1",
        "a2",
        "b",
    ]


def test_the_same_file_is_read_once(folder: Path) -> None:
    assert len(read_jobs([folder, folder / "b.json", str(folder / "b*")])) == 5


def test_a_file_named_outright_is_read_whatever_its_ending(folder: Path) -> None:
    (folder / "c.fasta").rename(folder / "c.fasta.txt")
    (folder / "b.json").rename(folder / "b.txt")
    assert [job.name for job in read_jobs([folder / "c.fasta.txt", folder / "b.txt"])] == ["c1", "c2", "b"]
    (folder / "notes.txt").write_text("hello")
    with pytest.raises(InputErrors, match="neither JSON nor FASTA"):
        read_jobs(folder / "notes.txt")


def test_a_file_whose_name_looks_like_a_glob(folder: Path) -> None:
    (folder / "b.json").rename(folder / "[b].json")
    assert [job.name for job in read_jobs(folder / "[b].json")] == ["b"]


@pytest.mark.parametrize("content", [[], ["x.fasta.txt", "y.yaml"]])
def test_nothing_to_read(tmp_path: Path, content: list[str]) -> None:
    """A46: what was passed over is listed."""
    for name in content:
        (tmp_path / name).write_text(">x\nMKT\n")
    with pytest.raises(InputErrors, match="no inputs in the folder") as caught:
        read_jobs(tmp_path)
    for name in content:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "no inputs"),
        (["gone.json"], "does not exist"),
        (["gone*.json"], "no inputs in the glob"),
        (["a\0b"], "not a possible file name"),
    ],
)
def test_inputs_that_are_not_there(
    inputs: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputErrors, match=words):
        read_jobs(inputs)


def test_all_faults_of_all_files_come_together(folder: Path, af3: Callable[..., dict[str, Any]]) -> None:
    (folder / "b.json").write_text(json.dumps({**af3(name="b"), "modelSeeds": [], "nme": 1}))
    (folder / "c.fasta").write_text(">c1\nMK1\n>c2\nGG\n")
    (folder / "d.json").write_text("{")
    with pytest.raises(InputError) as caught:
        read_jobs(folder)
    assert isinstance(caught.value, InputErrors)
    assert [(error.source.rsplit("/", 1)[1], error.path) for error in caught.value.errors] == [
        ("b.json", "$.nme"),
        ("b.json", "$.modelSeeds"),
        ("c.fasta", "line 1"),
        ("d.json", ""),
    ]
    assert str(caught.value).count("\n") == 3
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert [error.path for error in copy.errors] == [error.path for error in caught.value.errors]
    jobs, errors = read_jobs(folder, on_error="collect")
    assert [job.name for job in jobs] == ["a1", "a2", "c2"]
    assert [str(error) for error in errors] == [str(error) for error in caught.value.errors]


@pytest.mark.parametrize(("one", "other"), [("x", "x"), ("Abc", "abc"), ("a b", "a_b")])
def test_jobs_that_would_share_a_folder(
    tmp_path: Path, af3: Callable[..., dict[str, Any]], one: str, other: str
) -> None:
    """A43: a fault of the later one, before anything runs; the names need not be equal."""
    (tmp_path / "1.json").write_text(json.dumps(af3(name=one)))
    (tmp_path / "2.json").write_text(json.dumps(af3(name=other)))
    jobs, (error,) = read_jobs(tmp_path, on_error="collect")
    assert [job.name for job in jobs] == [one]
    assert error.source == str(tmp_path / "2.json")
    assert "rename one of the two" in error.message
    assert str(tmp_path / "1.json") in error.message


def test_names_that_lose_letters_do_not_meet(tmp_path: Path, af3: Callable[..., dict[str, Any]]) -> None:
    (tmp_path / "1.json").write_text(json.dumps([af3(name="é"), af3(name="漢"), af3(name="a/b"), af3(name="ab")]))
    assert len(read_jobs(tmp_path)) == 4


def test_one_bad_job_among_a_hundred(tmp_path: Path, af3: Callable[..., dict[str, Any]]) -> None:
    """A47: the others are read."""
    for i in range(100):
        chain = {"protein": {"id": "A", "sequence": "MKT" if i != 37 else "M-T"}}
        (tmp_path / f"{i:03}.json").write_text(json.dumps(af3(chain, name=f"job{i}")))
    jobs, errors = read_jobs(tmp_path, on_error="collect")
    assert len(jobs) == 99
    assert [error.source for error in errors] == [str(tmp_path / "037.json")]


def test_jobs_in_a_store(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    job = {"dialect": "alphafold3", "version": 2, "name": "j", "modelSeeds": [1], "sequences": []}
    protein = {"id": "A", "sequence": "ACD", "unpairedMsa": "", "pairedMsa": ""}
    store.pipe("/jobs/j.json", json.dumps(job | {"sequences": [{"protein": protein}]}).encode())
    store.pipe("/jobs/two.fasta", b">b\nEFG\n>c\nHIK\n")
    store.pipe("/jobs/notes.txt", b"")
    try:
        for inputs in ("memory://jobs", "memory://jobs/*", ["memory://jobs/j.json", "memory://jobs/two.fasta"]):
            jobs = read_jobs(inputs)
            assert [(one.name, one.source) for one in jobs] == [
                ("j", "memory://jobs/j.json"),
                ("b", "memory://jobs/two.fasta"),
                ("c", "memory://jobs/two.fasta"),
            ]
        ignored = "in the folder memory://jobs these were not read: notes.txt"
        assert read_jobs("memory://jobs")[0].notes == (ignored, several("memory://jobs/two.fasta"))
        relative = {"id": "A", "sequence": "ACD", "unpairedMsaPath": "x.a3m", "pairedMsa": ""}
        store.pipe("/jobs/j.json", json.dumps(job | {"sequences": [{"protein": relative}]}).encode())
        for inputs, said in (
            ("memory://jobs/j.json", r"unpairedMsaPath: the file .*x\.a3m does not exist"),
            ("memory://jobs/none.json", "memory://jobs/none.json is not there: check the address"),
            ("memory://none/*.json", "no inputs in the glob"),
            ("nowhere://jobs", "no address of a store that is known"),
        ):
            with pytest.raises(InputErrors, match=said):
                read_jobs(inputs)
    finally:
        store.store.clear()


def test_a_text_in_a_store_is_refused(tmp_path: Path) -> None:
    protein = {"id": "A", "sequence": "ACD", "unpairedMsaPath": "gs://b/x.a3m", "pairedMsa": ""}
    job = {"dialect": "alphafold3", "version": 2, "name": "j", "modelSeeds": [1], "sequences": [{"protein": protein}]}
    (tmp_path / "j.json").write_text(json.dumps(job))
    with pytest.raises(InputErrors, match='unpairedMsaPath: "gs://b/x.a3m" is in a store: copy the file here'):
        read_jobs(tmp_path / "j.json")
