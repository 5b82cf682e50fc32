"""The residues of one polymer entity: components from letters, bonds along the chain and the atoms that leave for them.
Knows one entity at a time; declared bonds are added later."""

from dataclasses import dataclass

import numpy as np

from foldline.chem.component import Component
from foldline.chem.components import Components
from foldline.chem.residues import AMBIGUOUS_LETTERS, SEQUENCE_CODES, UNKNOWN_OF_KIND
from foldline.errors import InputError
from foldline.structure.blocks import Variant
from foldline.structure.entities import EntitySpec

_TAIL = {"protein": "C", "nucleic": "O3'"}  # the atom that bonds to the next residue
_HEAD = {"protein": "N", "nucleic": "P"}  # the atom that bonds to the previous one
_TERMINAL = {"OXT", "OP3"}  # atoms of a chain's ends
_REMEDY = {
    ("rna", "T"): "T is not an RNA letter; write U, or make the chain a dna",
}


@dataclass(frozen=True)
class ChainPlan:
    """Residues of one chain before atoms are laid out."""

    variants: list[Variant]
    linked: np.ndarray  # bool [n_res - 1]: a polymer bond from residue i to residue i + 1
    tail: tuple[str, ...] = ()  # per residue: name of the atom bonded to the next residue
    head: tuple[str, ...] = ()  # per residue: name of the atom bonded to the previous residue


