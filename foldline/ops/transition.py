"""SwiGLU transition, streamed so that the hidden layer is never held for all positions."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from foldline.ops.chunks import Rows, row_blocks
from foldline.ops.linear import linear


class TransitionWeights(NamedTuple):
    """Packed weights; `ab` stacks the swish and the linear branch, each [n c, c]."""

    norm: tuple[Tensor, Tensor | None]
    ab: Tensor  # [2 n c, c]
    out: Tensor  # [c, n c]


def reference(x: Tensor, w: TransitionWeights, *, rows: Rows) -> None:
    """Transition layer, in place (AF3 SI Alg. 11).

    Args:
        x: activations [..., c], contiguous; the update is added to it.
        w: weights.
        rows: work sizes. Peak: 3 n c x rows.point.
    """
    c = x.shape[-1]
    flat = x.view(-1, c)
    for i in row_blocks(flat.shape[0], 1, rows.point):
        a, b = linear(F.layer_norm(flat[i], (c,), *w.norm), w.ab).chunk(2, dim=-1)
        flat[i] += linear(F.silu(a).mul_(b), w.out)
        del a, b  # before the next block is made


IMPLEMENTATIONS = {"reference": reference}
