"""Sequence-local attention of atoms: 32 queries against the 128 keys around them, and the windows themselves."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from foldline.ops.attention_pair_bias import AttentionWeights
from foldline.ops.linear import linear
from foldline.ops.triangle_attention import MASKED

N_QUERY, N_KEY = 32, 128


def n_window(n_atom: int) -> int:
    """Number of query windows of `n_atom` atoms."""
    return -(-n_atom // N_QUERY)


def window_queries(x: Tensor) -> Tensor:
    """Atom rows cut into query windows: x [*b, N_atom, c] -> [*b, N_window, 32, c], zeros past the end."""
    n_atom = x.shape[-2]
    x = F.pad(x, (0, 0, 0, n_window(n_atom) * N_QUERY - n_atom))
    return x.unflatten(-2, (-1, N_QUERY))


def window_keys(x: Tensor) -> Tensor:
    """Atom rows cut into overlapping key windows: x [*b, N_atom, c] -> [*b, N_window, 128, c], a view of a padded copy.

    Window w holds the atoms 32 w - 48 .. 32 w + 79, zeros outside (Protenix: padded, not shifted, windows,
    protenix/model/modules/primitives.py:353-412).
    """
    n_atom = x.shape[-2]
    left = (N_KEY - N_QUERY) // 2
    x = F.pad(x, (0, 0, left, n_window(n_atom) * N_QUERY + left - n_atom))
    return x.unfold(-2, N_KEY, N_QUERY).transpose(-1, -2)


def window_key_mask(atom_mask: Tensor) -> Tensor:
    """Keys that exist: atom_mask [*b, N_atom] -> [*b, N_window, 128], False outside the molecule and for padding."""
    return window_keys(atom_mask[..., None].to(torch.uint8))[..., 0].bool()


def window_bias(bias: Tensor, key_mask: Tensor) -> Tensor:
    """Bias [*b, N_window, 32, 128, N_head] -> [*b, N_window, N_head, 32, 128] with missing keys masked, contiguous."""
    return bias.movedim(-1, -3).masked_fill(~key_mask[..., None, None, :], MASKED).contiguous()


def reference(a: Tensor, kv: Tensor, bias: Tensor, w: AttentionWeights, *, n_head: int) -> Tensor:
    """Gated windowed attention (AF3 SI Alg. 7 and 24).

    Keys and values are projected once per atom, not per window.

    Args:
        a: normalised query activations [*b, N_atom, c_atom].
        kv: normalised key activations [*b, N_atom, c_atom].
        bias: [*b', N_window, N_head, 32, 128], masked; leading axes broadcast against those of a.
        w: weights.
        n_head: number of heads.

    Returns:
        The update [*b, N_atom, c_atom].
    """
    n_atom = a.shape[-2]
    q = window_queries(linear(a, *w.q)).unflatten(-1, (n_head, -1)).transpose(-2, -3)
    k, v = window_keys(linear(kv, w.kv)).unflatten(-1, (2, n_head, -1)).movedim(-4, -2).unbind(-4)
    o = torch.empty_like(q)
    lead = q.shape[:-4]
    bias = bias.expand(*lead, *bias.shape[-4:])
    for index in itertools.product(*map(range, lead)):
        o[index] = F.scaled_dot_product_attention(q[index], k[index], v[index], attn_mask=bias[index])
    o = o.transpose(-2, -3).flatten(-2).flatten(-3, -2)[..., :n_atom, :]
    return linear(o * linear(a, w.gate).sigmoid_(), w.out)


IMPLEMENTATIONS = {"reference": reference}
