"""MSA module (AF3 SI Alg. 8): the drawn rows of the alignment talk to the pair representation."""

import math

import torch
from torch import Tensor, nn

from foldline.layers.pairformer import PairBlock, Transition
from foldline.layers.primitives import LayerNorm, Linear
from foldline.ops import Ops, row_blocks
from foldline.ops.outer_product_mean import OuterProductMeanWeights
from foldline.ops.pair_weighted_averaging import PairWeightedAveragingWeights


class OuterProductMean(nn.Module):
    """Outer product mean (AF3 SI Alg. 9)."""

    def __init__(self, c_m: int, c_z: int, c: int) -> None:
        super().__init__()
        self.norm = LayerNorm(c_m)
        self.ab = Linear(c_m, 2 * c)
        self.out = Linear(c * c, c_z, bias=True)

    def forward(self, z: Tensor, m: Tensor, row_mask: Tensor | None, ops: Ops) -> None:
        """Add the update to z [*b, N_token, N_token, c_z]; m [*b, N_msa, N_token, c_m]."""
        weights = OuterProductMeanWeights(self.norm.affine, self.ab.weight, self.out.affine)
        ops.outer_product_mean_(z, m, row_mask, weights)


class PairWeightedAveraging(nn.Module):
    """MSA pair-weighted averaging (AF3 SI Alg. 10). Protenix: 8 channels per head, not 32."""

    def __init__(self, c_m: int, c_z: int, n_head: int, c: int) -> None:
        super().__init__()
        self.norm_m = LayerNorm(c_m)
        self.norm_z = LayerNorm(c_z)
        self.bias = Linear(c_z, n_head)
        self.vg = Linear(c_m, 2 * n_head * c)
        self.out = Linear(n_head * c, c_m)

    def forward(self, m: Tensor, z: Tensor, mask: Tensor | None, ops: Ops) -> None:
        """Add the update to m [*b, N_msa, N_token, c_m]."""
        weights = PairWeightedAveragingWeights(
            self.norm_m.affine, self.norm_z.affine, self.bias.weight, self.vg.weight, self.out.weight
        )
        ops.pair_weighted_averaging_(m, z, mask, weights)


class MsaBlock(nn.Module):
    """One block (AF3 SI Alg. 8, lines 6-13); the last one has no update of m, as nothing reads it."""

    def __init__(
        self, pair: PairBlock, opm: OuterProductMean, pwa: PairWeightedAveraging | None, transition: Transition | None
    ) -> None:
        super().__init__()
        self.opm, self.pwa, self.transition, self.pair = opm, pwa, transition, pair

    def forward(self, m: Tensor, z: Tensor, row_mask: Tensor | None, mask: Tensor | None, ops: Ops) -> None:
        """Update m and z in place."""
        self.opm(z, m, row_mask, ops)
        if self.pwa is not None and self.transition is not None:
            self.pwa(m, z, mask, ops)
            self.transition(m, ops)
        self.pair(z, mask, ops)


class MsaModule(nn.Module):
    """MSA module (AF3 SI Alg. 8)."""

    def __init__(self, blocks: list[MsaBlock], *, c_m: int, c_s_inputs: int, n_class: int) -> None:
        super().__init__()
        self.n_class = n_class
        self.m = Linear(n_class + 2, c_m)
        self.s = Linear(c_s_inputs, c_m)
        self.blocks = nn.ModuleList(blocks)

    def embed(self, msa: Tensor, deletions: Tensor, s_inputs: Tensor, ops: Ops) -> Tensor:
        """Alignment representation [*b, N_msa, N_token, c_m] of the drawn rows (lines 1-4).

        Args:
            msa: residue classes [*b, N_msa, N_token], integer.
            deletions: deletions left of every column [*b, N_msa, N_token], integer.
            s_inputs: [*b, N_token, c_s_inputs].
            ops: work sizes.
        """
        table, has_deletion, deletion_value = self.m.weight.t().split([self.n_class, 1, 1])
        single = self.s(s_inputs)
        m = single.new_empty(*msa.shape, single.shape[-1])
        for s in row_blocks(msa.shape[-2], msa.shape[-1] * math.prod(msa.shape[:-2]), ops.rows.msa):
            count = deletions[..., s, :, None].to(torch.float32)
            value = (torch.atan(count / 3) * (2 / torch.pi)).to(m.dtype)
            m[..., s, :, :] = table[msa[..., s, :].long()]
            m[..., s, :, :] += (count > 0).to(m.dtype) * has_deletion + value * deletion_value + single[..., None, :, :]
        return m

    def forward(self, m: Tensor, z: Tensor, row_mask: Tensor | None, mask: Tensor | None, ops: Ops) -> None:
        """Update z [*b, N_token, N_token, c_z] in place; m is used up."""
        for block in self.blocks:
            block(m, z, row_mask, mask, ops)
