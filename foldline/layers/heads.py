"""Distogram and confidence heads. 64-bin logits exist for one block of rows at a time, never for the whole pair."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from foldline.layers.pairformer import PairformerStack
from foldline.layers.primitives import LayerNorm, Linear
from foldline.ops import Ops, row_blocks
from foldline.shapes import PairRows


def bin_centers(low: float, high: float, n_bin: int, device: torch.device | None = None) -> Tensor:
    """Centres of `n_bin` equal bins of [low, high], float32 [n_bin]."""
    width = (high - low) / n_bin
    return torch.linspace(low, high - width, n_bin, device=device) + 0.5 * width


class DistogramHead(nn.Module):
    """Distance distribution of representative atoms, reduced to contact probabilities."""

    def __init__(self, c_z: int, n_bin: int, limits: tuple[float, float], contact: float) -> None:
        super().__init__()
        width = (limits[1] - limits[0]) / n_bin
        self.n_contact_bin = sum(limits[0] + (i + 0.5) * width < contact for i in range(n_bin))
        self.linear = Linear(c_z, n_bin, bias=True)

    def forward(self, z: Tensor, ops: Ops) -> Tensor:
        """Probability of a distance under the contact limit, float32 [*b, N_token, N_token]; logits are symmetrised."""
        n_token = z.shape[-2]
        out = torch.empty(z.shape[:-1], dtype=torch.float32, device=z.device)
        for i in row_blocks(n_token, n_token * math.prod(z.shape[:-3]), ops.rows.point):
            logits = self.linear(z[..., i, :, :]) + self.linear(z[..., :, i, :]).transpose(-2, -3)
            out[..., i, :] = logits.float().softmax(-1)[..., : self.n_contact_bin].sum(-1)
        return out


class ErrorRows(NamedTuple):
    """A block of rows of the error heads of one sample."""

    rows: slice
    pae: Tensor  # float32 probabilities [N_row, N_token, n_bin]
    pde: Tensor  # float32 probabilities [N_row, N_token, n_bin]


class ConfidenceHead(nn.Module):
    """Confidence head (AF3 SI Alg. 31).

    Protenix: layer norm of the clamped trunk single, the raw distance beside its bins, norms before each head, PDE from
    the symmetrised pair before its projection, protenix/model/modules/confidence.py:183-348.
    """

    def __init__(
        self, stack: PairformerStack, *, c_s: int, c_z: int, c_s_inputs: int, n_bin: int, n_plddt: int, n_slot: int
    ) -> None:
        super().__init__()
        self.left = Linear(c_s_inputs, c_z)
        self.right = Linear(c_s_inputs, c_z)
        self.distance_bins = Linear(39, c_z)
        self.distance = Linear(1, c_z)
        self.norm_s = LayerNorm(c_s)
        self.stack = stack
        self.norm_pae = LayerNorm(c_z)
        self.pae = Linear(c_z, n_bin)
        self.norm_pde = LayerNorm(c_z)
        self.pde = Linear(c_z, n_bin)
        self.norm_plddt = LayerNorm(c_s)
        self.plddt = nn.Parameter(torch.empty(n_slot, c_s, n_plddt), requires_grad=False)
        self.norm_resolved = LayerNorm(c_s)
        self.resolved = nn.Parameter(torch.empty(n_slot, c_s, 2), requires_grad=False)

    def embed(self, z: Tensor | PairRows, s_inputs: Tensor, x: Tensor, z_out: Tensor, ops: Ops) -> None:
        """Write z, the input single and the distances of one sample into z_out [*b, N_token, N_token, c_z].

        Args:
            z: trunk pair representation [*b, N_token, N_token, c_z], left as it is; any dtype, may rest elsewhere.
            s_inputs: [*b, N_token, c_s_inputs].
            x: representative atoms [*b, N_token, 3], float32, Å.
            z_out: the buffer.
            ops: work sizes.
        """
        n_token = z.shape[-2]
        left, right = self.left(s_inputs), self.right(s_inputs)
        lanes = math.prod(z.shape[:-3])
        lower = torch.arange(3.25, 52.0, 1.25, device=x.device)
        upper = torch.cat([lower[1:], lower.new_full((1,), 1e6)])
        for i in row_blocks(n_token, n_token * lanes, ops.rows.point):
            distance = (x[..., i, None, :] - x[..., None, :, :]).square().sum(-1, keepdim=True).sqrt()
            bins = ((distance > lower) & (distance < upper)).to(z_out.dtype)
            # the projection called "left" belongs to the column token, as upstream broadcasts it
            rows = z_out[..., i, :, :]
            rows.copy_(z[..., i, :, :])
            rows += left[..., None, :, :] + right[..., i, None, :]
            rows += self.distance_bins(bins) + self.distance(distance.to(z_out.dtype))

    def forward(self, s_trunk: Tensor, z: Tensor, mask: Tensor | None, ops: Ops) -> Tensor:
        """Run the stack on an embedded pair z, in place; returns s [*b, N_token, c_s], float32."""
        s = self.norm_s(s_trunk.clamp(-512, 512))
        self.stack(s, z, mask, ops)
        return s.float()

    def error_rows(self, z: Tensor, ops: Ops) -> Iterator[ErrorRows]:
        """PAE and PDE probabilities by blocks of rows, from z after the stack."""
        n_token = z.shape[-2]
        for i in row_blocks(n_token, n_token, ops.rows.point):
            row = z[i].float()
            pae = _linear32(self.norm_pae, self.pae, row)
            pde = _linear32(self.norm_pde, self.pde, row + z[:, i].transpose(0, 1).float())
            yield ErrorRows(i, pae.softmax(-1), pde.softmax(-1))

    def atom_plddt(self, s: Tensor, atom_to_token: Tensor, atom_in_token: Tensor) -> Tensor:
        """Expected pLDDT of every atom, float32 [N_atom], 0 to 1."""
        logits = self._per_atom(s, self.norm_plddt, self.plddt, atom_to_token, atom_in_token)
        return logits.softmax(-1) @ bin_centers(0.0, 1.0, logits.shape[-1], s.device)

    def atom_resolved(self, s: Tensor, atom_to_token: Tensor, atom_in_token: Tensor) -> Tensor:
        """Logits of "experimentally resolved", float32 [N_atom, 2]."""
        return self._per_atom(s, self.norm_resolved, self.resolved, atom_to_token, atom_in_token)

    @staticmethod
    def _per_atom(s: Tensor, norm: LayerNorm, weight: Tensor, atom_to_token: Tensor, atom_in_token: Tensor) -> Tensor:
        """Logits [N_atom, n] of a head that has weights for every atom slot of a token: all slots, then a pick."""
        by_slot = torch.einsum("ic,ncb->inb", norm.in_float32(s), weight.float())
        return by_slot[atom_to_token, atom_in_token]


def _linear32(norm: LayerNorm, linear: Linear, x: Tensor) -> Tensor:
    """Norm and projection in float32 whatever the parameters' dtype."""
    return linear.in_float32(norm.in_float32(x))
