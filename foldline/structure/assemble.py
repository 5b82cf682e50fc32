"""Entities and declared bonds to `Topology`: each residue from its component, in the order of the network's atom axis.
Knows chemistry, not JSON: what it needs of a job comes as plain arguments."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from foldline.chem.component import Component
from foldline.chem.components import Components
from foldline.chem.conformer import Conformer, ConformerSource, as_source
from foldline.chem.residues import STANDARD_RESIDUES
from foldline.chem.smiles import component_of_text
from foldline.errors import InputError
from foldline.structure.atoms import Topology
from foldline.structure.blocks import BlockTable, Variant
from foldline.structure.entities import BondEnd, EntitySpec
from foldline.structure.polymers import ChainPlan, plan_polymer

Place = tuple[int, str]  # structure-wide residue, atom name
Bond = tuple[Place, Place]


def assemble(
    entities: Sequence[EntitySpec],
    bonds: Sequence[tuple[BondEnd, BondEnd]],
    components: Components,
    conformers: Mapping[str, Conformer] | ConformerSource,
) -> Topology:
    """Build the topology of a job (Protenix: json_parser.py:131-648, json_to_feature.py:93-333).

    Args:
        entities: in the order of the job; their copies become consecutive chains.
        bonds: declared covalent bonds.
        components: the dictionary, the user's components included.
        conformers: reference conformers by component code, or a source; a SMILES ligand is LIG_<first chain id>.

    Raises:
        InputError: an unknown letter, component or bond end, with the JSON path and the legal names.
    """
    notes: list[str] = []
    plans = [_plan(entity, components, notes) for entity in entities]
    layout = _Layout.of(entities, plans)
    variants = [variant for number in layout.chain_given for variant in plans[number].variants]
    along = _chain_bonds(plans, layout)
    ends, variants = _declared_bonds(bonds, layout, variants, set(along), notes)
    distinct = list(dict.fromkeys(variants))
    row = {variant: index for index, variant in enumerate(distinct)}
    blocks = np.array([row[variant] for variant in variants], np.int64)
    table = BlockTable(distinct, _placed(as_source(conformers), entities, plans))
    starts = table.starts(blocks)

    inner, inner_order = table.bonds(blocks)
    outer = [[starts[res] + table.blocks[blocks[res]].index[name] for res, name in pair] for pair in (*along, *ends)]
    pairs = np.sort(np.concatenate([inner, np.array(outer, np.int64).reshape(-1, 2)]), axis=1)
    orders = np.concatenate([inner_order, np.ones(len(outer), np.int8)])
    notes += _conformer_notes(table.conformers)
    parts = [variant.component for variant in variants]
    is_polymer = np.array([variant.polymer for variant in variants], bool)
    names = np.array([variant.res_name for variant in variants])
    return Topology(
        chain_id=np.array(layout.chain_id),
        chain_kind=np.array([entities[number].kind for number in layout.chain_given]),
        chain_given=np.array(layout.chain_given, np.int32),
        chain_entity=np.array(layout.chain_entity, np.int32),
        chain_copy=np.array(layout.chain_copy, np.int32),
        chain_sequence=np.array([entities[number].sequence for number in layout.chain_given], object),
        res_chain=layout.res_chain,
        res_id=layout.res_id,
        res_name=names,
        res_modified=is_polymer & ~np.isin(names, list(STANDARD_RESIDUES)),
        res_parent=np.array([_parent(variant) for variant in variants]),
        atom_res=table.atom_res(blocks),
        atom_name=table.atoms("atom_name", blocks),
        element=table.atoms("element", blocks),
        charge=table.atoms("charge", blocks),
        ref_pos=table.atoms("ref_pos", blocks),
        ref_mask=table.atoms("ref_mask", blocks),
        bond_atoms=pairs.astype(np.int32),
        bond_order=orders,
        bond_declared=np.arange(len(pairs)) >= len(pairs) - len(ends),
        res_kind=np.array(
            [part.kind if polymer else "ligand" for part, polymer in zip(parts, is_polymer, strict=True)]
        ),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Layout:
    """Chains and residues of the structure, in order."""

    chain_id: list[str]
    chain_given: list[int]
    chain_entity: list[int]
    chain_copy: list[int]
    chain_start: np.ndarray  # first residue of each chain and the number of all residues
    res_chain: np.ndarray
    res_id: np.ndarray

    @classmethod
    def of(cls, entities: Sequence[EntitySpec], plans: Sequence[ChainPlan]) -> "_Layout":
        numbers: dict[tuple[object, ...], int] = {}
        owners = [(number, copy) for number, entity in enumerate(entities) for copy in range(len(entity.chain_ids))]
        chain_entity = [numbers.setdefault(_content(entities[number]), len(numbers)) for number, _ in owners]
        sizes = np.array([len(plans[number].variants) for number, _ in owners], np.int64)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        res_chain = np.repeat(np.arange(len(owners), dtype=np.int32), sizes)
        return cls(
            chain_id=[entities[number].chain_ids[copy] for number, copy in owners],
            chain_given=[number for number, _ in owners],
            chain_entity=chain_entity,
            chain_copy=[chain_entity[:chain].count(one) for chain, one in enumerate(chain_entity)],
            chain_start=starts,
            res_chain=res_chain,
            res_id=(np.arange(len(res_chain)) - starts[res_chain] + 1).astype(np.int32),
        )


def _content(entity: EntitySpec) -> tuple[object, ...]:
    """What makes chains copies of one entity, however the job lists them (AF3 features.py:seq_to_entity_id_sym_id)."""
    changes = tuple(sorted(entity.modifications.items()))
    return entity.kind, entity.sequence, changes, entity.ccd_codes, entity.smiles


def _plan(entity: EntitySpec, components: Components, notes: list[str]) -> ChainPlan:
    if entity.kind != "ligand":
        return plan_polymer(entity, components, notes)
    parts: list[Component]
    if entity.smiles is not None:
        parts = [component_of_text(entity.smiles, f"LIG_{entity.chain_ids[0]}", path=f"{entity.path}.smiles")]
    else:
        path = f"{entity.path}.ccdCodes"
        parts = [components.require(code, path=f"{path}[{i}]") for i, code in enumerate(entity.ccd_codes)]
    return ChainPlan([Variant(part) for part in parts], np.zeros(max(len(parts) - 1, 0), bool))


def _placed(source: ConformerSource, entities: Sequence[EntitySpec], plans: Sequence[ChainPlan]) -> ConformerSource:
    """The source, whose errors say where the component stands in the job."""
    paths: dict[Component, str] = {}
    for entity, plan in zip(entities, plans, strict=True):
        for variant in plan.variants:
            paths.setdefault(variant.component, entity.path)

    def find(component: Component) -> Conformer:
        try:
            return source(component)
        except InputError as error:
            raise InputError(error.message, path=error.path or paths[component]) from error

    return find


def _parent(variant: Variant) -> str:
    """One-letter code of a polymer residue's parent: X or N where the dictionary has none or more than one letter."""
    if not variant.polymer:
        return ""
    letter = variant.component.one_letter_code
    return letter if len(letter) == 1 else "N" if variant.component.kind in ("dna", "rna") else "X"


