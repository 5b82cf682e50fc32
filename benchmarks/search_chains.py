"""Time all searches of 1, 2 and 4 chains against a serial pipeline, as FastFold counts its speed-up.

    python benchmarks/search_chains.py SOURCES [--sequences 400000] [--cores 2] [--repeat 3] [--folder FOLDER]

SOURCES is as for search_set.py. Serial: chain after chain, database after database with AlphaFold 3's calls of
jackhmmer, then hmmbuild and hmmsearch for the templates, each with all cores; the time is that of the programs alone.
Ours is everything: all chains together, alignments merged and stored, templates searched, filtered and cut out. Last,
the same jobs again, from the cache. FastFold (arXiv 2203.00854) claims 3 for one chain and 3 N for N chains where cores
are not what is short; here both have the cores that are stated.
"""

import argparse
import datetime
import platform
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from search_scale import Bench, alignments, calls
from search_set import SearchSet, make

from foldline.inputs import Job, Polymer, Text, read_text
from foldline.search.jobs import searched
from foldline.search.rows import parse_a3m
from foldline.search.stage import searcher_of
from foldline.search.templates import stockholm

COUNTS = (1, 2, 4)
HMMSEARCH = ["hmmsearch", "-o", "/dev/null", "--noali", "--F1", "0.1", "--F2", "0.1", "--F3", "0.1"]
HMMSEARCH += ["-E", "100", "--incE", "100", "--domE", "100", "--incdomE", "100"]


def serial(made: SearchSet, queries: tuple[str, ...], work: Path, cores: int) -> list[tuple[str, str]]:
    """The pipeline of programs; gives the alignments, and puts the seconds outside of the programs into `spent`."""
    texts = []
    for number, query in enumerate(queries):
        folder = work / f"serial-{number}"
        folder.mkdir(exist_ok=True)
        rows = calls(made, query, folder, cores, at_once=False)
        start = time.perf_counter()
        texts.append(alignments(made, query, rows))
        (folder / "rows.sto").write_text(stockholm(parse_a3m(texts[-1][0])))
        OUTSIDE.append(time.perf_counter() - start)
        build = ["hmmbuild", "-o", "/dev/null", "--informat", "stockholm", "--hand", "--amino"]
        subprocess.run([*build, str(folder / "profile"), str(folder / "rows.sto")], check=True)
        search = [*HMMSEARCH, "--cpu", str(cores), "-A", str(folder / "hits.sto")]
        subprocess.run([*search, str(folder / "profile"), str(made.seqres)], check=True)
    return texts


OUTSIDE: list[float] = []  # seconds of the serial pipeline that are not the programs'


def ours(made: SearchSet, queries: tuple[str, ...], cores: int, root: Path) -> list[tuple[str, ...]]:
    """All that a job of these chains needs, as text."""
    names = {name: str(path) for name, path in made.databases.items()}
    table = {"databases": {**names, "pdb_seqres": str(made.seqres), "mmcif": str(made.mmcif)}, "threads": cores}
    chains = tuple(Polymer("protein", (chr(ord("A") + i),), query) for i, query in enumerate(queries))
    (job,) = searched([Job("chains", (1,), chains)], searcher_of(table, root))
    texts = []
    for entity in job.entities:
        assert isinstance(entity, Polymer) and entity.templates is not None
        both = (entity.unpaired_msa, entity.paired_msa)
        texts.append(tuple(read_text(text or Text(""), "an alignment") for text in both))
    return texts


def main() -> None:
    """Make the databases, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--sequences", type=int, default=400_000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the databases are kept [default: nowhere]")
    given = parser.parse_args()
    words = " ".join(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="foldline-bench-") as name:
        made = make(given.sources, given.folder or Path(name) / "set", given.sequences)
        bench = Bench(made, Path(name), given.repeat)
        ours(made, made.queries[:1], given.cores, bench.root)  # the sizes of the databases are counted here
        lines = []
        for count in COUNTS:
            some = made.queries[:count]
            OUTSIDE.clear()
            wanted = bench.best(f"serial {count}", given.cores, partial(serial, made, some, bench.work, given.cores))
            found = bench.best(f"ours {count}", given.cores, partial(ours, made, some, given.cores, bench.root))
            start = time.perf_counter()
            again = ours(made, some, given.cores, bench.root)
            cached = time.perf_counter() - start
            bench.compare(f"{count} chains", wanted, found)
            bench.compare(f"{count} chains from the cache", found, again)
            alone = bench.seconds[f"serial {count}"][given.cores] - sum(OUTSIDE) / given.repeat
            taken = bench.seconds[f"ours {count}"][given.cores]
            cpu = [bench.cpu[f"{who} {count}"][given.cores] for who in ("serial", "ours")]
            numbers = f"{alone:10.2f} {cpu[0]:6.2f} {taken:10.2f} {cpu[1]:6.2f} {alone / taken:8.2f}"
            lines.append(f"{count:6d} {numbers} {3 * count:9d} {cached:12.3f}")
        print(f"# {datetime.date.today()}, {platform.machine()}, benchmarks/search_chains.py {words}")
        print(f"{made.summary}; templates in {made.seqres.name} and {made.mmcif.name}")
        print(f"{given.cores} cores for both, seconds, best of {given.repeat}")
        print("chains   serial s of CPU     ours s of CPU    ratio  FastFold    again, s")
        print("\n".join(lines))
        print("rows: " + (f"NOT EQUAL: {'; '.join(bench.unequal)}" if bench.unequal else "equal everywhere"))


if __name__ == "__main__":
    main()
