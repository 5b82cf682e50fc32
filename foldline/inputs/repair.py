"""What the setting `repair` mends in a job in place of refusing it: chain ids and alignments. Each change is noted.

Bases are mended with the other letters, in `sequences`. Knows the parts of a job; not how rows are moved.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from foldline.errors import InputError
from foldline.inputs.anchor import LEAST_IDENTITY, MAX_CELLS, SHORTEST, anchored, is_query, match_columns
from foldline.inputs.checks import Bond, chain_name, is_chain_id
from foldline.inputs.faults import Faults, shown
from foldline.inputs.job import Entity, Job, Mending, Polymer, Text
from foldline.inputs.records import record_blocks
from foldline.inputs.text import open_text, read_text

Parts = tuple[str | int, ...]


def with_good_ids(
    entities: Sequence[Entity], bonds: Sequence[Bond], parts: Parts, faults: Faults
) -> tuple[tuple[Entity, ...], tuple[Bond, ...]]:
    """Entities and bonds with the next free ids, in AlphaFold 3's order, for those that are none; ids are unique."""
    given = [name for entity in entities for name in entity.ids]
    if "chain_ids" not in faults.repair or all(map(is_chain_id, given)):
        return tuple(entities), tuple(bonds)
    taken = {name for name in given if is_chain_id(name)}
    free = (name for name in map(chain_name, itertools.count()) if name not in taken)
    ids = {name: name if is_chain_id(name) else next(free) for name in given}
    changes = ", ".join(f"{shown(name)} -> {now}" for name, now in ids.items() if name != now)
    faults.note(parts, f"chain ids that are no capital letters were changed: {changes}")
    renamed = tuple(replace(entity, ids=tuple(ids[name] for name in entity.ids)) for entity in entities)
    return renamed, tuple(
        (replace(one, chain_id=ids[one.chain_id]), replace(other, chain_id=ids[other.chain_id])) for one, other in bonds
    )


def with_own_alignments(polymer: Polymer, parts: Sequence[Parts], faults: Faults) -> Polymer:
    """The polymer with alignments of its own sequence; `parts` are the places of the unpaired and of the paired one."""
    if not {"nucleotides", "alignments"} & set(faults.repair) or len(polymer.sequence) < SHORTEST:
        return polymer
    unpaired, paired = (
        text and _of_query(text, polymer, what, place, faults)
        for what, text, place in zip(
            ("unpaired", "paired"), (polymer.unpaired_msa, polymer.paired_msa), parts, strict=True
        )
    )
    return replace(polymer, unpaired_msa=unpaired, paired_msa=paired)


def _of_query(text: Text, polymer: Polymer, what: str, parts: Parts, faults: Faults) -> Text:
    """The text, to be mended where its first row is not the query and that is wanted."""
    kind, query = polymer.kind, polymer.sequence
    what = f"the {what} alignment"
    try:
        found = _first_record(text, what)
    except InputError as error:
        faults.add(parts, error.message)
        return text
    if found is None:
        return text
    header, first = found[0][:40].decode(errors="replace") or "no name", match_columns(found[1])
    bases = kind == "rna" and "nucleotides" in faults.repair and b"T" in found[1].upper()
    if bases:
        faults.note(parts, f"{what} has T in its first row: T is read as U in all rows")
        first = first.replace(b"T", b"U")
    mending = Mending(bases=bases, place=faults.place(parts, faults.root))
    if is_query(first, query, kind) or "alignments" not in faults.repair:
        return replace(text, mending=mending) if bases else text
    try:
        found = anchored(first, query, kind)
    except ValueError as error:
        faults.add(
            parts,
            f"row 1 ({header}) is not the chain's own sequence, and the two are too long to be laid on each other"
            f" ({error}, {MAX_CELLS:,} pairs at most): put the ungapped query first",
        )
        return text
    identity = f"{100 * found.identity:.0f} %"
    if found.identity < LEAST_IDENTITY[kind]:
        faults.add(
            parts,
            f"row 1 ({header}) has {identity} of the chain's own sequence, and columns are moved from"
            f" {100 * LEAST_IDENTITY[kind]:.0f} % on: put the ungapped query first",
        )
        return text
    stay = sum(at == partner for at, partner in enumerate(found.partners))
    out = found.partners.count(-1)
    faults.note(
        parts,
        f"row 1 ({header}) is not the chain's own sequence, which was put before it (identity {identity}): of its"
        f" {len(first)} columns {len(first) - stay - out} were moved and {out} became insertions,"
        f" {len(query) - len(first) + out} residues have none",
    )
    return replace(text, mending=replace(mending, query=query, partners=found.partners))


def _first_record(text: Text, what: str) -> tuple[bytes, bytes] | None:
    """Header and row, or None for an empty text. Raises InputError where a text has no records or cannot be read."""
    with open_text(text, what) as stream:
        for headers, rows in record_blocks(stream, InputError):
            return headers[0], rows[0]
    return None


def settled(job: Job) -> Job:
    """The job with the texts that are mended as they are read in their mended form, so that it says all by itself.

    Raises:
        InputError: one of them cannot be read, or has rows of different length.
    """
    return replace(job, entities=tuple(_settled_entity(entity) for entity in job.entities))


def _settled_entity(entity: Entity) -> Entity:
    if not isinstance(entity, Polymer):
        return entity
    chain = entity.ids[0]
    return replace(
        entity,
        unpaired_msa=_settled_text(entity.unpaired_msa, f"the unpaired MSA of chain {chain}"),
        paired_msa=_settled_text(entity.paired_msa, f"the paired MSA of chain {chain}"),
    )


def _settled_text(text: Text | None, what: str) -> Text | None:
    return text if text is None or text.mending is None else Text(read_text(text, what))
