"""Time protein searches against the HMMER programs: called as AlphaFold 3 calls them, sharded, and one to one.

    python benchmarks/search_scale.py SOURCES [--sequences 400000] [--cores 1 2] [--repeat 3] [--folder FOLDER]

SOURCES is as for search_set.py, which makes the databases. AlphaFold 3 runs jackhmmer in its four databases at once,
chain after chain; the programs' time is that of the calls alone, ours that of the whole search up to the stored
alignments. A run has the cores that are stated, and no others. Rows are compared, and the best of the repeats is shown.
"""

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from search_set import SearchSet, make

from foldline.execute import InProcess
from foldline.inputs import Text, read_text
from foldline.search import recipes
from foldline.search.binaries import Hmmer, stockholm_rows
from foldline.search.databases import shard_names
from foldline.search.pyhmmer_tool import PyHmmer, _query
from foldline.search.recipes import Recipe, Search
from foldline.search.rows import Alignment, Found, merged
from foldline.search.sharding import shard
from foldline.search.stage import Chain, cache_in, searcher_of
from foldline.search.tools import Tool

SHARDS = 4
UNPAIRED = recipes.UNPAIRED["protein"]
PAIRED = recipes.PAIRED["protein"]
FLAGS = ["-o", "/dev/null", "--noali", "--F1", "0.0005", "--F2", "5e-05", "--F3", "5e-07", "-N", "1"]
FLAGS += ["-E", "0.0001", "--incE", "0.0001"]
MOST_CPU = 8  # what AlphaFold 3 gives each call at most


Result = TypeVar("Result")


@dataclass
class Bench:
    """What is measured in, and the seconds by what was done and on how many cores."""

    made: SearchSet
    work: Path
    repeat: int
    seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    cpu: dict[str, dict[int, float]] = field(default_factory=dict)  # of the same runs, children's included
    unequal: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """Folder of the cache."""
        return self.work / "cache"

    def best(self, what: str, cores: int, function: Callable[[], Result]) -> Result:
        """Run a function on so many cores, each time with nothing in the cache; keeps the best time.

        Gives the last result.
        """
        results: list[Result] = []
        times, spent = [], []
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(before)[:cores])
        try:
            for _ in range(self.repeat):
                shutil.rmtree(cache_in(self.root).folder, ignore_errors=True)
                _query.cache_clear()
                start, cpu = time.perf_counter(), sum(os.times()[:4])
                results = [function()]
                times.append(time.perf_counter() - start)
                spent.append(sum(os.times()[:4]) - cpu)
        finally:
            os.sched_setaffinity(0, before)
        self.seconds.setdefault(what, {})[cores] = min(times)
        self.cpu.setdefault(what, {})[cores] = spent[times.index(min(times))]
        print(f"  {what}, {cores} cores: {' '.join(f'{one:.2f}' for one in times)} s", file=sys.stderr)
        return results[0]

    def compare(self, what: str, one: object, other: object) -> None:
        """Note what is not equal."""
        if one != other:
            self.unequal.append(what)


def calls(made: SearchSet, query: str, folder: Path, cores: int, *, at_once: bool) -> dict[str, Path]:
    """jackhmmer in the four databases as AlphaFold 3 calls it; the files of rows."""
    (folder / "query.fasta").write_text(f">query\n{query}\n")
    running = []
    rows = {name: folder / f"{name}.sto" for name in made.databases}
    for name, path in made.databases.items():
        command = ["jackhmmer", *FLAGS, "--cpu", str(min(cores, MOST_CPU)), "-A", str(rows[name])]
        running.append(subprocess.Popen([*command, str(folder / "query.fasta"), str(path)]))
        if not at_once and running[-1].wait():
            raise SystemExit(f"{name}: jackhmmer failed")
    if any(process.wait() for process in running):
        raise SystemExit("jackhmmer failed")
    return rows


def chain_after_chain(made: SearchSet, queries: Sequence[str], work: Path, cores: int) -> list[dict[str, Path]]:
    """AlphaFold 3's calls for several chains."""
    files = []
    for number, query in enumerate(queries):
        folder = work / f"calls-{number}"
        folder.mkdir(exist_ok=True)
        files.append(calls(made, query, folder, cores, at_once=True))
    return files


def alignments(made: SearchSet, query: str, rows: dict[str, Path]) -> tuple[str, str]:
    """What AlphaFold 3 makes of the files: the unpaired and the paired alignment as text."""
    parts: dict[str, Alignment] = {}
    for recipe in (*UNPAIRED, *PAIRED):
        search = Search(recipe, made.sizes[recipe.database])
        found = Found(list(stockholm_rows(rows[recipe.database], search, {})))
        parts[recipe.database] = Hmmer.align(Hmmer({}, ""), query, found, search)
    unpaired, paired = ([parts[recipe.database] for recipe in group] for group in (UNPAIRED, PAIRED))
    return merged(unpaired, deduplicate=True).a3m(), merged(paired, deduplicate=False).a3m()


