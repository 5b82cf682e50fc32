"""Made-up PDB entries as mmCIF text, with every irregularity that a template's chain may have."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import gemmi

from foldline.chem.residues import RESIDUE_ATOMS

COMPONENTS = {"MSE": ("N", "CA", "C", "O", "CB", "CG", "SE", "CE"), "SEP": ("N", "CA", "C", "O", "CB", "OG", "P")}
ITEMS = (
    *("group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id"),
    *("label_entity_id", "label_seq_id", "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy"),
    *("B_iso_or_equiv", "auth_seq_id", "auth_asym_id", "pdbx_PDB_model_num"),
)
Place = tuple[float, float, float]


@dataclass
class Residue:
    """A residue of a chain: its atoms as (name, altloc, occupancy, component or "" for its own, place)."""

    code: str
    number: str  # the author's
    insertion: str = "?"
    group: str = "ATOM"
    atoms: list[tuple[str, str, float, str, Place]] = field(default_factory=list)


def residues(letters: str, seed: int, first: int = 1) -> list[Residue]:
    """Residues with all their atoms, 3.8 Å along x from each other. Small letters: m is MSE, s is SEP."""
    rng = random.Random(f"{letters} {seed}")
    made = []
    for place, letter in enumerate(letters):
        odd = {"m": "MSE", "s": "SEP"}.get(letter)
        code = odd or gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA)
        atoms = COMPONENTS[code] if odd else RESIDUE_ATOMS[code][:-1]
        one = Residue(code, str(place + first), group="HETATM" if odd else "ATOM")
        for name in atoms:
            x, y, z = (round(rng.uniform(-2, 2), 3) for _ in range(3))
            one.atoms.append((name, ".", 1.0, "", (round(x + 3.8 * place, 3), y, z)))
        made.append(one)
    return made


def entry(
    name: str, chain: Sequence[Residue], released: str | None, *, author: str = "A", label: str = "A", models: int = 1
) -> str:
    """An entry with a nucleic acid's chain, the protein chain and a water of the same author's name.

    What is not resolved has a CA in all models but the first.
    """
    lines = [f"data_{name.upper()}", f"_entry.id {name.upper()}"]
    if released is not None:
        lines += ["loop_", "_pdbx_audit_revision_history.ordinal", "_pdbx_audit_revision_history.revision_date"]
        lines += ["1 2025-01-01", f"2 {released}"]
    codes = list(dict.fromkeys(one.code for one in chain))
    lines += ["loop_", "_chem_comp.id", "_chem_comp.type", "A 'RNA linking'", "HOH non-polymer"]
    lines += [f"{code} {'peptide linking' if code == 'GLY' else 'L-peptide linking'!r}" for code in codes]
    lines += ["loop_", "_entity.id", "_entity.type", "1 polymer", "2 polymer", "3 water"]
    lines += ["loop_", "_entity_poly.entity_id", "_entity_poly.type", "1 polyribonucleotide", "2 'polypeptide(L)'"]
    lines += ["loop_", *(f"_entity_poly_seq.{item}" for item in ("entity_id", "num", "mon_id", "hetero")), "1 1 A n"]
    lines += [f"2 {number} {one.code} n" for number, one in enumerate(chain, 1)]
    lines += ["loop_", "_struct_asym.id", "_struct_asym.entity_id", "R 1", f"{label} 2", "W 3"]
    lines += ["loop_", *(f"_atom_site.{item}" for item in ITEMS)]
    rows = []
    for model in range(1, models + 1):
        rows.append(["ATOM", "C", '"C1\'"', ".", "A", "R", "1", "1", "?", "0", "0", "0", "1", "9", "1", "R", model])
        for number, one in enumerate(chain, 1):
            for atom, altloc, occupancy, code, place in (
                one.atoms or [("CA", ".", 1.0, "", (0.0, 0.0, 0.0))][: model - 1]
            ):
                head = [one.group, "SE" if atom == "SE" else atom[0], atom, altloc, code or one.code, label, "2"]
                xyz = [f"{value + 5 * (model - 1):.3f}" for value in place]
                rows.append([*head, number, one.insertion, *xyz, occupancy, "9", one.number, author, model])
        rows.append(["HETATM", "O", "O", ".", "HOH", "W", "3", ".", "?", "1", "1", "1", "1", "9", "900", author, model])
    for i, row in enumerate(rows, 1):
        lines.append(" ".join(str(value) for value in [row[0], i, *row[1:]]))
    return "\n".join(lines) + "\n"
