"""Numbers as short decimal text, in AlphaFold 3's way, many at a time. Knows nothing of what the numbers mean.

Source of the rules: AlphaFold 3, model/json_serialize_pybind.cc:26-98.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np

_BLOCK = 1 << 18  # numbers formatted at once: bounds the memory of a matrix of any size


def rounded(values: np.ndarray, decimals: int) -> np.ndarray:
    """Float64 values rounded half away from zero in float32, as C's `round(value * 10**decimals)` does."""
    scale = np.float32(10**decimals)
    scaled = (np.asarray(values, np.float32) * scale).astype(np.float64)
    return np.copysign(np.floor(np.abs(scaled) + 0.5), scaled) / float(scale)


def fixed(values: np.ndarray, decimals: int) -> list[str]:
    """Text of a 1-D array with a fixed number of decimals and never a negative zero."""
    form = f"%.{decimals}f"
    return [form % value for value in (np.round(np.asarray(values, np.float64), decimals) + 0.0).tolist()]


@cache
def _texts(decimals: int, top: int, end: str) -> np.ndarray:
    """Text of 0 .. top in units of the last decimal, then of null, each followed by `end`; 8 bytes each, NUL padded."""
    width = decimals + 2
    words = [f"{i / 10**decimals:.{decimals}f}" for i in range(top + 1)]
    words = [word[:-1] if decimals > 1 and word.endswith("0") and len(word) >= width else word for word in words]
    table = np.array([(word + end).encode() for word in [*words, "null"]], dtype="S8")
    assert max(map(len, words)) + len(end) <= 8
    return table.view(np.uint64)


def _codes(values: np.ndarray, decimals: int, top: int) -> np.ndarray:
    """Row of `_texts` for every value: clamped to 0 .. top, NaN and infinities to the last row."""
    scale = np.float32(10**decimals)
    values = np.asarray(values, np.float32)
    finite = np.isfinite(values)
    clamped = np.clip(np.where(finite, values, 0), np.float32(0), np.float32(top) / scale)
    codes = np.floor((clamped * scale).astype(np.float64) + 0.5).astype(np.int64)
    return np.where(finite, np.minimum(codes, top), top + 1)


def json_array(values: np.ndarray, decimals: int, top: int) -> bytes:
    """A 1-D array as JSON, values in 0 .. top / 10**decimals; NaN is null."""
    codes = _codes(values, decimals, top)
    if not len(codes):
        return b"[]"
    text = _texts(decimals, top, ",")[codes].tobytes().translate(None, b"\0")
    return b"[" + text[:-1] + b"]"


def json_matrix(matrix: np.ndarray, decimals: int, top: int) -> Iterator[bytes]:
    """A 2-D array as JSON in pieces of a few MB, values in 0 .. top / 10**decimals; NaN is null."""
    inner, last = _texts(decimals, top, ","), _texts(decimals, top, "],[")
    rows = max(1, _BLOCK // max(1, matrix.shape[1]))
    yield b"[["
    for start in range(0, len(matrix), rows):
        codes = _codes(matrix[start : start + rows], decimals, top)
        words = inner[codes]
        words[:, -1] = last[codes[:, -1]]
        text = words.tobytes().translate(None, b"\0")
        yield text[:-3] if start + rows >= len(matrix) else text
    yield b"]]"
