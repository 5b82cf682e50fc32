"""The jobs of a screen: every unordered pair of the records of a FASTA file, or of those of two files, once.

Knows records as chains with names; not how a pair is searched for or predicted.
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TextIO

from foldline.errors import InputError, WriteError
from foldline.inputs import checks
from foldline.inputs.af3_json import to_json
from foldline.inputs.fasta import SEED, has_types, jobs_from_fasta, merged
from foldline.inputs.faults import InputErrors, listed
from foldline.inputs.job import Entity, Job, Polymer, Text
from foldline.inputs.names import slug
from foldline.inputs.text import check_readable, read_text

BETWEEN = "__"  # stands in no label, so that two different pairs have different names
MAX_LABEL = 70  # two of them and what stands between stay within the limit of names
LISTED, LEFT_OUT = "pairs.csv", "left_out.csv"


@dataclass(frozen=True)
class Member:
    """A record of a screen: its label in names of jobs, the name that its header gives, its chains in order."""

    label: str
    name: str
    chains: tuple[Polymer, ...]

    @property
    def tokens(self) -> int:
        """Residues, which are the tokens of an unmodified protein."""
        return sum(len(chain.sequence) for chain in self.chains)


@dataclass(frozen=True)
class Screen:
    """Members, and which of them (by number, in order) are to be paired: all of `first` with all of `second`."""

    members: tuple[Member, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]
    homodimers: bool = True
    notes: tuple[str, ...] = ()

    @cached_property
    def _sides(self) -> tuple[frozenset[int], frozenset[int]]:
        return frozenset(self.first), frozenset(self.second)

    def has(self, one: int, two: int) -> bool:
        """Whether the screen has this pair, in this order: of two orders that are both wanted, the first."""
        first, second = self._sides
        if one not in first or two not in second or (one == two and not self.homodimers):
            return False
        return one <= two or two not in first or one not in second

    def pairs(self) -> Iterator[tuple[Member, Member]]:
        """Every pair once."""
        for one in self.first:
            for two in self.second:
                if self.has(one, two):
                    yield self.members[one], self.members[two]


@dataclass(frozen=True)
class Written:
    """How many jobs were written, and how many pairs were left out because they have too many tokens."""

    jobs: int
    left_out: int


def read_screen(first: Path, second: Path | None = None, *, homodimers: bool = True) -> Screen:
    """The screen of one file, all against all, or of two, all of one against all of the other.

    A record is a protein, or a complex with `:` between its chains. Records with equal sequences are one member.

    Raises:
        InputError: a file cannot be read or has no records, a sequence is no protein, or two have the same name.
    """
    files = [first] if second is None else [first, second]
    jobs: list[list[Job]] = []
    errors: list[InputError] = []
    for path in files:
        read, faults = _read(path)
        jobs.append(read)
        errors += faults
    errors += _same_names([job for read in jobs for job in read])
    if errors:
        raise InputErrors(errors)
    notes = [f"{job.source}: {note}" for read in jobs for job in read for note in job.notes]
    members, sides = _unique(jobs, notes)
    return Screen(members, sides[0], sides[-1], homodimers, tuple(notes))


def _unique(jobs: Sequence[Sequence[Job]], notes: list[str]) -> tuple[tuple[Member, ...], list[tuple[int, ...]]]:
    """Members, and for each file the numbers of its own; adds to the notes which records count once."""
    numbers: dict[tuple[str, ...], int] = {}
    unique: list[Job] = []
    sides: list[tuple[int, ...]] = []
    for read in jobs:
        side = []
        for job in read:
            key = tuple(chain.sequence for chain in _chains(job))
            number = numbers.setdefault(key, len(numbers))
            if number == len(unique):
                unique.append(job)
            elif unique[number].name != job.name:
                notes.append(
                    f'{job.source}: "{job.name}" has the sequence of "{unique[number].name}": its pairs have that name'
                )
            elif number in side:
                notes.append(f'{job.source}: "{job.name}" is there twice with one sequence: it counts once')
            side.append(number)
        sides.append(tuple(dict.fromkeys(side)))
    labels = _labels([job.name for job in unique])
    return tuple(Member(label, job.name, _chains(job)) for label, job in zip(labels, unique, strict=True)), sides


def write_screen(screen: Screen, folder: Path, *, max_tokens: int | None = None) -> Written:
    """Write each pair's job as <name>.json, `pairs.csv` that lists them, and `left_out.csv` where any are left out.

    Raises:
        InputError: nothing is left to write, or the folder has jobs of something else, which a run of it would take.
        WriteError: the folder cannot be written to.
    """
    sizes = [one.tokens + two.tokens for one, two in screen.pairs()]
    left_out = 0 if max_tokens is None else sum(size > max_tokens for size in sizes)
    if not sizes:
        raise InputError("one sequence alone makes no pair: give more, or let homodimers in")
    if left_out == len(sizes):
        raise InputError(
            f"every pair has more than {max_tokens} tokens, the smallest {min(sizes)}: raise the limit",
            path="--max-tokens",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_others(screen, folder, max_tokens)
        with _table(folder / LISTED) as listed_file, _table(folder / LEFT_OUT) as left_file:
            tables = csv.writer(listed_file, lineterminator="\n"), csv.writer(left_file, lineterminator="\n")
            for one, two in screen.pairs():
                tokens = one.tokens + two.tokens
                name = name_of(one, two)
                kept = max_tokens is None or tokens <= max_tokens
                tables[0 if kept else 1].writerow([name, one.name, two.name, tokens])
                if kept:
                    _write(folder / f"{slug(name)}.json", to_json(job_of(one, two)))
        if not left_out:
            (folder / LEFT_OUT).unlink()
    except OSError as error:
        raise WriteError(
            f"the jobs cannot be written to {folder} ({error.strerror or error}): free space there, or name another"
            " folder with --out"
        ) from error
    return Written(len(sizes) - left_out, left_out)


def name_of(one: Member, two: Member) -> str:
    """The name of a pair's job."""
    return f"{one.label}{BETWEEN}{two.label}"


