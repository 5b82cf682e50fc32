"""Rows of both tools against AlphaFold 3's calls of the HMMER programs; blocks, threads, shards and limits."""

import time
from dataclasses import replace
from pathlib import Path

import hmmer_reference
import pytest
from made_databases import complement, sequence

from foldline.errors import SearchError
from foldline.execute import InProcess
from foldline.search import recipes
from foldline.search.binaries import PROGRAMS, Hmmer
from foldline.search.pyhmmer_tool import PyHmmer
from foldline.search.recipes import Recipe, Search
from foldline.search.rows import Alignment
from foldline.search.tools import SearchTimeout, Tool, choose

SHARED = {
    "uniref90": "uniref90__",
    "uniprot": "uniprot_all__",
    "mgnify": "mgy_clusters__",
    "small_bfd": "bfd-",
    "rfam": "rfam_",
    "rnacentral": "rnacentral_",
    "nt_rna": "nt_rna_",
}
OF_KIND = {"protein": recipes.UNIREF90, "rna": recipes.RFAM}


def size(database: Path, kind: str) -> float:
    entries = hmmer_reference.records(database)
    return len(entries) if kind == "protein" else (sum(len(text) for _, text in entries) + 0.5) / 1e6


def run(tool: Tool, queries: list[str], shards: list[Path], search: Search, threads: int = 0) -> list[Alignment]:
    with InProcess(threads) as executor:
        found = tool.search(queries, shards, search, executor)
    return [tool.align(query, one, search) for query, one in zip(queries, found, strict=True)]


def pairs(alignment: Alignment) -> hmmer_reference.Rows:
    assert alignment.headers[0] == "query"
    return list(zip(alignment.headers, alignment.rows, strict=True))[1:]


def reference(query: str, database: Path, recipe: Recipe, folder: Path, z: float | None = None) -> hmmer_reference.Rows:
    if recipe.kind == "rna":
        return hmmer_reference.nhmmer(query, database, recipe.max_rows, folder, z)
    return hmmer_reference.jackhmmer(query, database, recipe.max_rows, folder, None if z is None else int(z))


def shards_of(database: Path, folder: Path, count: int) -> list[Path]:
    entries = database.read_text().split(">")[1:]
    paths = [folder / f"d-{i:05}-of-{count:05}" for i in range(count)]
    for number, path in enumerate(paths):
        path.write_text("".join(f">{entry}" for entry in entries[number::count]))
    return paths


@pytest.mark.parametrize("name", ["pyhmmer", "hmmer"])
@pytest.mark.parametrize("kind", ["protein", "rna"])
def test_rows_are_those_of_the_programs(
    name: str, kind: str, made: dict[str, Path], queries: dict[str, list[str]], hmmer: None, tmp_path: Path
) -> None:
    tool = PyHmmer(piece=3000) if name == "pyhmmer" else choose(name)
    search = Search(OF_KIND[kind], size(made[kind], kind))
    asked = [*queries[kind], sequence(kind, 80, 9)]
    found = run(tool, asked, [made[kind]], search, threads=2)
    for query, alignment in zip(asked, found, strict=True):
        assert alignment.query == query
        assert pairs(alignment) == reference(query, made[kind], search.recipe, tmp_path)
    assert [len(alignment.rows) > 3 for alignment in found] == [True, True, False]


@pytest.mark.parametrize("name", ["pyhmmer", "hmmer"])
@pytest.mark.parametrize(("kind", "z"), [("protein", 5_000_000.0), ("rna", 3000.0)])
def test_a_given_size_counts_for_domains_too(
    name: str, kind: str, z: float, made: dict[str, Path], queries: dict[str, list[str]], hmmer: None, tmp_path: Path
) -> None:
    search = Search(OF_KIND[kind], z, z_given=True)
    query = queries[kind][1]
    (alignment,) = run(choose(name), [query], [made[kind]], search)
    expected = reference(query, made[kind], search.recipe, tmp_path, z)
    assert pairs(alignment) == expected
    assert 2 < len(expected) < len(reference(query, made[kind], search.recipe, tmp_path))


