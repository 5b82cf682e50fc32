"""The stage: each unique chain once, from the cache the next time, by one process of several, over all jobs."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_databases import sequence, write

from foldline.errors import SearchError
from foldline.execute import InProcess
from foldline.inputs import jobs_from_json, read_text, to_json
from foldline.inputs.job import Job, Polymer, Text
from foldline.search.jobs import searched
from foldline.search.recipes import PAIRED, UNPAIRED
from foldline.search.rows import merged, parse_a3m
from foldline.search.settings import SearchSettings
from foldline.search.stage import Chain, Searcher
from foldline.search.tools import SearchTimeout

NAMES = [recipe.database for kind in ("protein", "rna") for recipe in (*UNPAIRED[kind], *PAIRED[kind])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, queries: dict[str, list[str]]) -> Path:
    """Seven databases of AlphaFold 3's names, which share some of their sequences."""
    root = tmp_path_factory.mktemp("root")
    for number, name in enumerate(NAMES):
        kind = "protein" if number < 4 else "rna"
        write(root / f"{name}.fasta", kind, queries[kind], homologs=4 + number, others=20)
    return root


@pytest.fixture
def table(folder: Path) -> dict[str, object]:
    off = {"pdb_seqres": "none", "mmcif": "none"}
    return {"roots": [str(folder)], "databases": {name: f"{name}.fasta" for name in NAMES} | off}


@pytest.fixture
def executor() -> Iterator[InProcess]:
    with InProcess(1) as executor:
        yield executor


def job(name: str, *chains: tuple[str, str, str]) -> Job:
    return Job(name, (1,), tuple(Polymer(kind, (id_,), letters) for kind, id_, letters in chains))


def texts(one: Job) -> list[tuple[str, str]]:
    result = []
    for entity in one.entities:
        assert isinstance(entity, Polymer)
        if entity.unpaired_msa is not None:
            result.append((read_text(entity.unpaired_msa, "u"), read_text(entity.paired_msa or Text(""), "p")))
    return result


def test_each_unique_chain_is_searched_once_and_never_again(
    table: dict[str, object], queries: dict[str, list[str]], tmp_path: Path, executor: InProcess
) -> None:
    protein, rna = queries["protein"], queries["rna"]
    jobs = [
        job("homodimer", ("protein", "A", protein[0]), ("protein", "B", protein[0]), ("dna", "C", "ACGT")),
        job("other", ("protein", "A", protein[1]), ("rna", "B", rna[0]), ("protein", "C", protein[0])),
    ]
    searcher = Searcher(SearchSettings.make(table), tmp_path, executor)
    found = searched(jobs, searcher)
    assert sorted(searcher.searched) == sorted(
        [(name, query) for name in NAMES[:4] for query in protein] + [(name, rna[0]) for name in NAMES[4:]]
    )
    again = Searcher(SearchSettings.make(table), tmp_path, executor)
    assert searched(jobs, again) == found
    assert not again.searched
    assert texts(found[0])[0] == texts(found[0])[1] == texts(found[1])[2]
    unpaired, paired = texts(found[0])[0]
    assert len(parse_a3m(unpaired).rows) > 8
    assert all("[subseq from]" in header for header in parse_a3m(paired).headers[1:])
    assert found[1].entities[1].paired_msa is None  # type: ignore[union-attr]


def test_databases_are_merged_in_alphafold_3s_order(
    table: dict[str, object], queries: dict[str, list[str]], tmp_path: Path, executor: InProcess
) -> None:
    query = queries["protein"][0]

    def alone(*names: str) -> list[str]:
        databases = {name: f"{name}.fasta" if name in names else "none" for name in NAMES}
        searcher = Searcher(SearchSettings.make(table | {"databases": databases}), tmp_path, executor)
        (found,) = searcher.alignments([Chain("protein", query)]).values()
        assert f"made without {', '.join(n for n in NAMES[:4] if n not in names)}" in found.notes[0]
        assert found.paired is not None
        return [read_text(Text(path=path), "a") for path in (found.unpaired, found.paired)]

    parts = [parse_a3m(alone(name)[0]) for name in ("uniref90", "small_bfd", "mgnify")]
    (found,) = Searcher(SearchSettings.make(table), tmp_path, executor).alignments([Chain("protein", query)]).values()
    whole = merged(parts, deduplicate=True)
    assert read_text(Text(path=found.unpaired), "a") == whole.a3m()
    assert max(map(len, (part.rows for part in parts))) < len(whole.rows) < sum(len(part.rows) for part in parts)
    assert found.paired is not None
    assert read_text(Text(path=found.paired), "a") == alone("uniprot")[1]
    assert alone("uniprot")[0] == f">query\n{query}\n"


def test_given_alignments_stay_and_the_rest_is_what_alphafold_3_reads(
    table: dict[str, object], queries: dict[str, list[str]], tmp_path: Path, executor: InProcess
) -> None:
    given = f">query\n{queries['protein'][1]}\n"
    first = Polymer("protein", ("A",), queries["protein"][1], unpaired_msa=Text(given), paired_msa=Text(""))
    whole = Job("j", (1,), (first, Polymer("rna", ("B",), queries["rna"][0])))
    for inline in (False, True):
        searcher = Searcher(SearchSettings.make(table | {"inline": inline}), tmp_path, executor)
        (found,) = searched([whole], searcher)
        written = json.loads(to_json(found))
        protein, rna = written["sequences"][0]["protein"], written["sequences"][1]["rna"]
        assert (protein["unpairedMsa"], protein["pairedMsa"], protein["templates"]) == (given, "", [])
        assert ("unpairedMsa" in rna, "unpairedMsaPath" in rna) == (inline, not inline)
        back, faults = jobs_from_json(json.dumps(written))
        assert not faults
        assert texts(back[0]) == texts(found)


