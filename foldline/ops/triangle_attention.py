"""Triangle attention. The bias of all pairs is made first, then rows of z are attended and updated in place."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from foldline.ops.chunks import Rows, row_blocks
from foldline.ops.linear import linear

MASKED = -1e9
_ALIGNED = {"cpu": 1}  # elements at whose multiples the rows of a bias begin, by device type; 8 elsewhere


class TriangleAttentionWeights(NamedTuple):
    """Packed weights; `qkvg` stacks q, k, v and gate, each [heads x c, c_z]."""

    norm: tuple[Tensor, Tensor | None]
    bias: Tensor  # [N_head, c_z]
    qkvg: Tensor  # [4 x heads x c, c_z]
    out: Tensor  # [c_z, heads x c]


def empty_bias(like: Tensor, *shape: int) -> Tensor:
    """An attention bias [*b, N_head, N_query, N_key] to be filled, in the precision of `like`.

    PyTorch's memory-efficient attention on an accelerator reads a bias in place where all its strides but the last are
    multiples of 8. Any other it copies, expanded: once for every row of z, hundreds of times its size. So rows begin at
    multiples of 8, and the at most 7 values in between are zero.
    """
    *lead, n_key = shape
    step = _ALIGNED.get(like.device.type, 8)
    whole = like.new_empty(*lead, -(-n_key // step) * step)
    if whole.shape[-1] > n_key:
        whole[..., n_key:] = 0
    return whole[..., :n_key]


def reference(
    z: Tensor,
    mask: Tensor | None,
    w: TriangleAttentionWeights,
    *,
    starting: bool,
    bias_transposed: bool = True,
    rows: Rows,
) -> None:
    """Triangle self-attention around starting or ending node, in place (AF3 SI Alg. 14, 15).

    The ending node is the starting node of z transposed.

    Args:
        z: pair representation [*b, N_token, N_token, c_z]; the update is added to it.
        mask: token mask [*b, N_token], True = keep; None = no padding.
        w: weights.
        starting: which of the two.
        bias_transposed: ending node only: the bias of query q and key k is taken from z[k, q] (Protenix: "starting"
            attention on the transposed z, protenix/model/modules/pairformer.py:160-170), not z[q, k] (AlphaFold 3).
        rows: work sizes. Peak: z and N_token^2 N_head for the bias.
    """
    n_token, c_z = z.shape[-2:]
    n_head = w.bias.shape[0]
    pair = z.view(-1, n_token, n_token, c_z)
    view = pair if starting else pair.transpose(1, 2)
    bias_view = view if bias_transposed else pair
    bias = empty_bias(z, pair.shape[0], n_head, n_token, n_token)
    for i in row_blocks(n_token, n_token * len(pair), rows.pair):
        bias[:, :, i] = linear(F.layer_norm(bias_view[:, i], (c_z,), *w.norm), w.bias).movedim(-1, 1)
    if mask is not None:
        bias.masked_fill_(~mask.reshape(-1, 1, 1, n_token), MASKED)
    for batch in range(pair.shape[0]):
        for i in row_blocks(n_token, n_token, rows.pair):
            x = F.layer_norm(view[batch, i], (c_z,), *w.norm)
            q, k, v, gate = linear(x, w.qkvg).unflatten(-1, (4, n_head, -1)).movedim(-2, 1).unbind(-2)
            del x
            o = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[batch, None].expand(q.shape[0], -1, -1, -1))
            o = o.mul_(gate.sigmoid()).transpose(1, 2).flatten(-2)
            view[batch, i] += linear(o, w.out)
            del q, k, v, gate, o  # before the next block is made


IMPLEMENTATIONS = {"reference": reference}
