"""Tokens of a topology: a standard residue is one token, every other atom one of its own (AF3 SI 2.6).

Knows chains, residues and atoms; knows no coordinates and no alignments.
"""

from dataclasses import dataclass

import numpy as np

from foldline.chem.residues import REPRESENTATIVE_ATOM, RESIDUE_ATOMS, RESIDUE_CLASSES, restype_ids
from foldline.errors import InputError
from foldline.structure.atoms import Topology

_STANDARD = RESIDUE_CLASSES[:-1]
_NAME_BITS = 6  # per character of an atom name, ord - 32


@dataclass(frozen=True)
class Tokens:
    """Token columns [N_token], and atom columns [N_atom] that only depend on the token split."""

    residue: np.ndarray  # int32, index into the topology's residues
    chain: np.ndarray  # int32
    residue_index: np.ndarray  # int32, 1-based within the chain
    asym_id: np.ndarray  # int32
    entity_id: np.ndarray  # int32
    sym_id: np.ndarray  # int32
    restype: np.ndarray  # int8
    rep_atom: np.ndarray  # int32
    atom_to_token: np.ndarray  # int32 [N_atom]
    atom_in_token: np.ndarray  # int32 [N_atom]
    residue_class: np.ndarray  # int64 [N_res]: index of the standard residue that is one token, -1 for all others

    @property
    def n_token(self) -> int:
        """Number of tokens."""
        return len(self.residue)


def make_tokens(topology: Topology) -> Tokens:
    """Split a topology into tokens (Protenix: tokenizer.py:112-155, core/parser.py:2664-2892).

    Raises:
        InputError: a standard residue holds an atom that it does not have, as a user's own component may.
    """
    kinds = residue_kinds(topology)
    standard_class = _standard_class(topology, kinds)
    is_standard = standard_class >= 0
    sizes = np.bincount(topology.atom_res, minlength=len(topology.res_chain))
    per_residue = np.where(is_standard, 1, sizes)
    residue = np.repeat(np.arange(len(sizes), dtype=np.int32), per_residue)
    first_token = np.cumsum(per_residue) - per_residue
    first_atom = np.cumsum(sizes) - sizes
    within = np.arange(len(topology.atom_res)) - first_atom[topology.atom_res]
    atom_standard = is_standard[topology.atom_res]
    atom_to_token = first_token[topology.atom_res] + np.where(atom_standard, 0, within)
    atom_in_token = np.zeros(len(within), np.int32)
    atom_in_token[atom_standard] = _places_in_residue(topology, standard_class, atom_standard)
    chain = topology.res_chain[residue]
    return Tokens(
        residue=residue,
        chain=chain,
        residue_index=topology.res_id[residue].astype(np.int32),
        asym_id=chain.astype(np.int32),
        entity_id=_entity_rank(topology.chain_entity)[chain],
        sym_id=topology.chain_copy[chain].astype(np.int32),
        restype=restype_ids(kinds, topology.res_parent)[residue].astype(np.int8),
        rep_atom=_representatives(topology, standard_class, atom_in_token, atom_to_token),
        atom_to_token=atom_to_token.astype(np.int32),
        atom_in_token=atom_in_token,
        residue_class=standard_class,
    )


def residue_kinds(topology: Topology) -> np.ndarray:
    """What each residue counts as, str [N_res]: its component's own kind within a polymer, "ligand" elsewhere."""
    if len(topology.res_kind):
        return topology.res_kind
    return topology.chain_kind[topology.res_chain]


def name_chars(atom_name: np.ndarray) -> np.ndarray:
    """The first four characters of every atom name as ord - 32, int8 [N_atom, 4]; blanks are 0 (AF3 SI table 5)."""
    wide = np.ascontiguousarray(atom_name.astype("<U4"))
    codes = wide.view(np.uint32).reshape(len(wide), 4).astype(np.int64)
    return (codes - 32).clip(0, 63).astype(np.int8)


def _packed(chars: np.ndarray) -> np.ndarray:
    """One number per four-character name."""
    return (chars.astype(np.int64) << (_NAME_BITS * np.arange(4))).sum(axis=1)


def _standard_class(topology: Topology, kinds: np.ndarray) -> np.ndarray:
    """Index into the standard residues, -1 for any other residue and for ligands, int64 [N_res]."""
    names, which = np.unique(topology.res_name, return_inverse=True)
    table = {name: index for index, name in enumerate(_STANDARD)}
    classes = np.array([table.get(name, -1) for name in names.tolist()], np.int64)[which]
    return np.where(kinds == "ligand", -1, classes)


def _place_table() -> tuple[np.ndarray, np.ndarray]:
    """Sorted keys of (standard residue, atom name) and the atom's place in its residue."""
    pairs = [(index, name) for index, residue in enumerate(_STANDARD) for name in RESIDUE_ATOMS[residue]]
    places = np.concatenate([np.arange(len(RESIDUE_ATOMS[residue])) for residue in _STANDARD])
    residues = np.array([index for index, _ in pairs], np.int64)
    keys = (residues << (4 * _NAME_BITS)) + _packed(name_chars(np.array([name for _, name in pairs])))
    order = np.argsort(keys)
    return keys[order], places[order].astype(np.int32)


_KEYS, _PLACES = _place_table()
_REPRESENTATIVE = np.array([RESIDUE_ATOMS[name].index(REPRESENTATIVE_ATOM[name]) for name in _STANDARD], np.int32)


def _places_in_residue(topology: Topology, standard_class: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Place of the atoms of standard residues in their residue's full atom list."""
    residues = topology.atom_res[atoms]
    keys = (standard_class[residues] << (4 * _NAME_BITS)) + _packed(name_chars(topology.atom_name[atoms]))
    at = np.searchsorted(_KEYS, keys).clip(max=len(_KEYS) - 1)
    wrong = np.flatnonzero(_KEYS[at] != keys)
    if wrong.size:
        residue, name = residues[wrong[0]], topology.atom_name[atoms][wrong[0]]
        raise InputError(
            f"residue {topology.res_name[residue]} {topology.res_id[residue]} of chain"
            f" {topology.chain_id[topology.res_chain[residue]]} holds {str(name)!r}, which its residue type lacks:"
            " give a changed residue a component code of its own"
        )
    return _PLACES[at]


def _representatives(
    topology: Topology,
    standard_class: np.ndarray,
    atom_in_token: np.ndarray,
    atom_to_token: np.ndarray,
) -> np.ndarray:
    """Atom that stands for each token (AF3 SI 4.4), int32; a standard residue without it takes its first atom."""
    classes = standard_class[topology.atom_res]
    is_rep = (classes < 0) | (atom_in_token == _REPRESENTATIVE[classes])
    rep = np.full(int(atom_to_token[-1]) + 1 if len(atom_to_token) else 0, -1, np.int32)
    rep[atom_to_token[is_rep]] = np.flatnonzero(is_rep)
    missing = np.flatnonzero(rep < 0)
    if missing.size:
        rep[missing] = np.searchsorted(atom_to_token, missing)
    return rep


def _entity_rank(chain_entity: np.ndarray) -> np.ndarray:
    """Rank of each chain's entity by its 1-based number as a string, "10" before "2" (core/parser.py:3118-3126)."""
    labels = np.array([str(number + 1) for number in chain_entity.tolist()])
    return np.unique(labels, return_inverse=True)[1].astype(np.int32)
