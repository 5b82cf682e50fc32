"""Names of folders (acceptance case A42): safe, stable, and AlphaFold 3's own for ordinary names."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldline.inputs import slug

RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(10))}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("7r6r", "7r6r"),
        ("TetR_homodimer", "TetR_homodimer"),
        ("My fold job", "My_fold_job"),
        ("a.b-c_D9", "a.b-c_D9"),
        ("_x", "_x"),
        ("a..b", "a..b"),
        ("CONTROL", "CONTROL"),
    ],
)
def test_ordinary_names_are_alphafold3s(name: str, expected: str) -> None:
    assert slug(name) == expected


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("..", "job"),
        (".", "job"),
        ("", "job"),
        ("é漢", "job"),
        ("🧬", "job"),
        ("a/b", "ab"),
        ("../../x", "x"),
        ("/etc/x", "etcx"),
        ("..\\x", "x"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ("dot.", "dot"),
        ("CON", "job_CON"),
        ("con.txt", "job_con.txt"),
        ("naïve", "nave"),
        ("a\nb", "ab"),
        ("a\0b", "ab"),
        ("x" * 300, "x" * 141),
    ],
)
def test_other_names_are_mended_and_told_apart(name: str, start: str) -> None:
    assert re.fullmatch(re.escape(start) + "-[0-9a-f]{8}", slug(name))


@given(st.one_of(st.text(max_size=400), st.text(alphabet="./\\-~ aCON\0é", max_size=12)))
def test_every_name_gives_one_safe_component(name: str) -> None:
    result = slug(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", result)
    assert len(result) <= 150
    assert not result.endswith(".")
    assert result.split(".")[0].upper() not in RESERVED
    base = Path("/out")
    assert (base / result).resolve().parent == base
    assert slug(name) == result


@given(st.text(max_size=20), st.text(max_size=20))
def test_different_names_stay_different_but_for_spaces(one: str, other: str) -> None:
    if one.replace(" ", "_") != other.replace(" ", "_"):
        assert slug(one) != slug(other)
