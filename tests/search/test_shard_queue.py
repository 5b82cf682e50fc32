"""The queue: chains together, shard by shard, each once, kept as they come; items that another machine may be given."""

import pickle
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_databases import write

from foldline.errors import SearchError, Stopped
from foldline.execute import InProcess
from foldline.inputs import read_text
from foldline.inputs.job import Text
from foldline.search import shard_queue
from foldline.search.binaries import Hmmer
from foldline.search.pieces import Item, Realignment, search_item
from foldline.search.recipes import UNIREF90, Search
from foldline.search.settings import SearchSettings
from foldline.search.shard_queue import MOST_TOGETHER
from foldline.search.sharding import shard
from foldline.search.stage import Chain, Searcher, cache_in

SHARDS = 3


class Machines(InProcess):
    """Stands in for other machines: items and results travel as bytes, and what ran is counted."""

    def __init__(self, slots: int, most: int | None = None) -> None:
        super().__init__(slots)
        self.ran: list[Item] = []
        self.most = most  # items after which this process dies

    def each(
        self, function: Callable[[Any], Any], items: Iterable[Any]
    ) -> Generator[tuple[Any, Future[Any]], None, None]:
        def travel(item: Item) -> Any:
            far, packed = pickle.loads(pickle.dumps((function, item)))
            return pickle.loads(pickle.dumps(far(packed)))

        for item, future in super().each(travel, items):
            if len(self.ran) == self.most:
                raise Stopped
            future.result()
            self.ran.append(item)
            yield item, future


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, queries: dict[str, list[str]]) -> Path:
    """uniref90 and uniprot, each whole and in shards."""
    root = tmp_path_factory.mktemp("sharded")
    for name in ("u", "p"):
        shard(write(root / f"{name}.fasta", "protein", queries["protein"], homologs=6, others=20), SHARDS)
    return root


def searcher(folder: Path, cache: Path, machines: InProcess | None = None, *, sharded: bool = True) -> Searcher:
    at = f"@{SHARDS}" if sharded else ""
    databases = {"uniref90": f"{folder}/u.fasta{at}", "uniprot": f"{folder}/p.fasta{at}"}
    settings = SearchSettings.make({"databases": databases, "threads": 1})
    return Searcher(settings, cache, machines, threads=1)


def texts(found: dict[Chain, Any]) -> list[str]:
    return [read_text(Text(path=path), "a") for one in found.values() for path in (one.unpaired, one.paired)]


@pytest.fixture(scope="module")
def chains(queries: dict[str, list[str]]) -> list[Chain]:
    return [Chain("protein", query) for query in queries["protein"]]


