"""Time the searches of a job of four chains, two of them equal, on a Ray cluster against one by one on one core.

    python benchmarks/ray_search.py SOURCES [--sequences N] [--nodes 2] [--shards 4] [--folder FOLDER] [--json FILE]

SOURCES is as for search_set.py. The nodes are on this machine, with one core each. One by one: chain after chain,
database after database, each in one thread, as a pipeline without a queue does it, and what is equal again. The cluster
is up and its workers have begun before the clock runs; the time to start it is told apart. Alignments must be equal.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from search_set import SearchSet, make

from foldline.cluster.executor import search_executor
from foldline.cluster.session import nodes, session
from foldline.execute import Executor
from foldline.inputs import Text, read_text
from foldline.search.settings import SearchSettings
from foldline.search.sharding import shard
from foldline.search.stage import Chain, Searcher

STORE_BYTES = 200 * 2**20


def search(searcher: Searcher, queries: Sequence[str]) -> list[str]:
    """The alignments of chains that are searched for together."""
    found = searcher.alignments([Chain("protein", query) for query in queries])
    pairs = [(one.unpaired, one.paired) for one in (found[Chain("protein", query)] for query in queries)]
    return [read_text(Text(path=path), "an alignment") for pair in pairs for path in pair]


def main() -> None:
    """Make the databases and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--sequences", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        made = make(given.sources, given.folder or Path(name) / "set", given.sequences)
        whole = SearchSettings.make(made.settings | {"threads": 1})
        sharded = whole if given.shards < 2 else replace(whole, databases=split(made, given.shards))
        queries = [*made.queries[:3], made.queries[0]]
        print(f"{made.summary}; {given.shards} shards each; chains of {[len(query) for query in queries]} residues")
        print(f"{given.nodes} nodes of one core, on a machine with {os.cpu_count()} cores")
        seconds: dict[str, float] = {}
        results: dict[str, list[str]] = {}

        def timed(what: str, function: Callable[[], list[str]]) -> None:
            start = time.perf_counter()
            results[what] = function()
            seconds[what] = time.perf_counter() - start
            print(f"{what.ljust(50)} {seconds[what]:8.2f} s")

        def searcher(
            where: str, settings: SearchSettings, machines: Executor | None = None, threads: int = 1
        ) -> Searcher:
            return Searcher(settings, Path(name) / where, machines, threads=threads)

        def one_by_one() -> list[str]:
            return [text for n, query in enumerate(queries) for text in search(searcher(f"lone{n}", whole), [query])]

        timed("one by one, one core", one_by_one)
        timed("all together, one core", lambda: search(searcher("together", whole), queries))
        timed(
            f"all together, {given.nodes} threads",
            lambda: search(searcher("threads", whole, None, given.nodes), queries),
        )
        start = time.perf_counter()
        with started(given.nodes) as address, session(address) as ray:
            executor = search_executor(ray, print)
            small = replace(whole, databases={"uniref90": str(made.seqres)})
            search(searcher("warm", small, executor), list(made.queries))
            print(f"{'(the cluster and its workers start)'.ljust(50)} {time.perf_counter() - start:8.2f} s")
            assert len(nodes(ray)) == given.nodes
            timed("all together, on the cluster", lambda: search(searcher("ray", sharded, executor), queries))
        first, last = next(iter(seconds.values())), seconds["all together, on the cluster"]
        same = {what: result == results["one by one, one core"] for what, result in results.items()}
        print(f"{first / last:.2f} times as fast on the cluster as one by one; alignments equal: {same}")
        if given.json:
            told = {"databases": made.summary, "nodes": given.nodes, "shards": given.shards}
            given.json.write_text(json.dumps(told | {"seconds": seconds, "equal": same}, indent=1) + "\n")


def split(made: SearchSet, shards: int) -> dict[str, str]:
    """The databases in shards, made where they are not there."""
    for path in made.databases.values():
        if not path.with_name(f"{path.name}-00000-of-{shards:05d}").is_file():
            shard(path, shards)
    return {name: f"{path}@{shards}" for name, path in made.databases.items()}


@contextmanager
def started(count: int) -> Iterator[str]:
    """A cluster of nodes with one core each; gives its address."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(count - 1):
            cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
