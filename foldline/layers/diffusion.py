"""Conditioned transformer of the diffusion module: adaptive norms, gated blocks, token and noise conditioning.

What depends on the conditioning alone is computed apart from what depends on the activations, so that a caller can keep
it between diffusion steps or share it between samples.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldline.layers.pairformer import Transition
from foldline.layers.primitives import Blocks, LayerNorm, Linear
from foldline.layers.relative import Positions, RelativePositionEncoding
from foldline.ops import Ops, row_blocks
from foldline.ops.attention_pair_bias import AttentionWeights, pair_bias
from foldline.shapes import PairRows


class Modulation(NamedTuple):
    """Scale and shift of one adaptive norm, [*b, N, c_a]."""

    scale: Tensor
    shift: Tensor

    def for_samples(self) -> "Modulation":
        """The same with a sample axis of one before [N, c_a], to broadcast over samples."""
        return Modulation(self.scale.unsqueeze(-3), self.shift.unsqueeze(-3))


class BlockConditions(NamedTuple):
    """All that one block takes from the conditioning s."""

    attention: Modulation
    keys: Modulation | None
    attention_gate: Tensor
    transition: Modulation
    transition_gate: Tensor

    def for_samples(self) -> "BlockConditions":
        """The same with a sample axis of one before [N, c_a], to broadcast over samples."""
        return BlockConditions(
            self.attention.for_samples(),
            None if self.keys is None else self.keys.for_samples(),
            self.attention_gate.unsqueeze(-3),
            self.transition.for_samples(),
            self.transition_gate.unsqueeze(-3),
        )


class AdaptiveLayerNorm(nn.Module):
    """Adaptive layer norm (AF3 SI Alg. 26)."""

    def __init__(self, c_a: int, c_s: int) -> None:
        super().__init__()
        self.norm_s = LayerNorm(c_s, offset=False)
        self.scale = Linear(c_s, c_a, bias=True)
        self.shift = Linear(c_s, c_a)

    def condition(self, s: Tensor) -> Modulation:
        """Scale and shift from s [*b, N, c_s]."""
        s = self.norm_s(s)
        return Modulation(self.scale(s).sigmoid_(), self.shift(s))


def modulate(a: Tensor, m: Modulation) -> Tensor:
    """Normalise a [*b, N, c_a] and apply scale and shift, which broadcast over leading axes."""
    return torch.addcmul(m.shift, F.layer_norm(a, a.shape[-1:]), m.scale)


class ConditionedAttention(nn.Module):
    """Parameters of attention with pair bias and conditioning (AF3 SI Alg. 24).

    Protenix: where queries and keys are normalised apart (atoms), keys are normalised from the normalised queries,
    protenix/model/modules/transformer.py:214-223.
    """

    def __init__(self, c_a: int, c_s: int, c_z: int, n_head: int, *, cross: bool) -> None:
        super().__init__()
        self.n_head = n_head
        self.norm = AdaptiveLayerNorm(c_a, c_s)
        self.norm_keys = AdaptiveLayerNorm(c_a, c_s) if cross else None
        self.norm_z = LayerNorm(c_z, offset=False)
        self.bias = Linear(c_z, n_head)
        self.q = Linear(c_a, c_a, bias=True)
        self.kv = Linear(c_a, 2 * c_a)
        self.gate = Linear(c_a, c_a)
        self.out = Linear(c_a, c_a)
        self.out_gate = Linear(c_s, c_a, bias=True)

    @property
    def weights(self) -> AttentionWeights:
        """Packed weights, as the ops take them."""
        return AttentionWeights(self.q.affine, self.kv.weight, self.gate.weight, self.out.weight)


class ConditionedTransition(nn.Module):
    """SwiGLU transition with conditioning (AF3 SI Alg. 25)."""

    def __init__(self, c_a: int, c_s: int, n: int) -> None:
        super().__init__()
        self.norm = AdaptiveLayerNorm(c_a, c_s)
        self.ab = Linear(c_a, 2 * n * c_a)
        self.out = Linear(n * c_a, c_a)
        self.out_gate = Linear(c_s, c_a, bias=True)

    def forward(self, a: Tensor, c: BlockConditions) -> Tensor:
        """The update of a [*b, N, c_a]."""
        left, right = self.ab(modulate(a, c.transition)).chunk(2, dim=-1)
        return self.out(F.silu(left).mul_(right)).mul_(c.transition_gate)


class DiffusionTransformerBlock(nn.Module):
    """One block of the diffusion transformer (AF3 SI Alg. 23, lines 2-3; residuals in sequence as in AF3's code)."""

    def __init__(self, c_a: int, c_s: int, c_z: int, n_head: int, *, cross: bool = False) -> None:
        super().__init__()
        self.attention = ConditionedAttention(c_a, c_s, c_z, n_head, cross=cross)
        self.transition = ConditionedTransition(c_a, c_s, 2)

    def condition(self, s: Tensor) -> BlockConditions:
        """Everything of this block that depends on s [*b, N, c_s] alone."""
        attention = self.attention
        return BlockConditions(
            attention.norm.condition(s),
            attention.norm_keys.condition(s) if attention.norm_keys is not None else None,
            attention.out_gate(s).sigmoid_(),
            self.transition.norm.condition(s),
            self.transition.out_gate(s).sigmoid_(),
        )

    def forward(self, a: Tensor, c: BlockConditions, bias: Tensor, ops: Ops) -> None:
        """Update a [*b, N, c_a] in place.

        Args:
            a: activations of tokens or atoms.
            c: conditions; leading axes broadcast against those of a.
            bias: attention bias of tokens [*b', N_head, N, N] or of atom windows [*b', N_window, N_head, 32, 128].
            ops: implementations.
        """
        x = modulate(a, c.attention)
        attention = self.attention
        if c.keys is None:
            update = ops.attention_pair_bias(x, bias, attention.weights, n_head=attention.n_head)
        else:
            update = ops.window_attention(x, modulate(x, c.keys), bias, attention.weights, n_head=attention.n_head)
        a += update.mul_(c.attention_gate)
        a += self.transition(a, c)


class DiffusionTransformer(nn.Module):
    """Stack of diffusion transformer blocks over tokens (AF3 SI Alg. 23)."""

    def __init__(self, n_block: int, c_a: int, c_s: int, c_z: int, n_head: int) -> None:
        super().__init__()
        self.blocks = Blocks(DiffusionTransformerBlock(c_a, c_s, c_z, n_head) for _ in range(n_block))

    def bias(self, block: int, z: Tensor, mask: Tensor | None, ops: Ops) -> Tensor:
        """Attention bias of one block, [*b, N_head, N_token, N_token], from the pair conditioning z."""
        attention = self.blocks[block].attention
        return pair_bias(z, mask, attention.norm_z.affine, attention.bias.weight, rows=ops.rows)

    def biases(self, z: Tensor, mask: Tensor | None, ops: Ops) -> list[Tensor]:
        """The biases of all blocks, to be kept over the diffusion steps: N_block N_head N_token^2 numbers."""
        return [self.bias(i, z, mask, ops) for i in range(len(self.blocks))]

    def forward(
        self, a: Tensor, s: Tensor, z: Tensor | None, mask: Tensor | None, biases: list[Tensor] | None, ops: Ops
    ) -> None:
        """Update a [*b, N_sample, N_token, c_a] in place.

        Args:
            a: token activations.
            s: conditioning [*b, 1, N_token, c_s], shared by the samples.
            z: pair conditioning [*b, N_token, N_token, c_z]; read where `biases` is None.
            mask: token mask [*b, N_token] or None.
            biases: kept biases of all blocks, or None to make them block by block.
            ops: implementations.
        """
        for i, block in enumerate(self.blocks):
            if biases is not None:
                bias = biases[i]
            else:
                assert z is not None, "neither biases nor the pair conditioning"
                bias = self.bias(i, z, mask, ops)
            block(a, block.condition(s), bias.unsqueeze(-4), ops)
            del bias  # before the next one is made


class DiffusionConditioning(nn.Module):
    """Conditioning of the diffusion module on trunk and noise level (AF3 SI Alg. 21, 22)."""

    def __init__(
        self, *, c_s: int, c_z: int, c_s_inputs: int, c_fourier: int, sigma_data: float, r_max: int, s_max: int
    ) -> None:
        super().__init__()
        self.sigma_data = sigma_data
        self.relative = RelativePositionEncoding(c_z, r_max, s_max)
        self.norm_z = LayerNorm(2 * c_z, offset=False)
        self.z = Linear(2 * c_z, c_z)
        self.transition_z1 = Transition(c_z, 2)
        self.transition_z2 = Transition(c_z, 2)
        self.norm_s = LayerNorm(c_s + c_s_inputs, offset=False)
        self.s = Linear(c_s + c_s_inputs, c_s)
        self.fourier_w = nn.Parameter(torch.empty(c_fourier), requires_grad=False)
        self.fourier_b = nn.Parameter(torch.empty(c_fourier), requires_grad=False)
        self.norm_n = LayerNorm(c_fourier, offset=False)
        self.n = Linear(c_fourier, c_s)
        self.transition_s1 = Transition(c_s, 2)
        self.transition_s2 = Transition(c_s, 2)

    def pair(self, z_trunk: Tensor | PairRows, position: Positions, dtype: torch.dtype, ops: Ops) -> Tensor:
        """Pair conditioning [*b, N_token, N_token, c_z] in `dtype` (Alg. 21, lines 1-5); the same for all steps."""
        n_token = z_trunk.shape[-2]
        z = torch.empty(z_trunk.shape, dtype=dtype, device=z_trunk.device)
        for i in row_blocks(n_token, n_token * math.prod(z.shape[:-3]), ops.rows.point):
            relative = self.relative(position, i)
            both = torch.cat([z_trunk[..., i, :, :].to(dtype), relative], dim=-1)
            z[..., i, :, :] = self.z(self.norm_z(both))
        self.transition_z1(z, ops)
        self.transition_z2(z, ops)
        return z

    def single_base(self, s_trunk: Tensor, s_inputs: Tensor) -> Tensor:
        """The part of the single conditioning that does not depend on the noise, [*b, N_token, c_s] (lines 6-7)."""
        return self.s(self.norm_s(torch.cat([s_trunk, s_inputs], dim=-1)))

    def single(self, base: Tensor, t_hat: Tensor, ops: Ops) -> Tensor:
        """Single conditioning [*b, N_token, c_s] at noise level t_hat [] (lines 8-12)."""
        noise = torch.log(t_hat / self.sigma_data) / 4
        noise = torch.cos(2 * torch.pi * (noise * self.fourier_w + self.fourier_b))
        s = base + self.n(self.norm_n(noise))
        self.transition_s1(s, ops)
        self.transition_s2(s, ops)
        return s
