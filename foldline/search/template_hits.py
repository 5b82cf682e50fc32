"""Template hits: what a row of hmmsearch says, its residues in the structure, and AlphaFold 3's filters.

Knows sequences and indices; not how structures are read or searched for.
"""

import datetime
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

MAX_SUBSEQUENCE = 0.95  # of the query; an exact piece of it that is longer is the query itself
MIN_ALIGNED = 0.1  # of the query
MIN_LENGTH = 10  # residues
MAX_HITS = 4
SHOWN = 8  # names in a note
_HEADER = re.compile(r"(?P<pdb>[a-z0-9]{4,})_(?P<chain>\w+)/(?P<start>\d+)-(?P<end>\d+) .* length:(?P<length>\d+)\b.*")


@dataclass(frozen=True)
class Hit:
    """A row: `text` has upper case and "-" in the query's columns, lower case between them; indices are 0-based."""

    pdb_id: str
    chain: str  # as the author names it
    text: str
    start: int  # in the sequence of the database
    end: int  # exclusive
    full_length: int
    protein: bool = True  # by the header's word

    @property
    def residues(self) -> str:
        """The piece of the database sequence."""
        return self.text.upper().replace("-", "")

    @property
    def name(self) -> str:
        """Entry and chain."""
        return f"{self.pdb_id}_{self.chain}"


class Dropped(NamedTuple):
    """A hit that was looked at and not taken."""

    name: str
    reason: str


def told(dropped: Iterable[Dropped]) -> list[str]:
    """Notes on the hits that were not taken: one for each reason, with the first names."""
    names: dict[str, list[str]] = {}
    for one in dropped:
        names.setdefault(one.reason, []).append(one.name)
    return [f"template hits left out, {reason}: {shortened(found)}" for reason, found in names.items()]


def shortened(names: Iterable[str]) -> str:
    """Names once each, the first few where they are many."""
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:SHOWN]) + (f" and {len(unique) - SHOWN} more" if len(unique) > SHOWN else "")


@dataclass(frozen=True)
class Structure:
    """What the filters ask of a structure's chain. `resolved` says of every residue whether it has atoms."""

    sequence: str
    resolved: tuple[bool, ...]
    released: datetime.date


def hit_of(header: str, text: str) -> Hit | None:
    """The hit of a row whose header is like "4pqx_A/2-217 [subseq from] mol:protein length:217 text"."""
    found = _HEADER.fullmatch(header)
    if found is None:
        return None
    start, end = int(found["start"]) - 1, int(found["end"])
    protein = "mol:protein" in header
    return Hit(found["pdb"], found["chain"], text, start, end, int(found["length"]), protein)


def mapping_of(hit: Hit, sequence: str) -> dict[int, int] | None:
    """Query index to index in the structure's sequence; None where the two sequences cannot belong together.

    Where the database lists more residues than the structure's file, the piece is laid onto the file's sequence
    (AF3 data/templates.py:206-253).
    """
    aligned: dict[int, int] = {}
    column = place = 0
    for letter in hit.text:
        if letter.isupper():
            aligned[column] = place
        column += not letter.islower()
        place += letter != "-"
    if hit.residues == sequence[hit.start : hit.end] or hit.full_length == len(sequence):
        return {query: hit.start + at for query, at in aligned.items()}
    if len(sequence) > hit.full_length:
        return None
    return _realigned(hit, sequence, aligned)


def _realigned(hit: Hit, sequence: str, aligned: dict[int, int]) -> dict[int, int]:
    """Try all numbers of residues that the file may lack before the piece; of equally good ones the largest."""
    lacking = hit.full_length - len(sequence)
    best, best_score = {}, -1
    for before in range(min(hit.start, lacking) + 1):
        start = hit.start - before
        places, score = _laid(hit.residues, sequence[start : hit.end - before], lacking - before)
        if score >= best_score:
            best = {query: start + places[at] for query, at in aligned.items() if at in places}
            best_score = score
    return best


def _laid(piece: str, onto: str, gaps: int) -> tuple[dict[int, int], int]:
    """Places in `onto` of the residues of `piece`, some of which may be skipped, and how many are equal.

    Greedy: at a mismatch the fewest residues are skipped that make the next ones equal, none where that is impossible
    (AF3 data/template_realign.py:115-170).
    """
    places: dict[int, int] = {}
    score = at = 0
    for there, letter in enumerate(onto):
        if at >= len(piece):
            break
        if piece[at] != letter:
            skipped = piece[at : at + gaps + 1].find(letter)
            if skipped > 0:
                at += skipped
                gaps -= skipped
        places[at] = there
        score += piece[at] == letter
        at += 1
    return places, score


@dataclass(frozen=True)
class Kept:
    """A hit that passed, and its residues by query index."""

    hit: Hit
    mapping: dict[int, int]


def filtered(
    query: str,
    hits: Iterable[Hit],
    structure_of: Callable[[Hit], Structure | None],
    cutoff: datetime.date,
    drop: Callable[[Dropped], None] = lambda _dropped: None,
) -> list[Kept]:
    """The first four hits that pass AlphaFold 3's filters (pipeline.py:455-464, templates.py:283-384).

    A hit must be released by the cut-off, be no long exact piece of the query, have at least ten residues, some of them
    resolved, cover more than a tenth of the query, and differ from the ones before it. A hit without structure is left
    out.
    """
    kept: list[Kept] = []
    seen: set[str] = set()
    for hit in hits:
        reason = _refusal(query, hit)
        structure = None if reason else structure_of(hit)
        if structure is not None:
            mapping = mapping_of(hit, structure.sequence)
            reason = _refusal_of(query, structure, mapping, cutoff)
            if not reason and mapping is not None:
                image = "".join(structure.sequence[mapping[i]] if i in mapping else "-" for i in range(len(query)))
                if image not in seen:
                    seen.add(image)
                    kept.append(Kept(hit, mapping))
                else:
                    reason = "the same residues as a template before"
        if reason:
            drop(Dropped(hit.name, reason))
        if len(kept) == MAX_HITS:
            break
    return kept


def _refusal(query: str, hit: Hit) -> str:
    """Why the piece alone rules a hit out, "" where it does not."""
    if len(hit.residues) / len(query) > MAX_SUBSEQUENCE and hit.residues in query:
        return "a piece of the chain itself"
    return f"under {MIN_LENGTH} residues" if len(hit.residues) < MIN_LENGTH else ""


def _refusal_of(query: str, structure: Structure, mapping: dict[int, int] | None, cutoff: datetime.date) -> str:
    """Why its structure rules a hit out, "" where it does not."""
    if structure.released > cutoff:
        return f"released after {cutoff}"
    if mapping is None:
        return "not the sequence that the structure has"
    if len(mapping) / len(query) <= MIN_ALIGNED:
        return f"no more than {MIN_ALIGNED:.0%} of the chain covered"
    return "" if any(structure.resolved[at] for at in mapping.values()) else "no atoms there"
