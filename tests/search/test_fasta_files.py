"""FASTA files as HMMER takes them: what pieces they are read in, line ends, letters, and what cannot be read."""

from pathlib import Path

import pytest
from made_databases import mutated, sequence
from pyhmmer import easel, plan7

from foldline.errors import SearchError
from foldline.execute import InProcess
from foldline.search import pyhmmer_tool
from foldline.search.binaries import Hmmer
from foldline.search.pyhmmer_tool import PyHmmer
from foldline.search.recipes import RFAM, UNIREF90, Search
from foldline.search.rows import Alignment
from foldline.search.tools import Tool

QUERIES = {kind: sequence(kind, 90, 3) for kind in ("protein", "rna")}
RECIPES = {"protein": UNIREF90, "rna": RFAM}
ODD = b">a b>c\r\nAC>D\r\n\r\n>b\n>c\nACDE\n\n>d >e\nAC\nDE\n>f\nA"
BEGIN = [0, 16, 19, 28, 40]  # of records, at ">" at the beginning of a line


def rows(tool: Tool, path: Path, kind: str, queries: list[str] | None = None, threads: int = 0) -> list[Alignment]:
    asked, search = queries or [QUERIES[kind]], Search(RECIPES[kind], 7, z_given=True)
    with InProcess(2 * threads, threads) as executor:
        found = tool.search(asked, [path], search, executor)
    return [tool.align(query, one, search) for query, one in zip(asked, found, strict=True)]


def records(kind: str, count: int = 6) -> list[tuple[str, str]]:
    """Homologs of a query, each followed by another sequence."""
    parent = QUERIES[kind]
    pairs = [
        ((f"h{i} no. {i} > {i - 1}", mutated(parent, kind, 0.1 * i, i)), (f"o{i}", sequence(kind, 70 + i, i)))
        for i in range(count)
    ]
    return [one for pair in pairs for one in pair]


