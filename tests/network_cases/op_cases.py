"""Every op on small random inputs, so that what holds for all of them is tested by one loop."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from random_weights import draw
from torch import Tensor

from foldline.ops import Rows, select
from foldline.ops.attention_pair_bias import AttentionWeights
from foldline.ops.outer_product_mean import OuterProductMeanWeights
from foldline.ops.pair_weighted_averaging import PairWeightedAveragingWeights
from foldline.ops.transition import TransitionWeights
from foldline.ops.triangle_attention import TriangleAttentionWeights
from foldline.ops.triangle_multiplication import TriangleMultiplicationWeights
from foldline.ops.window_attention import window_bias, window_key_mask

C_Z, C_M, C_A = 10, 7, 12
C_TRI, N_HEAD, C_HEAD, C_OPM = 6, 3, 4, 5
N_MSA = 9
Inputs = dict[str, Tensor]


def affine(name: str, c: int) -> tuple[Tensor, Tensor]:
    """Scale and offset of a layer norm."""
    return 1 + 0.3 * draw(f"{name} scale", c), 0.3 * draw(f"{name} offset", c)


def matrix(name: str, c_out: int, c_in: int) -> Tensor:
    """A weight [c_out, c_in]."""
    return draw(name, c_out, c_in) / c_in**0.5


TRI_MUL = TriangleMultiplicationWeights(
    affine("in", C_Z),
    matrix("ab", 4 * C_TRI, C_Z),
    affine("out", C_TRI),
    matrix("z", C_Z, C_TRI),
    matrix("g", C_Z, C_Z),
)
TRI_ATT = TriangleAttentionWeights(
    affine("in", C_Z),
    3 * matrix("bias", N_HEAD, C_Z),
    matrix("qkvg", 4 * N_HEAD * C_HEAD, C_Z),
    matrix("o", C_Z, N_HEAD * C_HEAD),
)
TRANSITION = TransitionWeights(affine("in", C_Z), matrix("ab", 8 * C_Z, C_Z), matrix("o", C_Z, 4 * C_Z))
OPM = OuterProductMeanWeights(
    affine("m", C_M), matrix("ab", 2 * C_OPM, C_M), (matrix("o", C_Z, C_OPM**2), draw("o bias", C_Z))
)
PWA = PairWeightedAveragingWeights(
    affine("m", C_M),
    affine("z", C_Z),
    3 * matrix("bias", N_HEAD, C_Z),
    matrix("vg", 2 * N_HEAD * C_HEAD, C_M),
    matrix("o", C_M, N_HEAD * C_HEAD),
)
ATTENTION = AttentionWeights(
    (2 * matrix("q", C_A, C_A), draw("q bias", C_A)),
    matrix("kv", 2 * C_A, C_A),
    matrix("g", C_A, C_A),
    matrix("o", C_A, C_A),
)


def cast(weights: tuple, dtype: torch.dtype) -> tuple:
    """The same weights in another dtype."""
    parts = [tuple(y.to(dtype) for y in x) if isinstance(x, tuple) else x.to(dtype) for x in weights]
    return type(weights)(*parts)


@dataclass(frozen=True)
class Case:
    """An op with its options. `axes` names the axes of the inputs, "n" tokens or atoms and "s" alignment rows."""

    op: str
    axes: dict[str, tuple[str | int, ...]]
    weights: tuple
    options: dict[str, object]
    updated: str | None = None  # name of the input that is updated in place

    def inputs(self, n: int, lead: tuple[int, ...] = (), dtype: torch.dtype = torch.float32) -> Inputs:
        """Random inputs."""
        sizes = {"n": n, "s": N_MSA, "w": -(-n // 32)}
        shapes = {k: tuple(sizes[a] if isinstance(a, str) else a for a in axes) for k, axes in self.axes.items()}
        return {k: draw(f"{self.op} {k}", *lead, *shape).to(dtype) for k, shape in shapes.items()}

    def run(self, x: Inputs, mask: Tensor | None, rows: Rows | None = None, name: str = "reference") -> Tensor:
        """The updated input, changed in place, or what the op returns."""
        op: Callable[..., Tensor | None] = getattr(select(rows, {self.op: name}), self.op)
        first = next(iter(x.values()))
        weights = cast(self.weights, first.dtype)
        if self.op == "attention_pair_bias":
            bias = x["bias"] if mask is None else x["bias"].masked_fill(~mask[..., None, None, :], -1e9)
            return op(x["a"], bias, weights, n_head=N_HEAD)
        if self.op == "window_attention":
            keep = torch.ones(x["a"].shape[:-1], dtype=torch.bool) if mask is None else mask
            bias = window_bias(x["bias"], window_key_mask(keep))
            return op(x["a"], x["kv"], bias, weights, n_head=N_HEAD)
        if self.op == "transition_":
            op(x["x"], weights)
        elif self.op in ("outer_product_mean_", "pair_weighted_averaging_"):
            op(*x.values(), mask, weights)
        else:
            op(x["z"], mask, weights, **self.options)
        assert self.updated is not None
        return x[self.updated]


_Z = {"z": ("n", "n", C_Z)}
CASES = {
    "triangle multiplication, outgoing": Case("triangle_multiplication_", _Z, TRI_MUL, {"outgoing": True}, "z"),
    "triangle multiplication, incoming": Case("triangle_multiplication_", _Z, TRI_MUL, {"outgoing": False}, "z"),
    "triangle attention, starting": Case("triangle_attention_", _Z, TRI_ATT, {"starting": True}, "z"),
    "triangle attention, ending": Case("triangle_attention_", _Z, TRI_ATT, {"starting": False}, "z"),
    "triangle attention, ending, bias of AlphaFold 3": Case(
        "triangle_attention_", _Z, TRI_ATT, {"starting": False, "bias_transposed": False}, "z"
    ),
    "transition": Case("transition_", {"x": ("n", "n", C_Z)}, TRANSITION, {}, "x"),
    "outer product mean": Case("outer_product_mean_", {**_Z, "m": ("s", "n", C_M)}, OPM, {}, "z"),
    "pair-weighted averaging": Case("pair_weighted_averaging_", {"m": ("s", "n", C_M), **_Z}, PWA, {}, "m"),
    "attention with pair bias": Case(
        "attention_pair_bias", {"a": ("n", C_A), "bias": (N_HEAD, "n", "n")}, ATTENTION, {}
    ),
    "window attention": Case(
        "window_attention", {"a": ("n", C_A), "kv": ("n", C_A), "bias": ("w", 32, 128, N_HEAD)}, ATTENTION, {}
    ),
}
IN_PLACE = {k: case for k, case in CASES.items() if case.updated}


def masks_rows(case: Case) -> bool:
    """Whether the op's mask is over alignment rows."""
    return case.op == "outer_product_mean_"


