"""Small databases made for the tests: families of mutated homologs between shuffled sequences."""

import random
from pathlib import Path

LETTERS = {"protein": "ACDEFGHIKLMNPQRSTVWY", "rna": "ACGU"}


def sequence(kind: str, length: int, seed: int) -> str:
    return "".join(random.Random(f"{kind} {length} {seed}").choices(LETTERS[kind], k=length))


def mutated(parent: str, kind: str, rate: float, seed: int) -> str:
    """A homolog: substitutions, a few deletions and insertions, ends cut off."""
    rng = random.Random(f"{parent} {rate} {seed}")
    letters = []
    for letter in parent:
        drawn = rng.random()
        if drawn < rate:
            letter = rng.choice(LETTERS[kind])
        elif drawn < rate * 1.04:
            letter = ""
        elif drawn < rate * 1.08:
            letter += "".join(rng.choices(LETTERS[kind], k=rng.randint(1, 6)))
        letters.append(letter)
    cut = len(letters) // 10
    return "".join(letters[rng.randint(0, cut) : len(letters) - rng.randint(0, cut)])


def complement(sequence: str) -> str:
    return sequence[::-1].translate(str.maketrans("ACGU", "UGCA"))


def write(path: Path, kind: str, queries: list[str], homologs: int = 12, others: int = 60) -> Path:
    """A FASTA file in wrapped lines with homologs of the queries: some repeated, some with two copies of a domain."""
    rng = random.Random(path.name)
    entries = []
    for number, query in enumerate(queries):
        for copy in range(homologs):
            rate = 0.15 + 0.5 * copy / homologs
            one = mutated(query, kind, rate, copy)
            if copy % 5 == 4:
                one += sequence(kind, 30, copy) + mutated(query[: len(query) // 2], kind, 0.6, copy + 100)
            if kind == "rna" and copy % 3 == 2:
                one = complement(one)
            entries.append(
                (f"tr|Q{number}X{copy:03}|Q{number}X{copy:03}_SPEC{copy % 4} homolog {copy} of {number}", one)
            )
        entries.append((f"same_{number}", entries[-1][1]))  # equal score to the bit, no description
    for number in range(others):
        entries.append((f"other_{number}", sequence(kind, rng.randint(60, 300), number)))
    rng.shuffle(entries)
    if kind == "rna":
        entries = [(header, text.replace("U", "T")) for header, text in entries]
    lines = [f">{header}\n" + "\n".join(text[i : i + 60] for i in range(0, len(text), 60)) for header, text in entries]
    path.write_text("\n".join(lines) + "\n")
    return path