@pytest.mark.parametrize("step", range(1, len(ODD) + 2))
def test_pieces_are_whole_records(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd").write_bytes(ODD)
    for headway in (1, 2, 1 << 13):
        monkeypatch.setattr(pyhmmer_tool, "HEADWAY", headway)
        pieces = list(pyhmmer_tool._pieces(tmp_path / "odd", 1, step))
        assert b"".join(piece.text() for piece in pieces) == ODD
        assert {piece.start for piece in pieces} <= set(BEGIN)
        assert len(pieces) == 5 if step == 1 else len(pieces) <= -(-len(ODD) // step)


def test_pieces_become_smaller_so_that_all_threads_end_together(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.write_text("".join(f">{i}\n{'A' * 1000}\n" for i in range(9000)))
    sizes = {slots: [one.end - one.start for one in pyhmmer_tool._pieces(path, slots, None)] for slots in (1, 2, 64)}
    assert {slots: len(found) for slots, found in sizes.items()} == {1: 5, 2: 12, 64: 35}
    for found in sizes.values():
        assert sum(found) == path.stat().st_size
        assert all(size > following - 2000 for size, following in zip(found, found[1:], strict=False))
    assert max(map(max, sizes.values())) < pyhmmer_tool.PIECE + 2000
    assert sizes[2][-1] < pyhmmer_tool.SMALLEST


@pytest.mark.parametrize("kind", ["protein", "rna"])
@pytest.mark.parametrize("named", [True, False])
def test_rows_do_not_depend_on_how_a_file_is_read(
    kind: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one piece or many, by HMMER itself or as sequences in memory, with or without Linux's files in memory."""
    path, parent = tmp_path / "d", QUERIES[kind]
    path.write_text("".join(f">{header}\n{text}\n" for header, text in records(kind)))
    queries = [parent, *(mutated(parent, kind, 0.2, seed) for seed in range(5))]
    (whole,) = rows(PyHmmer(1 << 22), path, kind)
    assert len(whole.rows) > 4
    monkeypatch.setattr(pyhmmer_tool, "_NAMED", named)
    for piece in (100, 450):
        for threads in (0, 2):
            assert rows(PyHmmer(piece), path, kind, threads=threads) == [whole]
        many = rows(PyHmmer(piece), path, kind, queries, threads=2)
        assert many[0] == whole
        assert many == [one for query in queries for one in rows(PyHmmer(), path, kind, [query])]


def test_each_search_of_an_rna_has_its_own_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyhmmer sets the length of its window anew in the profile: another thread would read what is not yet whole."""
    path, seen = tmp_path / "d", []

    class Recording(plan7.LongTargetsPipeline):
        def search_hmm(self, query: plan7.HMM, sequences: easel.DigitalSequenceBlock) -> plan7.TopHits:
            seen.append(query)
            return super().search_hmm(query, sequences)

    monkeypatch.setattr(plan7, "LongTargetsPipeline", Recording)
    path.write_text("".join(f">{header}\n{text}\n" for header, text in records("rna")))
    rows(PyHmmer(300), path, "rna", threads=2)
    assert len(seen) > 2
    assert len({id(query) for query in seen}) == len(seen)


FORMS = {
    "lines that end with CR LF": lambda header, text: f">{header}\r\n{text[:50]}\r\n{text[50:]}\r\n",
    "lower case": lambda header, text: f">{header}\n{text.lower()}\n",
    "a stop": lambda header, text: f">{header}\n{text}*\n",
    "blanks": lambda header, text: f"> {header}\n\n{text[:30]} {text[30:]} \n\n",
    "records without letters": lambda header, text: f">{header}\n{text}\n>none of {header}\n",
    "no end of the last line": lambda header, text: f"\n>{header}\n{text}",
}


@pytest.mark.parametrize("kind", ["protein", "rna"])
@pytest.mark.parametrize("form", list(FORMS))
def test_what_hmmer_takes_is_taken(kind: str, form: str, tmp_path: Path, hmmer: None) -> None:
    path = tmp_path / "d.fasta"
    path.write_bytes("".join(FORMS[form](*one) for one in records(kind)).lstrip("\n").encode())
    (expected,) = rows(Hmmer.find(), path, kind)
    assert len(expected.rows) > 4
    for tool in (PyHmmer(), PyHmmer(150)):
        assert rows(tool, path, kind) == [expected]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            ">a\nACDE\n>b\nAC1E\n",
            r"d\.fasta cannot be read as FASTA \(Could not parse file: Line 4: illegal character 1",
        ),
        (">a\nAC-DE\n", r"Line 2: illegal character -\): get it again, or check it with foldline db check"),
        (">a\nACDE\n>\nACDE\n", "no FASTA name found"),
    ],
)
@pytest.mark.parametrize("many", [1, 5])
def test_what_cannot_be_read_is_named(text: str, said: str, many: int, tmp_path: Path) -> None:
    path = tmp_path / "d.fasta"
    path.write_text(text)
    with pytest.raises(SearchError, match=said):
        rows(PyHmmer(), path, "protein", [QUERIES["protein"]] * many)


def test_the_place_of_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "d.fasta"
    path.write_text(">a\nACDE\n" * 50 + ">b\nAC\nD2\n")
    with pytest.raises(SearchError, match=r"Line 3: illegal character 2, counted from byte 400\)"):
        rows(PyHmmer(16), path, "protein")


@pytest.mark.parametrize("many", [1, 5])
def test_a_sequence_that_is_too_long_is_named(many: int, tmp_path: Path) -> None:
    path = tmp_path / "d.fasta"
    path.write_text(f">a\nACDE\n>long one\n{'ACDEF' * 20_001}\n")
    with pytest.raises(SearchError, match=r"^the sequence long of .*d\.fasta with its 100005 letters .*: take it out"):
        rows(PyHmmer(), path, "protein", [QUERIES["protein"]] * many)


def test_a_file_that_becomes_shorter_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.fasta"
    path.write_text(">a\nACDE\n" * 20)
    pieces = list(pyhmmer_tool._pieces(path, 1, 50))
    path.write_text(">a\nACDE\n" * 10)
    assert pieces[0].text() == b">a\nACDE\n" * 7
    with pytest.raises(SearchError, match=r"d\.fasta has become shorter while it was searched: get it again"):
        pieces[1].text()
    path.unlink()
    with pytest.raises(SearchError, match=r"d\.fasta cannot be read \(No such file"):
        pieces[0].text()
