"""From a job to its features: the ordered list of builders. Knows which part comes from where, not how it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from foldline.chem.components import Components
from foldline.chem.conformer import Conformer, ConformerSource
from foldline.chem.conformers import Conformers
from foldline.errors import InputError
from foldline.features.a3m import A3mSource
from foldline.features.atoms import AtomColumns, atom_columns
from foldline.features.bonds import token_bonds
from foldline.features.columns import msa_columns, needs_pairing
from foldline.features.frames import has_frame
from foldline.features.msa import SequenceMsa, query_msa, read_msa
from foldline.features.templates import TemplateArrays, empty_templates, entity_templates, template_columns
from foldline.features.tokens import Tokens, make_tokens
from foldline.inputs.job import Job, Ligand, Polymer, Text
from foldline.structure.assemble import assemble
from foldline.structure.atoms import Topology
from foldline.structure.entities import EntitySpec
from foldline.tensors.features import AXES, Features

Msa = Literal["auto", "none"]
T = TypeVar("T")


@dataclass(frozen=True)
class FeatureSet:
    """Features, the atoms that they belong to, and what to report about how they came about."""

    features: Features
    topology: Topology
    notes: tuple[str, ...] = ()
    msa_depth: dict[str, int] = field(
        default_factory=dict
    )  # per polymer chain: distinct rows of its unpaired alignment
    paired_rows: int = 1  # rows of the alignment that come first because they are paired


def build_features(
    job: Job,
    *,
    components: Components,
    conformers: Mapping[str, Conformer] | ConformerSource | None = None,
    msa: Msa = "auto",
) -> FeatureSet:
    """The features of a job (AF3 SI table 5; Protenix: data/inference/infer_dataloader.py:140-274).

    Args:
        job: a validated job; nothing is searched here.
        components: the dictionary, with the components of the job's userCCD laid over it by the caller.
        conformers: reference conformers, by component code or from a source; default: `Conformers()`.
        msa: "auto" reads the alignments of the job; "none" uses the query alone for every chain.

    Raises:
        InputError: a polymer has no alignment and `msa` is "auto", or anything in the job's texts is wrong.
    """
    source = Conformers() if conformers is None else conformers
    topology = assemble(entity_specs(job), job.bonds, components, source)
    _check_complete(job, topology)
    tokens = make_tokens(topology)
    atoms = atom_columns(topology)
    bonds = token_bonds(topology, tokens)
    frames = has_frame(topology, tokens, atoms.ref_pos, atoms.ref_mask)
    alignments = _alignments(job, msa)
    columns = msa_columns(_of_chains(alignments, topology), tokens.chain, tokens.residue_index - 1, pairing=_pairs(job))
    slots = [_templates(job, number) for number in range(len(job.entities))]
    templates = template_columns(_of_chains(slots, topology), tokens.chain, tokens.residue_index - 1)

    features = Features(
        token_mask=np.ones(tokens.n_token, bool),
        token_index=np.arange(tokens.n_token, dtype=np.int32),
        has_frame=frames,
        profile=columns.profile,
        deletion_mean=columns.deletion_mean,
        bond_tokens=bonds,
        bond_mask=np.ones(len(bonds), bool),
        atom_mask=np.ones(topology.n_atom, bool),
        msa=columns.msa,
        deletions=columns.deletions,
        msa_mask=np.ones(len(columns.msa), bool),
        **_fields(tokens),
        **_fields(atoms),
        **_fields(templates, "template_"),
    )
    notes = [*topology.notes, *_notes(alignments), *_notes(slots)]
    if msa == "none":
        notes.append("no alignments are used (--msa none): every chain is its query alone")
    chains = zip(topology.chain_id.tolist(), _of_chains(alignments, topology), strict=True)
    return FeatureSet(
        features=features,
        topology=topology,
        notes=tuple(notes),
        msa_depth={chain: one.depth for chain, one in chains if one is not None},
        paired_rows=columns.paired_rows,
    )


def _fields(columns: Tokens | AtomColumns | TemplateArrays, prefix: str = "") -> dict[str, np.ndarray]:
    """Those columns that are fields of `Features`, by field name."""
    return {prefix + name: value for name, value in vars(columns).items() if prefix + name in AXES}


def _of_chains(of_entities: Sequence[T], topology: Topology) -> list[T]:
    return [of_entities[entity] for entity in topology.chain_given.tolist()]


def _notes(parts: Sequence[SequenceMsa | TemplateArrays | None]) -> list[str]:
    return [note for part in parts if part is not None for note in part.notes]


def entity_specs(job: Job) -> list[EntitySpec]:
    """The entities of a job as `assemble` takes them."""
    return [_spec(number, entity) for number, entity in enumerate(job.entities)]


def _spec(number: int, entity: Polymer | Ligand) -> EntitySpec:
    path = _path(number, entity)
    if isinstance(entity, Ligand):
        return EntitySpec("ligand", entity.ids, ccd_codes=entity.ccd_codes, smiles=entity.smiles, path=path)
    changes = {one.position: one.ccd for one in entity.modifications}
    return EntitySpec(entity.kind, entity.ids, sequence=entity.sequence, modifications=changes, path=path)


def _path(number: int, entity: Polymer | Ligand) -> str:
    return f"$.sequences[{number}].{entity.kind}"


def _check_complete(job: Job, topology: Topology) -> None:
    """Nothing is dropped: every copy of every entity is a chain with atoms, in order."""
    wanted = [(number, chain) for number, entity in enumerate(job.entities) for chain in entity.ids]
    made = list(zip(topology.chain_given.tolist(), topology.chain_id.tolist(), strict=True))
    assert made == wanted, f"chains of the topology {made} are not those of the job {wanted}"
    assert len(np.unique(topology.atom_chain)) == len(made), "a chain has no atoms"


def _pairs(job: Job) -> bool:
    polymers = [entity for entity in job.entities if isinstance(entity, Polymer)]
    return needs_pairing([one.kind for one in polymers], [one.sequence for one in polymers])


def _alignments(job: Job, msa: Msa) -> list[SequenceMsa | None]:
    """The alignment of every entity, None for a ligand."""
    pairing = _pairs(job)
    found: list[SequenceMsa | None] = []
    for number, entity in enumerate(job.entities):
        if isinstance(entity, Ligand):
            found.append(None)
        elif msa == "none" or entity.kind == "dna":
            found.append(query_msa(entity.kind, entity.sequence))
        else:
            found.append(_alignment(entity, _path(number, entity), pairing=pairing))
    return found


def _alignment(entity: Polymer, path: str, *, pairing: bool) -> SequenceMsa:
    chain = entity.ids[0]
    texts: Sequence[tuple[str, Text | None]] = [("unpaired", entity.unpaired_msa)]
    if entity.kind == "protein":
        texts = [*texts, ("paired", entity.paired_msa)]
    missing = [name for name, text in texts if text is None]
    if missing:
        raise InputError(
            f"chain {chain} has no {' and no '.join(missing)} alignment and there is nothing to search with: give"
            f" sequence databases, or {' and '.join(f'{name}Msa' for name in missing)} (empty for none), or --msa none",
            path=path,
        )
    sources = [
        A3mSource(text, f"the {name} MSA of chain {chain}", entity.kind, entity.sequence, f"{path}.{name}Msa")
        for name, text in texts
        if text is not None
    ]
    return read_msa(sources[0], sources[1] if len(sources) > 1 else None, pairing=pairing)


def _templates(job: Job, number: int) -> TemplateArrays:
    entity = job.entities[number]
    if isinstance(entity, Ligand):
        return empty_templates(1)
    return entity_templates(entity, _path(number, entity))
