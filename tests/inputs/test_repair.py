"""What `repair` mends, that it is noted and written down, and what is refused all the same (A23, A27, A33)."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldline.errors import InputError
from foldline.inputs import (
    Job,
    Polymer,
    Text,
    jobs_from_fasta,
    jobs_from_json,
    read_inputs,
    read_jobs,
    read_text,
    settled,
    to_json,
)
from foldline.inputs.checks import chain_name
from foldline.inputs.job import Mending

ALL = ("chain_ids", "nucleotides", "alignments")
QUERY = "MKTAYIAKQRQISFVKSHFSRQ"
WILD = "MKTAYIAKQWQISFVKSHFSRQ"
P = "$.sequences[0].protein"


def protein(sequence: str = QUERY, ids: Any = "A", **more: Any) -> dict[str, Any]:
    return {"protein": {"id": ids, "sequence": sequence, "unpairedMsa": "", "pairedMsa": "", "templates": [], **more}}


def read(value: Any, repair: tuple[str, ...] = ALL) -> Job:
    jobs, errors = jobs_from_json(json.dumps(value), repair=repair)
    assert not errors, errors
    return jobs[0]


def faults(value: Any, repair: tuple[str, ...] = ALL) -> list[str]:
    jobs, errors = jobs_from_json(json.dumps(value), repair=repair)
    assert not jobs
    return [str(error) for error in errors]


def ids(job: Job) -> list[tuple[str, ...]]:
    return [entity.ids for entity in job.entities]


def alignment(job: Job, what: str = "unpaired_msa") -> list[str]:
    return read_text(getattr(job.entities[0], what), "it").splitlines()


def test_ids_get_the_next_free_ones(af3: Callable[..., dict[str, Any]]) -> None:
    odd = ["a", "A1", "É", "Ab", "NaN", "", "ß", " A"]
    value = af3(protein(ids=["B", *odd[:4]]), protein("GG", ids=["A", *odd[4:]]))
    job = read(value, ("chain_ids",))
    assert ids(job) == [("B", "C", "D", "E", "F"), ("A", "G", "H", "I", "J")]
    assert job.notes == (
        '$.sequences: chain ids that are no capital letters were changed: "a" -> C, "A1" -> D, "É" -> E, "Ab" -> F, '
        '"NaN" -> G, "" -> H, "ß" -> I, " A" -> J',
    )
    assert read(json.loads(to_json(job)), ()) == replace(job, source="")
    assert len(faults(value, ("nucleotides", "alignments"))) == len(odd)
    assert all('or set repair = ["chain_ids"]' in fault for fault in faults(value, ()))


def test_more_chains_than_letters(af3: Callable[..., dict[str, Any]]) -> None:
    job = read(af3(protein(ids=[f"x{number}" for number in range(30)] + ["AA"])), ("chain_ids",))
    assert ids(job)[0] == (*(chain_name(number) for number in range(26)), "BA", "CA", "DA", "EA", "AA")


def test_bonds_follow(af3: Callable[..., dict[str, Any]]) -> None:
    value = af3(protein("ACG", ids=["a", "A"]), bondedAtomPairs=[[["A", 2, "SG"], ["a", 2, "SG"]]])
    (bond,) = read(value, ("chain_ids",)).bonds
    assert [(end.chain_id, end.residue, end.atom) for end in bond] == [("A", 2, "SG"), ("B", 2, "SG")]
    value["bondedAtomPairs"] = [[["A", 2, "SG"], ["B", 2, "SG"]]]
    assert faults(value) == ['$.bondedAtomPairs[0][1][0]: there is no chain "B": the chains are a, A']


def test_equal_ids_stay_an_error(af3: Callable[..., dict[str, Any]]) -> None:
    assert faults(af3(protein(ids=["a", "a"]))) == [
        f'{P}.id: the chain id "a" is used twice: give each chain an id of its own'
    ]
    assert faults(af3(protein(ids=[]))) == [f'{P}.id: no chain id: give one, for example "A"']


def test_good_jobs_are_left_as_they_are(af3: Callable[..., dict[str, Any]]) -> None:
    value = af3(
        protein(unpairedMsa=f">q\n{QUERY}\n>x\n{QUERY}\n"),
        {"rna": {"id": "B", "sequence": "GGCUA", "unpairedMsa": ">T\nGGCUA\n>t\nGGCTA\n"}},
        {"dna": {"id": "C", "sequence": "GGCTA"}},
    )
    plain, mended = read(value, ()), read(value)
    assert mended == plain and mended.notes == () == plain.notes
    assert to_json(mended, inline=True) == to_json(plain, inline=True)


@pytest.mark.parametrize(
    ("kind", "given", "right", "note"),
    [
        ("rna", "GTCTU", "GUCUU", "T is read as U in RNA: 2 in all, at position 2, 4"),
        ("dna", "guct", "GTCT", "U is read as T in DNA: 1 in all, at position 2"),
    ],
)
def test_bases(af3: Callable[..., dict[str, Any]], kind: str, given: str, right: str, note: str) -> None:
    value = af3({kind: {"id": "A", "sequence": given}})
    job = read(value, ("nucleotides",))
    assert job.entities == (Polymer(kind, ("A",), right),)
    assert job.notes[-1] == f"$.sequences[0].{kind}.sequence: {note}"
    assert json.loads(to_json(job))["sequences"][0][kind]["sequence"] == right
    (fault,) = faults(value, ("chain_ids", "alignments"))
    assert fault.endswith(', or set repair = ["nucleotides"]')


def test_an_alignment_with_t_follows_its_rna(af3: Callable[..., dict[str, Any]]) -> None:
    text = ">qT\nGGCTA\n>x\nGGtCUA\n"
    value = af3({"rna": {"id": "A", "sequence": "GGCTA", "unpairedMsa": text}})
    job = read(value, ("nucleotides",))
    assert alignment(job) == [">qT", "GGCUA", ">x", "GGuCUA"]
    assert job.notes[1:] == (
        "$.sequences[0].rna.unpairedMsa: the unpaired alignment has T in its first row: T is read as U in all rows",
    )
    value["sequences"][0]["rna"]["sequence"] = "GGCUA"
    assert alignment(read(value, ("nucleotides",))) == alignment(job)
    assert alignment(read(value, ("chain_ids",))) == text.splitlines()
    assert alignment(read(value)) == alignment(job) and len(read(value).notes) == 1
    value["sequences"][0]["rna"]["unpairedMsa"] = ">q\nGGtCUA\n"
    assert alignment(read(value, ("nucleotides",))) == [">q", "GGuCUA"]


def test_each_word_mends_its_own(af3: Callable[..., dict[str, Any]]) -> None:
    value = af3(protein(unpairedMsa=f">w\n{WILD}\n"))
    for words in (("nucleotides",), ("chain_ids", "nucleotides")):
        assert read(value, words) == read(value, ()) and read(value, words).notes == ()
    assert read(value, ("alignments",)) != read(value, ())


def test_the_servers_jobs_and_fasta_too() -> None:
    server = [{"name": "j", "modelSeeds": ["7"], "sequences": [{"rnaSequence": {"sequence": "GTC", "count": 1}}]}]
    assert read(server).entities[0].sequence == "GUC"  # pyright: ignore
    (job,), errors = jobs_from_fasta(">a|rna\nGTC\n>B|dna\nGUC\n>É|protein\nMKT\n>x|ccd\nMG\n", repair=ALL)
    assert not errors and ids(job) == [("A",), ("B",), ("C",), ("D",)]
    assert job.notes == (
        "line 1: T is read as U in RNA: 1 in all, at position 2",
        "line 3: U is read as T in DNA: 1 in all, at position 2",
        'chain ids that are no capital letters were changed: "a" -> A, "É" -> C, "x" -> D',
    )
    jobs, errors = jobs_from_fasta(">a|protein\nMKT\n>a|protein\nMKT\n", repair=ALL)
    assert not jobs and [error.message for error in errors] == [
        'the chain id "a" is used twice: give each chain an id of its own'
    ]


def test_copies_of_a_fasta_file_stay_copies(tmp_path: Path) -> None:
    (tmp_path / "a.a3m").write_text(f">w\n{WILD}\n")
    text = f">a|protein|a.a3m\n{QUERY}\n>b|protein|a.a3m\n{QUERY}\n"
    (job,), errors = jobs_from_fasta(text, folder=tmp_path, repair=ALL)
    assert not errors and ids(job) == [("A", "B")] and len(job.notes) == 3
    assert alignment(job)[:2] == [">query", QUERY]


MOVED = {
    "another residue": (WILD, f">x\n{QUERY}\n", 0, 0, 0, "95"),
    "gaps": (f"{QUERY[:5]}--{QUERY[7:]}", f">x\n{QUERY}\n", 0, 0, 0, "100"),
    "a tag": (f"GSH{QUERY}", f">x\nGS-{QUERY}\n", 22, 3, 0, "100"),
    "a piece": (QUERY[4:], f">x\n{QUERY[4:]}\n", 18, 0, 4, "100"),
}


@pytest.mark.parametrize("case", MOVED)
@pytest.mark.parametrize("key", ["unpairedMsa", "pairedMsa"])
@pytest.mark.parametrize("by_path", [False, True])
def test_alignments_are_moved(
    af3: Callable[..., dict[str, Any]], tmp_path: Path, case: str, key: str, by_path: bool
) -> None:
    first, more, columns, out, none, identity = MOVED[case]
    text = f">w\n{first}\n{more}"
    (tmp_path / "x.a3m").write_text(text)
    chain = protein(**({key: None, f"{key}Path": "x.a3m"} if by_path else {key: text}))
    (jobs, errors) = jobs_from_json(json.dumps(af3(chain)), folder=tmp_path, repair=("alignments",))
    assert not errors
    (job,) = jobs
    assert job.notes == (
        f"{P}.{key}: row 1 (w) is not the chain's own sequence, which was put before it (identity {identity} %): of"
        f" its {len(first)} columns {columns} were moved and {out} became insertions, {none} residues have none",
    )
    rows = alignment(job, "unpaired_msa" if key == "unpairedMsa" else "paired_msa")
    assert rows[:3] == [">query", QUERY, ">w"] and len(rows) == 6
    assert all(sum(not letter.islower() for letter in row) == len(QUERY) for row in rows[1::2])
    again = read(json.loads(to_json(job, inline=True)), ())
    assert again == replace(settled(job), source="") and again.notes == ()
    assert to_json(again, inline=True) == to_json(job, inline=True) == to_json(settled(job))
    twice = read(json.loads(to_json(job, inline=True)))
    assert twice == again and twice.notes == ()
    plain = json.loads(to_json(job))["sequences"][0]["protein"]
    assert plain.get(f"{key}Path") == (str(tmp_path / "x.a3m") if by_path else None)
    assert by_path or plain[key] == text


@pytest.mark.parametrize(
    ("sequence", "text", "says"),
    [
        (
            QUERY,
            f">w\n{QUERY[::-1]}\n",
            "row 1 (w) has 27 % of the chain's own sequence, and columns are moved from 50 %",
        ),
        (QUERY, ">w\n----\n", "row 1 (w) has 0 %"),
        (QUERY, ">w\n", "row 1 (w) has 0 %"),
        (QUERY, f"{QUERY}\n", "no record starts with '>'"),
    ],
)
def test_alignments_of_something_else_are_refused(
    af3: Callable[..., dict[str, Any]], sequence: str, text: str, says: str
) -> None:
    (fault,) = faults(af3(protein(sequence, unpairedMsa=text)), ("alignments",))
    assert fault.startswith(f"{P}.unpairedMsa: ") and says in fault
    read(af3(protein(sequence, unpairedMsa=text)), ("chain_ids",))


def test_rna_has_a_limit_of_its_own(af3: Callable[..., dict[str, Any]]) -> None:
    chain = {"rna": {"id": "A", "sequence": "GGCUAGCUAGGAUC", "unpairedMsa": ">w\nGGCUAGCUAGGCGG\n"}}
    (fault,) = faults(af3(chain))
    assert "has 79 % of" in fault and "moved from 80 % on" in fault
    chain["rna"]["unpairedMsa"] = ">w\nGGCUAGCUAGCAGC\n"
    assert alignment(read(af3(chain)))[1] == "GGCUAGCUAGGAUC"


def test_sequences_that_are_too_long_are_refused(
    af3: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldline.inputs.anchor.MAX_CELLS", 100)
    (fault,) = faults(af3(protein(unpairedMsa=f">w\n{WILD}\n")))
    assert (
        "row 1 (w) is not the chain's own sequence, and the two are too long to be laid on each other (22 and 22 r"
        in fault
    )


def test_a_file_that_cannot_be_read_is_refused_at_its_place(af3: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "x.a3m").write_bytes(b"\x1f\x8b\x08 no gzip")
    chain = protein(unpairedMsaPath="x.a3m")
    del chain["protein"]["unpairedMsa"]
    jobs, errors = jobs_from_json(json.dumps(af3(chain)), folder=tmp_path, repair=ALL)
    assert not jobs and [error.path for error in errors] == [f"{P}.unpairedMsa"]
    assert "is a damaged or cut-off compressed file" in errors[0].message


def test_a_bad_sequence_is_told_of_alone(af3: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    for chain in (protein("MKTAY*", unpairedMsa=f">w\n{WILD}\n"), protein("MKTAY*", unpairedMsa="x")):
        assert len(faults(af3(chain))) == 1
    rna = {"rna": {"id": "A", "sequence": "GGZAA", "unpairedMsa": "x"}}
    assert len(faults(af3(rna))) == 1
    (tmp_path / "x.a3m").write_text(">w\nWWWWWWWW\n")
    jobs, errors = jobs_from_fasta(">A|protein|x.a3m\nMKTAY*\n", folder=tmp_path, repair=ALL)
    assert not jobs and len(errors) == 1


def test_chains_that_use_no_alignment_are_left_alone(af3: Callable[..., dict[str, Any]]) -> None:
    assert read(af3(protein("MKTA", unpairedMsa=">w\nWWWW\n"))).notes == ()
    assert len(faults(af3(protein("MKTAY", unpairedMsa=">w\nWWWWW\n")))) == 1


def test_a_row_of_another_length_is_refused_when_it_is_read(af3: Callable[..., dict[str, Any]]) -> None:
    job = read(af3(protein(unpairedMsa=f">w\n{WILD}\n>odd\n{WILD}A\n")))
    for use in (lambda: to_json(job, inline=True), lambda: settled(job), lambda: alignment(job)):
        with pytest.raises(InputError, match=r"^\$.sequences\[0\].protein.unpairedMsa: row 2 \(odd\) has 23 match"):
            use()
    assert "odd" in to_json(job)


def test_files_are_read_so(tmp_path: Path, af3: Callable[..., dict[str, Any]]) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps(af3(protein(ids="a"))))
    (tmp_path / "x.fasta").write_text(">a|protein\nMKT\n")
    jobs, errors, _ = read_inputs(tmp_path, ("chain_ids",))
    assert not errors and [ids(job) for job in jobs] == [[("A",)], [("A",)]]
    assert ids(read_jobs(file, repair=("chain_ids",))[0]) == ids(read_jobs(file, repair="chain_ids")[0]) == [("A",)]
    assert read_jobs(file, on_error="collect", repair=["none"])[0] == []
    with pytest.raises(InputError, match="repair: 'chainids' .*did you mean chain_ids"):
        read_jobs(file, repair=("chainids",))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.sampled_from(["A", "B", "AA", "a", "b1", "É", "Ab", "NaN", "", "Z"]), min_size=1, max_size=8, unique=True
    )
)
def test_renamed_ids_are_good_and_their_own(names: list[str]) -> None:
    value = {
        "name": "j",
        "dialect": "alphafold3",
        "version": 4,
        "modelSeeds": [1],
        "sequences": [protein("MKT", ids=name) for name in names],
        "bondedAtomPairs": [[[one, 1, "N"], [other, 3, "C"]] for one, other in zip(names, names[1:], strict=False)],
    }
    job = read(value, ("chain_ids",))
    now = dict(zip(names, (entity.ids[0] for entity in job.entities), strict=True))
    assert len(set(now.values())) == len(names) and all(name.isascii() and name.isupper() for name in now.values())
    assert all(now[name] == name for name in names if name in ("A", "B", "AA", "Z"))
    text = json.dumps(value, ensure_ascii=False)
    value["sequences"] = [protein("MKT", ids=now[name]) for name in names]
    value["bondedAtomPairs"] = [
        [[now[a], i, x], [now[b], j, y]] for (a, i, x), (b, j, y) in json.loads(text)["bondedAtomPairs"]
    ]
    assert read(value, ()) == job


def test_what_is_mended_does_not_know_where_it_stands() -> None:
    """Copies of a chain in two places of a file are written as one entity."""
    assert Text("x", mending=Mending("M", (0,), place="a")) == Text("x", mending=Mending("M", (0,), place="b"))
    assert Text("x", mending=Mending("M", (0,))) != Text("x")
