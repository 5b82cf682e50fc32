"""Time MMseqs2 against pyhmmer in one database, and count what each finds.

    python benchmarks/search_mmseqs.py SOURCES [--sequences 200000] [--queries 12] [--cores 1 2] [--repeat 3]

SOURCES is as for search_set.py. The database has real records, mutated copies of the queries and shuffled records. All
queries are searched for together, up to rows in the query's columns. mmseqs makes its database and an index of k-mers
once; that time stands apart. Processor seconds are those of this process and of the programs that it starts.
"""

import argparse
import datetime
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from search_set import LETTERS, LONGEST, SHORTEST, SOURCES, _entries, _write

from foldline.execute import InProcess
from foldline.search.mmseqs import MMseqs
from foldline.search.mmseqs_databases import FOLDER, prepared
from foldline.search.pyhmmer_tool import PyHmmer, _query
from foldline.search.recipes import UNIREF90, Search
from foldline.search.rows import Alignment
from foldline.search.tools import Tool

WAYS = {  # settings of mmseqs
    "mmseqs": (5.7, 1),
    "mmseqs, sensitivity = 8": (8.0, 1),
    "mmseqs, sensitivity = 8, iterations = 3": (8.0, 3),
}


def make(sources: Path, target: Path, count: int, n_query: int) -> list[str]:
    """Write the database; returns the queries."""
    entries = [entry for pattern in SOURCES.values() for entry in _entries(sources, pattern)]
    standard = set(LETTERS.tobytes().decode())
    fitting = [text for _, text in entries if SHORTEST <= len(text) <= LONGEST and set(text) <= standard]
    queries = fitting[:n_query]
    _write(target, entries, tuple(queries), count, np.random.default_rng(0))
    return queries


def run(tool: Tool, queries: list[str], database: Path, search: Search, cores: int) -> list[Alignment]:
    """Alignments of queries searched for together."""
    with InProcess(cores) as executor:
        found = tool.search(queries, [database], search, executor)
    return [tool.align(query, one, search) for query, one in zip(queries, found, strict=True)]


def processor() -> float:
    """Processor seconds so far."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usages)


def best(function: Callable[[], list[Alignment]], cores: int, repeat: int) -> tuple[float, float, list[Alignment]]:
    """Least seconds by the clock and of the processor of some runs on so many cores, and the last result."""
    before, clocks, processors, result = os.sched_getaffinity(0), [], [], []
    os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        for _ in range(repeat):
            _query.cache_clear()
            start, used = time.perf_counter(), processor()
            result = function()
            clocks.append(time.perf_counter() - start)
            processors.append(processor() - used)
    finally:
        os.sched_setaffinity(0, before)
    print(f"  {' '.join(f'{one:.2f}' for one in clocks)} s", file=sys.stderr)
    return min(clocks), min(processors), result


def names(alignments: list[Alignment]) -> set[tuple[int, str]]:
    """What was found, by query."""
    return {(i, header.split("/")[0]) for i, one in enumerate(alignments) for header in one.headers[1:]}


def main() -> None:
    """Make the database, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--sequences", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=12)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="foldline-bench-") as name:
        database = Path(name) / "database.fasta"
        queries = make(given.sources, database, given.sequences, given.queries)
        search = Search(UNIREF90, float(given.sequences))
        mmseqs, pyhmmer = MMseqs.find(Path(name)), PyHmmer()
        start, used = time.perf_counter(), processor()
        prepared(database, mmseqs.program, Path(name), threads=max(given.cores))
        made = time.perf_counter() - start, processor() - used
        size = sum(path.stat().st_size for path in (Path(name) / FOLDER).rglob("db*")) / 1e9
        print(f"# {datetime.date.today()}, {platform.machine()}, benchmarks/search_mmseqs.py {' '.join(sys.argv[1:])}")
        print(f"{given.sequences} sequences, {database.stat().st_size / 1e6:.1f} MB, {len(queries)} queries together")
        load = f"load {os.getloadavg()[0]:.1f}"
        print(f"MMseqs2 {mmseqs.version[:12]}, pyhmmer {pyhmmer.version}; best of {given.repeat}; {load}")
        print(f"database and index of mmseqs made once: {made[0]:.1f} s ({made[1]:.1f} processor s), {size:.1f} GB")
        print("".ljust(42) + "cores  seconds  processor s   rows  of pyhmmer's  not pyhmmer's")
        for cores in given.cores:
            function = partial(run, pyhmmer, queries, database, search, cores)
            clock, used, reference = best(function, cores, given.repeat)
            known = names(reference)
            print(f"{'pyhmmer'.ljust(42)}{cores:5} {clock:8.2f} {used:12.2f} {len(known):6}")
            for what, (sensitivity, iterations) in WAYS.items():
                options = (("sensitivity", sensitivity), ("iterations", iterations))
                function = partial(run, mmseqs, queries, database, replace(search, options=options), cores)
                clock, used, result = best(function, cores, given.repeat)
                found = names(result)
                print(f"{what.ljust(42)}{cores:5} {clock:8.2f} {used:12.2f} {len(found):6}", end="")
                print(f" {len(found & known) / len(known):12.1%} {len(found - known):14}")


if __name__ == "__main__":
    main()
