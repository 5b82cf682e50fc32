"""Triangle multiplication against the formulas of AF3 SI Alg. 12 and 13 in double precision, and its memory."""

import pytest
import torch
import torch.nn.functional as F
from live_bytes import LiveBytes
from op_cases import CASES, TRI_MUL, cast, error, matrix
from random_weights import draw
from torch import Tensor

from foldline.ops import TABLES, Rows
from foldline.ops.triangle_multiplication import TriangleMultiplicationWeights, reference

IMPLEMENTATIONS = list(TABLES["triangle_multiplication_"])


def formula(z: Tensor, keep: Tensor, *, outgoing: bool) -> Tensor:
    """z plus g_ij * W LN(sum_k a_ik b_jk) (outgoing) or sum_k a_ki b_kj (incoming), k over the kept tokens."""
    w = cast(TRI_MUL, torch.float64)
    x = F.layer_norm(z, z.shape[-1:], *w.norm_in)
    a_gate, a_value, b_gate, b_value = (x @ part.T for part in w.ab.chunk(4))
    a, b = torch.sigmoid(a_gate) * a_value, torch.sigmoid(b_gate) * b_value
    a, b = a * keep[:, None, None] * keep[:, None], b * keep[:, None, None] * keep[:, None]
    product = torch.einsum("ikc,jkc->ijc", a, b) if outgoing else torch.einsum("kic,kjc->ijc", a, b)
    update = F.layer_norm(product, product.shape[-1:], *w.norm_out) @ w.z.T
    return z + torch.sigmoid(x @ w.gate.T) * update


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("outgoing", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_formula(name: str, outgoing: bool, masked: bool) -> None:
    case = CASES[f"triangle multiplication, {'outgoing' if outgoing else 'incoming'}"]
    inputs = case.inputs(17)
    mask = torch.arange(17) % 5 != 2 if masked else torch.ones(17, dtype=torch.bool)
    wanted = formula(inputs["z"].double(), mask.double(), outgoing=outgoing)
    found = case.run(inputs, mask if masked else None, Rows(pair=40), name)
    keep = mask.nonzero()[:, 0]
    assert error(found[keep][:, keep], wanted[keep][:, keep]) <= 1e-6


def test_the_two_directions_differ() -> None:
    z = CASES["triangle multiplication, outgoing"].inputs(9)["z"].double()
    keep = torch.ones(9, dtype=torch.float64)
    assert error(formula(z, keep, outgoing=True), formula(z, keep, outgoing=False)) > 0.1


@pytest.mark.parametrize("outgoing", [True, False])
def test_one_operand_is_held_beside_z(outgoing: bool) -> None:
    n, c = 48, 16
    w = TriangleMultiplicationWeights(
        (torch.ones(c), torch.zeros(c)),
        matrix("ab", 4 * c, c),
        (torch.ones(c), torch.zeros(c)),
        matrix("z", c, c),
        matrix("g", c, c),
    )
    z = draw("z", n, n, c)
    row = n * c * z.element_size()
    with torch.inference_mode(), LiveBytes() as live:
        reference(z, torch.ones(n, dtype=torch.bool), w, outgoing=outgoing, rows=Rows(pair=n))
    assert live.peak >= z.nbytes, "the counter sees nothing"
    assert live.peak <= z.nbytes + 10 * row, f"{live.peak / z.nbytes:.2f} copies of z beside z"
