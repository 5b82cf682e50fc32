"""What is shown of a structure: chains, residues, atoms, bonds and tokens; coordinates of samples, put on each other.

Read from mmCIF as `outputs.mmcif` writes it. Knows no scores.
"""

from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from biotite.structure import AtomArray, annotate_sse, superimpose
from gemmi import cif

from foldline.errors import InputError
from foldline.outputs.connections import BACKBONE

_KINDS = {"polypeptide(L)": "protein", "polydeoxyribonucleotide": "dna", "polyribonucleotide": "rna"}
_ORDERS = {"doub": 2, "trip": 3, "quad": 4}  # all others, aromatic ones included, are drawn as single bonds
_ANCHORS = {"protein": "CA", "dna": "C1'", "rna": "C1'"}  # atoms that samples are put on each other by
_SHORTEST = 5  # residues of a chain that can have a helix or a strand


@dataclass(frozen=True)
class Structure:
    """What all samples of a job share. Index columns point upwards."""

    chain_id: tuple[str, ...]
    chain_kind: tuple[str, ...]  # protein, dna, rna or ligand
    res_chain: np.ndarray  # int [N_res]
    res_name: tuple[str, ...]
    res_id: np.ndarray  # int [N_res]
    atom_res: np.ndarray  # int [N_atom]
    atom_name: tuple[str, ...]
    element: tuple[str, ...]
    bonds: np.ndarray  # int [N_bond, 3]: two atoms, order

    @property
    def n_atom(self) -> int:
        """Number of atoms."""
        return len(self.atom_res)

    def same_as(self, other: "Structure") -> bool:
        """Whether both are the same atoms in the same order."""
        mine, its = (
            (s.chain_id, s.res_name, s.res_id.tolist(), s.atom_name, s.atom_res.tolist()) for s in (self, other)
        )
        return mine == its

    def atom_tokens(self, token_chain: tuple[str, ...], token_res: tuple[int, ...], source: str) -> np.ndarray:
        """Token of every atom [N_atom]: a residue is one token, or each of its atoms is.

        Raises:
            InputError: the tokens of the confidences are not those of the structure.
        """
        keys = [(self.chain_id[c], i) for c, i in zip(self.res_chain.tolist(), self.res_id.tolist(), strict=True)]
        groups = [(key, len(list(group))) for key, group in groupby(zip(token_chain, token_res, strict=True))]
        n_atoms = np.bincount(self.atom_res, minlength=len(keys))
        if [key for key, _ in groups] != keys:
            raise InputError(
                "its tokens are not the residues of the structure: run foldline predict again", source=source
            )
        counts = np.array([count for _, count in groups])
        wrong = np.flatnonzero((counts != 1) & (counts != n_atoms))
        if wrong.size:
            chain, number = keys[wrong[0]]
            raise InputError(
                f"residue {number} of chain {chain} has {counts[wrong[0]]} tokens and {n_atoms[wrong[0]]} atoms, where"
                " one token, or one per atom, is right: run foldline predict again",
                source=source,
            )
        first_token, first_atom = np.cumsum(counts) - counts, np.cumsum(n_atoms) - n_atoms
        within = np.arange(self.n_atom) - first_atom[self.atom_res]
        return first_token[self.atom_res] + np.where(counts[self.atom_res] > 1, within, 0)

    def anchors(self) -> np.ndarray:
        """Rows of the atoms that samples are compared by: one per polymer residue, or all where these are few."""
        wanted = np.array([_ANCHORS.get(kind, "") for kind in self.chain_kind])[self.res_chain][self.atom_res]
        rows = np.flatnonzero(np.array(self.atom_name) == wanted)
        return rows if len(rows) >= 3 else np.arange(self.n_atom)

    def secondary(self, coordinates: np.ndarray) -> str:
        """A letter per residue: h helix, s strand, c neither (P-SEA, from CA atoms)."""
        letters = np.full(len(self.res_id), "c")
        name, residue_kind = np.array(self.atom_name), np.array(self.chain_kind)[self.res_chain]
        is_anchor = (name == "CA") & (residue_kind[self.atom_res] == "protein")
        for chain in range(len(self.chain_id)):
            rows = np.flatnonzero(is_anchor & (self.res_chain[self.atom_res] == chain))
            if len(rows) < _SHORTEST:
                continue
            trace = AtomArray(len(rows))
            trace.coord = coordinates[rows].astype(np.float32)
            trace.res_id = self.res_id[self.atom_res[rows]]
            for what, value in (("atom_name", "CA"), ("res_name", "ALA"), ("chain_id", "A"), ("element", "C")):
                trace.set_annotation(what, np.full(len(rows), value))
            found = annotate_sse(trace)
            letters[self.atom_res[rows]] = np.select([found == "a", found == "b"], ["h", "s"], "c")
        return "".join(letters.tolist())


