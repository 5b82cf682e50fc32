"""Databases to time searches in: four protein ones in the proportions of AlphaFold 3's, made from small real ones.

    python benchmarks/search_set.py SOURCES FOLDER [--sequences 200000]

SOURCES holds FASTA files named uniref90*, bfd*, mgy*, uniprot* and pdb_seqres*, and a folder mmcif. Each database gets
the records of its source, mutated copies of the queries (10 to 65 % of their residues), and shuffled records until it
is full. The same files each time.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foldline.search.databases import records

# Sequences in AlphaFold 3's databases (in millions), and the names of the sources.
PROPORTIONS = {"uniref90": 153.7, "small_bfd": 66.0, "mgnify": 623.8, "uniprot": 225.6}
SOURCES = {"uniref90": "uniref90*", "small_bfd": "bfd*", "mgnify": "mgy*", "uniprot": "uniprot*"}
LETTERS = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)
HOMOLOGS = 0.005  # share of a database's sequences that are mutated queries
QUERIES, SHORTEST, LONGEST = 4, 150, 400
LEAST, MOST = 0.1, 0.65  # of a query's residues changed


@dataclass(frozen=True)
class SearchSet:
    """Files of databases by name, chains to search for, and how many sequences there are in all."""

    databases: dict[str, Path]
    seqres: Path
    mmcif: Path
    queries: tuple[str, ...]
    sizes: dict[str, int]

    @property
    def settings(self) -> dict[str, object]:
        """A [search] table that names the databases."""
        return {"databases": {name: str(path) for name, path in self.databases.items()}}

    @property
    def summary(self) -> str:
        """Sizes in a line."""
        each = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        megabytes = sum(path.stat().st_size for path in self.databases.values()) / 1e6
        return f"{sum(self.sizes.values())} sequences, {megabytes:.0f} MB ({each})"


def make(sources: Path, folder: Path, count: int) -> SearchSet:
    """Write the databases into a folder, `count` sequences in all, unless they are there."""
    sizes = {name: round(count * part / sum(PROPORTIONS.values())) for name, part in PROPORTIONS.items()}
    paths = {name: folder / f"{name}.fasta" for name in PROPORTIONS}
    seqres, mmcif = folder / "pdb_seqres.fasta", sources.absolute() / "mmcif"
    entries = {name: _entries(sources, pattern) for name, pattern in SOURCES.items()}
    standard = set(LETTERS.tobytes().decode())
    fitting = [text for _, text in entries["uniprot"] if SHORTEST <= len(text) <= LONGEST and set(text) <= standard]
    queries = tuple(fitting[:QUERIES])
    made = SearchSet(paths, seqres, mmcif, queries, sizes)
    mark = folder / "made.json"
    if not mark.is_file() or json.loads(mark.read_text()) != sizes:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (name, path) in enumerate(paths.items()):
            _write(path, entries[name], queries, sizes[name], np.random.default_rng(number))
        shutil.copyfile(next(sources.glob("pdb_seqres*")), seqres)
        mark.write_text(json.dumps(sizes))
    return made


def _entries(sources: Path, pattern: str) -> list[tuple[str, str]]:
    """Headers and sequences."""
    parts = [record.decode().partition("\n") for path in sorted(sources.glob(pattern)) for record in records(path)]
    return [(header, body.replace("\n", "")) for header, _, body in parts]


def _write(
    path: Path, entries: list[tuple[str, str]], queries: tuple[str, ...], count: int, dice: np.random.Generator
) -> None:
    """Deal real, mutated and shuffled records out over the file."""
    real = entries[:count]
    n_mutated = min(round(HOMOLOGS * count), count - len(real))
    order = dice.permutation(count)
    arrays = [np.frombuffer(text.encode(), np.uint8) for _, text in entries]
    with path.open("w") as file:
        for at in order.tolist():
            if at < len(real):
                header, text = real[at]
            elif at < len(real) + n_mutated:
                rate = LEAST + (MOST - LEAST) * (at - len(real)) / n_mutated
                header, text = f"mutated_{at}", mutated(queries[at % len(queries)], rate, dice)
            else:
                header, text = f"shuffled_{at}", dice.permutation(arrays[at % len(arrays)]).tobytes().decode()
            file.write(f">{header}\n{text}\n")


def mutated(text: str, rate: float, dice: np.random.Generator) -> str:
    """The text with that share of its letters drawn anew."""
    letters = np.frombuffer(text.encode(), np.uint8)
    changed = dice.random(len(letters)) < rate
    return np.where(changed, dice.choice(LETTERS, len(letters)), letters).astype(np.uint8).tobytes().decode()


def main() -> None:
    """Make the databases and say what they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sequences", type=int, default=200_000)
    given = parser.parse_args()
    print(make(given.sources, given.folder, given.sequences).summary)


if __name__ == "__main__":
    main()
