"""Triangle attention against the formulas of AF3 SI Alg. 14 and 15 in double precision, one head and pair at a time."""

import pytest
import torch
import torch.nn.functional as F
from live_bytes import LiveBytes
from op_cases import C_HEAD, CASES, N_HEAD, TRI_ATT, cast, error
from torch import Tensor

from foldline.ops import TABLES, Rows, triangle_attention

IMPLEMENTATIONS = list(TABLES["triangle_attention_"])
STARTING, ENDING = "triangle attention, starting", "triangle attention, ending"
ALPHAFOLD = "triangle attention, ending, bias of AlphaFold 3"


def formula(z: Tensor, keep: Tensor, key: str) -> Tensor:
    """Around the starting node: a_ijk = softmax_k(q_ij k_ik + b_jk), o_ij = g_ij sum_k a_ijk v_ik.

    Around the ending node: a_ijk = softmax_k(q_ij k_kj + b), o_ij = g_ij sum_k a_ijk v_kj, where b is b_ki in the paper
    and in Protenix and b_ik in AlphaFold 3's code.
    """
    w = cast(TRI_ATT, torch.float64)
    x = F.layer_norm(z, z.shape[-1:], *w.norm)
    bias = x @ w.bias.T
    q, k, v, g = (y.unflatten(-1, (N_HEAD, C_HEAD)) for y in (x @ w.qkvg.T).chunk(4, dim=-1))
    out = torch.zeros_like(q)
    n = len(z)
    for i in range(n):
        for j in range(n):
            for h in range(N_HEAD):
                keys, values = (k[i, :, h], v[i, :, h]) if key == STARTING else (k[:, j, h], v[:, j, h])
                b = {STARTING: bias[j, :, h], ENDING: bias[:, i, h], ALPHAFOLD: bias[i, :, h]}[key]
                logits = (keys @ q[i, j, h] / C_HEAD**0.5 + b)[keep]
                out[i, j, h] = torch.sigmoid(g[i, j, h]) * (torch.softmax(logits, 0) @ values[keep])
    return z + out.flatten(-2) @ w.out.T


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("key", [STARTING, ENDING, ALPHAFOLD])
@pytest.mark.parametrize("masked", [True, False])
def test_formula(name: str, key: str, masked: bool) -> None:
    case = CASES[key]
    inputs = case.inputs(11)
    mask = torch.arange(11) % 4 != 1 if masked else torch.ones(11, dtype=torch.bool)
    wanted = formula(inputs["z"].double(), mask, key)
    found = case.run(inputs, mask if masked else None, Rows(pair=30), name)
    keep = mask.nonzero()[:, 0]
    assert error(found[keep][:, keep], wanted[keep][:, keep]) <= 1e-6


def test_the_three_differ() -> None:
    z = CASES[STARTING].inputs(7)["z"].double()
    keep = torch.ones(7, dtype=torch.bool)
    a, b, c = (formula(z, keep, key) for key in (STARTING, ENDING, ALPHAFOLD))
    assert min(error(a, b), error(b, c), error(a, c)) > 0.05


def test_the_bias_and_a_block_are_held_beside_z() -> None:
    """Scores of the CPU's attention kernel are not tensors and not counted."""
    case, n = CASES[STARTING], 64
    inputs = case.inputs(n)
    z = inputs["z"]
    bias, row = 4 * N_HEAD * n * n, 4 * n * 4 * N_HEAD * C_HEAD
    with torch.inference_mode(), LiveBytes() as live:
        case.run(inputs, torch.ones(n, dtype=torch.bool), Rows(pair=n))
    assert bias <= live.peak <= bias + 6 * row
    assert live.peak < z.nbytes, "more than a copy of z beside z"


@pytest.mark.parametrize("lead", [(), (2,)])
@pytest.mark.parametrize("key", [STARTING, ENDING])
def test_an_accelerator_reads_the_bias_in_place(
    key: str, lead: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strides at which PyTorch's memory-efficient attention makes no copy, however many tokens there are."""
    case, given, plain = CASES[key], [], F.scaled_dot_product_attention

    def seen(*inputs: Tensor, attn_mask: Tensor) -> Tensor:
        given.append(attn_mask)
        return plain(*inputs, attn_mask=attn_mask)

    wanted = case.run(case.inputs(11, lead), None, Rows(pair=33))
    monkeypatch.setattr(triangle_attention, "_ALIGNED", {})  # as on a device that is no CPU
    monkeypatch.setattr(F, "scaled_dot_product_attention", seen)
    found = case.run(case.inputs(11, lead), None, Rows(pair=33))
    assert error(found, wanted) <= 1e-6
    for bias in given:
        assert bias.stride(-1) == 1 and all(stride % 8 == 0 for stride in bias.stride()[:-1])
        assert bias.storage_offset() % 8 == 0 and bias.stride(0) == 0, "one bias serves all rows"
    assert len(given) == 4 * len(torch.ones(lead).flatten())