@pytest.mark.parametrize("database", list(SHARED))
def test_real_databases(database: str, shared_data: Path, hmmer: None, tmp_path: Path) -> None:
    path = next((shared_data / "databases").glob(SHARED[database] + "*"))
    recipe = recipes.RECIPES[database]
    texts = [text for _, text in hmmer_reference.records(path) if 40 < len(text) < 300]
    if recipe.kind == "protein":
        asked = [texts[0][:30] + "XUB" + texts[0][33:], *texts[1:6]]
    else:
        asked = [text.replace("T", "U") for text in texts[:2]]
        asked[0], asked[1] = asked[0][:10] + "N" + asked[0][11:], complement(asked[1][:44])
    found = run(PyHmmer(piece=100_000), asked, [path], Search(recipe, size(path, recipe.kind)))
    depths = []
    for query, alignment in zip(asked, found, strict=True):
        expected = reference(query, path, recipe, tmp_path)
        assert pairs(alignment) == expected
        depths.append(len(expected))
    assert min(depths) >= 1
    assert sum(depths) > len(asked)


@pytest.mark.parametrize("kind", ["protein", "rna"])
@pytest.mark.parametrize("block", [2000, 1 << 22])
def test_shards_give_what_the_whole_gives(
    kind: str, block: int, made: dict[str, Path], queries: dict[str, list[str]], tmp_path: Path
) -> None:
    search = Search(OF_KIND[kind], size(made[kind], kind))
    whole = run(PyHmmer(), queries[kind], [made[kind]], search)
    parts = shards_of(made[kind], tmp_path, 5)
    assert run(PyHmmer(block), queries[kind], parts, replace(search, sharded=True), threads=2) == whole
    assert len(whole[0].rows) > 3 and len(whole[1].rows) > 8


@pytest.mark.parametrize("kind", ["protein", "rna"])
def test_shards_of_the_programs(
    kind: str, made: dict[str, Path], queries: dict[str, list[str]], hmmer: None, tmp_path: Path
) -> None:
    """Merged by printed E-values: the same rows, and the same order where no printed values are equal."""
    z = size(made[kind], kind)
    (whole,) = run(Hmmer.find(), queries[kind][1:], [made[kind]], Search(OF_KIND[kind], z, z_given=True))
    search = Search(OF_KIND[kind], z, sharded=True)
    (merged,) = run(Hmmer.find(), queries[kind][1:], shards_of(made[kind], tmp_path, 4), search, threads=2)
    assert sorted(pairs(merged)) == sorted(pairs(whole))
    assert merged.headers[:4] == whole.headers[:4]


@pytest.mark.parametrize("kind", ["protein", "rna"])
def test_the_limit_counts_the_query_and_keeps_the_best(
    kind: str, made: dict[str, Path], queries: dict[str, list[str]]
) -> None:
    search = Search(OF_KIND[kind], size(made[kind], kind))
    (whole,) = run(PyHmmer(), queries[kind][1:], [made[kind]], search)
    few = replace(search, recipe=replace(search.recipe, max_rows=4))
    (cut,) = run(PyHmmer(piece=500), queries[kind][1:], [made[kind]], few)
    assert pairs(cut) == pairs(whole)[:3]


def test_a_deadline_ends_a_search(made: dict[str, Path], queries: dict[str, list[str]], hmmer: None) -> None:
    search = Search(recipes.RFAM, 0.01, deadline=time.monotonic() - 1)
    for tool in (PyHmmer(), Hmmer.find()):
        with pytest.raises(SearchTimeout, match="passed its time limit: raise rna_minutes"):
            run(tool, queries["rna"], [made["rna"]], search)


def test_what_is_no_fasta_is_named(tmp_path: Path, queries: dict[str, list[str]], hmmer: None) -> None:
    path = tmp_path / "wrong.fasta"
    path.write_text(">a\nACD@@@!!\n")
    for tool in (PyHmmer(), Hmmer.find()):
        with pytest.raises(SearchError, match=r"wrong\.fasta"):
            run(tool, queries["protein"], [path], Search(recipes.UNIREF90, 10))


