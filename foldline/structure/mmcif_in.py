"""One protein chain of a template file, mmCIF or PDB, as arrays over its full sequence. Reads what is there: no date,
no entity tables and no experiment are needed. Knows no queries and no alignments."""

from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np

from foldline.errors import InputError

BACKBONE = ("N", "CA", "C", "O", "CB")
# Each item of atom_site that is needed, by the names it may have; the first that is there is read.
_NEEDED = {
    "atom": ("label_atom_id", "auth_atom_id"),
    "residue": ("label_comp_id", "auth_comp_id"),
    "chain": ("label_asym_id", "auth_asym_id"),
    "number": ("label_seq_id", "auth_seq_id"),
    "x": ("Cartn_x",),
    "y": ("Cartn_y",),
    "z": ("Cartn_z",),
}
_OPTIONAL = {
    "auth_chain": "auth_asym_id",
    "auth_number": "auth_seq_id",
    "insertion": "pdbx_PDB_ins_code",
    "altloc": "label_alt_id",
    "occupancy": "occupancy",
    "model": "pdbx_PDB_model_num",
    "entity": "label_entity_id",
}


@dataclass(frozen=True)
class TemplateStructure:
    """A chain of n residues, those without atoms included where the file lists the whole sequence."""

    chain_id: str  # as the author names it
    sequence: str  # one letter per residue; a modified residue as its parent, X where it has none
    res_name: np.ndarray  # str [n], component codes
    residue_number: np.ndarray  # str [n]: author's number with insertion code, "" where there are no atoms
    positions: np.ndarray  # float32 [n, 5, 3], Å: N, CA, C, O, CB; zeros where the mask is False
    mask: np.ndarray  # bool [n, 5]
    notes: tuple[str, ...] = ()

    def atom(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Positions [n, 3] and mask [n] of one of N, CA, C, O, CB."""
        place = BACKBONE.index(name)
        return self.positions[:, place], self.mask[:, place]

    @property
    def pseudo_beta(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions [n, 3] and mask [n] of CB, of glycine CA (AF3 SI 2.4)."""
        place = np.where(np.array(list(self.sequence)) == "G", BACKBONE.index("CA"), BACKBONE.index("CB"))
        rows = np.arange(len(place))
        return self.positions[rows, place], self.mask[rows, place]


def read_template(text: str, chain: str | None = None, *, path: str = "") -> TemplateStructure:
    """The protein chain `chain` (author's name first, then the mmCIF label), by default the first one.

    Of alternative places of an atom the one with the highest occupancy counts; of several models the first.

    Raises:
        InputError: the text is neither mmCIF nor PDB, lacks a needed item (named), or has no such protein chain.
    """
    block = _block(text, path)
    atoms = _Atoms(block, path)
    chosen, notes = _choose_chain(atoms, block, chain, path)
    rows = np.flatnonzero(atoms.chain == chosen)
    keys = [f"{number}|{code}" for number, code in zip(atoms.number[rows], atoms.insertion[rows], strict=True)]
    distinct = list(dict.fromkeys(keys))
    index = {key: number for number, key in enumerate(distinct)}
    present = np.array([index[key] for key in keys])
    heads = rows[np.unique(present, return_index=True)[1]]
    names = atoms.residue[heads].tolist()
    place = np.arange(len(distinct))
    full = _full_sequence(block, chosen, str(atoms.entity[rows[0]]))
    numbers = _integers(atoms.label_number[heads])
    if full and numbers is not None and numbers.min() >= 1 and numbers.max() <= len(full):
        present, place = (numbers - 1)[present], numbers - 1
        names = full
    residue_number = np.full(len(names), "", dtype="U12")
    residue_number[place] = np.char.add(atoms.auth_number[heads], atoms.insertion[heads])
    positions, mask = _backbone(atoms, rows, present, len(names))
    if not mask[:, BACKBONE.index("CA")].any():
        raise InputError(f"chain {chosen!r} has no CA atom", path=path)
    return TemplateStructure(
        chain_id=str(atoms.auth_chain[rows[0]]),
        sequence="".join(_letter(name) for name in names),
        res_name=np.array(names),
        residue_number=residue_number,
        positions=positions,
        mask=mask,
        notes=tuple(notes),
    )


class _Atoms:
    """The columns of atom_site of the first model."""

    def __init__(self, block: gemmi.cif.Block, path: str) -> None:
        count = len(block.find_values("_atom_site.Cartn_x"))
        missing = [f"_atom_site.{names[0]}" for names in _NEEDED.values() if not _first(block, names)]
        if missing:
            raise InputError(f"the structure lacks {', '.join(missing)}", path=path)
        columns = {name: _column(block, _first(block, names)) for name, names in _NEEDED.items()}
        columns |= {name: _column(block, tag, count) for name, tag in _OPTIONAL.items()}
        columns["label_number"] = _column(block, "label_seq_id", count)
        model = columns.pop("model")
        keep = model == model[0]
        columns = {name: column[keep] for name, column in columns.items()}
        self.atom, self.residue, self.chain = columns["atom"], columns["residue"], columns["chain"]
        self.entity, self.label_number = columns["entity"], columns["label_number"]
        self.insertion = columns["insertion"]
        self.auth_chain = np.where(columns["auth_chain"] == "", self.chain, columns["auth_chain"])
        self.auth_number = np.where(columns["auth_number"] == "", columns["number"], columns["auth_number"])
        # author's numbers tell residues apart where the label has none, as in files of modelling programs
        self.number = np.where(columns["number"] == "", self.auth_number, columns["number"])
        try:
            self.xyz = np.stack([columns[axis].astype(np.float32) for axis in "xyz"], axis=1)
            self.occupancy = np.where(columns["occupancy"] == "", "1", columns["occupancy"]).astype(np.float32)
        except ValueError as error:
            raise InputError(f"_atom_site has something other than a number: {error}", path=path) from None


def _block(text: str, path: str) -> gemmi.cif.Block:
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise InputError("the structure is empty", path=path)
    if "_atom_site." not in text and any(line.startswith(("ATOM  ", "HETATM")) for line in text.splitlines()):
        return _block_of_pdb(text)
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"the structure is neither mmCIF nor PDB: {error}", path=path) from None
    with_atoms = [block for block in document if len(block.find_values("_atom_site.Cartn_x"))]
    if not with_atoms:
        raise InputError("the structure lacks _atom_site.Cartn_x, or has no atoms", path=path)
    return with_atoms[0]


