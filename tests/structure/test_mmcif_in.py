"""Template chains from complete, bare, edited and converted files."""

from pathlib import Path

import gemmi
import numpy as np
import pytest

from foldline.errors import InputError
from foldline.structure.mmcif_in import BACKBONE, read_template

# Residues 2 and 4 of MAGK have atoms; alanine CA has two places, the second of them more occupied.
ROWS = [
    "ATOM 1 N N . ALA A 1 2 1.0 0.0 0.0 1.00 10 X 1",
    "ATOM 2 C CA A ALA A 1 2 2.0 0.0 0.0 0.40 10 X 1",
    "ATOM 3 C CA B ALA A 1 2 2.5 0.0 0.0 0.60 10 X 1",
    "ATOM 4 C C . ALA A 1 2 3.0 0.0 0.0 1.00 10 X 1",
    "ATOM 5 C CB . ALA A 1 2 2.0 1.5 0.0 1.00 10 X 1",
    "HETATM 6 N N . MSE A 1 4 6.0 0.0 0.0 1.00 12 X 1",
    "HETATM 7 C CA . MSE A 1 4 7.0 0.0 0.0 1.00 12 X 1",
    "HETATM 8 C C . MSE A 1 4 8.0 0.0 0.0 1.00 12 X 1",
    "ATOM 9 N N . GLY B 2 1 0.0 5.0 0.0 1.00 1 Y 1",
    "ATOM 10 C CA . GLY B 2 1 0.0 6.0 0.0 1.00 1 Y 1",
    "ATOM 11 C C . GLY B 2 1 0.0 7.0 0.0 1.00 1 Y 1",
    "HETATM 12 O O . HOH C 3 . 9.0 9.0 9.0 1.00 99 X 1",
    "ATOM 13 C CA . GLY B 2 1 0.0 66.0 0.0 1.00 1 Y 2",
]
LABELS = [f"label_{name}_id" for name in ("atom", "alt", "comp", "asym", "entity", "seq")]
AUTHOR = ["auth_seq_id", "auth_asym_id", "pdbx_PDB_model_num"]
ITEMS = ["group_PDB", "id", "type_symbol", *LABELS, "Cartn_x", "Cartn_y", "Cartn_z", "occupancy", *AUTHOR]
ENTITY = """loop_
_entity_poly.entity_id
_entity_poly.type
1 polypeptide(L)
2 'polypeptide(L)'
loop_
_entity_poly_seq.entity_id
_entity_poly_seq.num
_entity_poly_seq.mon_id
1 1 MET
1 2 ALA
1 3 GLY
1 4 MSE
1 4 MET
2 1 GLY
"""


def cif(drop: tuple[str, ...] = (), entity: str = ENTITY) -> str:
    keep = [i for i, item in enumerate(ITEMS) if item not in drop]
    rows = [" ".join(row.split()[i] for i in keep) for row in ROWS]
    return "\n".join(["data_t", entity, "loop_", *(f"_atom_site.{ITEMS[i]}" for i in keep), *rows, ""])


def test_a_chain_with_its_whole_sequence() -> None:
    chain = read_template(cif(), "X")
    assert (chain.chain_id, chain.sequence) == ("X", "MAGM")
    assert chain.res_name.tolist() == ["MET", "ALA", "GLY", "MSE"]
    assert chain.residue_number.tolist() == ["", "10", "", "12"]
    assert chain.mask.tolist() == [[False] * 5, [True, True, True, False, True], [False] * 5, [True] * 3 + [False] * 2]
    positions, mask = chain.atom("CA")
    assert positions.tolist() == [[0, 0, 0], [2.5, 0, 0], [0, 0, 0], [7, 0, 0]]
    assert mask.tolist() == [False, True, False, True]
    assert not chain.positions[~chain.mask].any()


def test_pseudo_beta_is_cb_and_glycine_ca() -> None:
    alanine, _ = read_template(cif(), "X").pseudo_beta
    assert alanine[1].tolist() == [2.0, 1.5, 0.0]
    glycine, mask = read_template(cif(), "Y").pseudo_beta
    assert glycine.tolist() == [[0.0, 6.0, 0.0]]
    assert mask.tolist() == [True]


def test_the_first_protein_chain_is_the_default_and_said() -> None:
    chain = read_template(cif())
    assert chain.chain_id == "X"
    assert "2 protein chains" in chain.notes[0]
    assert read_template(cif(), "B").chain_id == "Y"  # by its label