def test_two_processes_do_one_search(table: dict[str, object], queries: dict[str, list[str]], tmp_path: Path) -> None:
    code = """
import json, sys
from pathlib import Path
from foldline.execute import InProcess
from foldline.search.settings import SearchSettings
from foldline.search.stage import Chain, Searcher
table, query, folder = json.loads(sys.argv[1])
searcher = Searcher(SearchSettings.make(table), Path(folder), InProcess(0))
found = searcher.alignments([Chain("protein", query)])
print(json.dumps([searcher.searched, [str(one.unpaired) for one in found.values()]]))
"""
    argument = json.dumps([table, queries["protein"][1], str(tmp_path)])
    started = [
        subprocess.Popen([sys.executable, "-c", code, argument], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    results = [json.loads(process.communicate(timeout=120)[0]) for process in started]
    assert sorted(name for searched, _ in results for name, _ in searched) == sorted(NAMES[:4])
    assert results[0][1] == results[1][1]


def test_two_threads_share_the_work(
    table: dict[str, object], queries: dict[str, list[str]], tmp_path: Path, executor: InProcess
) -> None:
    searcher = Searcher(SearchSettings.make(table), tmp_path, executor)
    chains = [Chain("rna", query) for query in queries["rna"]]
    threads = [threading.Thread(target=searcher.alignments, args=(order,)) for order in (chains, chains[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(searcher.searched) == sorted((name, query) for name in NAMES[4:] for query in queries["rna"])


def test_a_changed_database_is_searched_again(
    table: dict[str, object], queries: dict[str, list[str]], tmp_path: Path, executor: InProcess
) -> None:
    own = write(tmp_path / "own.fasta", "protein", queries["protein"], homologs=2, others=5)
    table = {"databases": {"uniref90": str(own)}}
    chain = Chain("protein", queries["protein"][0])
    searcher = Searcher(SearchSettings.make(table), tmp_path, executor)
    before = searcher.alignments([chain])[chain]
    own.write_text(own.read_text() + f">new\n{chain.sequence[5:]}\n")
    after = searcher.alignments([chain])[chain]
    assert searcher.searched == [("uniref90", chain.sequence)] * 2
    assert "new/1-" not in read_text(Text(path=before.unpaired), "a")
    assert "new/1-" in read_text(Text(path=after.unpaired), "a")


def test_a_damaged_entry_is_made_again(
    table: dict[str, object], queries: dict[str, list[str]], tmp_path: Path, executor: InProcess
) -> None:
    chain = Chain("rna", queries["rna"][0])
    searcher = Searcher(SearchSettings.make(table), tmp_path, executor)
    text = read_text(Text(path=searcher.alignments([chain])[chain].unpaired), "a")
    for entry in searcher.cache.entries():
        path = searcher.cache.path(entry.key)
        path.write_bytes(path.read_bytes()[:-4])
    assert read_text(Text(path=searcher.alignments([chain])[chain].unpaired), "a") == text


def test_rna_time_limit(
    table: dict[str, object], queries: dict[str, list[str]], tmp_path: Path, executor: InProcess
) -> None:
    chain = Chain("rna", queries["rna"][1])
    limited = table | {"rna_minutes": 1e-9}
    searcher = Searcher(SearchSettings.make(limited), tmp_path, executor)
    found = searcher.alignments([chain])[chain]
    assert read_text(Text(path=found.unpaired), "a") == f">query\n{chain.sequence}\n"
    assert [note.split(":")[0] for note in found.notes] == [
        f"the search of {name} passed its limit of 1e-09 minutes" for name in NAMES[4:]
    ]
    with pytest.raises(SearchTimeout, match="rfam"):
        Searcher(SearchSettings.make(limited | {"on_rna_timeout": "stop"}), tmp_path, executor).alignments([chain])
    whole = Searcher(SearchSettings.make(table), tmp_path, executor).alignments([chain])[chain]
    assert len(parse_a3m(read_text(Text(path=whole.unpaired), "a")).rows) > 3


def test_nothing_is_stored_of_a_search_that_failed(
    table: dict[str, object], queries: dict[str, list[str]], tmp_path: Path, executor: InProcess
) -> None:
    bad = tmp_path / "bad.fasta"
    bad.write_text(">a\nACDEF\n>b\nAC@@!\n")
    searcher = Searcher(SearchSettings.make({"databases": {"uniref90": str(bad)}}), tmp_path, executor)
    with pytest.raises(SearchError, match=r"bad\.fasta cannot be read as FASTA"):
        searcher.alignments([Chain("protein", queries["protein"][0])])
    assert not searcher.cache.entries()


def test_no_database_for_a_kind(tmp_path: Path, folder: Path, executor: InProcess) -> None:
    settings = SearchSettings.make({"databases": {"uniref90": str(folder / "uniref90.fasta")}})
    with pytest.raises(SearchError, match="no database to search rna sequences in: name databases"):
        Searcher(settings, tmp_path, executor).alignments([Chain("rna", "ACGU" * 10)])


@pytest.mark.parametrize("length", [1, 3, 7, 9])
def test_very_short_chains(table: dict[str, object], tmp_path: Path, executor: InProcess, length: int) -> None:
    searcher = Searcher(SearchSettings.make(table), tmp_path, executor)
    for kind in ("protein", "rna"):
        chain = Chain(kind, sequence(kind, length, 3))
        assert read_text(Text(path=searcher.alignments([chain])[chain].unpaired), "a").startswith(
            f">query\n{chain.sequence}\n"
        )
