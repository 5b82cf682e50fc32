"""The search stage: jobs whose chains lack alignments become jobs that have them, as paths into the cache or as text.

Which chains are searched for follows AlphaFold 3 (data/pipeline.py:477-560). Knows jobs; not how a search is made.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from foldline.inputs.af3_json import to_json
from foldline.inputs.job import Entity, Job, Polymer, Text
from foldline.inputs.repair import settled
from foldline.inputs.text import read_text
from foldline.search.files import write_whole
from foldline.search.recipes import Kind
from foldline.search.settings import SearchSettings
from foldline.search.stage import Alignments, Chain, Chosen, Lookup, Searcher
from foldline.search.template_stage import templates, wants_templates


def lacks_alignment(entity: Entity) -> bool:
    """Whether a chain is to be searched for: a protein or RNA whose alignments the job does not mention."""
    return isinstance(entity, Polymer) and entity.kind in ("protein", "rna") and entity.unpaired_msa is None


def lacks_templates(entity: Entity, settings: SearchSettings) -> bool:
    """Whether a protein is to be searched templates for: the job does not mention them, and there is where to look."""
    if not isinstance(entity, Polymer) or entity.kind != "protein" or entity.templates is not None:
        return False
    return wants_templates(settings)


def searched(jobs: Sequence[Job], searcher: Searcher) -> list[Job]:
    """Jobs with alignments and templates for all their chains; every unique chain of all jobs is searched once.

    A chain that the job gives alignments or templates for keeps them. Notes say what was left out.

    Raises:
        SearchError: a search failed; it names the database or the tool, and the remedy.
        InputError: an alignment of the job cannot be read for the template search.
    """
    wanted = [chain for job in jobs for chain in chains_of(job)]
    found = searcher.alignments(wanted) if wanted else {}
    aligned = [_aligned(job, found, searcher) for job in jobs]
    lookups = [lookup_of(entity) for one in aligned for entity in one if lacks_templates(entity, searcher.settings)]
    chosen = templates(lookups, searcher)
    return [_filled(job, one, found, chosen) for job, one in zip(jobs, aligned, strict=True)]


def chains_of(job: Job) -> list[Chain]:
    """The chains of a job that are searched for."""
    return [chain_of(entity) for entity in job.entities if lacks_alignment(entity)]


def chain_of(entity: Entity) -> Chain:
    """A protein or RNA as what is searched for."""
    assert isinstance(entity, Polymer)
    return Chain(cast(Kind, entity.kind), entity.sequence)


def lookup_of(entity: Entity) -> Lookup:
    """A protein that has its alignments, as what templates are looked up for."""
    assert isinstance(entity, Polymer)
    return Lookup(entity.sequence, entity.unpaired_msa or Text(""), entity.paired_msa or Text(""))


def _aligned(job: Job, found: dict[Chain, Alignments], searcher: Searcher) -> list[Entity]:
    """The entities of a job with alignments."""
    wanted = [chain.sequence for chain in chains_of(job) if chain.kind == "protein"]
    paired = searcher.paired(wanted) if wanted else {}
    entities: list[Entity] = []
    for entity in job.entities:
        if isinstance(entity, Polymer) and lacks_alignment(entity):
            alignments = found[chain_of(entity)]
            if entity.kind == "protein" and paired:
                alignments = replace(alignments, paired=paired[entity.sequence])
            entity = _with_alignments(entity, alignments, searcher)
        entities.append(entity)
    return entities


def _filled(job: Job, aligned: Sequence[Entity], found: dict[Chain, Alignments], chosen: dict[Lookup, Chosen]) -> Job:
    """The job with alignments and templates, and with notes on both."""
    entities: list[Entity] = []
    notes: list[str] = []
    for before, entity in zip(job.entities, aligned, strict=True):
        said = list(found[chain_of(before)].notes) if lacks_alignment(before) else []
        if isinstance(entity, Polymer) and entity.kind == "protein" and entity.templates is None:
            hits, more = chosen.get(lookup_of(entity), ((), ()))
            said += more
            entity = replace(entity, templates=hits)
        notes += [f"chain {', '.join(entity.ids)}: {note}" for note in said]
        entities.append(entity)
    return replace(job, entities=tuple(entities), notes=(*job.notes, *notes))


def _with_alignments(entity: Polymer, found: Alignments, searcher: Searcher) -> Polymer:
    texts = [None if path is None else Text(path=path.absolute()) for path in (found.unpaired, found.paired)]
    if searcher.settings.inline:
        texts = [text and Text(inline=read_text(text, f"the alignment of chain {entity.ids[0]}")) for text in texts]
    return replace(entity, unpaired_msa=texts[0], paired_msa=texts[1])


def write_job(job: Job, folder: Path, name: str) -> Path:
    """Write `<name>_data.json`, as AlphaFold 3's data pipeline does; returns its path.

    Raises:
        SearchError: it cannot be written.
    """
    path = folder / f"{name}_data.json"
    write_whole(path, to_json(settled(job)).encode())
    return path
