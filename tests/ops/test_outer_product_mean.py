"""Outer product mean against AF3 SI Alg. 9 in double precision; the mean is over the rows that are real."""

import pytest
import torch
import torch.nn.functional as F
from op_cases import CASES, N_MSA, OPM, cast, error
from torch import Tensor

from foldline.ops import TABLES, Rows

IMPLEMENTATIONS = list(TABLES["outer_product_mean_"])


def formula(z: Tensor, m: Tensor, keep: Tensor) -> Tensor:
    """z_ij plus (W flatten(sum_s a_si b_sj) + bias) / (count + 1e-3), s over the kept rows."""
    w = cast(OPM, torch.float64)
    a, b = (F.layer_norm(m, m.shape[-1:], *w.norm) @ w.ab.T)[keep].chunk(2, dim=-1)
    outer = torch.einsum("sic,sjd->ijcd", a, b).flatten(-2)
    return z + (outer @ w.out[0].T + w.out[1]) / (int(keep.sum()) + 1e-3)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("count", [1, 4, N_MSA])
def test_formula(name: str, count: int) -> None:
    case = CASES["outer product mean"]
    inputs = case.inputs(14)
    mask = torch.zeros(N_MSA, dtype=torch.bool)
    mask[torch.randperm(N_MSA, generator=torch.Generator().manual_seed(1))[:count]] = True
    wanted = formula(inputs["z"].double(), inputs["m"].double(), mask)
    assert error(case.run(inputs, mask, Rows(pair=60, msa=30), name), wanted) <= 1e-6


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_no_mask_counts_every_row(name: str) -> None:
    case = CASES["outer product mean"]
    inputs = case.inputs(14)
    wanted = formula(inputs["z"].double(), inputs["m"].double(), torch.ones(N_MSA, dtype=torch.bool))
    assert error(case.run(inputs, None, None, name), wanted) <= 1e-6


def test_the_count_matters() -> None:
    case = CASES["outer product mean"]
    inputs = case.inputs(14)
    z, m = inputs["z"].double(), inputs["m"].double()
    few = torch.arange(N_MSA) < 3
    halved = z + (formula(z, m, few) - z) * (3 + 1e-3) / (N_MSA + 1e-3)  # divided by all rows instead of three
    assert error(case.run(inputs, few), halved) > 1e-2
