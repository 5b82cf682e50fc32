"""A predicted structure as mmCIF text in AlphaFold 3's form: atoms, entities, sequences, components and bonds.

Everything that does not depend on the coordinates is made once per job. Knows no tokens and writes no file.
Sources: AlphaFold 3, structure/structure_tables.py:308-531 (tables), docs/output.md.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import gemmi
import numpy as np
from gemmi import cif

from foldline.chem.component import Component
from foldline.chem.residues import STANDARD_RESIDUES
from foldline.outputs.connections import struct_conn_columns, table_of_bonds
from foldline.outputs.decimals import fixed, rounded
from foldline.outputs.modelcif import (
    Provenance,
    add_model_tables,
    add_quality_tables,
    add_raw_table,
    add_table,
    add_target_tables,
    quoted,
)
from foldline.structure.atoms import Topology

POLYMER_TYPES = {
    "protein": "polypeptide(L)",
    "dna": "polydeoxyribonucleotide",
    "rna": "polyribonucleotide",
}
COMPONENT_TYPES = {
    "protein": "L-PEPTIDE LINKING",
    "dna": "DNA LINKING",
    "rna": "RNA LINKING",
    "ligand": "NON-POLYMER",
}
# AlphaFold 3 writes ATOM for these, HETATM for everything else, UNK, N, DN included (constants/residue_names.py:389).
STANDARD_POLYMER_RESIDUES = STANDARD_RESIDUES - {"UNK", "N", "DN"}
_LINE = 80  # characters of a sequence per line


class ComponentSource(Protocol):
    """Where components come from: `chem.components.Components`, or a dictionary of them."""

    def get(self, code: str, /) -> Component | None:
        """The component, or None."""
        ...


class ModelWriter:
    """Writes every sample of one job; the tables that all samples share are made once."""

    def __init__(self, topology: Topology, components: ComponentSource, *, name: str, provenance: Provenance) -> None:
        """`name` is the job's file-safe name: it becomes the data block's name and `_entry.id`."""
        self.topology = topology
        self.components = components
        self.name = name
        self.provenance = provenance
        self.chain_residues = _chain_residues(topology)
        self.chain_entity = _chain_entities(topology, self.chain_residues)
        self._atom_columns = self._fixed_atom_columns()
        self._static = self._static_block()

    def text(self, coordinates: np.ndarray, atom_plddt: np.ndarray) -> str:
        """The mmCIF file of one sample: coordinates [N_atom, 3] in Å, pLDDT [N_atom] on 0-100."""
        topology = self.topology
        assert coordinates.shape == (topology.n_atom, 3) and atom_plddt.shape == (topology.n_atom,)
        document = cif.Document()
        block = document.add_copied_block(self._static)
        links = struct_conn_columns(topology, coordinates)
        add_raw_table(block, "_struct_conn", links)
        add_table(block, "_struct_conn_type", {"id": sorted(set(links["conn_type_id"]))})
        add_quality_tables(block, topology, atom_plddt)
        columns = dict(self._atom_columns)
        for axis, tag in enumerate(("Cartn_x", "Cartn_y", "Cartn_z")):
            columns[tag] = fixed(coordinates[:, axis], 3)
        columns["B_iso_or_equiv"] = fixed(rounded(atom_plddt, 2), 2)
        block.init_loop("_atom_site.", list(columns)).set_all_values(list(columns.values()))  # a loop even of one atom
        options = cif.WriteOptions()
        options.align_loops = 30
        options.align_pairs = 30
        options.misuse_hash = True
        return document.as_string(options)

    def _fixed_atom_columns(self) -> dict[str, list[str]]:
        """`_atom_site` in AlphaFold 3's order of columns; coordinates and B factors are empty."""
        t = self.topology
        n = t.n_atom
        polymer = t.chain_kind[t.res_chain] != "ligand"
        standard = polymer & np.isin(t.res_name, list(STANDARD_POLYMER_RESIDUES))
        number = np.array([str(i) for i in t.res_id.tolist()], dtype=object)
        label_seq = np.where(polymer, number, ".")
        chain = _quoted_array(t.chain_id)[t.res_chain]
        entity = np.array([str(i) for i in self.chain_entity], dtype=object)[t.res_chain]
        columns: dict[str, np.ndarray | list[str]] = {
            "group_PDB": np.where(standard, "ATOM", "HETATM").astype(object)[t.atom_res],
            "id": [str(i) for i in range(1, n + 1)],
            "type_symbol": _quoted_array(t.element),
            "label_atom_id": _quoted_array(t.atom_name),
            "label_alt_id": ["."] * n,
            "label_comp_id": _quoted_array(t.res_name)[t.atom_res],
            "label_asym_id": chain[t.atom_res],
            "label_entity_id": entity[t.atom_res],
            "label_seq_id": label_seq[t.atom_res],
            "pdbx_PDB_ins_code": ["?"] * n,
            "Cartn_x": [],
            "Cartn_y": [],
            "Cartn_z": [],
            "occupancy": ["1.00"] * n,
            "B_iso_or_equiv": [],
            "auth_seq_id": number[t.atom_res],
            "auth_asym_id": chain[t.atom_res],
            "pdbx_PDB_model_num": ["1"] * n,
        }
        return {tag: column if isinstance(column, list) else column.tolist() for tag, column in columns.items()}

    def _static_block(self) -> cif.Block:
        t = self.topology
        block = cif.Block(self.name)
        block.set_pair("_entry.id", quoted(self.name))
        add_model_tables(block, self.provenance)
        self._add_entities(block)
        self._add_schemes(block)
        add_target_tables(block, t.chain_id.tolist(), self.chain_entity)
        self._add_components(block)
        add_table(block, "_atom_type", {"symbol": sorted(set(t.element.tolist()))})
        return block

    def _add_entities(self, block: cif.Block) -> None:
        """`_entity`, `_entity_poly`, `_entity_poly_seq`, `_pdbx_entity_nonpoly` and `_struct_asym`."""
        t = self.topology
        first = {entity: chain for chain, entity in reversed(list(enumerate(self.chain_entity)))}
        entities = sorted(first)
        kinds = [self._entity_type(first[entity]) for entity in entities]
        add_table(block, "_entity", {"id": entities, "type": kinds, "pdbx_description": ["."] * len(entities)})
        polymers = [entity for entity, kind in zip(entities, kinds, strict=True) if kind == "polymer"]
        chains_of = {e: [i for i, entity in enumerate(self.chain_entity) if entity == e] for e in polymers}
        add_raw_table(
            block,
            "_entity_poly",
            {
                "entity_id": [str(entity) for entity in polymers],
                "type": [quoted(POLYMER_TYPES[str(t.chain_kind[first[entity]])]) for entity in polymers],
                "nstd_linkage": ["no"] * len(polymers),
                "nstd_monomer": [self._if_modified(first[entity], "yes", "no") for entity in polymers],
                "pdbx_seq_one_letter_code": [_wrapped(self._sequence(first[entity], False)) for entity in polymers],
                "pdbx_seq_one_letter_code_can": [_wrapped(self._sequence(first[entity], True)) for entity in polymers],
                "pdbx_strand_id": [
                    quoted(",".join(str(t.chain_id[chain]) for chain in chains_of[entity])) for entity in polymers
                ],
            },
        )
        rows = [(e, int(t.res_id[r]), str(t.res_name[r])) for e in polymers for r in self.chain_residues[first[e]]]
        add_table(
            block,
            "_entity_poly_seq",
            {
                "entity_id": [row[0] for row in rows],
                "num": [row[1] for row in rows],
                "mon_id": [row[2] for row in rows],
                "hetero": ["n"] * len(rows),
            },
        )
        single = [e for e, kind in zip(entities, kinds, strict=True) if kind == "non-polymer"]
        codes = [str(t.res_name[self.chain_residues[first[e]][0]]) for e in single]
        names = [self._component_text(code, "name") or code for code in codes]
        add_table(block, "_pdbx_entity_nonpoly", {"entity_id": single, "name": names, "comp_id": codes})
        chain_ids = t.chain_id.tolist()
        add_table(
            block,
            "_struct_asym",
            {"id": chain_ids, "entity_id": self.chain_entity, "details": ["?"] * len(chain_ids)},
        )

    def _add_schemes(self, block: cif.Block) -> None:
        """Residue numbering of polymers, of ligands of several components and of single components."""
        t = self.topology
        rows: dict[str, list[int]] = {"polymer": [], "branched": [], "non-polymer": []}
        for chain, residues in enumerate(self.chain_residues):
            rows[self._entity_type(chain)].extend(residues)
        numbering: dict[str, Callable[[list[int]], dict[str, list[object]]]] = {
            "polymer": lambda r: {
                "seq_id": t.res_id[r].tolist(),
                **self._scheme(r, "pdb_strand_id"),
                "hetero": ["n"] * len(r),
            },
            "branched": lambda r: {
                "num": t.res_id[r].tolist(),
                **self._scheme(r, "pdb_asym_id"),
                "hetero": ["n"] * len(r),
            },
            "non-polymer": lambda r: {"ndb_seq_num": t.res_id[r].tolist(), **self._scheme(r, "pdb_strand_id")},
        }
        tables = {
            "polymer": "_pdbx_poly_seq_scheme",
            "branched": "_pdbx_branch_scheme",
            "non-polymer": "_pdbx_nonpoly_scheme",
        }
        for kind, residues in rows.items():
            add_table(block, tables[kind], numbering[kind](residues))

    def _scheme(self, residues: list[int], strand_tag: str) -> dict[str, list[object]]:
        t = self.topology
        chain = t.res_chain[residues]
        columns: dict[str, list[object]] = {
            "asym_id": t.chain_id[chain].tolist(),
            "entity_id": [self.chain_entity[i] for i in chain.tolist()],
            "mon_id": t.res_name[residues].tolist(),
            "pdb_seq_num": t.res_id[residues].tolist(),
            "auth_seq_num": t.res_id[residues].tolist(),
            "pdb_mon_id": t.res_name[residues].tolist(),
            "auth_mon_id": t.res_name[residues].tolist(),
            strand_tag: t.chain_id[chain].tolist(),
        }
        if strand_tag == "pdb_asym_id":
            columns["auth_asym_id"] = columns[strand_tag]
        else:
            columns["pdb_ins_code"] = ["."] * len(residues)
        return columns

    def _add_components(self, block: cif.Block) -> None:
        """`_chem_comp` and `_chem_comp_bond` of every component of the structure, sorted by code."""
        t = self.topology
        codes, first = np.unique(t.res_name, return_index=True)
        kinds = t.chain_kind[t.res_chain[first]].tolist()
        names = [str(code) for code in codes]
        standard = [name in STANDARD_POLYMER_RESIDUES for name in names]
        add_table(
            block,
            "_chem_comp",
            {
                "id": names,
                "type": [
                    self._component_text(name, "type") or COMPONENT_TYPES[kind]
                    for name, kind in zip(names, kinds, strict=True)
                ],
                "mon_nstd_flag": [
                    "." if kind == "ligand" else "y" if known else "n"
                    for kind, known in zip(kinds, standard, strict=True)
                ],
                "name": [self._component_text(name, "name") for name in names],
                "formula": [self._component_text(name, "formula") for name in names],
                "formula_weight": [_weight(self.components.get(name)) for name in names],
            },
        )
        add_table(block, "_chem_comp_bond", table_of_bonds(t, names, self.components.get))

    def _component_text(self, code: str, field: str) -> str:
        component = self.components.get(code)
        return str(getattr(component, field)) if component is not None else ""

    def _entity_type(self, chain: int) -> str:
        if self.topology.chain_kind[chain] != "ligand":
            return "polymer"
        return "branched" if len(self.chain_residues[chain]) > 1 else "non-polymer"

    def _if_modified(self, chain: int, yes: str, no: str) -> str:
        names = self.topology.res_name[self.chain_residues[chain]].tolist()
        return no if STANDARD_POLYMER_RESIDUES.issuperset(names) else yes

    def _sequence(self, chain: int, canonical: bool) -> str:
        """One-letter sequence; a residue that is not standard is its letter, or its code in brackets."""
        t = self.topology
        rows = self.chain_residues[chain]
        letters = [
            str(parent) or "X" if canonical or name in STANDARD_POLYMER_RESIDUES and len(name) != 2 else f"({name})"
            for name, parent in zip(t.res_name[rows].tolist(), t.res_parent[rows].tolist(), strict=True)
        ]
        return "".join(letters)