def job_of(one: Member, two: Member) -> Job:
    """The job of a pair: the chains of both in order, named A, B and so on; equal neighbours are one entity."""
    chains: list[Entity] = [
        replace(chain, ids=(checks.chain_name(number),)) for number, chain in enumerate((*one.chains, *two.chains))
    ]
    return Job(name_of(one, two), (SEED,), merged(chains))


def _read(path: Path) -> tuple[list[Job], list[InputError]]:
    source = str(path)
    reason = check_readable(path, "check the name")
    if reason is not None:
        return [], [InputError(reason)]
    try:
        text = read_text(Text(path=path), "the FASTA file")
    except InputError as error:
        return [], [error]
    if has_types(text):
        return [], [
            InputError(
                "headers with a type make one job of the whole file: write names alone, every record is a protein",
                source=source,
            )
        ]
    return jobs_from_fasta(text, source=source, name=path.stem)


def _chains(job: Job) -> tuple[Polymer, ...]:
    """One polymer per chain; copies are neighbours, so that the order is the record's."""
    return tuple(replace(e, ids=(name,)) for e in job.entities if isinstance(e, Polymer) for name in e.ids)


def _same_names(jobs: Sequence[Job]) -> list[InputError]:
    """Names that stand for two sequences."""
    taken: dict[str, Job] = {}
    errors = []
    for job in jobs:
        first = taken.setdefault(job.name, job)
        if _sequences(first) != _sequences(job):
            where = "" if first.source == job.source else f" in {first.source}"
            errors.append(
                InputError(
                    f'the name "{job.name}" stands for another sequence{where} too: rename one of the two',
                    source=job.source,
                )
            )
    return errors


def _sequences(job: Job) -> list[str]:
    return [chain.sequence for chain in _chains(job)]


def _labels(names: Sequence[str]) -> list[str]:
    """A short safe word for each name: the name with other characters as `_`.

    Words that would be equal (letter case apart) or cut off end in eight digits of the name's SHA-256.
    """
    words = [re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._-") or "sequence" for name in names]
    counts = Counter(word.lower() for word in words)
    labels = []
    for name, word in zip(names, words, strict=True):
        if counts[word.lower()] > 1 or len(word) > MAX_LABEL:
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            word = f"{word[: MAX_LABEL - 9].rstrip('._-')}-{digest}"
        labels.append(word)
    return labels


def _refuse_others(screen: Screen, folder: Path, max_tokens: int | None) -> None:
    numbers = {member.label: number for number, member in enumerate(screen.members)}

    def belongs(stem: str) -> bool:
        pair = [numbers[label] for label in stem.split(BETWEEN) if label in numbers]
        if len(pair) != 2 or stem.count(BETWEEN) != 1 or not screen.has(*pair):
            return False
        return max_tokens is None or sum(screen.members[number].tokens for number in pair) <= max_tokens

    others = [path.name for path in sorted(folder.glob("*.json")) if not belongs(path.stem)]
    if others:
        raise InputError(
            f"{folder} has jobs that are not of this screen ({listed(others, 3)}), and a run of the folder would take"
            " them: name another folder, or remove them",
            path="--out",
        )


def _table(path: Path) -> TextIO:
    file = path.open("w", encoding="utf-8", newline="")
    file.write("job,first,second,tokens\n")
    return file


def _write(path: Path, text: str) -> None:
    """Write a file that appears whole."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