@pytest.mark.parametrize(
    "drop",
    [
        ("label_entity_id",),
        ("auth_seq_id", "auth_asym_id"),
        ("occupancy",),
        ("label_alt_id", "pdbx_PDB_model_num", "group_PDB", "type_symbol", "id"),
    ],
)
def test_optional_items_may_be_absent(drop: tuple[str, ...]) -> None:
    text = (
        cif(drop)
        if "pdbx_PDB_model_num" not in drop
        else "\n".join(line for line in cif(drop).splitlines() if "66.0" not in line)
    )
    chain = read_template(text)
    assert [name for name, numbered in zip(chain.res_name.tolist(), chain.mask[:, 1], strict=True) if numbered] == [
        "ALA",
        "MSE",
    ]


def test_without_a_sequence_table_the_residues_with_atoms_count() -> None:
    chain = read_template(cif(entity=""), "X")
    assert chain.sequence == "AM"
    assert chain.residue_number.tolist() == ["10", "12"]
    assert chain.mask.any(axis=1).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (cif(("Cartn_y",)), ["_atom_site.Cartn_y"]),
        (cif(("Cartn_x",)), ["_atom_site.Cartn_x"]),
        (cif(("label_comp_id",)), ["_atom_site.label_comp_id"]),
        (cif(("label_asym_id", "auth_asym_id")), ["_atom_site.label_asym_id"]),
        ("", ["empty"]),
        ("hello", ["neither mmCIF nor PDB"]),
        (cif().replace("7.0 0.0 0.0", "seven 0.0 0.0"), ["number", "seven"]),
    ],
)
def test_errors_name_what_is_missing(text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        read_template(text, "X", path="$.t")
    assert all(word in str(caught.value) for word in ["$.t", *words]), str(caught.value)


def test_an_unknown_chain_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="no protein chain 'Q'; it has X, Y"):
        read_template(cif(), "Q")


PDB_ROWS = [
    ("ATOM", "N", "", "ALA", 10, 1.0, 1.0),
    ("ATOM", "CA", "A", "ALA", 10, 2.0, 0.4),
    ("ATOM", "CA", "B", "ALA", 10, 2.5, 0.6),
    ("ATOM", "C", "", "ALA", 10, 3.0, 1.0),
    ("HETATM", "N", "", "MSE", 12, 6.0, 1.0),
    ("HETATM", "CA", "", "MSE", 12, 7.0, 1.0),
    ("HETATM", "C", "", "MSE", 12, 8.0, 1.0),
]


@pytest.mark.parametrize("ter", [True, False])
@pytest.mark.parametrize("seqres", [True, False])
def test_pdb_text(seqres: bool, ter: bool) -> None:
    lines = ["SEQRES   1 X    4  MET ALA GLY MSE"] if seqres else []
    for number, (record, name, place, residue, sequence, x, occupancy) in enumerate(PDB_ROWS, 1):
        lines.append(
            f"{record:6}{number:5}  {name:3}{place:1}{residue:3} X{sequence:4}    {x:8.3f}{0:8.3f}{0:8.3f}"
            f"{occupancy:6.2f}{20:6.2f}          {name[0]:>2}"
        )
    lines += ["TER"] if ter else []
    lines += ["HETATM    9  O   HOH X  99       9.000   9.000   9.000  1.00 20.00           O", "END"]
    chain = read_template("\n".join(lines), "X")
    assert chain.sequence == ("MAGM" if seqres else "AM")
    assert chain.residue_number.tolist() == (["", "10", "", "12"] if seqres else ["10", "12"])
    assert chain.atom("CA")[0][chain.mask[:, BACKBONE.index("CA")]].tolist() == [[2.5, 0, 0], [7, 0, 0]]


def test_real_structures_agree_with_gemmi(shared_data: Path) -> None:
    files = sorted((shared_data / "structures").glob("*.cif"))
    assert files
    for file in files:
        text = file.read_text()
        chain = read_template(text)
        model = gemmi.make_structure_from_block(gemmi.cif.read_string(text)[0])[0]
        polymer = model[chain.chain_id].get_polymer()
        expected = [r.find_atom("CA", "*").pos.tolist() for r in polymer.first_conformer() if r.find_atom("CA", "*")]
        positions, mask = chain.atom("CA")
        assert mask.sum() == len(expected), file.name
        assert np.abs(positions[mask] - np.array(expected)).max() < 2.0, file.name  # alternative places differ
        assert len(chain.sequence) >= len(expected)