@pytest.fixture(scope="module")
def wanted(folder: Path, chains: list[Chain], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return texts(searcher(folder, tmp_path_factory.mktemp("whole"), sharded=False).alignments(chains))


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_each_chain_and_shard_once_on_any_number_of_machines(
    folder: Path, chains: list[Chain], wanted: list[str], tmp_path: Path, slots: int
) -> None:
    with Machines(slots) as machines:
        one = searcher(folder, tmp_path, machines)
        assert texts(one.alignments([*chains, chains[0]])) == wanted
    asked = [(item.file, query) for item in machines.ran for query in item.queries]
    files = [f"{folder}/{name}.fasta-{i:05d}-of-{SHARDS:05d}" for name in "up" for i in range(SHARDS)]
    assert sorted(asked) == sorted((file, chain.sequence) for file in files for chain in chains)
    if slots == 1:
        assert len(machines.ran) == len(files), "every file is read once for all chains"
    left = [entry.about["what"] for entry in one.cache.entries()]
    assert "rows of a shard" not in left and left.count("rows") == 4
    with Machines(slots) as machines:
        assert texts(searcher(folder, tmp_path, machines).alignments(chains)) == wanted
    assert machines.ran == []


@pytest.mark.parametrize("most", [1, 4])
def test_a_run_that_dies_goes_on_from_its_shards(
    folder: Path, chains: list[Chain], wanted: list[str], tmp_path: Path, most: int
) -> None:
    with Machines(1, most) as first, pytest.raises(Stopped):
        searcher(folder, tmp_path, first).alignments(chains)
    with Machines(1) as second:
        assert texts(searcher(folder, tmp_path, second).alignments(chains)) == wanted
    ran = [item.file for item in (*first.ran, *second.ran)]
    assert len(first.ran) == most and len(ran) == len(set(ran)) == 2 * SHARDS


def test_a_failed_shard_fails_its_chains_alone_when_searching_ahead(
    folder: Path, chains: list[Chain], tmp_path: Path
) -> None:
    class Failing(Machines):
        def each(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Any:
            for item, future in super().each(function, items):
                if item.queries == (chains[0].sequence,):
                    future = Future()
                    future.set_exception(SearchError("the shard is broken"))
                yield item, future

    ended: list[Chain] = []
    with Failing(8) as machines:
        one = searcher(folder, tmp_path, machines)
        one.search_ahead([(chains[:1], []), (chains[:2], [])], lambda chain: ended.append(chain) or [])
    assert sorted(ended) == sorted(chains)
    assert {entry.about["sequence"] for entry in one.cache.entries() if entry.about["what"] == "rows"} == {
        chains[1].sequence
    }
    with Failing(8) as machines, pytest.raises(SearchError, match="the shard is broken"):
        searcher(folder, tmp_path, machines).alignments(chains[:1])


def test_how_many_go_together(folder: Path, tmp_path: Path) -> None:
    """All that fit into memory on one machine; as few as keep all slots busy on several."""
    alone = searcher(folder, tmp_path)._queue()
    assert alone.together("protein", 1000, 4) == MOST_TOGETHER
    with InProcess(8) as eight:
        several = searcher(folder, tmp_path, eight)._queue()
        assert [several.together("protein", n, 4) for n in (1, 4, 16, 1000)] == [1, 1, 4, MOST_TOGETHER]


@pytest.mark.parametrize("tool", ["pyhmmer", "hmmer"])
def test_rows_of_rna_are_aligned_in_pieces(
    made: dict[str, Path], queries: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    """As in one; a driver that dies among them goes on without a search."""
    if tool == "hmmer" and not Hmmer.is_here():
        pytest.skip("the HMMER programs are not on the PATH")
    settings = SearchSettings.make({"databases": {"rfam": str(made["rna"])}, "threads": 1, "tool": tool})
    chains = [Chain("rna", query) for query in queries["rna"]]

    def found(folder: str, machines: Machines | None = None) -> list[str]:
        one = Searcher(settings, tmp_path / folder, machines, threads=1)
        return [read_text(Text(path=one.unpaired), "a") for one in one.alignments(chains).values()]

    whole = found("whole")
    assert whole[1].count(">") > 8
    monkeypatch.setattr(shard_queue, "REALIGNED_CELLS", 120 * 250)
    with Machines(2) as machines:
        assert found("pieces", machines) == whole
    n_search = {"pyhmmer": 1, "hmmer": 2}[tool]  # on one machine
    aligned = [one for one in machines.ran if isinstance(one, Realignment)]
    assert len(machines.ran) == 2 + len(aligned) and len(aligned) > 3
    stored = [entry.about for entry in cache_in(tmp_path / "pieces").entries()]
    counts = [about["rows"] for about in stored if about["what"] == "rows"]
    assert sum(len(one.rows) for one in aligned) == sum(counts) - len(counts)  # type: ignore[arg-type]
    with Machines(1, n_search + 2) as first, pytest.raises(Stopped):
        found("dead", first)
    with Machines(1) as second:
        assert found("dead", second) == whole
    assert [isinstance(one, Realignment) for one in first.ran].count(True) == 2
    assert all(isinstance(one, Realignment) for one in second.ran)


def item(file: Path, **changes: object) -> Item:
    from foldline.search.pyhmmer_tool import PyHmmer

    size = file.stat().st_size if file.exists() else 1
    whole = Item(1, "pyhmmer", "", PyHmmer().version, ("MKTAYIAKQR",), str(file), size, Search(UNIREF90, 1.0), 1)
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_what_another_machine_lacks_is_named(folder: Path, tmp_path: Path) -> None:
    import platform

    node = platform.node()
    with pytest.raises(SearchError, match=rf"{tmp_path}/none.fasta cannot be read on {node} \(No such file"):
        search_item(item(tmp_path / "none.fasta"))
    with pytest.raises(SearchError, match=rf"u.fasta has \d+ bytes on {node}, 3 on the machine that asks"):
        search_item(item(folder / "u.fasta", size=3))
    with pytest.raises(SearchError, match=rf"pyhmmer is .* on {node} and 0.1 on the machine that asks"):
        search_item(item(folder / "u.fasta", version="0.1"))
    assert len(search_item(item(folder / "u.fasta"))) == 1


def test_a_search_ends_when_it_is_told_to(folder: Path) -> None:
    def check() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        search_item(item(folder / "u.fasta"), check=check)
