"""Attention with pair bias over tokens, and the bias itself, which the caller may keep when z does not change."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from foldline.ops.chunks import Rows, row_blocks
from foldline.ops.linear import linear
from foldline.ops.triangle_attention import MASKED, empty_bias


class AttentionWeights(NamedTuple):
    """Packed weights of gated multi-head attention; `kv` stacks k and v, each [heads x c, c_a]."""

    q: tuple[Tensor, Tensor | None]  # [heads x c, c_a], [heads x c]
    kv: Tensor  # [2 x heads x c, c_a]
    gate: Tensor  # [heads x c, c_a]
    out: Tensor  # [c_a, heads x c]


def pair_bias(
    z: Tensor, mask: Tensor | None, norm: tuple[Tensor, Tensor | None], weight: Tensor, *, rows: Rows
) -> Tensor:
    """Attention bias [*b, N_head, N_token, N_token] = W LN(z), padded keys at a large negative value.

    Args:
        z: pair representation [*b, N_token, N_token, c_z].
        mask: token mask [*b, N_token], True = keep; None = no padding.
        norm: scale and offset of the layer norm.
        weight: [N_head, c_z].
        rows: work sizes.
    """
    n_token, c_z = z.shape[-2:]
    bias = empty_bias(z, *z.shape[:-3], weight.shape[0], n_token, n_token)
    for i in row_blocks(n_token, n_token * math.prod(z.shape[:-3]), rows.pair):
        x = F.layer_norm(z[..., i, :, :], (c_z,), *norm)
        bias[..., i, :] = linear(x, weight).movedim(-1, -3)
    if mask is not None:
        bias.masked_fill_(~mask[..., None, None, :], MASKED)
    return bias


def reference(a: Tensor, bias: Tensor, w: AttentionWeights, *, n_head: int) -> Tensor:
    """Gated multi-head self-attention with an additive bias (AF3 SI Alg. 24, lines 6-11).

    Args:
        a: normalised activations [*b, N_token, c_a].
        bias: [*b', N_head, N_token, N_token]; leading axes broadcast against those of a.
        w: weights.
        n_head: number of heads.

    Returns:
        The update [*b, N_token, c_a].
    """
    q = linear(a, *w.q).unflatten(-1, (n_head, -1)).transpose(-2, -3)
    k, v = linear(a, w.kv).unflatten(-1, (2, n_head, -1)).movedim(-4, -2).unbind(-4)
    o = _attend(q, k, v, bias.expand(*q.shape[:-1], k.shape[-2]))
    o = o.transpose(-2, -3).flatten(-2)
    return linear(o * linear(a, w.gate).sigmoid_(), w.out)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention by the fused kernels, which take four axes: of more, the first are walked one by one."""
    if q.dim() <= 4:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    o = torch.empty_like(v)
    for i in range(len(q)):
        o[i] = _attend(q[i], k[i], v[i], bias[i])
    return o


IMPLEMENTATIONS = {"reference": reference}
