"""Attention with pair bias against AF3 SI Alg. 24 in double precision, and the bias itself."""

import pytest
import torch
import torch.nn.functional as F
from op_cases import ATTENTION, C_A, C_Z, CASES, N_HEAD, affine, cast, error, matrix
from random_weights import draw

from foldline.ops import TABLES, Rows
from foldline.ops.attention_pair_bias import pair_bias


@pytest.mark.parametrize("name", list(TABLES["attention_pair_bias"]))
def test_formula(name: str) -> None:
    case = CASES["attention with pair bias"]
    inputs = case.inputs(15)
    mask = torch.arange(15) % 4 != 2
    w = cast(ATTENTION, torch.float64)
    a, bias = inputs["a"].double(), inputs["bias"].double()
    c = C_A // N_HEAD
    q = (a @ w.q[0].T + w.q[1]).unflatten(-1, (N_HEAD, c))
    k, v = ((a @ part.T).unflatten(-1, (N_HEAD, c)) for part in w.kv.chunk(2))
    out = torch.zeros_like(q)
    for h in range(N_HEAD):
        logits = q[:, h] @ k[mask, h].T / c**0.5 + bias[h][:, mask]
        out[:, h] = torch.softmax(logits, dim=-1) @ v[mask, h]
    wanted = (out.flatten(-2) * torch.sigmoid(a @ w.gate.T)) @ w.out.T
    assert error(case.run(inputs, mask, None, name)[mask], wanted[mask]) <= 1e-6


def test_one_bias_serves_all_samples() -> None:
    case = CASES["attention with pair bias"]
    inputs = case.inputs(15, (4,))
    shared = inputs | {"bias": inputs["bias"][:1]}
    repeated = inputs | {"bias": inputs["bias"][:1].repeat(4, 1, 1, 1)}
    assert error(case.run(shared, None), case.run(repeated, None)) <= 1e-6


@pytest.mark.parametrize("lead", [(), (2,)])
@pytest.mark.parametrize("offset", [True, False])
def test_bias_of_pairs(lead: tuple[int, ...], offset: bool) -> None:
    z = draw("z", *lead, 9, 9, C_Z)
    scale, shift = affine("z", C_Z)
    weight = matrix("w", N_HEAD, C_Z)
    mask = torch.arange(9).expand(*lead, 9) % 3 != 1
    found = pair_bias(z, mask, (scale, shift if offset else None), weight, rows=Rows(pair=20))
    x = F.layer_norm(z.double(), (C_Z,), scale.double(), shift.double() if offset else None)
    wanted = (x @ weight.double().T).movedim(-1, -3)
    keep = torch.arange(9)[mask.reshape(-1, 9)[0]]
    assert error(found[..., keep], wanted[..., keep]) <= 1e-6
    gone = found[..., [1, 4, 7]]
    assert (gone < -1e8).all() and gone.isfinite().all()
    unmasked = pair_bias(z, None, (scale, shift if offset else None), weight, rows=Rows())
    assert error(unmasked, wanted) <= 1e-6


def test_an_accelerator_reads_the_bias_in_place() -> None:
    """Rows of the bias begin at multiples of 8 elements wherever it is not made on a CPU."""
    norm, weight = affine("z", C_Z), matrix("w", N_HEAD, C_Z)
    for n in (9, 16):
        z = draw("z", 2, n, n, C_Z)
        there = pair_bias(z.to("meta"), None, tuple(x.to("meta") for x in norm), weight.to("meta"), rows=Rows())
        assert there.shape == (2, N_HEAD, n, n) and there.stride(-1) == 1
        assert all(stride % 8 == 0 for stride in there.stride()[:-1])
        assert pair_bias(z, None, norm, weight, rows=Rows()).is_contiguous()