def read_structure(path: Path) -> tuple[Structure, np.ndarray, np.ndarray]:
    """Structure, coordinates float64 [N_atom, 3] in Å, and pLDDT float64 [N_atom] from the B-factor column.

    Raises:
        InputError: not an mmCIF file of ours; it names the file.
    """
    try:
        block = cif.read(str(path)).sole_block()
        site = block.get_mmcif_category("_atom_site.")
        columns = [_texts(site, tag) for tag in ("label_asym_id", "auth_seq_id", "label_comp_id")]
        coordinates = np.stack([np.array(site[f"Cartn_{axis}"], np.float64) for axis in "xyz"], axis=1)
        b_factor = np.array(site["B_iso_or_equiv"], np.float64)
        names, elements = _texts(site, "label_atom_id"), _texts(site, "type_symbol")
        structure = _structure(block, columns, names, elements)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as fault:
        why = " ".join(str(fault).split())
        raise InputError(
            f"is not a structure of a result ({why}): run foldline predict again", source=str(path)
        ) from fault
    if not np.isfinite(coordinates).all() or not np.isfinite(b_factor).all():
        raise InputError("has coordinates or pLDDT that are no numbers: run foldline predict again", source=str(path))
    return structure, coordinates, b_factor


def put_on(fixed: np.ndarray, moved: np.ndarray, anchors: np.ndarray) -> tuple[np.ndarray, float]:
    """`moved` [N_atom, 3] turned and shifted onto `fixed` by its anchors, and their RMSD in Å."""
    _, transformation = superimpose(fixed[anchors], moved[anchors])
    fitted = transformation.apply(moved)
    return fitted, float(np.sqrt(((fitted[anchors] - fixed[anchors]) ** 2).sum(axis=1).mean()))


def upright(coordinates: np.ndarray) -> np.ndarray:
    """Coordinates around their centre, the longest axis along x and the shortest along z: a good first view."""
    centred = coordinates - coordinates.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1]
    axes[:, 2] *= np.sign(np.linalg.det(axes))  # a turn, not a mirror
    return centred @ axes


def _texts(category: dict[str, list], tag: str) -> list[str]:
    return [str(value) for value in category[tag]]


def _structure(block: cif.Block, columns: list[list[str]], names: list[str], elements: list[str]) -> Structure:
    keys = list(zip(*columns, strict=True))
    new_res = np.array([True, *(a != b for a, b in zip(keys, keys[1:], strict=False))])
    first = np.flatnonzero(new_res)
    chain_of_res = [keys[row][0] for row in first.tolist()]
    chains = list(dict.fromkeys(chain_of_res))
    number = {chain: index for index, chain in enumerate(chains)}
    polymers = block.get_mmcif_category("_entity_poly.")
    kind_of = dict(zip(_texts(polymers, "entity_id"), _texts(polymers, "type"), strict=True)) if polymers else {}
    asym = block.get_mmcif_category("_struct_asym.")
    entity_of = dict(zip(_texts(asym, "id"), _texts(asym, "entity_id"), strict=True))
    structure = Structure(
        chain_id=tuple(chains),
        chain_kind=tuple(_KINDS.get(kind_of.get(entity_of[chain], ""), "ligand") for chain in chains),
        res_chain=np.array([number[chain] for chain in chain_of_res]),
        res_name=tuple(keys[row][2] for row in first.tolist()),
        res_id=np.array([int(keys[row][1]) for row in first.tolist()]),
        atom_res=np.cumsum(new_res) - 1,
        atom_name=tuple(names),
        element=tuple(element.capitalize() for element in elements),
        bonds=np.zeros((0, 3), int),
    )
    return replace(structure, bonds=_bonds(block, structure))


def _bonds(block: cif.Block, s: Structure) -> np.ndarray:
    """Bonds inside components, along backbones and of `_struct_conn`."""
    rows: list[dict[str, int]] = [{} for _ in s.res_id]
    for atom, residue in enumerate(s.atom_res.tolist()):
        rows[residue][s.atom_name[atom]] = atom
    inside: dict[str, list[tuple[str, str, int]]] = {}
    table = block.find("_chem_comp_bond.", ["comp_id", "atom_id_1", "atom_id_2", "value_order"])
    for comp, a, b, order in ([cif.as_string(value) for value in row] for row in table):
        inside.setdefault(comp, []).append((a, b, _ORDERS.get(order.lower(), 1)))
    bonds = [
        (here[a], here[b], order)
        for here, name in zip(rows, s.res_name, strict=True)
        for a, b, order in inside.get(name, ())
        if a in here and b in here
    ]
    for residue in range(len(rows) - 1):
        leaving, entering = BACKBONE.get(s.chain_kind[s.res_chain[residue]], ("", ""))
        neighbours = s.res_chain[residue] == s.res_chain[residue + 1] and s.res_id[residue] + 1 == s.res_id[residue + 1]
        if neighbours and leaving in rows[residue] and entering in rows[residue + 1]:
            bonds.append((rows[residue][leaving], rows[residue + 1][entering], 1))
    at = {(s.chain_id[c], int(i)): here for c, i, here in zip(s.res_chain.tolist(), s.res_id, rows, strict=True)}
    tags = [f"ptnr{n}_{tag}" for n in (1, 2) for tag in ("label_asym_id", "auth_seq_id", "label_atom_id")]
    for row in block.find("_struct_conn.", [*tags, "conn_type_id"]):
        *ends, kind = (cif.as_string(value) for value in row)
        first, second = (at[(chain, int(i))][atom] for chain, i, atom in (ends[:3], ends[3:]))
        if kind != "metalc":
            bonds.append((first, second, 1))
    return np.array(bonds, int).reshape(-1, 3)
