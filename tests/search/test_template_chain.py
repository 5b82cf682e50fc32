"""A chain as Protenix reads it, and as text: what readers of mmCIF need is there and agrees with itself."""

import gemmi
import pytest
from made_structures import entry, residues
from template_cases import odd_chain

from foldline.search.template_chain import UnusableChainError, chain_text, read_chain
from foldline.structure.mmcif_in import read_template


def block_of(text: str) -> gemmi.cif.Block:
    return gemmi.cif.read_string(text)[0]


def test_text_names_every_residue_and_atom_alike() -> None:
    """AlphaFold 3 finds the residue of an atom by number, component and insertion code (structure/parsing.py:938)."""
    whole = block_of(entry("1bbb", odd_chain(), "2021-09-30", author="H", label="B"))
    chain = read_chain(whole, "H")
    made = block_of(chain_text(whole, chain))
    items = ["seq_id", "pdb_seq_num", "mon_id", "pdb_ins_code", "asym_id", "pdb_strand_id"]
    scheme = [list(row) for row in made.find("_pdbx_poly_seq_scheme.", items)]
    assert [int(row[0]) for row in scheme] == list(range(1, len(chain.sequence) + 1))
    assert {(row[4], row[5]) for row in scheme} == {("B", "H")}
    named = [(number, code, insertion.replace(".", "?")) for _, number, code, insertion, _, _ in scheme]
    resolved = [one for one in named if one[0] != "."]
    assert len(set(resolved)) == len(resolved) == len(chain.sequence) - 5
    items = ["label_seq_id", "auth_seq_id", "label_comp_id", "pdbx_PDB_ins_code", "label_alt_id", "type_symbol"]
    atoms = [list(row) for row in made.find("_atom_site.", items)]
    assert all(named[int(row[0]) - 1] == tuple(row[1:4]) for row in atoms)
    assert {row[4] for row in atoms} == {"."}
    assert {row[5] for row in atoms} == {"N", "C", "O", "S", "SE", "P"}
    sequence = [row[2] for row in made.find("_entity_poly_seq.", ["entity_id", "num", "mon_id"])]
    assert sequence == [row[2] for row in scheme]
    assert set(sequence) == set(made.find_values("_chem_comp.id"))
    assert sequence.count("UNK") == 2
    assert read_template(chain_text(whole, chain), "H").chain_id == "H"


def test_a_place_keeps_its_digits() -> None:
    chain = residues("ACDEFGHIKL", 1)
    name, altloc, share, code, (_, y, z) = chain[3].atoms[1]
    chain[3].atoms[1] = (name, altloc, share, code, (-1234.567, y, z))
    whole = block_of(entry("1abc", chain, "2000-01-01"))
    made = read_template(chain_text(whole, read_chain(whole, "A")))
    assert (made.positions == read_template(entry("1abc", chain, "2000-01-01"), "A").positions).all()
    assert made.positions.min() == pytest.approx(-1234.567)


@pytest.mark.parametrize("name", ["R", "B", "W", "a"])
def test_no_protein_of_that_name(name: str) -> None:
    """Neither a nucleic acid, nor a label, nor the only protein for want of another."""
    whole = block_of(entry("1abc", residues("ACDEF", 1), "2000-01-01", label="B"))
    with pytest.raises(UnusableChainError, match=f"no protein chain {name}"):
        read_chain(whole, name)
    assert read_chain(whole, "A").sequence == "ACDEF"


def test_names_in_quotes() -> None:
    whole = block_of(entry("1abc", residues("ACDEF", 1), "2000-01-01", author="'A'"))
    chain = read_chain(whole, "A")
    assert chain.author == "A"
    assert read_template(chain_text(whole, chain), "A").sequence == "ACDEF"
