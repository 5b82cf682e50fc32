"""A chain of a PDB entry as Protenix reads it for a template, and the mmCIF text that holds just that.

Protenix: residues that are none of the twenty are unknown, even selenomethionine; one place per atom; of arginine the
nitrogen nearer to CD is NH1 (data/template/template_parser.py:302-417, template_utils.py:433-497). Knows no queries.
"""

from collections.abc import Callable
from dataclasses import dataclass

import gemmi
import numpy as np

from foldline.chem.residues import PROTEIN_LETTER, PROTEIN_RESIDUES, RESIDUE_ATOMS

UNKNOWN = "UNK"
KNOWN_ATOMS = frozenset(name for residue in PROTEIN_RESIDUES for name in RESIDUE_ATOMS[residue])
_STANDARD = frozenset(PROTEIN_RESIDUES) - {UNKNOWN}
_READ = (
    "group_PDB",
    "type_symbol",
    "label_atom_id",
    "label_comp_id",
    "label_asym_id",
    "label_seq_id",
    "auth_seq_id",
    "pdbx_PDB_ins_code",
    "occupancy",
    "pdbx_PDB_model_num",
)
# Categories of an entry that a template's text keeps, whole or the rows of its chain.
_WHOLE = ("_entry.", "_exptl.", "_pdbx_audit_revision_history.")
_OF_ENTITY = {"_entity.": "id", "_entity_poly.": "entity_id"}
Row = dict[str, str]


class UnusableChainError(Exception):
    """A chain that cannot be a template; the message says why."""


@dataclass(frozen=True)
class _Atom:
    row: int  # of atom_site
    name: str
    element: str
    place: int  # 0-based index of its residue in the chain
    residue: str  # component code
    number: tuple[str, str, str]  # group, author's number, insertion code
    occupancy: float


@dataclass(frozen=True)
class TemplateChain:
    """A protein chain: its whole sequence, and of every residue with coordinates the atoms at their first place."""

    sequence: str  # one letter per residue, X where it is none of the twenty
    author: str
    label: str
    entity: str
    atoms: tuple[_Atom, ...]
    positions: np.ndarray  # float32 [number of atoms, 3], Å

    def atom_counts(self) -> np.ndarray:
        """How many atoms each residue has of those that any of the twenty has; SE of selenomethionine is one."""
        counts = np.zeros(len(self.sequence), np.int64)
        for atom in self.atoms:
            counts[atom.place] += atom.name in KNOWN_ATOMS or (atom.name.upper() == "SE" and atom.residue == "MSE")
        return counts

    def backbone_step(self) -> float:
        """The largest distance, Å, of the CA of one residue to that of the next that has one."""
        rows = sorted((atom.place, i) for i, atom in enumerate(self.atoms) if atom.name == "CA")
        alpha = self.positions[[i for _, i in rows]]
        return float(np.linalg.norm(alpha[1:] - alpha[:-1], axis=1).max(initial=0))


def read_chain(block: gemmi.cif.Block, author: str) -> TemplateChain:
    """The protein chain that the author calls by that name, and by nothing else.

    Raises:
        UnusableChainError: there is none.
    """
    names = block.find_values("_atom_site.auth_asym_id")
    written = (author, f"'{author}'", f'"{author}"')
    rows = [i for i, name in enumerate(names) if name in written]
    proteins = _proteins(block)
    columns = {item: _items(block, f"_atom_site.{item}", rows) for item in _READ}
    label = next((name for name in reversed(list(proteins)) if name in set(columns["label_asym_id"])), None)
    if label is None:
        raise UnusableChainError(f"no protein chain {author}")
    entity, codes = proteins[label]
    listed = [codes.get(number, UNKNOWN) for number in range(min(codes), max(codes) + 1)]
    atoms = _first_places(_atoms(columns, rows, label, min(codes), len(listed)))
    kept = [atom.row for atom in atoms]
    axes = [[float(text) for text in _items(block, f"_atom_site.Cartn_{axis}", kept)] for axis in "xyz"]
    positions = np.array(axes, np.float32).T.reshape(-1, 3)
    _order_arginines_(positions, atoms)
    sequence = "".join(PROTEIN_LETTER[code] if code in _STANDARD else "X" for code in listed)
    return TemplateChain(sequence, author, label, entity, tuple(atoms), positions)


def _items(block: gemmi.cif.Block, tag: str, rows: list[int]) -> list[str]:
    """The values of these rows, "" where the item is null or absent."""
    column = block.find_values(tag)
    return [gemmi.cif.as_string(column[row]) for row in rows] if len(column) else [""] * len(rows)


def _atoms(columns: dict[str, list[str]], rows: list[int], label: str, first: int, length: int) -> list[_Atom]:
    """The atoms of a chain whose residues are numbered from `first`, of several models those of the first."""
    atoms = []
    model = columns["pdbx_PDB_model_num"]
    for at, row in enumerate(rows):
        number = columns["label_seq_id"][at]
        if columns["label_asym_id"][at] != label or not number.isdigit() or model[at] != model[0]:
            continue
        place = int(number) - first
        if 0 <= place < length:
            called = columns["group_PDB"][at], columns["auth_seq_id"][at], columns["pdbx_PDB_ins_code"][at]
            name, residue = columns["label_atom_id"][at], columns["label_comp_id"][at]
            element = columns["type_symbol"][at] or name[:1]
            atoms.append(_Atom(row, name, element, place, residue, called, float(columns["occupancy"][at] or 1)))
    return atoms