def _block_of_pdb(text: str) -> gemmi.cif.Block:
    """A PDB file as mmCIF. Where no TER ends the chains, every residue with N, CA and C is of the polymer."""
    structure = gemmi.read_pdb_string(text)
    for chain in structure[0]:
        if all(residue.entity_type == gemmi.EntityType.Unknown for residue in chain):
            for residue in chain:
                polymer = all(residue.find_atom(name, "*") for name in ("N", "CA", "C"))
                residue.entity_type = gemmi.EntityType.Polymer if polymer else gemmi.EntityType.NonPolymer
    structure.setup_entities()
    structure.assign_label_seq_id()
    return structure.make_mmcif_block()


def _first(block: gemmi.cif.Block, names: Sequence[str]) -> str:
    return next((name for name in names if len(block.find_values(f"_atom_site.{name}"))), "")


def _column(block: gemmi.cif.Block, tag: str, count: int = 0) -> np.ndarray:
    """An atom_site item as text, "" where it is null or absent."""
    values = block.find_values(f"_atom_site.{tag}")
    if not len(values):
        return np.full(count, "")
    plain = [gemmi.cif.as_string(value) if value[0] in "'\";" else value for value in values]
    column = np.array(plain)
    return np.where((column == "?") | (column == "."), "", column)


def _choose_chain(atoms: _Atoms, block: gemmi.cif.Block, wanted: str | None, path: str) -> tuple[str, list[str]]:
    peptides = {
        gemmi.cif.as_string(row[0])
        for row in block.find("_entity_poly.", ["entity_id", "type"])
        if "polypeptide" in row[1].lower()
    }
    proteins: dict[str, str] = {}  # label -> author's name, in the order of the file
    for label in dict.fromkeys(atoms.chain.tolist()):
        rows = atoms.chain == label
        if peptides and atoms.entity[rows][0]:
            is_protein = atoms.entity[rows][0] in peptides
        else:
            is_protein = bool({"N", "CA", "C"} <= set(atoms.atom[rows].tolist()))
        if is_protein:
            proteins[label] = str(atoms.auth_chain[rows][0])
    if not proteins:
        raise InputError("the structure has no protein chain", path=path)
    if wanted is None:
        first = next(iter(proteins))
        others = len(proteins) - 1
        notes = (
            [f"the template has {others + 1} protein chains; the first, {proteins[first]}, is used"] if others else []
        )
        return first, notes
    for label, author in proteins.items():
        if author == wanted:
            return label, []
    if wanted in proteins:
        return wanted, []
    names = ", ".join(dict.fromkeys(proteins.values()))
    raise InputError(f"the structure has no protein chain {wanted!r}; it has {names}", path=path)


def _full_sequence(block: gemmi.cif.Block, label: str, entity: str) -> list[str]:
    """Component codes of the whole chain, residues without atoms included; of alternatives the first."""
    tables = (
        ("_entity_poly_seq.", ["entity_id", "num", "mon_id"], entity),
        ("_pdbx_poly_seq_scheme.", ["asym_id", "seq_id", "mon_id"], label),
    )
    for prefix, items, key in tables:
        names: dict[int, str] = {}
        for row in block.find(prefix, items):
            if gemmi.cif.as_string(row[0]) == key and row[1].isdigit():
                names.setdefault(int(row[1]), gemmi.cif.as_string(row[2]))
        if names and sorted(names) == list(range(1, len(names) + 1)):
            return [names[number] for number in range(1, len(names) + 1)]
    return []


def _integers(column: np.ndarray) -> np.ndarray | None:
    """The column as integers, or None where a value is none."""
    return column.astype(np.int64) if all(value.isdigit() for value in column.tolist()) else None


def _backbone(atoms: _Atoms, rows: np.ndarray, present: np.ndarray, n_res: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [n_res, 5, 3] and mask [n_res, 5] of the backbone atoms; the most occupied place of each wins."""
    positions, mask = np.zeros((n_res, len(BACKBONE), 3), np.float32), np.zeros((n_res, len(BACKBONE)), bool)
    order = np.argsort(-atoms.occupancy[rows], kind="stable")
    for place, name in enumerate(BACKBONE):
        here = order[atoms.atom[rows][order] == name]
        _, first = np.unique(present[here], return_index=True)
        here = here[first]
        positions[present[here], place] = atoms.xyz[rows][here]
        mask[present[here], place] = True
    return positions, mask


def _letter(name: str) -> str:
    info = gemmi.find_tabulated_residue(name)
    letter = info.one_letter_code.upper() if info.is_amino_acid() else ""
    return letter if len(letter) == 1 and letter.isalpha() else "X"