def ours(table: Mapping[str, object], queries: Sequence[str], cores: int, root: Path) -> list[tuple[str, ...]]:
    """The alignments of chains searched for together."""
    found = searcher_of({**table, "threads": cores}, root).alignments([Chain("protein", query) for query in queries])
    texts = []
    for query in queries:
        one = found[Chain("protein", query)]
        texts.append(tuple(read_text(Text(path=path), "an alignment") for path in (one.unpaired, one.paired) if path))
    return texts


def alone(tool: Tool, query: str, files: Sequence[Path], search: Search, cores: int) -> Alignment:
    """A query in one database with a tool; the programs run one thread per file."""
    with InProcess(cores) as executor:
        return tool.align(query, tool.search([query], files, search, executor)[0], search)


def measure(bench: Bench, cores: int) -> None:
    """All that is compared, on so many cores."""
    made, queries, root = bench.made, bench.made.queries, bench.root

    ours(made.settings, queries[:1], cores, root)  # the sizes of the databases are counted here
    sharded: dict[str, object] = {"databases": {name: f"{path}@{SHARDS}" for name, path in made.databases.items()}}
    ours(sharded, queries[:1], cores, root)
    for some, word in ((queries[:1], "one chain"), (queries, f"{len(queries)} chains")):
        as_alphafold3 = partial(chain_after_chain, made, some, bench.work, cores)
        files = bench.best(f"{word}: jackhmmer in four databases at once, as AlphaFold 3", cores, as_alphafold3)
        wanted = [alignments(made, query, rows) for query, rows in zip(some, files, strict=True)]
        for what, table in (("", made.settings), (f", {SHARDS} shards each", sharded)):
            found = bench.best(f"{word}: Foldline{what}", cores, partial(ours, table, some, cores, root))
            bench.compare(f"{word}{what}, {cores} cores", wanted, found)
    largest = max(made.sizes, key=lambda name: made.sizes[name])
    recipe: Recipe = next(recipe for recipe in UNPAIRED if recipe.database == largest)
    whole = Search(recipe, float(made.sizes[largest]))
    parts = [made.databases[largest].with_name(name) for name in shard_names(made.databases[largest].name, SHARDS)]
    given = Search(recipe, whole.z, sharded=True)
    results = []
    for tool, word in ((Hmmer.find(), "jackhmmer"), (PyHmmer(), "pyhmmer")):
        for files, search, what in (([made.databases[largest]], whole, "whole"), (parts, given, f"{SHARDS} shards")):
            results.append(
                bench.best(
                    f"one chain in {largest} ({what}): {word}",
                    cores,
                    partial(alone, tool, queries[0], files, search, cores),
                )
            )
    bench.compare(f"pyhmmer and jackhmmer, {cores} cores", results[0], results[2])
    bench.compare(f"pyhmmer in shards, {cores} cores", results[2], results[3])
    # The programs print E-values with two digits: rows of equal ones may stand in another order when shards are merged.
    bench.compare(f"jackhmmer in shards, {cores} cores", sorted(results[0].rows), sorted(results[1].rows))


def main() -> None:
    """Make the databases, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--sequences", type=int, default=400_000)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the databases are kept [default: nowhere]")
    given = parser.parse_args()
    if max(given.cores) > len(os.sched_getaffinity(0)):
        raise SystemExit(f"there are {len(os.sched_getaffinity(0))} cores for this process")
    words = " ".join(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="foldline-bench-") as name:
        folder = given.folder or Path(name) / "set"
        made = make(given.sources, folder, given.sequences)
        for path in made.databases.values():
            if not path.with_name(shard_names(path.name, SHARDS)[0]).is_file():
                shard(path, SHARDS)
        bench = Bench(made, Path(name), given.repeat)
        for cores in given.cores:
            measure(bench, cores)
        print(f"# {datetime.date.today()}, {platform.machine()}, benchmarks/search_scale.py {words}")
        lengths = ", ".join(str(len(query)) for query in made.queries)
        print(f"{made.summary}, {len(made.queries)} chains of {lengths} residues")
        print(f"HMMER {Hmmer.find().version}, pyhmmer {PyHmmer().version}; seconds / of CPU, best of {given.repeat}")
        print(" " * 74 + "".join(f"{count} core{'s' * (count > 1)}".rjust(18) for count in given.cores))
        used = bench.cpu
        for what, times in bench.seconds.items():
            print(what.ljust(74) + "".join(f"{times[count]:9.2f} /{used[what][count]:7.2f}" for count in given.cores))
        print("rows: " + (f"NOT EQUAL: {'; '.join(bench.unequal)}" if bench.unequal else "equal everywhere"))


if __name__ == "__main__":
    main()