def _proteins(block: gemmi.cif.Block) -> dict[str, tuple[str, dict[int, str]]]:
    """Entity and components by number of every protein, by label; of alternative components the last.

    A polymer with a peptide component is one; so is a polypeptide of a file that does not tell components' kinds.
    """
    peptides = {row.str(0) for row in block.find("_entity_poly.", ["entity_id", "type"]) if "polypeptide" in row[1]}
    kinds = {gemmi.cif.as_string(row[0]): row[1].lower() for row in block.find("_chem_comp.", ["id", "type"])}
    codes: dict[str, dict[int, str]] = {}
    for row in block.find("_entity_poly_seq.", ["entity_id", "num", "mon_id"]):
        codes.setdefault(gemmi.cif.as_string(row[0]), {})[int(row[1])] = gemmi.cif.as_string(row[2])
    asym = [(row.str(0), row.str(1)) for row in block.find("_struct_asym.", ["id", "entity_id"])]
    return {
        label: (entity, one)
        for entity, one in codes.items()
        if entity in peptides or any("peptide" in kinds.get(code, "") for code in one.values())
        for label, of in asym
        if of == entity
    }


def _first_places(atoms: list[_Atom]) -> list[_Atom]:
    """One place per atom, the most occupied one; of alternative residues at a place the one that the file ends with."""
    last = {atom.place: (atom.number, atom.residue) for atom in atoms}
    best: dict[tuple[int, str], _Atom] = {}
    for atom in atoms:
        key = (atom.place, atom.name)
        if last[atom.place] == (atom.number, atom.residue) and (
            key not in best or atom.occupancy > best[key].occupancy
        ):
            best[key] = atom
    return list(best.values())


def _order_arginines_(positions: np.ndarray, atoms: list[_Atom]) -> None:
    """Exchange the places of NH1 and NH2 of arginines where NH2 is nearer to CD."""
    index = {(atom.place, atom.name): i for i, atom in enumerate(atoms) if atom.residue == "ARG"}
    for (place, name), cd in index.items():
        one, two = index.get((place, "NH1")), index.get((place, "NH2"))
        if name != "CD" or one is None or two is None:
            continue
        if np.linalg.norm(positions[one] - positions[cd]) > np.linalg.norm(positions[two] - positions[cd]):
            positions[[one, two]] = positions[[two, one]]


def chain_text(block: gemmi.cif.Block, chain: TemplateChain) -> str:
    """The chain alone as mmCIF: its sequence with residues outside the twenty as UNK, and the atoms that it has."""
    document = gemmi.cif.Document()
    made = document.add_new_block(block.name)
    for category in _WHOLE:
        _copy(block, made, category)
    for category, item in _OF_ENTITY.items():
        _copy(block, made, category, lambda row, item=item: row[item] == chain.entity)
    _copy(block, made, "_struct_asym.", lambda row: row["id"] == chain.label)
    names = [gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) or UNKNOWN for letter in chain.sequence]
    _chem_comp(block, made, set(names))
    loop = made.init_loop("_entity_poly_seq.", ["entity_id", "num", "mon_id", "hetero"])
    for number, name in enumerate(names, 1):
        loop.add_row([chain.entity, str(number), name, "n"])
    _scheme(made, chain, names)
    _atom_site(made, chain, names)
    return document.as_string()


def _copy(
    block: gemmi.cif.Block, made: gemmi.cif.Block, category: str, wanted: Callable[[Row], bool] = lambda row: True
) -> None:
    table = block.find_mmcif_category(category)
    if not len(table):
        return
    tags = [tag.removeprefix(category) for tag in table.tags]
    loop = made.init_loop(category, tags)
    for row in table:
        if wanted(dict(zip(tags, (gemmi.cif.as_string(value) for value in row), strict=True))):
            loop.add_row(list(row))


def _chem_comp(block: gemmi.cif.Block, made: gemmi.cif.Block, names: set[str]) -> None:
    """Kinds of the components, which AlphaFold 3 reads; an entry seldom lists UNK itself."""
    loop = made.init_loop("_chem_comp.", ["id", "type"])
    kinds = {row.str(0): row.str(1) for row in block.find("_chem_comp.", ["id", "type"])}
    for name in sorted(names):
        loop.add_row([name, gemmi.cif.quote(kinds.get(name, "L-peptide linking"))])


def _scheme(made: gemmi.cif.Block, chain: TemplateChain, names: list[str]) -> None:
    """What the author calls the residues with atoms; the others have no number, which might be that of another."""
    items = ("asym_id", "entity_id", "seq_id", "mon_id", "pdb_seq_num", "auth_seq_num", "pdb_strand_id")
    items += ("pdb_ins_code", "hetero")
    loop = made.init_loop("_pdbx_poly_seq_scheme.", list(items))
    numbers = {atom.place: atom.number for atom in chain.atoms}
    for place, name in enumerate(names):
        _, number, insertion = numbers.get(place, ("", "", ""))
        called = [number or ".", number or "?", gemmi.cif.quote(chain.author), insertion or "."]
        loop.add_row([chain.label, chain.entity, str(place + 1), name, *called, "n"])


def _atom_site(made: gemmi.cif.Block, chain: TemplateChain, names: list[str]) -> None:
    items = ("group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id")
    items += ("label_entity_id", "label_seq_id", "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy")
    items += ("B_iso_or_equiv", "auth_seq_id", "auth_comp_id", "auth_asym_id", "auth_atom_id", "pdbx_PDB_model_num")
    loop = made.init_loop("_atom_site.", list(items))
    author = gemmi.cif.quote(chain.author)
    for i, (atom, xyz) in enumerate(zip(chain.atoms, chain.positions.astype(str).tolist(), strict=True), 1):
        name, code = gemmi.cif.quote(atom.name), names[atom.place]
        head = ["ATOM", str(i), atom.element, name, ".", code, chain.label, chain.entity, str(atom.place + 1)]
        _, number, insertion = atom.number
        loop.add_row([*head, insertion or "?", *xyz, "1.00", "0.00", number, code, author, name, "1"])
