"""Bonds as mmCIF tables: those inside components (`_chem_comp_bond`) and those between residues (`_struct_conn`).

Knows no dictionary: a component is handed in. Source: AlphaFold 3, structure/bonds.py:98-166.
"""

from collections.abc import Callable

import gemmi
import numpy as np

from foldline.chem.component import Component
from foldline.outputs.decimals import fixed
from foldline.outputs.modelcif import quoted
from foldline.structure.atoms import Topology

ORDER_NAMES = {1: "SING", 2: "DOUB", 3: "TRIP", 4: "AROM"}
BACKBONE = {"protein": ("C", "N"), "dna": ("O3'", "P"), "rna": ("O3'", "P")}


def table_of_bonds(
    topology: Topology, names: list[str], component_of: Callable[[str], Component | None]
) -> dict[str, list[object]]:
    """Columns of `_chem_comp_bond`: heavy-atom bonds of every component, from its own table or the topology."""
    rows: list[tuple[object, ...]] = []
    drawn = _bonds_within(topology)
    for name in names:
        component = component_of(name)
        found = _dictionary_bonds(component) if component is not None else drawn.get(name, [])
        rows.extend((name, *bond, number) for number, bond in enumerate(found, start=1))
    tags = (
        "comp_id",
        "atom_id_1",
        "atom_id_2",
        "value_order",
        "pdbx_aromatic_flag",
        "pdbx_stereo_config",
        "pdbx_ordinal",
    )
    return {tag: [row[column] for row in rows] for column, tag in enumerate(tags)}


def _dictionary_bonds(component: Component) -> list[tuple[str, str, str, str, str]]:
    keep = component.heavy[component.bond_atoms].all(axis=1)
    ends = component.atom_name[component.bond_atoms[keep]].tolist()
    orders = [ORDER_NAMES.get(order, "") for order in component.bond_order[keep].tolist()]
    flags = ["Y" if aromatic else "N" for aromatic in component.bond_aromatic[keep].tolist()]
    stereo = component.bond_stereo[keep].tolist()
    return [
        (a, b, order, flag, config) for (a, b), order, flag, config in zip(ends, orders, flags, stereo, strict=True)
    ]


def _bonds_within(topology: Topology) -> dict[str, list[tuple[str, str, str, str, str]]]:
    """Bonds inside residues per component name, each once, in order of appearance."""
    t = topology
    ends = t.atom_res[t.bond_atoms]
    rows = np.flatnonzero(ends[:, 0] == ends[:, 1])
    found: dict[str, dict[tuple[str, str], tuple[str, str, str, str, str]]] = {}
    names = t.res_name[ends[rows, 0]].tolist()
    pairs = t.atom_name[t.bond_atoms[rows]].tolist()
    for name, (a, b), order in zip(names, pairs, t.bond_order[rows].tolist(), strict=True):
        bond = (a, b, ORDER_NAMES.get(order, ""), "Y" if order == 4 else "N", "N")
        found.setdefault(name, {}).setdefault((min(a, b), max(a, b)), bond)
    return {name: list(bonds.values()) for name, bonds in found.items()}


def connections(topology: Topology) -> np.ndarray:
    """Rows of `Topology.bond_atoms` that link residues, but not along a backbone, or that are declared inside one."""
    t = topology
    atom_a, atom_b = t.bond_atoms.T
    res_a, res_b = t.atom_res[atom_a], t.atom_res[atom_b]
    forward = res_b > res_a
    first, second = np.where(forward, atom_a, atom_b), np.where(forward, atom_b, atom_a)
    low, high = t.atom_res[first], t.atom_res[second]
    next_residue = (t.res_chain[low] == t.res_chain[high]) & (high == low + 1)
    backbone = np.zeros(len(first), bool)
    kind = t.chain_kind[t.res_chain[low]]
    for polymer, (leaving, entering) in BACKBONE.items():
        backbone |= (kind == polymer) & (t.atom_name[first] == leaving) & (t.atom_name[second] == entering)
    return np.flatnonzero(((res_a != res_b) & ~(backbone & next_residue)) | ((res_a == res_b) & t.bond_declared))


def struct_conn_columns(topology: Topology, coordinates: np.ndarray) -> dict[str, list[str]]:
    """Columns of `_struct_conn` as CIF text, with the distances of these coordinates [N_atom, 3] in Å."""
    t = topology
    rows = connections(topology)
    ends = t.bond_atoms[rows]
    kinds = [_connection_kind(t, a, b) for a, b in ends.tolist()]
    counts: dict[str, int] = {}
    identifiers = []
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
        identifiers.append(f"{kind}{counts[kind]}")
    columns = {"id": identifiers, "conn_type_id": kinds}
    for side in (0, 1):
        columns |= _partner_columns(t, ends[:, side], side + 1)
    distance = np.linalg.norm(coordinates[ends[:, 0]].astype(np.float64) - coordinates[ends[:, 1]], axis=-1)
    columns["pdbx_dist_value"] = fixed(distance, 3)
    columns["pdbx_value_order"] = [quoted(ORDER_NAMES.get(order, "").lower()) for order in t.bond_order[rows].tolist()]
    return columns


def _partner_columns(t: Topology, atoms: np.ndarray, number: int) -> dict[str, list[str]]:
    residues = t.atom_res[atoms]
    chain = [quoted(name) for name in t.chain_id[t.res_chain[residues]].tolist()]
    polymer = (t.chain_kind[t.res_chain[residues]] != "ligand").tolist()
    seq = [str(i) for i in t.res_id[residues].tolist()]
    partner = f"ptnr{number}"
    return {
        f"{partner}_label_asym_id": chain,
        f"{partner}_label_comp_id": [quoted(name) for name in t.res_name[residues].tolist()],
        f"{partner}_label_seq_id": [i if inside else "." for i, inside in zip(seq, polymer, strict=True)],
        f"{partner}_label_atom_id": [quoted(name) for name in t.atom_name[atoms].tolist()],
        f"{partner}_auth_asym_id": chain,
        f"{partner}_auth_seq_id": seq,
        f"pdbx_{partner}_PDB_ins_code": ["?"] * len(seq),
        f"pdbx_{partner}_label_alt_id": ["?"] * len(seq),
        f"{partner}_symmetry": ["1_555"] * len(seq),
    }


def _connection_kind(t: Topology, a: int, b: int) -> str:
    if t.element[a] == "S" == t.element[b] and {str(t.atom_name[a]), str(t.atom_name[b])} == {"SG"}:
        return "disulf"
    metals = [gemmi.Element(str(t.element[atom])).is_metal for atom in (a, b)]
    return "metalc" if any(metals) else "covale"