def _chain_bonds(plans: Sequence[ChainPlan], layout: _Layout) -> list[Bond]:
    """Ends of the bonds along all polymers."""
    bonds: list[Bond] = []
    for chain, number in enumerate(layout.chain_given):
        plan, first = plans[number], int(layout.chain_start[chain])
        for i in np.flatnonzero(plan.linked).tolist():
            bonds.append(((first + i, plan.tail[i]), (first + i + 1, plan.head[i + 1])))
    return bonds


def _conformer_notes(conformers: Mapping[Component, Conformer]) -> list[str]:
    """What to say of components whose reference positions are not RDKit's or not complete."""
    notes = []
    for component, conformer in conformers.items():
        if conformer.method in ("ideal", "model"):
            lacking = "" if conformer.mask.all() else f", {int((~conformer.mask).sum())} atoms without"
            notes.append(
                f"component {component.code}: RDKit finds no conformer; the reference positions are the dictionary's"
                f" {conformer.method} coordinates{lacking}"
            )
    return notes


def _declared_bonds(
    bonds: Sequence[tuple[BondEnd, BondEnd]],
    layout: _Layout,
    variants: list[Variant],
    present: set[Bond],
    notes: list[str],
) -> tuple[list[Bond], list[Variant]]:
    """Ends of the declared bonds, and the variants after the leaving atoms of those bonds are gone.

    Each bond takes one leaving group from either atom: the first in dictionary order that is still there and holds no
    bonded atom. Protenix draws it at random (json_parser.py:215).
    """
    ends: list[Bond] = []
    for number, bond in enumerate(bonds):
        pair = tuple(
            _end(end, layout, variants, f"$.bondedAtomPairs[{number}][{side}]") for side, end in enumerate(bond)
        )
        left, right = sorted(pair)
        if left == right:
            raise InputError("an atom cannot be bonded to itself", path=f"$.bondedAtomPairs[{number}]")
        if (left, right) in present or (left, right) in ends or _inner_bond(left, right, variants):
            notes.append(f"bondedAtomPairs[{number}] repeats a bond that is there already; it is used once")
            continue
        ends.append((left, right))
    bonded = Counter(place for pair in ends for place in pair)
    after = list(variants)
    for (residue, atom), count in bonded.items():
        variant = after[residue]
        keep = {name for other, name in bonded if other == residue}
        groups = variant.component.leaving_groups.get(atom, ())
        free = [group for group in groups if not keep & set(group) and not set(group) <= variant.removed]
        gone = {name for group in free[:count] for name in group}
        after[residue] = replace(variant, removed=variant.removed | gone)
    return ends, after


def _end(end: BondEnd, layout: _Layout, variants: list[Variant], path: str) -> Place:
    if end.chain_id not in layout.chain_id:
        raise InputError(f"there is no chain {end.chain_id!r}; the chains are {', '.join(layout.chain_id)}", path=path)
    chain = layout.chain_id.index(end.chain_id)
    first, stop = layout.chain_start[chain : chain + 2].tolist()
    if not 1 <= end.residue <= stop - first:
        raise InputError(f"chain {end.chain_id!r} has residues 1 to {stop - first}, not {end.residue}", path=path)
    variant = variants[first + end.residue - 1]
    names = variant.names()
    if end.atom not in names:
        lost = " (it left for a bond along the chain)" if end.atom in variant.removed else ""
        raise InputError(
            f"residue {variant.component.code} {end.residue} of chain {end.chain_id!r} has no atom {end.atom!r}{lost};"
            f" its atoms are {', '.join(names)}",
            path=path,
        )
    return first + end.residue - 1, end.atom


def _inner_bond(left: Place, right: Place, variants: list[Variant]) -> bool:
    if left[0] != right[0]:
        return False
    component = variants[left[0]].component
    names = component.atom_name[component.bond_atoms]
    return {left[1], right[1]} in [set(pair) for pair in names.tolist()]