def test_a_name_that_is_not_utf_8(tmp_path: Path, queries: dict[str, list[str]], hmmer: None) -> None:
    path, (query, _) = tmp_path / "latin.fasta", queries["protein"]
    path.write_bytes(b">a caf\xe9\n" + query[4:].encode() + b"\n")
    with pytest.raises(SearchError, match=r'uniref90 cannot be read .*: save the file as UTF-8, or set tool = "hmmer"'):
        run(PyHmmer(), [query], [path], Search(recipes.UNIREF90, 1))
    (found,) = run(Hmmer.find(), [query], [path], Search(recipes.UNIREF90, 1))
    assert found.rows[1] == "----" + query[4:]


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SearchError, match="jackhmmer is not on the PATH: install HMMER"):
        choose("hmmer")


def test_old_programs_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs(tmp_path, "2.3.2", "")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(SearchError, match=r"jackhmmer is HMMER 2\.3\.2: version 3\.1 or later is needed"):
        choose("hmmer")


def programs(folder: Path, version: str, does: str) -> None:
    """Programs of that version that do something, in place of HMMER's."""
    for name in PROGRAMS:
        program = folder / name
        program.write_text(f"#!/bin/sh\n[ $1 = -h ] && echo '# HMMER {version} (Oct 2003)' && exit\n{does}\n")
        program.chmod(0o755)


WRITE = """
while [ $# -gt 2 ]; do
    [ $1 = -A ] && printf '%s' "$ROWS" > $2
    [ $1 = --tblout ] && printf '%s' "$TABLE" > $2
    shift
done
"""


@pytest.mark.parametrize(
    ("kind", "rows", "table"),
    [
        ("protein", "", "# [ok]\n"),
        ("protein", "# STOCKHOLM 1.0\nquery ACD\n", "# [ok]\n"),
        ("rna", "", ""),
        ("rna", "", "# target name\nx - query -\n# [ok]\n"),
        ("rna", "# STOCKHOLM 1.0\n", "# target name\nx - query -\n# [ok]\n"),
    ],
)
def test_what_a_full_disk_cut_off_is_no_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: dict[str, Path], kind: str, rows: str, table: str
) -> None:
    """HMMER ends without an error when its last write fails; a table without hits stands for no rows."""
    programs(tmp_path, "3.3.2", WRITE)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("ROWS", rows)
    monkeypatch.setenv("TABLE", table)
    search = Search(OF_KIND[kind], 10)
    with pytest.raises(SearchError, match=r"cannot be written to .* \(what \w+ wrote is cut off\): free space there"):
        run(Hmmer.find(), ["ACACACACACAC"], [made[kind]], search)
    monkeypatch.setenv("ROWS", "# STOCKHOLM 1.0\n//\n" if kind == "protein" else "")
    monkeypatch.setenv("TABLE", "# target name\n# [ok]\n")
    assert run(Hmmer.find(), ["ACACACACACAC"], [made[kind]], search)[0].rows == ("ACACACACACAC",)


def test_no_space_for_the_files_of_a_search(
    monkeypatch: pytest.MonkeyPatch, made: dict[str, Path], queries: dict[str, list[str]], hmmer: None
) -> None:
    tool = Hmmer.find()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SearchError, match=r"cannot be written to .* \(No space left on device\): free space there"):
        run(tool, queries["protein"], [made["protein"]], Search(recipes.UNIREF90, 10))


@pytest.mark.parametrize("name", ["pyhmmer", "hmmer"])
@pytest.mark.parametrize(("kind", "letters"), [("protein", "BJOUXZ"), ("rna", "NNNNNN")])
def test_unusual_letters_of_a_query(name: str, kind: str, letters: str, tmp_path: Path, hmmer: None) -> None:
    """Every letter that a job may have; rows are aligned to the query as it is."""
    parent = sequence(kind, 90, 3)
    query = parent[:40] + letters + parent[46:]
    path = tmp_path / "d.fasta"
    path.write_text(f">same\n{parent}\n>other\n{sequence(kind, 90, 4)}\n")
    (found,) = run(choose(name), [query], [path], Search(OF_KIND[kind], size(path, kind)))
    assert found.rows[0] == query and len(found.rows) == 2
    assert found.rows[1][5:30] == parent[5:30] and found.headers[1].startswith("same")
