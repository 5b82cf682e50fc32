"""Choosing implementations, and row blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldline.errors import KernelUnavailable
from foldline.ops import TABLES, Rows, row_blocks, select


def test_the_reference_is_the_default_and_is_in_every_table() -> None:
    ops = select()
    assert ops.names == dict.fromkeys(TABLES, "reference")
    assert ops.rows == Rows()
    assert select(Rows(7, 8, 9)).rows == Rows(7, 8, 9)


def test_work_sizes_are_bound() -> None:
    rows = Rows(1, 2, 3)
    ops = select(rows)
    bound = [getattr(ops, name) for name in TABLES if name.endswith("_")]
    assert len(bound) == 5 and all(op.keywords == {"rows": rows} for op in bound)


def test_unknown_names_are_told_with_those_known() -> None:
    with pytest.raises(KernelUnavailable, match="'cuda-magic' is not available: known are reference") as error:
        select(implementations={"transition_": "cuda-magic"})
    assert (error.value.op, error.value.name) == ("transition_", "cuda-magic")
    with pytest.raises(KernelUnavailable, match="known are .*triangle_attention_"):
        select(implementations={"triangle_atention_": "reference"})


@given(st.integers(0, 200), st.integers(0, 300), st.integers(-5, 10_000))
def test_blocks_cover_all_rows_once_and_fit(n_row: int, n_column: int, positions: int) -> None:
    blocks = list(row_blocks(n_row, n_column, positions))
    assert [i for block in blocks for i in range(block.start, block.stop)] == list(range(n_row))
    for block in blocks:
        rows = block.stop - block.start
        assert rows == 1 or rows * n_column <= positions
    if len(blocks) > 1 and n_column:
        assert (blocks[0].stop + 1) * n_column > positions, "blocks could be larger"
