"""What the readers change in a job, and that they say so (acceptance cases A21, A22, A24, A26, A41)."""

from collections.abc import Callable
from typing import Any

import pytest

from foldline.errors import InputError
from foldline.inputs import Job, Modification, Polymer
from foldline.inputs.checks import chain_name


@pytest.mark.parametrize(
    ("kind", "given", "clean", "words"),
    [
        ("protein", "MKT\n  AYI\tAK", "MKTAYIAK", "white space"),
        ("protein", "mkTayiAK", "MKTAYIAK", "lower-case"),
        ("protein", "MUXBZJO", "MUXBZJO", "B at 4; J at 6; O at 7; U at 2; X at 3; Z at 5"),
        ("dna", "ACXGTRN", "ACNGTNN", "R at 6; X at 3"),
        ("rna", "acyu", "ACNU", "Y at 3"),
    ],
)
def test_changes_are_noted(
    kind: str, given: str, clean: str, words: str, af3: Callable[..., dict[str, Any]], read: Callable[[Any], Job]
) -> None:
    job = read(af3({kind: {"id": "A", "sequence": given}}))
    assert job.entities[0].sequence == clean
    assert any(note.startswith(f"$.sequences[0].{kind}.sequence: ") and words in note for note in job.notes)


@pytest.mark.parametrize(
    ("kind", "sequence"), [("protein", "ACDEFGHIKLMNPQRSTVWY"), ("dna", "ACGTN"), ("rna", "ACGUN"), ("protein", "G")]
)
def test_plain_sequences_need_no_note(
    kind: str, sequence: str, af3: Callable[..., dict[str, Any]], read: Callable[[Any], Job]
) -> None:
    job = read(af3({kind: {"id": "A", "sequence": sequence}}))
    assert job.entities[0].sequence == sequence
    assert job.notes == ()


def test_repeated_seeds_run_once(af3: Callable[..., dict[str, Any]], read: Callable[[Any], Job]) -> None:
    job = read(af3(modelSeeds=[3, 1, 3, 1, 2]))
    assert job.seeds == (3, 1, 2)
    assert job.notes == ("$.modelSeeds: repeated seeds run once: 3, 1",)


def test_chain_names_count_units_first() -> None:
    """AF3 `int_id_to_str_id`: A..Z, AA, BA, CA, ..."""
    names = [chain_name(i) for i in range(26 + 26 * 26 + 2)]
    assert names[:3] == ["A", "B", "C"]
    assert names[25:30] == ["Z", "AA", "BA", "CA", "DA"]
    assert names[51:53] == ["ZA", "AB"]
    assert names[-3:] == ["ZZ", "AAA", "BAA"]
    assert len(set(names)) == len(names)


def test_many_chains_with_long_ids(af3: Callable[..., dict[str, Any]], read: Callable[[Any], Job]) -> None:
    """A26."""
    ids = [chain_name(i) for i in range(120)]
    assert read(af3({"protein": {"id": ids, "sequence": "GG"}})).entities[0].ids == tuple(ids)


@pytest.mark.parametrize(("kind", "code"), [("dna", "DI"), ("rna", "I")])
def test_inosine_is_a_modification(
    kind: str,
    code: str,
    af3: Callable[..., dict[str, Any]],
    read: Callable[[Any], Job],
    faults: Callable[[Any], list[InputError]],
) -> None:
    """Its letter is none of AlphaFold 3's; Protenix reads it as DI or I (json_parser.py:33-51)."""
    (fault,) = faults(af3({kind: {"id": "A", "sequence": "GIC"}}))
    assert '"I" at position 2' in str(fault) and 'a modified base is given in "modifications"' in str(fault)
    change = {"modificationType": code, "basePosition": 2}
    (chain,) = read(af3({kind: {"id": "A", "sequence": "GGC", "modifications": [change]}})).entities
    assert isinstance(chain, Polymer) and chain.modifications == (Modification(code, 2),)
