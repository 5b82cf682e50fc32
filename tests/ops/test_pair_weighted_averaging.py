"""Pair-weighted averaging against AF3 SI Alg. 10 in double precision, one row and head at a time."""

import pytest
import torch
import torch.nn.functional as F
from live_bytes import LiveBytes
from op_cases import C_HEAD, CASES, N_HEAD, N_MSA, PWA, cast, error

from foldline.ops import TABLES, Rows


@pytest.mark.parametrize("name", list(TABLES["pair_weighted_averaging_"]))
@pytest.mark.parametrize("masked", [True, False])
def test_formula(name: str, masked: bool) -> None:
    case = CASES["pair-weighted averaging"]
    inputs = case.inputs(15)
    mask = torch.arange(15) % 4 != 2 if masked else torch.ones(15, dtype=torch.bool)
    w = cast(PWA, torch.float64)
    m, z = inputs["m"].double(), inputs["z"].double()
    x = F.layer_norm(m, m.shape[-1:], *w.norm_m)
    v, g = ((x @ part.T).unflatten(-1, (N_HEAD, C_HEAD)) for part in w.vg.chunk(2))
    bias = F.layer_norm(z, z.shape[-1:], *w.norm_z) @ w.bias.T
    out = torch.zeros_like(v)
    for h in range(N_HEAD):
        weight = torch.softmax(bias[:, mask, h], dim=1)
        for s in range(N_MSA):
            out[s, :, h] = torch.sigmoid(g[s, :, h]) * (weight @ v[s, mask, h])
    wanted = m + out.flatten(-2) @ w.out.T
    found = case.run(inputs, mask if masked else None, Rows(pair=40, msa=35), name)
    assert error(found[:, mask], wanted[:, mask]) <= 1e-6


def test_rows_are_streamed() -> None:
    case, n = CASES["pair-weighted averaging"], 16
    x = case.inputs(n)
    weights, row = 4 * N_HEAD * n * n, 4 * n * 2 * N_HEAD * C_HEAD
    with torch.inference_mode(), LiveBytes() as live:
        case.run(x, None, Rows(pair=n, msa=n))
    assert weights <= live.peak <= weights + 5 * row
