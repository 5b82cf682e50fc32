"""FASTA to jobs: one job per record with `:` between chains (ColabFold), or one job per file with typed headers.

Typed headers: Boltz's `>A|protein`, `>A|protein|msa.a3m` and Chai's `>protein|name`; types: protein, dna, rna, ligand
or smiles (a SMILES, or a code after `CCD_`) and ccd (a code). Without a type a chain is a protein. The seed is 1.
Headers of the PDB, UniProt and NCBI are no types: they give a name and, the PDB's, the chains that have the sequence.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foldline.errors import InputError
from foldline.inputs import checks
from foldline.inputs.faults import Faults
from foldline.inputs.job import Entity, Job, Ligand, Polymer, Text
from foldline.inputs.repair import with_good_ids, with_own_alignments
from foldline.inputs.sequences import checked_sequence

SEED = 1
_POLYMERS = ("protein", "dna", "rna")
_TYPES = (*_POLYMERS, "ligand", "smiles", "ccd")
_OF_PDB = re.compile(r"(?P<name>\w+_\d+)\|Chains? (?P<chains>[^|]+)\|?(?P<rest>.*)")  # 1BRS_1|Chains A, B[auth X]|...
_OF_CHAIN = re.compile(
    r"(?:pdb\|(?=\d\w{3}\|)|(?=\d\w{3}:\w+\|PDBID\|))(\w+)[|:](\w+)(?:\|PDBID\|CHAIN\|\w*)?(?P<rest>.*)"
)
_OF_ENTRY = re.compile(r"(?:sp|tr|ref|gb|emb|dbj)\|(?P<name>[^|\s]+)\|(?P<rest>.*)")  # sp|P69905|HBA_HUMAN ...


@dataclass(frozen=True)
class _Title:
    """What a header without a type says: a name ("" for none), the chains that have the sequence, and the rest."""

    name: str
    rest: str
    chains: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Record:
    line: int
    header: str
    sequence: str

    @property
    def fields(self) -> list[str]:
        return [part.strip() for part in self.header.split("|")]

    @property
    def kind(self) -> str | None:
        """The type that the header names, in its second field (Boltz) or its first (Chai)."""
        fields = [part.lower() for part in self.fields]
        if len(fields) > 1 and fields[1] in _TYPES:
            return fields[1]
        return fields[0] if len(fields) > 1 and fields[0] in _TYPES else None

    @property
    def title(self) -> _Title:
        """Name and chains as the PDB, UniProt or NCBI writes them; otherwise the first word is the name."""
        if found := _OF_PDB.match(self.header):
            chains = tuple(chain.strip() for chain in found["chains"].split(","))
            return _Title(found["name"], found["rest"].strip(), chains)
        if found := _OF_CHAIN.match(self.header):
            return _Title(f"{found[1]}_{found[2]}", found["rest"].strip())
        if found := _OF_ENTRY.match(self.header):
            return _Title(found["name"], found["rest"].strip())
        name, _, rest = self.header.partition(" ")
        return _Title(name, rest.strip())

    @property
    def named_id(self) -> str | None:
        """The chain id of a Boltz header."""
        fields = self.fields
        return fields[0] if len(fields) > 1 and fields[1].lower() in _TYPES else None


def jobs_from_fasta(
    text: str, *, source: str = "", name: str = "job", folder: Path | None = None, repair: Sequence[str] = ()
) -> tuple[list[Job], list[InputError]]:
    """The jobs of a FASTA text and the faults of those that cannot be read.

    `name` names the job of a file with typed headers and of a bare `>`; paths in headers start at `folder`; `repair`
    has what is mended (`config.REPAIRS`).
    """
    first = Faults(source, place=_line)
    records = _records(text, first)
    typed = [record for record in records if record.kind is not None]
    if first.errors:
        return [], first.errors
    if typed and len(typed) < len(records):
        plain = next(record for record in records if record.kind is None)
        first.add(
            (plain.line,),
            f'">{plain.header}" has no type, others have one: write ">A|protein" in all (or {", ".join(_TYPES[1:])})',
        )
        return [], first.errors
    for record in records if not typed else ():
        near = difflib.get_close_matches(record.fields[1].lower(), _TYPES, cutoff=0.7) if len(record.fields) > 1 else []
        if near:
            first.add((record.line,), f'">{record.header}" names no known type: did you mean "{near[0]}"?')
    if first.errors:
        return [], first.errors
    groups = [(name, records)] if typed else [(record.title.name or name, [record]) for record in records]
    jobs: list[Job] = []
    errors: list[InputError] = []
    for job_name, group in groups:
        faults = Faults(source, place=_line, repair=repair)
        entities = _typed_entities(group, faults, folder) if typed else _plain_entities(group[0], faults)
        errors += faults.errors
        if not faults.errors:
            jobs.append(Job(job_name, (SEED,), entities, source=source, notes=tuple(faults.notes)))
    return jobs, errors


def has_types(text: str) -> bool:
    """Whether any header names a type, which makes one job of the whole file."""
    return any(record.kind is not None for record in _records(text, Faults()))


def _line(parts: Sequence[str | int], root: str) -> str:
    """Places in FASTA are the lines of headers."""
    return f"line {parts[0]}" if parts else ""


def _records(text: str, faults: Faults) -> list[_Record]:
    records: list[_Record] = []
    header, start, lines = "", 0, []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(">"):
            if start:
                records.append(_Record(start, header, "".join(lines)))
            header, start, lines = line[1:].strip(), number, []
        elif start:
            lines.append(line.strip())
        elif line.strip():
            faults.add((number,), "text before the first header: a FASTA record starts with >")
            return []
    if start:
        records.append(_Record(start, header, "".join(lines)))
    if not records:
        faults.add((), "no FASTA record in the file: write > and a name, then the sequence")
    return records


def _plain_entities(record: _Record, faults: Faults) -> tuple[Entity, ...]:
    parts = (record.line,)
    title = record.title
    chains = re.sub(r"\s+", "", record.sequence).split(":")
    entities: list[Entity] = []
    for number, chain in enumerate(chains):
        if not chain and len(chains) > 1:
            faults.add(
                parts, f"chain {number + 1} between the colons is empty: give its sequence or take the colon out"
            )
            continue
        sequence = checked_sequence(chain, "protein", parts, faults)
        entities.append(Polymer("protein", (checks.chain_name(number),), sequence, description=title.rest or None))
        if sequence and set(sequence) <= set("ACGTUN"):
            faults.note(parts, f'chain {number + 1} is read as a protein: for DNA or RNA write ">A|dna" or ">A|rna"')
    if len(title.chains) > 1 and len(chains) == 1:
        faults.note(
            parts,
            f"the header lists the chains {', '.join(title.chains)}, and one copy is predicted: for "
            f'{len(title.chains)} copies write the sequence as many times with ":" between',
        )
    return merged(entities)


def _typed_entities(records: list[_Record], faults: Faults, folder: Path | None) -> tuple[Entity, ...]:
    given = [record.named_id for record in records]
    ids = [name if name is not None else checks.chain_name(i) for i, name in enumerate(given)]
    checks.check_ids([((record.line,), (name,)) for record, name in zip(records, ids, strict=True)], faults)
    entities = [_typed_entity(record, name, faults, folder) for record, name in zip(records, ids, strict=True)]
    entities, _ = with_good_ids(entities, (), (), faults)
    return merged(entities)


def _typed_entity(record: _Record, name: str, faults: Faults, folder: Path | None) -> Entity:
    parts = (record.line,)
    kind = record.kind or "protein"
    boltz = record.named_id is not None
    extra = record.fields[2:] if boltz else record.fields[1:]
    if kind not in _POLYMERS:
        value = record.sequence.strip()
        description = None if boltz or not extra else "|".join(extra)
        if kind == "ccd" or value.startswith("CCD_"):
            code = value.removeprefix("CCD_")
            checks.check_code(code, parts, faults)
            return Ligand((name,), (code,), description=description)
        checks.check_smiles(value, folder, parts, faults)
        return Ligand((name,), (), value, description=description)
    count = len(faults.errors)
    polymer = Polymer(kind, (name,), checked_sequence(record.sequence, kind, parts, faults))
    if not boltz:
        return replace(polymer, description="|".join(extra) or None)
    polymer = _with_msa(polymer, extra[0] if extra else "", parts, faults, folder)
    return polymer if len(faults.errors) > count else with_own_alignments(polymer, (parts, parts), faults)


def _with_msa(
    polymer: Polymer, field: str, parts: tuple[str | int, ...], faults: Faults, folder: Path | None
) -> Polymer:
    """The third field of a Boltz header: empty = to be searched, `empty` = none, else the path of the unpaired MSA."""
    if not field:
        return polymer
    if polymer.kind == "dna":
        faults.add(parts, f'a DNA chain has no alignment: take "|{field}" out')
        return polymer
    text: Text | None = Text("")
    if field != "empty":
        text = checks.checked_text((None, field), ("", "msa"), folder, parts, faults)
    return replace(polymer, unpaired_msa=text, paired_msa=Text("") if polymer.kind == "protein" else None)


def merged(entities: Sequence[Entity]) -> tuple[Entity, ...]:
    """Neighbours that differ in their ids only become copies of one entity."""
    result: list[Entity] = []
    for entity in entities:
        if result and replace(result[-1], ids=()) == replace(entity, ids=()):
            result[-1] = replace(result[-1], ids=result[-1].ids + entity.ids)
        else:
            result.append(entity)
    return tuple(result)
