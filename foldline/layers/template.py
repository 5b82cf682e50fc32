"""Template embedder (AF3 SI Alg. 16): pair features of a template are made by row blocks from its coordinates."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldline.layers.pairformer import PairBlock
from foldline.layers.primitives import LayerNorm, Linear
from foldline.ops import Ops, row_blocks
from foldline.ops.linear import linear
from foldline.shapes import PairRows

N_BIN, BIN_MIN, BIN_MAX = 39, 3.25, 50.75


class Template(NamedTuple):
    """One distinct template slot, columns over tokens; `count` is how many of the slots are like it.

    Jobs of one batch have an axis before the tokens, and a count each, 0 where a job has fewer distinct slots.
    """

    aatype: Tensor  # int [*b, N_token]
    pseudo_beta: Tensor  # float32 [*b, N_token, 3] Å
    pseudo_beta_mask: Tensor  # bool [*b, N_token]
    backbone: Tensor  # float32 [*b, N_token, 3 (N, CA, C), 3] Å
    backbone_mask: Tensor  # bool [*b, N_token]
    count: int | Tensor


def backbone_frames(backbone: Tensor, eps: float = 1e-6) -> Tensor:
    """Rotations [*b, N_token, 3, 3] whose columns are C-CA, its normal in the plane of N, and their cross product.

    Protenix: x axis along C-CA, norms plus eps, protenix/data/template/template_utils.py:257-305.
    """
    n, ca, c = backbone.unbind(-2)
    e1 = c - ca
    e1 = e1 / (e1.norm(dim=-1, keepdim=True) + eps)
    e2 = n - ca
    e2 = e2 - (e2 * e1).sum(-1, keepdim=True) * e1
    e2 = e2 / (e2.norm(dim=-1, keepdim=True) + eps)
    return torch.stack([e1, e2, torch.linalg.cross(e1, e2)], dim=-1)


class TemplateEmbedder(nn.Module):
    """Mean over template slots of a small pair stack (AF3 SI Alg. 16).

    The mean is over all slots, empty ones included, as in AlphaFold 3's code; an empty slot still contributes.
    """

    def __init__(self, blocks: list[PairBlock], *, c_z: int, c: int, n_class: int, n_slot: int) -> None:
        super().__init__()
        self.n_class, self.n_slot = n_class, n_slot
        self.norm_z = LayerNorm(c_z)
        self.z = Linear(c_z, c)
        self.a = Linear(N_BIN + 1 + 2 * n_class + 3 + 1, c)
        self.blocks = nn.ModuleList(blocks)
        self.norm_v = LayerNorm(c)
        self.u = Linear(c, c_z)

    def features(self, template: Template, frames: Tensor, asym_id: Tensor, rows: slice) -> Tensor:
        """Geometry of a row block, float32 [*b, N_row, N_token, 44].

        In this order: distogram, pseudo-beta mask, unit vector, frame mask. Everything between different chains is
        zero. Distance bins are open at both ends.
        """
        lower = torch.linspace(BIN_MIN, BIN_MAX, N_BIN, device=frames.device).square()
        upper = torch.cat([lower[1:], lower.new_full((1,), 1e8)])
        same = _every_pair(asym_id, rows, torch.eq)
        both_beta = _every_pair(template.pseudo_beta_mask, rows, torch.logical_and) & same
        beta = template.pseudo_beta
        distance = (beta[..., rows, None, :] - beta[..., None, :, :]).square().sum(-1, keepdim=True)
        dgram = (distance > lower) & (distance < upper) & both_beta[..., None]
        both_frame = _every_pair(template.backbone_mask, rows, torch.logical_and) & same
        ca = template.backbone[..., 1, :]
        apart = ca[..., None, :, :] - ca[..., rows, None, :]
        vector = torch.einsum("...ilk,...ijl->...ijk", frames[..., rows, :, :], apart)
        vector = vector / (vector.norm(dim=-1, keepdim=True) + 1e-6) * both_frame[..., None]
        return torch.cat([dgram.float(), both_beta[..., None].float(), vector, both_frame[..., None].float()], dim=-1)

    def forward(self, z: Tensor, templates: list[Template], asym_id: Tensor, mask: Tensor | None, ops: Ops) -> None:
        """Add the template update to z [*b, N_token, N_token, c_z], in place.

        Args:
            z: pair representation.
            templates: distinct slots; their counts add up to the number of slots.
            asym_id: [*b, N_token], or [N_token] where all leading axes share it.
            mask: token mask of the same shape, or None.
            ops: implementations. Peak: z, two tensors of c channels and the operand of one pair block.
        """
        self.add_(z, self.total(z, templates, asym_id, mask, ops), ops)

    def total(
        self, z: Tensor | PairRows, templates: list[Template], asym_id: Tensor, mask: Tensor | None, ops: Ops
    ) -> Tensor:
        """Sum over the slots [*b, N_token, N_token, c]; z is read row by row and may rest elsewhere."""
        n_token, lanes = z.shape[-2], math.prod(z.shape[:-3])
        dgram_mask, aatype_j, aatype_i, vector_mask = self.a.weight.split(
            [N_BIN + 1, self.n_class, self.n_class, 4], dim=1
        )
        geometry = torch.cat([dgram_mask, vector_mask], dim=1)
        total = torch.zeros(*z.shape[:-1], self.norm_v.weight.shape[0], dtype=z.dtype, device=z.device)
        for template in templates:
            frames = backbone_frames(template.backbone)
            of_i, of_j = aatype_i.t()[template.aatype], aatype_j.t()[template.aatype]
            count = template.count
            count = count if isinstance(count, Tensor) else torch.full((), count, device=z.device)
            weight = count.to(z.dtype)[..., None, None, None]
            v = torch.empty_like(total)
            for i in row_blocks(n_token, n_token * lanes, ops.rows.point):
                rows = v[..., i, :, :]
                rows.copy_(self.z(self.norm_z(z[..., i, :, :])))
                rows += linear(self.features(template, frames, asym_id, i).to(z.dtype), geometry)
                rows += of_i[..., i, None, :] + of_j[..., None, :, :]
            for block in self.blocks:
                block(v, mask, ops)
            for i in row_blocks(n_token, n_token * lanes, ops.rows.point):
                total[..., i, :, :].addcmul_(self.norm_v(v[..., i, :, :]), weight)
            del v
        return total

    def add_(self, z: Tensor, total: Tensor, ops: Ops) -> None:
        """Add the update to z, in place; `total` is used up."""
        n_token, lanes = z.shape[-2], math.prod(z.shape[:-3])
        for i in row_blocks(n_token, n_token * lanes, ops.rows.point):
            z[..., i, :, :] += self.u(F.relu(total[..., i, :, :].div_(1e-7 + self.n_slot)))


def _every_pair(x: Tensor, rows: slice, compare: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`compare` of a block of rows with all columns: x [*b, N_token] -> [*b, N_row, N_token]."""
    return compare(x[..., rows, None], x[..., None, :])
