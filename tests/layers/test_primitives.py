"""Linear layers, norms, and the way between tokens and atoms."""

import pytest
import torch
import torch.nn.functional as F
from random_weights import draw, fill

from foldline.layers.primitives import LayerNorm, Linear, gather_tokens, mean_over_atoms

TO_TOKEN = torch.tensor([0, 0, 0, 1, 3, 3, 4, 4, 4, 4])


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool) -> None:
    layer = fill(Linear(5, 3, bias=bias))
    x = draw("x", 2, 5)
    wanted = torch.stack([layer.weight @ row for row in x]) + (layer.bias if bias else 0)
    assert torch.allclose(layer(x), wanted, atol=1e-6)
    assert (layer.affine[1] is None) is not bias
    assert not any(p.requires_grad for p in layer.parameters())


def test_positions_keep_their_digits_in_low_precision() -> None:
    layer = fill(Linear(3, 4)).bfloat16()
    x = 100 + draw("x", 6, 3)
    found = layer.positions(x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, (x @ layer.weight.float().T).bfloat16())
    assert not torch.equal(found, layer(x.bfloat16()))


@pytest.mark.parametrize("offset", [True, False])
def test_norms(offset: bool) -> None:
    norm = fill(LayerNorm(6, offset=offset))
    x = 3 + 2 * draw("x", 4, 6)
    centred = x.double() - x.double().mean(-1, keepdim=True)
    wanted = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight.double()
    wanted = wanted + (norm.bias.double() if offset else 0)
    assert torch.allclose(norm(x).double(), wanted, atol=1e-6)
    low = norm.bfloat16()
    found = low.in_float32(x)
    assert found.dtype == torch.float32
    shift = low.bias.float() if offset else None
    assert torch.equal(found, F.layer_norm(x, (6,), low.weight.float(), shift))


@pytest.mark.parametrize("batched", [True, False])
def test_tokens_at_atoms(batched: bool) -> None:
    x = draw("x", 2, 5, 3)
    index = torch.stack([TO_TOKEN, TO_TOKEN.flip(0)]) if batched else TO_TOKEN
    found = gather_tokens(x, index)
    for b in range(2):
        for atom in range(10):
            assert torch.equal(found[b, atom], x[b, index[b, atom] if batched else index[atom]])


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_means_over_atoms(batched: bool, masked: bool) -> None:
    x = draw("x", 2, 10, 3)
    index = torch.stack([TO_TOKEN, TO_TOKEN.flip(0)]) if batched else TO_TOKEN
    mask = torch.ones(index.shape, dtype=torch.bool)
    if masked:
        mask[..., [1, 3, 9]] = False
        x[:, [1, 3, 9]] = 1e4
    found = mean_over_atoms(x, index, mask if masked else None, 6)
    assert found.shape == (2, 6, 3)
    for b in range(2):
        own_index, own_mask = (index[b], mask[b]) if batched else (index, mask)
        for token in range(6):
            rows = x[b, (own_index == token) & own_mask]
            wanted = rows.double().mean(0) if len(rows) else torch.zeros(3).double()
            assert torch.allclose(found[b, token].double(), wanted, atol=1e-6)