def write_model(
    topology: Topology,
    coordinates: np.ndarray,
    atom_plddt: np.ndarray,
    components: ComponentSource,
    *,
    name: str,
    provenance: Provenance,
) -> str:
    """The mmCIF text of one structure: coordinates [N_atom, 3] in Å, pLDDT [N_atom] on 0-100."""
    return ModelWriter(topology, components, name=name, provenance=provenance).text(coordinates, atom_plddt)


def _chain_residues(topology: Topology) -> list[list[int]]:
    """Residue rows of every chain."""
    starts = np.searchsorted(topology.res_chain, np.arange(len(topology.chain_id) + 1)).tolist()
    return [list(range(start, stop)) for start, stop in pairwise(starts)]


def _chain_entities(topology: Topology, chain_residues: list[list[int]]) -> list[int]:
    """1-based entity of every chain: copies of a job's entity share one while they consist of the same components."""
    numbers: dict[tuple[object, ...], int] = {}
    return [
        numbers.setdefault((int(entity), *topology.res_name[residues].tolist()), len(numbers) + 1)
        for entity, residues in zip(topology.chain_entity, chain_residues, strict=True)
    ]


def _quoted_array(values: np.ndarray) -> np.ndarray:
    """CIF text of every value, object [n]; each distinct value is quoted once."""
    distinct, index = np.unique(np.asarray(values).astype(str), return_inverse=True)
    return np.array([quoted(value) for value in distinct.tolist()], dtype=object)[index]


def _wrapped(sequence: str) -> str:
    """A sequence as CIF text, in lines of 80 characters."""
    lines = [sequence[i : i + _LINE] for i in range(0, len(sequence), _LINE)]
    return quoted("\n".join(lines))


def _weight(component: Component | None) -> str:
    """Molecular weight in Da, hydrogens included; "" where it is not known."""
    if component is None or not component.formula:
        return ""
    return f"{sum(gemmi.Element(str(element)).weight for element in component.element):.3f}"
