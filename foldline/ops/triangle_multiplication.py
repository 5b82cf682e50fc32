"""Triangle multiplicative update. One operand is held beside z (2.0 copies of z), the other is streamed by rows."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from foldline.ops.chunks import Rows, row_blocks
from foldline.ops.linear import linear, product


class TriangleMultiplicationWeights(NamedTuple):
    """Packed weights; `ab` stacks [a gate, a value, b gate, b value], each [c_hidden, c_z]."""

    norm_in: tuple[Tensor, Tensor | None]
    ab: Tensor  # [4 c_hidden, c_z]
    norm_out: tuple[Tensor, Tensor | None]
    z: Tensor  # [c_z, c_hidden]
    gate: Tensor  # [c_z, c_z]


def _project(x: Tensor, weight: Tensor) -> Tensor:
    """Gated projection, channel-major: x [B, I, N, c_z], weight [2c, c_z] -> [B, c, I, N]."""
    n_batch, n_row, n_column, c_z = x.shape
    y = product(weight.expand(n_batch, -1, -1), x.reshape(n_batch, n_row * n_column, c_z))
    gate, value = y.chunk(2, dim=-2)
    return gate.sigmoid_().mul_(value).reshape(n_batch, -1, n_row, n_column)


def reference(z: Tensor, mask: Tensor | None, w: TriangleMultiplicationWeights, *, outgoing: bool, rows: Rows) -> None:
    """Triangle multiplicative update, in place (AF3 SI Alg. 12 outgoing, Alg. 13 incoming).

    The incoming update of z is the outgoing update of z transposed with a and b exchanged, so one body serves both.

    Args:
        z: pair representation [*b, N_token, N_token, c_z]; the update is added to it.
        mask: token mask [*b, N_token], True = keep; None = no padding.
        w: weights.
        outgoing: which of the two updates.
        rows: work sizes. Peak: z and one projection of it, 2 N_token^2 c_z for c_hidden = c_z.
    """
    n_token, c_z = z.shape[-2:]
    view = z.view(-1, n_token, n_token, c_z)
    view = view if outgoing else view.transpose(1, 2)
    a, b = w.ab.chunk(2, dim=0)
    streamed, held = (a, b) if outgoing else (b, a)
    operand = z.new_empty(view.shape[0], held.shape[0] // 2, n_token, n_token)
    for i in row_blocks(n_token, n_token * len(view), rows.pair):
        operand[:, :, i] = _project(F.layer_norm(view[:, i], (c_z,), *w.norm_in), held)
    if mask is not None:
        operand.mul_(mask.reshape(-1, 1, 1, n_token))
    for i in row_blocks(n_token, n_token * len(view), rows.pair):
        x = F.layer_norm(view[:, i], (c_z,), *w.norm_in)
        update = product(_project(x, streamed), operand).movedim(1, -1)
        update = linear(F.layer_norm(update, update.shape[-1:], *w.norm_out), w.z)
        view[:, i] += update.mul_(linear(x, w.gate).sigmoid_())
        del x, update  # before the next block is made


IMPLEMENTATIONS = {"reference": reference}
