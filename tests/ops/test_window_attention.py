"""Window attention against AF3 SI Alg. 7 and 24, atom by atom in double precision, and the windows themselves."""

import pytest
import torch
from op_cases import ATTENTION, C_A, CASES, N_HEAD, cast, error
from random_weights import draw

from foldline.ops import TABLES
from foldline.ops.window_attention import (
    N_KEY,
    N_QUERY,
    n_window,
    window_bias,
    window_key_mask,
    window_keys,
    window_queries,
)


@pytest.mark.parametrize("name", list(TABLES["window_attention"]))
@pytest.mark.parametrize("n_atom", [1, 31, 32, 33, 141, 160])
@pytest.mark.parametrize("masked", [True, False])
def test_formula(name: str, n_atom: int, masked: bool) -> None:
    case = CASES["window attention"]
    inputs = case.inputs(n_atom)
    mask = torch.arange(n_atom) % 6 != 3 if masked else torch.ones(n_atom, dtype=torch.bool)
    w = cast(ATTENTION, torch.float64)
    a, kv, bias = (inputs[k].double() for k in ("a", "kv", "bias"))
    c = C_A // N_HEAD
    q = (a @ w.q[0].T + w.q[1]).unflatten(-1, (N_HEAD, c))
    k, v = ((kv @ part.T).unflatten(-1, (N_HEAD, c)) for part in w.kv.chunk(2))
    out = torch.zeros_like(q)
    for atom in range(n_atom):
        window = atom // 32
        first = 32 * window - 48
        keys = torch.tensor([x for x in range(max(first, 0), min(first + 128, n_atom)) if mask[x]])
        for h in range(N_HEAD):
            logits = k[keys, h] @ q[atom, h] / c**0.5 + bias[window, atom - 32 * window, keys - first, h]
            out[atom, h] = torch.softmax(logits, 0) @ v[keys, h]
    wanted = (out.flatten(-2) * torch.sigmoid(a @ w.gate.T)) @ w.out.T
    found = case.run(inputs, mask if masked else None, None, name)
    assert error(found[mask], wanted[mask]) <= 1e-6


@pytest.mark.parametrize("n_atom", [1, 32, 95, 141])
@pytest.mark.parametrize("lead", [(), (2,)])
def test_windows_hold_the_atoms_around_their_queries(n_atom: int, lead: tuple[int, ...]) -> None:
    number = torch.arange(1, n_atom + 1).expand(*lead, n_atom)[..., None].double()
    queries, keys = window_queries(number)[..., 0], window_keys(number)[..., 0]
    n = -(-n_atom // 32)
    assert n_window(n_atom) == n and (N_QUERY, N_KEY) == (32, 128)
    assert queries.shape == (*lead, n, 32) and keys.shape == (*lead, n, 128)
    for w in range(n):
        for found, first, width in ((queries, 32 * w, 32), (keys, 32 * w - 48, 128)):
            wanted = [x + 1 if 0 <= x < n_atom else 0 for x in range(first, first + width)]
            assert (found[..., w, :] == torch.tensor(wanted).double()).all()
    assert torch.equal(window_key_mask(torch.ones(*lead, n_atom, dtype=torch.bool)), keys > 0)


def test_missing_keys_are_masked_in_the_bias() -> None:
    mask = torch.ones(70, dtype=torch.bool)
    mask[[3, 69]] = False
    bias = draw("bias", 3, 32, 128, N_HEAD)
    found = window_bias(bias, window_key_mask(mask))
    assert found.shape == (3, N_HEAD, 32, 128) and found.is_contiguous()
    for w in range(3):
        for key in range(128):
            atom = 32 * w - 48 + key
            if 0 <= atom < 70 and mask[atom]:
                assert torch.equal(found[w, :, :, key], bias[w, :, key].T)
            else:
                assert (found[w, :, :, key] < -1e8).all()
