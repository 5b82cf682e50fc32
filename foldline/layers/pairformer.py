"""Pairformer: the pair block of triangle updates and the block with a single track (AF3 SI Alg. 17)."""

from torch import Tensor, nn

from foldline.layers.primitives import LayerNorm, Linear
from foldline.ops import Ops
from foldline.ops.attention_pair_bias import AttentionWeights, pair_bias
from foldline.ops.transition import TransitionWeights
from foldline.ops.triangle_attention import TriangleAttentionWeights
from foldline.ops.triangle_multiplication import TriangleMultiplicationWeights


class TriangleMultiplication(nn.Module):
    """Triangle multiplicative update (AF3 SI Alg. 12 outgoing, 13 incoming)."""

    def __init__(self, c_z: int, c_hidden: int, *, outgoing: bool) -> None:
        super().__init__()
        self.outgoing = outgoing
        self.norm_in = LayerNorm(c_z)
        self.ab = Linear(c_z, 4 * c_hidden)
        self.norm_out = LayerNorm(c_hidden)
        self.z = Linear(c_hidden, c_z)
        self.gate = Linear(c_z, c_z)

    def forward(self, z: Tensor, mask: Tensor | None, ops: Ops) -> None:
        """Add the update to z [*b, N_token, N_token, c_z]."""
        weights = TriangleMultiplicationWeights(
            self.norm_in.affine, self.ab.weight, self.norm_out.affine, self.z.weight, self.gate.weight
        )
        ops.triangle_multiplication_(z, mask, weights, outgoing=self.outgoing)


class TriangleAttention(nn.Module):
    """Triangle self-attention (AF3 SI Alg. 14 starting, 15 ending)."""

    def __init__(self, c_z: int, c: int, n_head: int, *, starting: bool, bias_transposed: bool = True) -> None:
        super().__init__()
        self.starting, self.bias_transposed = starting, bias_transposed
        self.norm = LayerNorm(c_z)
        self.bias = Linear(c_z, n_head)
        self.qkvg = Linear(c_z, 4 * n_head * c)
        self.out = Linear(n_head * c, c_z)

    def forward(self, z: Tensor, mask: Tensor | None, ops: Ops) -> None:
        """Add the update to z [*b, N_token, N_token, c_z]."""
        weights = TriangleAttentionWeights(self.norm.affine, self.bias.weight, self.qkvg.weight, self.out.weight)
        ops.triangle_attention_(z, mask, weights, starting=self.starting, bias_transposed=self.bias_transposed)


class Transition(nn.Module):
    """SwiGLU transition (AF3 SI Alg. 11)."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.norm = LayerNorm(c)
        self.ab = Linear(c, 2 * n * c)
        self.out = Linear(n * c, c)

    def forward(self, x: Tensor, ops: Ops) -> None:
        """Add the update to x [..., c]."""
        ops.transition_(x, TransitionWeights(self.norm.affine, self.ab.weight, self.out.weight))


class PairBlock(nn.Module):
    """Triangle updates and transition of the pair representation (AF3 SI Alg. 17, lines 2-6)."""

    def __init__(
        self, c_z: int, *, c_tri_mul: int, c_tri_att: int, n_head: int, n_transition: int, bias_transposed: bool
    ) -> None:
        super().__init__()
        self.tri_mul_out = TriangleMultiplication(c_z, c_tri_mul, outgoing=True)
        self.tri_mul_in = TriangleMultiplication(c_z, c_tri_mul, outgoing=False)
        self.tri_att_start = TriangleAttention(c_z, c_tri_att, n_head, starting=True)
        self.tri_att_end = TriangleAttention(c_z, c_tri_att, n_head, starting=False, bias_transposed=bias_transposed)
        self.pair_transition = Transition(c_z, n_transition)

    def forward(self, z: Tensor, mask: Tensor | None, ops: Ops) -> None:
        """Update z [*b, N_token, N_token, c_z] in place; mask: tokens [*b, N_token]."""
        self.tri_mul_out(z, mask, ops)
        self.tri_mul_in(z, mask, ops)
        self.tri_att_start(z, mask, ops)
        self.tri_att_end(z, mask, ops)
        self.pair_transition(z, ops)


class SingleAttention(nn.Module):
    """Self-attention of the single representation with pair bias (AF3 SI Alg. 24 without conditioning)."""

    def __init__(self, c_s: int, c_z: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.norm = LayerNorm(c_s)
        self.norm_z = LayerNorm(c_z)
        self.bias = Linear(c_z, n_head)
        self.q = Linear(c_s, c_s, bias=True)
        self.kv = Linear(c_s, 2 * c_s)
        self.gate = Linear(c_s, c_s)
        self.out = Linear(c_s, c_s)

    def forward(self, s: Tensor, z: Tensor, mask: Tensor | None, ops: Ops) -> None:
        """Add the update to s [*b, N_token, c_s]."""
        bias = pair_bias(z, mask, self.norm_z.affine, self.bias.weight, rows=ops.rows)
        weights = AttentionWeights(self.q.affine, self.kv.weight, self.gate.weight, self.out.weight)
        s += ops.attention_pair_bias(self.norm(s), bias, weights, n_head=self.n_head)


class PairformerBlock(nn.Module):
    """One block of the pairformer stack (AF3 SI Alg. 17, lines 2-8)."""

    def __init__(self, pair: PairBlock, c_s: int, c_z: int, n_head: int) -> None:
        super().__init__()
        self.pair = pair
        self.single_attention = SingleAttention(c_s, c_z, n_head)
        self.single_transition = Transition(c_s, 4)

    def forward(self, s: Tensor, z: Tensor, mask: Tensor | None, ops: Ops) -> None:
        """Update s [*b, N_token, c_s] and z [*b, N_token, N_token, c_z] in place."""
        self.pair(z, mask, ops)
        self.single_attention(s, z, mask, ops)
        self.single_transition(s, ops)


class PairformerStack(nn.Module):
    """Stack of pairformer blocks (AF3 SI Alg. 17)."""

    def __init__(self, blocks: list[PairformerBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, s: Tensor, z: Tensor, mask: Tensor | None, ops: Ops) -> None:
        """Update s and z in place."""
        for block in self.blocks:
            block(s, z, mask, ops)
