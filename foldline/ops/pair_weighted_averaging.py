"""Pair-weighted averaging of the alignment, streamed over its rows."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from foldline.ops.chunks import Rows, row_blocks
from foldline.ops.linear import linear, product
from foldline.ops.triangle_attention import MASKED


class PairWeightedAveragingWeights(NamedTuple):
    """Packed weights; `vg` stacks value and gate, each [heads x c, c_m]."""

    norm_m: tuple[Tensor, Tensor | None]
    norm_z: tuple[Tensor, Tensor | None]
    bias: Tensor  # [N_head, c_z]
    vg: Tensor  # [2 x heads x c, c_m]
    out: Tensor  # [c_m, heads x c]


def reference(m: Tensor, z: Tensor, mask: Tensor | None, w: PairWeightedAveragingWeights, *, rows: Rows) -> None:
    """MSA pair-weighted averaging, in place (AF3 SI Alg. 10).

    Args:
        m: alignment representation [*b, N_msa, N_token, c_m]; the update is added to it.
        z: pair representation [*b, N_token, N_token, c_z].
        mask: token mask [*b, N_token], True = keep; None = no padding.
        w: weights.
        rows: work sizes. Peak: N_token^2 N_head and four blocks of rows.msa positions.
    """
    n_msa, n_token, c_m = m.shape[-3:]
    alignment = m.view(-1, n_msa, n_token, c_m)
    pair = z.reshape(-1, n_token, n_token, z.shape[-1])
    n_head = w.bias.shape[0]
    weight = z.new_empty(pair.shape[0], n_head, n_token, n_token)
    for i in row_blocks(n_token, n_token * len(pair), rows.pair):
        x = F.layer_norm(pair[:, i], pair.shape[-1:], *w.norm_z)
        bias = linear(x, w.bias).movedim(-1, 1)
        if mask is not None:
            bias = bias.masked_fill(~mask.reshape(-1, 1, 1, n_token), MASKED)
        weight[:, :, i] = bias.softmax(-1)
        del x, bias  # before the next block is made
    for s in row_blocks(n_msa, n_token * len(pair), rows.msa):
        v, gate = linear(F.layer_norm(alignment[:, s], (c_m,), *w.norm_m), w.vg).chunk(2, dim=-1)
        v = v.unflatten(-1, (n_head, -1)).permute(0, 3, 2, 1, 4)  # [B, h, j, s, c]
        o = product(weight, v.flatten(-2).transpose(-1, -2)).unflatten(-1, v.shape[-2:])
        o = o.permute(0, 3, 2, 1, 4).flatten(-2)
        alignment[:, s] += linear(o.mul_(gate.sigmoid()), w.out)
        del v, gate, o


IMPLEMENTATIONS = {"reference": reference}