def masked_axes(case: Case, key: str) -> list[int]:
    """Axes of an input that the op's mask lies along, leading axes not counted."""
    letter = "s" if masks_rows(case) else "n"
    return [i for i, axis in enumerate(case.axes[key]) if axis == letter]


def spoil(case: Case, x: Inputs, mask: Tensor, value: float) -> Inputs:
    """The inputs with everything of masked tokens, atoms or rows set to `value`."""
    out = {}
    for key, tensor in x.items():
        tensor = tensor.clone()
        for axis in masked_axes(case, key):
            shape = [1] * tensor.dim()
            shape[axis] = len(mask)
            tensor = tensor.masked_fill(~mask.reshape(shape), value)
        out[key] = tensor
    return out


def kept(case: Case, result: Tensor, mask: Tensor) -> Tensor:
    """The part of a result that belongs to kept tokens, atoms or rows."""
    axes = case.axes[case.updated] if case.updated else case.axes["a"]
    for i, axis in enumerate(axes):
        if axis == ("s" if masks_rows(case) else "n"):
            result = result.index_select(i, mask.nonzero()[:, 0])
    return result


def error(ours: Tensor, theirs: Tensor) -> float:
    """RMS difference over the RMS of `theirs`; infinite where anything is not finite."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    ours, theirs = ours.double(), theirs.double()
    if not (ours.isfinite().all() and theirs.isfinite().all()):
        return float("inf")
    return float((ours - theirs).square().mean().sqrt() / theirs.square().mean().sqrt())
