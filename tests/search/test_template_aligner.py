"""Kalign: its recorded answers, letters that end it, and what is said where it is missing."""

import json
import os
from pathlib import Path

import pytest
from made_databases import mutated, sequence

from foldline.errors import SearchError
from foldline.search.template_aligner import Kalign, mapping_of

PAIRS = Path(__file__).parent / "data" / "kalign_pairs.json"


@pytest.fixture(scope="module")
def kalign() -> Kalign:
    found = Kalign.find()
    if found is None:
        pytest.skip("kalign is not on the PATH")
    return found


def program(folder: Path, body: str) -> Kalign:
    path = folder / "kalign"
    path.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo kalign 9.9 && exit\n{body}\n")
    path.chmod(0o755)
    return Kalign(str(path))


def test_pairs_as_recorded(kalign: Kalign) -> None:
    """Pairs for which one thread gives other rows (kalign 3.3.5)."""
    if not kalign.version.startswith("3.3"):
        pytest.skip(f"recorded with kalign 3.3.5, this is {kalign.version}")
    pairs = json.loads(PAIRS.read_text())
    assert len(pairs) >= 5
    for query, template, *rows in pairs:
        assert kalign(query, template) == tuple(rows)


def test_letters_that_kalign_does_not_know(kalign: Kalign) -> None:
    query = sequence("protein", 50, 3)
    odd = f"{query[:20]}JOUXBZ{query[26:]}"
    rows = kalign(odd, mutated(query, "protein", 0.2, 1))
    assert rows is not None
    assert len(mapping_of(*rows)) > 35
    assert kalign("JO" * 20, query) is not None


def test_short_sequences(kalign: Kalign) -> None:
    assert kalign("ACDEF", "ACDEFGHI") is None
    assert kalign("ACDEFG", "ACDEFGHI") is not None


def test_standard_input_is_left_alone(kalign: Kalign) -> None:
    """A service or a loop over a list has a pipe there: kalign would wait for it, and align what comes."""
    reading, writing = os.pipe()
    os.write(writing, b">third\nACDEFGHIKL\n")
    os.close(writing)
    before = os.dup(0)
    os.dup2(reading, 0)
    try:
        assert kalign("ACDEFGHIKL", "ACDEFHIKL") == ("ACDEFGHIKL", "ACDEF-HIKL")
        assert os.read(0, 6) == b">third"
    finally:
        os.dup2(before, 0)
        os.close(reading)
        os.close(before)


def test_mapping_of_rows() -> None:
    assert mapping_of("AC-DE", "-CKD-") == {1: 0, 2: 2}


def test_a_program_that_fails_has_no_answer(tmp_path: Path) -> None:
    one = program(tmp_path, "exit 1")
    assert one.version == "9.9"
    assert one("ACDEFGH", "ACDEFGH") is None
    for rows in ("", ">0\\nACDEFGH\\n", ">0\\nACDEFG\\n>1\\nACDEFGH\\n"):
        assert program(tmp_path, f'printf "{rows}" > "$4"')("ACDEFGH", "ACDEFGH") is None
    assert program(tmp_path, 'printf ">0\\nACDEFGH\\n>1\\nACDEFGH\\n" > "$4"')("ACDEFGH", "ACDEFGH") is not None


def test_a_program_that_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"kalign cannot be run .*apt-get install kalign"):
        Kalign(str(tmp_path / "kalign"))
