"""Row blocks: how an op walks over the first token axis of a pair tensor. Knows sizes only, never devices."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Rows:
    """Work sizes of the streaming ops, in positions (elements of all axes but the channel); chosen by the plan.

    `pair` bounds the row blocks of the triangle ops and the outer product mean, `point` those of pointwise ops
    (transition, projections, heads), `msa` the alignment rows x tokens that pair-weighted averaging holds at once.
    """

    pair: int = 32_768
    point: int = 8_192
    msa: int = 65_536


def row_blocks(n_row: int, n_column: int, positions: int) -> Iterator[slice]:
    """Slices of `n_row` rows so that each block holds about `positions` positions, at least one row."""
    step = max(1, min(n_row, positions // max(1, n_column)))
    for start in range(0, n_row, step):
        yield slice(start, min(start + step, n_row))
