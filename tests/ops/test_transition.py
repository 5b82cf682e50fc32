"""Transition against AF3 SI Alg. 11 in double precision, and its memory."""

import pytest
import torch
import torch.nn.functional as F
from live_bytes import LiveBytes
from op_cases import C_Z, CASES, TRANSITION, cast, error

from foldline.ops import TABLES, Rows


@pytest.mark.parametrize("name", list(TABLES["transition_"]))
def test_formula(name: str) -> None:
    case = CASES["transition"]
    inputs = case.inputs(13)
    w = cast(TRANSITION, torch.float64)
    x = inputs["x"].double()
    y = F.layer_norm(x, x.shape[-1:], *w.norm)
    a, b = (y @ part.T for part in w.ab.chunk(2))
    wanted = x + (a * torch.sigmoid(a) * b) @ w.out.T
    assert error(case.run(inputs, None, Rows(point=20), name), wanted) <= 1e-6


def test_the_hidden_layer_exists_for_one_block() -> None:
    case, block = CASES["transition"], 64
    inputs = case.inputs(64)
    with torch.inference_mode(), LiveBytes() as live:
        case.run(inputs, None, Rows(point=block))
    hidden = 4 * 4 * C_Z * block
    assert 2 * hidden <= live.peak <= 5 * hidden < inputs["x"].nbytes
