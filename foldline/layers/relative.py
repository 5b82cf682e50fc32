"""Relative position encoding (AF3 SI Alg. 3) as gathers from a 139-row table: the one-hot is never made."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from foldline.layers.primitives import Linear


class Positions(NamedTuple):
    """Integer columns [*b, N_token] that relative positions are made of."""

    residue_index: Tensor
    token_index: Tensor
    asym_id: Tensor
    entity_id: Tensor
    sym_id: Tensor


class RelativePositionEncoding(nn.Module):
    """Relative residue, token and chain positions (AF3 SI Alg. 3); the chain part goes by entity (AF3's code)."""

    def __init__(self, c_z: int, r_max: int, s_max: int) -> None:
        super().__init__()
        self.r_max, self.s_max = r_max, s_max
        self.linear = Linear(4 * r_max + 2 * s_max + 7, c_z)

    def forward(self, position: Positions, rows: slice) -> Tensor:
        """Encoding of a block of rows, [*b, N_row, N_token, c_z]."""
        residue, token, asym, entity, sym = ((x[..., rows, None], x[..., None, :]) for x in position)
        same_chain = asym[0] == asym[1]
        same_residue = same_chain & (residue[0] == residue[1])
        same_entity = entity[0] == entity[1]
        by_residue, by_token, by_entity, by_chain = self.linear.weight.t().split(
            [2 * self.r_max + 2, 2 * self.r_max + 2, 1, 2 * self.s_max + 2]
        )
        # token offsets differ from "elsewhere" only inside a residue; chain offsets are few: both tables are small
        out = by_residue[_offset(residue, self.r_max, same_chain)]
        out += by_token[_offset(token, self.r_max, same_residue)]
        chain = torch.cat([by_chain, by_chain + by_entity])
        return out.add_(chain[_offset(sym, self.s_max, same_entity) + same_entity * (2 * self.s_max + 2)])


def _offset(x: tuple[Tensor, Tensor], limit: int, same: Tensor) -> Tensor:
    """Clipped difference shifted to 0 .. 2 limit, 2 limit + 1 where the pair is not `same`."""
    return (x[0] - x[1] + limit).clamp_(0, 2 * limit).masked_fill_(~same, 2 * limit + 1).long()
