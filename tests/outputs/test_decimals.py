"""Numbers as text: AlphaFold 3's serialiser rules, digit for digit."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldline.outputs import decimals
from foldline.outputs.decimals import fixed, json_array, json_matrix, rounded


@pytest.mark.parametrize(
    ("value", "places", "top", "text"),
    [
        (0.0, 1, 999, "0.0"), (0.25, 1, 999, "0.3"), (31.75, 1, 999, "31.8"), (9.96, 1, 999, "10.0"),
        (99.96, 1, 999, "99.9"), (1e9, 1, 999, "99.9"), (-1.0, 1, 999, "0.0"), (math.nan, 1, 999, "null"),
        (85.0, 2, 9999, "85.0"), (85.3, 2, 9999, "85.3"), (9.251, 2, 9999, "9.25"), (100.0, 2, 9999, "99.99"),
        (0.125, 2, 9999, "0.13"), (0.5, 2, 100, "0.5"), (1.0, 2, 100, "1.0"), (1.7, 2, 100, "1.0"),
        (0.05, 2, 100, "0.05"), (0.004, 2, 100, "0.0"), (math.inf, 2, 100, "null"),
    ],
)  # fmt: skip
def test_text_of_a_number(value: float, places: int, top: int, text: str) -> None:
    assert json_array(np.array([value]), places, top) == f"[{text}]".encode()


def serialised(value: float, places: int, top: int) -> str:
    """One number by AlphaFold 3's rule, from the digits of the rounded integer."""
    if math.isnan(value):
        return "null"
    scale = np.float32(10**places)
    clamped = min(max(np.float32(value), np.float32(0)), np.float32(top) / scale)
    digits = str(min(top, math.floor(float(np.float32(clamped * scale)) + 0.5))).rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}"
    return text[:-1] if places == 2 and text.endswith("0") else text


@given(
    st.lists(st.floats(-5, 120, width=32) | st.just(math.nan), min_size=1, max_size=40),
    st.sampled_from([(1, 999), (2, 9999), (2, 100)]),
)
def test_arrays_follow_the_rule(values: list[float], rule: tuple[int, int]) -> None:
    text = json_array(np.array(values, np.float32), *rule).decode()
    assert text == "[" + ",".join(serialised(value, *rule) for value in values) + "]"


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (7, 6)])
@pytest.mark.parametrize("block", [1, 13, 1 << 20])
def test_matrix_is_one_text_whatever_the_block(
    shape: tuple[int, int], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decimals, "_BLOCK", block)
    matrix = np.random.default_rng(1).uniform(0, 32, shape).astype(np.float32)
    matrix[0, 0] = np.nan
    rows = [json_array(row, 1, 999) for row in matrix]
    assert b"".join(json_matrix(matrix, 1, 999)) == b"[" + b",".join(rows) + b"]"
    assert json.loads(b"".join(json_matrix(matrix, 1, 999)))[0][0] is None


def test_fixed_has_no_negative_zero() -> None:
    assert fixed(np.array([-0.0004, 0.0, -1.0006, 12345.6784]), 3) == ["0.000", "0.000", "-1.001", "12345.678"]


def test_rounded_is_half_away_from_zero() -> None:
    assert rounded(np.array([0.125, -0.125, 0.375, 2.0]), 2).tolist() == [0.13, -0.13, 0.38, 2.0]
