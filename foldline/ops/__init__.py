"""Algorithm-level math of AlphaFold-class networks: weights passed in, residuals added in place, no autograd.

Every op has a table of implementations; `select` binds one of each into a frozen `Ops`, the only extra argument of a
layer. Knows devices and work sizes, not models, families or files.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from foldline.errors import KernelUnavailable
from foldline.ops import (
    attention_pair_bias,
    outer_product_mean,
    pair_weighted_averaging,
    transition,
    triangle_attention,
    triangle_multiplication,
    window_attention,
)
from foldline.ops.chunks import Rows, row_blocks

__all__ = ["TABLES", "Ops", "Rows", "row_blocks", "select"]

TABLES: dict[str, dict[str, Callable[..., Any]]] = {
    "triangle_multiplication_": triangle_multiplication.IMPLEMENTATIONS,
    "triangle_attention_": triangle_attention.IMPLEMENTATIONS,
    "transition_": transition.IMPLEMENTATIONS,
    "outer_product_mean_": outer_product_mean.IMPLEMENTATIONS,
    "pair_weighted_averaging_": pair_weighted_averaging.IMPLEMENTATIONS,
    "attention_pair_bias": attention_pair_bias.IMPLEMENTATIONS,
    "window_attention": window_attention.IMPLEMENTATIONS,
}
_STREAMED = (
    "triangle_multiplication_",
    "triangle_attention_",
    "transition_",
    "outer_product_mean_",
    "pair_weighted_averaging_",
)


@dataclass(frozen=True)
class Ops:
    """One implementation of every op, work sizes bound. A trailing underscore: the first argument is updated."""

    rows: Rows
    triangle_multiplication_: Callable[..., None]
    triangle_attention_: Callable[..., None]
    transition_: Callable[..., None]
    outer_product_mean_: Callable[..., None]
    pair_weighted_averaging_: Callable[..., None]
    attention_pair_bias: Callable[..., Any]
    window_attention: Callable[..., Any]
    names: dict[str, str] = field(default_factory=dict)


def select(rows: Rows | None = None, implementations: dict[str, str] | None = None) -> Ops:
    """Bind the implementations named in `implementations` (op -> name), the reference elsewhere.

    Raises:
        KernelUnavailable: an unknown op or implementation name.
    """
    rows = rows or Rows()
    chosen = dict.fromkeys(TABLES, "reference") | (implementations or {})
    bound = {}
    for op, name in chosen.items():
        table = TABLES.get(op, {})
        if name not in table:
            raise KernelUnavailable(op, name, f"known are {', '.join(table) or ', '.join(TABLES)}")
        bound[op] = partial(table[name], rows=rows) if op in _STREAMED else table[name]
    return Ops(rows=rows, names=chosen, **bound)
