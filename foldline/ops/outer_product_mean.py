"""Outer product mean: alignment to pair representation, by row blocks of the pair."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from foldline.ops.chunks import Rows, row_blocks
from foldline.ops.linear import linear, product


class OuterProductMeanWeights(NamedTuple):
    """Packed weights; `ab` stacks the left and the right projection, each [c, c_m]."""

    norm: tuple[Tensor, Tensor | None]
    ab: Tensor  # [2 c, c_m]
    out: tuple[Tensor, Tensor | None]  # [c_z, c c], [c_z]


def reference(
    z: Tensor, m: Tensor, row_mask: Tensor | None, w: OuterProductMeanWeights, *, rows: Rows, eps: float = 1e-3
) -> None:
    """Outer product mean, in place (AF3 SI Alg. 9).

    Protenix: the output bias is added before the division by the number of rows,
    protenix/model/triangular/layers.py:657-787.

    Args:
        z: pair representation [*b, N_token, N_token, c_z]; the update is added to it.
        m: alignment representation [*b, N_msa, N_token, c_m].
        row_mask: [*b, N_msa], True = keep; None = all rows are real. The mean is over the true count.
        w: weights.
        rows: work sizes. Peak: c^2 x rows.pair and two projections of m.
        eps: added to the count.
    """
    n_msa, n_token, c_m = m.shape[-3:]
    pair = z.view(-1, n_token, n_token, z.shape[-1])
    alignment = m.reshape(-1, n_msa, n_token, c_m)
    c = w.ab.shape[0] // 2
    a = m.new_empty(pair.shape[0], n_token, c, n_msa)
    b = m.new_empty(pair.shape[0], n_msa, n_token, c)
    for s in row_blocks(n_msa, n_token * len(pair), rows.msa):
        left, right = linear(F.layer_norm(alignment[:, s], (c_m,), *w.norm), w.ab).chunk(2, dim=-1)
        a[..., s] = left.permute(0, 2, 3, 1)
        b[:, s] = right
        del left, right  # before the next block is made
    if row_mask is None:
        scale = 1.0 / (n_msa + eps)
    else:
        a.masked_fill_(~row_mask.reshape(-1, 1, 1, n_msa), 0)
        b.masked_fill_(~row_mask.reshape(-1, n_msa, 1, 1), 0)
        scale = 1.0 / (row_mask.reshape(-1, n_msa).sum(-1)[:, None, None, None].float() + eps)
    b = b.flatten(-2)
    for i in row_blocks(n_token, n_token * len(pair), rows.pair // 2):
        outer = product(a[:, i].flatten(1, 2), b.transpose(-1, -2)).unflatten(1, (-1, c)).unflatten(-1, (n_token, c))
        pair[:, i] += linear(outer.transpose(2, 3).flatten(-2), *w.out).mul_(scale)
        del outer


IMPLEMENTATIONS = {"reference": reference}