def plan_polymer(entity: EntitySpec, components: Components, notes: list[str]) -> ChainPlan:
    """Components, chain bonds and leaving atoms of a polymer (Protenix: json_parser.py:131-338).

    A bond takes one leaving group from each of its atoms. Where neighbours cannot be bonded both lose all leaving
    atoms, but for the OP3 of a first nucleotide and the OXT of a last amino acid. A first residue that is no amino acid
    but has an atom C with room for a bond, and a last one with such an N (ACE, FOR, NME, NH2), are bonded as caps;
    Protenix knows ACE and NME only, and leaves the OXT beside NME (json_parser.py:240-277).

    Raises:
        InputError: a letter or a component is unknown, a position is outside the sequence.
    """
    codes, places = _codes(entity, notes)
    distinct = list(dict.fromkeys(codes))
    parts = [components.require(code, path=places.get(code, entity.path)) for code in distinct]
    _note_parents(entity, dict(zip(distinct, parts, strict=True)), notes)
    row = {code: index for index, code in enumerate(distinct)}
    ids = np.array([row[code] for code in codes])
    links = [_link(part) for part in parts]
    family = [links[i][0] for i in ids]
    tail, head = [links[i][1] for i in ids], [links[i][2] for i in ids]
    if entity.kind == "protein" and len(codes) > 1:
        if not family[0] and family[1] == "protein" and _has_room(parts[ids[0]], "C"):
            family[0], tail[0] = "protein", "C"
        if not family[-1] and family[-2] == "protein" and _has_room(parts[ids[-1]], "N"):
            family[-1], head[-1] = "protein", "N"
    group, has_tail, has_head = np.array(family), np.array(tail) != "", np.array(head) != ""
    linked = (group[:-1] == group[1:]) & (group[:-1] != "") & has_tail[:-1] & has_head[1:]
    _note_breaks(entity, codes, linked, notes)
    ends = np.zeros(len(codes), np.int64)  # bits: 1 bonded to the previous, 2 to the next, 4 broken, 8 first, 16 last
    ends[1:] |= np.where(linked, 1, 4)
    ends[:-1] |= np.where(linked, 2, 4)
    ends[0] |= 8
    ends[-1] |= 16
    keys, inverse = np.unique(ids * 32 + ends, return_inverse=True)
    firsts = {int(key): int(np.flatnonzero(inverse == n)[0]) for n, key in enumerate(keys)}
    made = [
        Variant(
            parts[key // 32], _leaving(parts[key // 32], key % 32, tail[firsts[key]], head[firsts[key]]), polymer=True
        )
        for key in keys.tolist()
    ]
    return ChainPlan([made[n] for n in inverse.tolist()], linked, tuple(tail), tuple(head))


def _codes(entity: EntitySpec, notes: list[str]) -> tuple[list[str], dict[str, str]]:
    """Component code per residue, and the JSON path of each code that came from a modification."""
    table, ambiguous = SEQUENCE_CODES[entity.kind], AMBIGUOUS_LETTERS[entity.kind]
    unknown = UNKNOWN_OF_KIND[entity.kind]
    path = f"{entity.path}.sequence" if entity.path else ""
    if not entity.sequence:
        raise InputError("the sequence is empty; leave the chain out or give at least one residue", path=path)
    codes = [table.get(letter, unknown if letter in ambiguous else "") for letter in entity.sequence]
    if "" in codes:
        position = codes.index("")
        letter = entity.sequence[position]
        reason = _REMEDY.get(
            (entity.kind, letter), f"{letter!r} is not a {entity.kind} letter; write X for an unknown residue"
        )
        raise InputError(f"position {position + 1}: {reason}", path=path)
    for letter in sorted(set(entity.sequence) & (set(ambiguous) | {"U"} if entity.kind == "dna" else set(ambiguous))):
        where = [str(i + 1) for i, other in enumerate(entity.sequence) if other == letter]
        code = table.get(letter, unknown)
        notes.append(f"chain {entity.chain_ids[0]}: letter {letter} at {_some(where)} is built as {code}")
    places: dict[str, str] = {}
    for number, (position, code) in enumerate(entity.modifications.items()):
        place = f"{entity.path}.modifications[{number}]" if entity.path else ""
        if not 1 <= position <= len(codes):
            raise InputError(f"position {position} is outside the sequence of {len(codes)} residues", path=place)
        codes[position - 1] = code
        places[code] = place
    return codes, places


def _link(component: Component) -> tuple[str, str, str]:
    """Family ("protein", "nucleic", ""), and the names of the atoms to the next and previous residue ("" if absent)."""
    family = {"protein": "protein", "dna": "nucleic", "rna": "nucleic"}.get(component.kind, "")
    if not family:
        return "", "", ""
    names = set(component.atom_name.tolist())
    tail, head = (name if name in names else "" for name in (_TAIL[family], _HEAD[family]))
    return family, tail, head


def _has_room(component: Component, atom: str) -> bool:
    """Whether the component has that atom and it can give up a hydrogen or a leaving atom for a bond."""
    here = np.flatnonzero(component.atom_name == atom)
    touching = component.bond_atoms[np.isin(component.bond_atoms, here).any(axis=1)].ravel()
    others = np.setdiff1d(touching, here)
    return bool(len(here)) and bool((component.leaving | ~component.heavy)[others].any())


def _leaving(component: Component, ends: int, tail: str, head: str) -> frozenset[str]:
    removed: set[str] = set()
    for bit, atom in ((1, head), (2, tail)):
        if ends & bit:
            removed.update(_first_to_leave(component.leaving_groups.get(atom, ())))
    if ends & 4:
        stay = {"OP3"} if ends & 8 and component.kind in ("dna", "rna") else set()
        stay |= {"OXT"} if ends & 16 and component.kind == "protein" else set()
        removed.update(set(component.atom_name[component.leaving & component.heavy].tolist()) - stay)
    return frozenset(removed)


def _first_to_leave(groups: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """The group that leaves for a bond along the chain: that of OXT or OP3, so that O, OP1 and OP2 keep their names.

    A few components list several (9NE: O and OXT); Protenix draws one at random (json_parser.py:215).
    """
    return next((group for group in groups if _TERMINAL & set(group)), groups[0] if groups else ())


def _note_parents(entity: EntitySpec, known: dict[str, Component], notes: list[str]) -> None:
    """Modifications of another residue than stands at their place, which is most often a position counted wrongly."""
    table, unknown = SEQUENCE_CODES[entity.kind], UNKNOWN_OF_KIND[entity.kind]
    letters = {code: letter for letter, code in table.items()}
    for position, code in entity.modifications.items():
        letter = entity.sequence[position - 1]
        parent, here = known[code].parent, table.get(letter, unknown)
        if parent in letters and here not in (parent, unknown):
            chains = f"chain{'s' * (len(entity.chain_ids) > 1)} {_some(list(entity.chain_ids))}"
            notes.append(
                f"{chains}: position {position} is {letter}, and {code} is a modified {parent} ({letters[parent]}): "
                "look whether that is the right position, counted from 1"
            )


def _note_breaks(entity: EntitySpec, codes: list[str], linked: np.ndarray, notes: list[str]) -> None:
    for i in np.flatnonzero(~linked).tolist():
        notes.append(
            f"chain {entity.chain_ids[0]}: {codes[i]} {i + 1} and {codes[i + 1]} {i + 2} cannot be bonded along the"
            " chain; the leaving atoms of both are removed"
        )


def _some(words: list[str], count: int = 10) -> str:
    shown = ", ".join(words[:count])
    return shown if len(words) <= count else f"{shown} and {len(words) - count} more positions"
