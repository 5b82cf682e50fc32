"""Time protein searches: pyhmmer against the HMMER program, queries together against one by one, shards against none.

    python benchmarks/search.py FOLDER_OF_FASTA_FILES [--sequences 200000] [--queries 4] [--threads 1] [--json FILE]

The database is made from the protein files of the folder: every record, mutated copies of the queries (10 to 60 % of
the residues), and shuffled records until there are enough. The programs get AlphaFold 3's flags.
"""

import argparse
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from foldline.execute import InProcess
from foldline.search.binaries import Hmmer
from foldline.search.databases import records
from foldline.search.pyhmmer_tool import PyHmmer
from foldline.search.recipes import UNIREF90, Search
from foldline.search.rows import Alignment
from foldline.search.sharding import shard
from foldline.search.tools import Tool

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
SOURCES = ("uniref90*", "uniprot*", "mgy*", "bfd*")
COPIES = 60  # mutated copies of each query
SHARDS = 4


def make(sources: Path, target: Path, count: int, n_query: int) -> list[str]:
    """Write the database; returns the queries, records of 150 to 400 residues."""
    rng = random.Random(0)
    paths = [path for pattern in SOURCES for path in sorted(sources.glob(pattern))]
    entries = [record.decode().partition("\n") for path in paths for record in records(path)]
    texts = [body.replace("\n", "") for _, _, body in entries]
    queries = [text for text in texts if 150 <= len(text) <= 400 and "X" not in text][:n_query]
    made = [*texts, *(mutated(query, 0.1 + 0.5 * i / COPIES, rng) for query in queries for i in range(COPIES))]
    while len(made) < count:
        letters = list(rng.choice(texts))
        rng.shuffle(letters)
        made.append("".join(letters))
    rng.shuffle(made)
    with target.open("w") as file:
        file.writelines(f">s{i}\n{text}\n" for i, text in enumerate(made[:count]))
    return queries


def mutated(text: str, rate: float, rng: random.Random) -> str:
    """The text with that share of its letters drawn anew."""
    return "".join(rng.choice(LETTERS) if rng.random() < rate else letter for letter in text)


def run(tool: Tool, queries: list[str], files: list[Path], search: Search, threads: int) -> list[Alignment]:
    """Alignments of queries searched together."""
    with InProcess(threads) as executor:
        found = tool.search(queries, files, search, executor)
    return [tool.align(query, one, search) for query, one in zip(queries, found, strict=True)]


def timed(what: str, function: Callable[[], list[Alignment]]) -> tuple[float, list[Alignment]]:
    """Seconds by the clock, and the result."""
    start = time.perf_counter()
    result = function()
    spent = time.perf_counter() - start
    print(f"{what.ljust(58)} {spent:8.2f} s")
    return spent, result


def main() -> None:
    """Make the database and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--sequences", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        database = Path(name) / "database.fasta"
        queries = make(given.sources, database, given.sequences, given.queries)
        search = Search(UNIREF90, float(given.sequences), z_given=True)
        size = f"{given.sequences} sequences, {database.stat().st_size / 1e6:.1f} MB"
        print(f"{size}, {len(queries)} queries, {given.threads} threads, {os.cpu_count()} cores")
        ours, program = PyHmmer(), Hmmer.find()
        files = [database]
        times, results = {}, {}

        def measure(what: str, function: Callable[[], list[Alignment]]) -> None:
            times[what], results[what] = timed(what, function)

        measure("HMMER program, one query at a time", lambda: [run(program, [q], files, search, 0)[0] for q in queries])
        measure(
            "pyhmmer, one query at a time", lambda: [run(ours, [q], files, search, given.threads)[0] for q in queries]
        )
        measure("pyhmmer, all queries together", lambda: run(ours, queries, files, search, given.threads))
        shards = shard(database, SHARDS)
        measure(f"pyhmmer, all queries, {SHARDS} shards", lambda: run(ours, queries, shards, search, given.threads))
        first = next(iter(results.values()))
        same = {what: result == first for what, result in results.items()}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        rows = [len(one.rows) for one in first]
        print(f"rows {rows}, equal to the program's: {same}, peak of this process {peak:.0f} MB")
        if given.json:
            given.json.write_text(json.dumps({"database": size, "seconds": times, "equal": same, "peak_mb": peak}))


if __name__ == "__main__":
    main()
