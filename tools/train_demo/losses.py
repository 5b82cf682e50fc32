"""Losses on positions and on predicted errors. Knows positions and logits, not the network."""

import torch
import torch.nn.functional as F
from torch import Tensor


def align(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Positions x [B, N, 3] moved rigidly onto y [B, N, 3] by weights [N] (AF3 SI Alg. 28)."""
    w = (weight / weight.sum())[None, :, None]
    x_mean, y_mean = (x * w).sum(1, keepdim=True), (y * w).sum(1, keepdim=True)
    covariance = ((x - x_mean) * w).transpose(1, 2) @ (y - y_mean)
    u, _, vt = torch.linalg.svd(covariance.double())
    sign = torch.sign(torch.linalg.det(u @ vt))
    flip = torch.diag_embed(torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1))
    return (x - x_mean) @ (u @ flip @ vt).float() + y_mean


def aligned_error(x: Tensor, true: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean square error per axis [B] after moving the truth onto x [B, N, 3] (AF3 SI eq. 3)."""
    target = align(true, x.detach(), weight)
    return ((x - target).square().sum(-1) * weight).sum(-1) / weight.sum() / 3


def smooth_lddt_loss(x: Tensor, true: Tensor, rows: Tensor, radius: float = 15.0) -> Tensor:
    """1 - smooth lDDT [B] over the atoms `rows` (AF3 SI Alg. 27, one radius for all)."""
    x, true = x[:, rows], true[:, rows]
    near = torch.cdist(true[:1], true[:1])
    pairs = ((near < radius) & (near > 0)).float()
    error = (torch.cdist(x, x) - near).abs()
    score = sum(torch.sigmoid(limit - error) for limit in (0.5, 1.0, 2.0, 4.0)) / 4
    return 1 - (score * pairs).sum((1, 2)) / pairs.sum()


def distogram_loss(logits: Tensor, rep: Tensor, known: Tensor) -> Tensor:
    """Cross entropy of distances between representative atoms rep [N, 3] of the `known` tokens (AF3 SI 4.4)."""
    edges = torch.linspace(2.3125, 21.6875, logits.shape[-1] - 1)
    bins = torch.bucketize(torch.cdist(rep, rep), edges)
    pairs = known[:, None] & known[None]
    return F.cross_entropy(logits[pairs], bins[pairs])


def true_plddt(x: Tensor, true: Tensor, known: Tensor, anchor: Tensor, radius: float = 15.0) -> Tensor:
    """lDDT of every atom [N_atom] against the atoms `anchor` [N_token] (AF3 SI 4.3.1)."""
    other = anchor[known[anchor]]
    near = torch.cdist(true, true[other])
    pairs = (near < radius) & (torch.arange(len(x))[:, None] != other[None])
    error = (torch.cdist(x, x[other]) - near).abs()
    score = sum((error < limit).float() for limit in (0.5, 1.0, 2.0, 4.0)) / 4
    return (score * pairs).sum(1) / pairs.sum(1).clamp(min=1)


def frame_errors(x: Tensor, true: Tensor, frames: Tensor, rep: Tensor) -> Tensor:
    """Aligned errors [N_token, N_token] in Å: distance of token j seen from the frame of i (AF3 SI Alg. 30).

    Args:
        x: positions [N_atom, 3].
        true: true positions.
        frames: atoms (a, b, c) of every frame, [N_token, 3]; b is the origin.
        rep: representative atom of every token.
    """

    def local(p: Tensor) -> Tensor:
        a, b, c = p[frames].unbind(1)
        w1, w2 = F.normalize(a - b, dim=-1), F.normalize(c - b, dim=-1)
        e1 = F.normalize(w1 + w2, dim=-1)
        e2 = F.normalize(w2 - w1, dim=-1)
        axes = torch.stack([e1, e2, torch.linalg.cross(e1, e2)], dim=-1)
        return (p[rep][None] - b[:, None]) @ axes

    return (local(x) - local(true)).norm(dim=-1)


def binned(x: Tensor, top: float, n_bin: int) -> Tensor:
    """Bin of every value in n_bin equal bins of [0, top]; what lies above is in the last."""
    return (x / top * n_bin).long().clamp(0, n_bin - 1)
