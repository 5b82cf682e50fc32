"""Relative position encoding against the one-hot formula of AF3 SI Alg. 3."""

import pytest
import torch
import torch.nn.functional as F
from random_weights import fill
from torch import Tensor

from foldline.layers.relative import Positions, RelativePositionEncoding

N, C_Z, R_MAX, S_MAX = 61, 7, 32, 2


def positions(lead: tuple[int, ...] = ()) -> Positions:
    """Long chains, several copies, residues of many tokens, ids far outside the clipping range."""
    draw = torch.Generator().manual_seed(4)

    def ints(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (*lead, N), generator=draw, dtype=torch.int32)

    return Positions(ints(-50, 60), ints(0, 100), ints(0, 3), ints(0, 2), ints(0, 7))


def one_hot_formula(p: Positions, weight: Tensor) -> Tensor:
    """W applied to the concatenated one-hots of all pairs, float64."""
    residue, token, asym, entity, sym = (x.long() for x in p)

    def pair(x: Tensor) -> tuple[Tensor, Tensor]:
        return x[..., :, None], x[..., None, :]

    def offset(x: Tensor, limit: int, same: Tensor) -> Tensor:
        left, right = pair(x)
        d = torch.where(same, torch.clip(left - right + limit, 0, 2 * limit), 2 * limit + 1)
        return F.one_hot(d, 2 * limit + 2)

    def equal(x: Tensor) -> Tensor:
        left, right = pair(x)
        return left == right

    same_chain, same_entity = equal(asym), equal(entity)
    features = [
        offset(residue, R_MAX, same_chain),
        offset(token, R_MAX, same_chain & equal(residue)),
        same_entity[..., None].long(),
        offset(sym, S_MAX, same_entity),
    ]
    return torch.cat(features, dim=-1).double() @ weight.double().T


@pytest.mark.parametrize("lead", [(), (3,)])
def test_gathers_are_the_one_hot_product(lead: tuple[int, ...]) -> None:
    module = fill(RelativePositionEncoding(C_Z, R_MAX, S_MAX))
    p = positions(lead)
    wanted = one_hot_formula(p, module.linear.weight)
    assert module.linear.weight.shape == (C_Z, 139)
    found = module(p, slice(0, N))
    assert torch.allclose(found.double(), wanted, atol=1e-6, rtol=0)
    for rows in (slice(0, 5), slice(17, 18), slice(58, N)):
        assert torch.equal(module(p, rows), found[..., rows, :, :])


def test_every_column_of_the_table_is_used() -> None:
    """Else the test above could miss a wrong column."""
    module = fill(RelativePositionEncoding(139, R_MAX, S_MAX))
    module.linear.weight.copy_(torch.eye(139))
    residue = torch.arange(N, dtype=torch.int32)
    zero = torch.zeros_like(residue)
    seen = torch.zeros(139)
    for p in (
        positions(),
        Positions(residue, residue, zero, zero, zero),
        Positions(zero, residue, zero, zero, residue),
    ):
        seen += module(p, slice(0, N)).sum((0, 1))
    assert (seen > 0).all()
