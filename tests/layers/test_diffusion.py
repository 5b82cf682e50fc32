"""Adaptive norms, conditioned blocks and conditioning of the diffusion module against AF3 SI Alg. 21-26."""

import pytest
import torch
import torch.nn.functional as F
from random_weights import draw, fill, tiny_spec
from torch import Tensor

from foldline.layers.diffusion import AdaptiveLayerNorm, DiffusionTransformerBlock, modulate
from foldline.layers.relative import Positions
from foldline.models import build
from foldline.ops import Rows, select

N, N_SAMPLE, SPEC = 11, 3, tiny_spec()
C_A, C_S, C_Z = SPEC.c_token, SPEC.c_s, SPEC.c_z
MASK = torch.arange(N) % 5 != 3
Weights = dict[str, Tensor]


def doubles(module: torch.nn.Module) -> Weights:
    return {name: p.double() for name, p in module.named_parameters()}


def adaptive(w: Weights, prefix: str, a: Tensor, s: Tensor) -> Tensor:
    """sigmoid(W LN(s) + b) * LN(a) + W LN(s); LN(a) without parameters, LN(s) with a scale alone."""
    s = F.layer_norm(s, s.shape[-1:], w[f"{prefix}norm_s.weight"])
    a = F.layer_norm(a, a.shape[-1:])
    gate = torch.sigmoid(s @ w[f"{prefix}scale.weight"].T + w[f"{prefix}scale.bias"])
    return gate * a + s @ w[f"{prefix}shift.weight"].T


def test_adaptive_layer_norm() -> None:
    layer = fill(AdaptiveLayerNorm(C_A, C_S))
    a, s = 2 + draw("a", N_SAMPLE, N, C_A), draw("s", N, C_S)
    found = modulate(a, layer.condition(s))
    assert torch.allclose(found.double(), adaptive(doubles(layer), "", a.double(), s.double()), atol=1e-5)


def block_by_hand(w: Weights, a: Tensor, s: Tensor, bias: Tensor) -> Tensor:
    """Attention, then transition, each gated by sigmoid(W s + b), residuals in sequence (Alg. 24, 25)."""
    x = adaptive(w, "attention.norm.", a, s)
    heads = SPEC.n_head_token
    q = (x @ w["attention.q.weight"].T + w["attention.q.bias"]).unflatten(-1, (heads, -1))
    k, v = ((x @ part.T).unflatten(-1, (heads, C_A // heads)) for part in w["attention.kv.weight"].chunk(2))
    logits = torch.einsum("zihc,zjhc->zhij", q, k) / (C_A // heads) ** 0.5 + bias
    o = torch.einsum("zhij,zjhc->zihc", logits[..., MASK].softmax(-1), v[:, MASK]).flatten(-2)
    o = (o * torch.sigmoid(x @ w["attention.gate.weight"].T)) @ w["attention.out.weight"].T
    a = a + o * torch.sigmoid(s @ w["attention.out_gate.weight"].T + w["attention.out_gate.bias"])
    x = adaptive(w, "transition.norm.", a, s)
    left, right = (x @ part.T for part in w["transition.ab.weight"].chunk(2))
    hidden = (left * torch.sigmoid(left) * right) @ w["transition.out.weight"].T
    return a + hidden * torch.sigmoid(s @ w["transition.out_gate.weight"].T + w["transition.out_gate.bias"])


def test_block() -> None:
    block = fill(DiffusionTransformerBlock(C_A, C_S, C_Z, SPEC.n_head_token))
    a, s, bias = draw("a", N_SAMPLE, N, C_A), draw("s", N, C_S), draw("bias", SPEC.n_head_token, N, N)
    wanted = block_by_hand(doubles(block), a.double(), s.double(), bias.double())
    masked = bias.masked_fill(~MASK, -1e9)
    block(a, block.condition(s), masked, select())
    assert torch.allclose(a[:, MASK].double(), wanted[:, MASK], atol=1e-5)


def test_keys_of_atoms_are_normalised_from_the_normalised_queries() -> None:
    block = fill(DiffusionTransformerBlock(12, 12, 4, 3, cross=True))
    a, s = draw("a", 40, 12), draw("s", 40, 12)
    condition = block.condition(s)
    assert condition.keys is not None
    bias = draw("bias", 2, 3, 32, 128)
    x = modulate(a, condition.attention)
    update = select().window_attention(x, modulate(x, condition.keys), bias, block.attention.weights, n_head=3)
    wanted = a + update * torch.sigmoid(block.attention.out_gate(s))
    wanted = wanted + block.transition(wanted, condition)
    block(a, condition, bias, select())
    assert torch.allclose(a, wanted, atol=1e-6)


@pytest.mark.parametrize("kept", [True, False])
def test_transformer(kept: bool) -> None:
    transformer, ops = fill(build.diffusion_transformer(SPEC)), select()
    a, s, z = draw("a", N_SAMPLE, N, C_A), draw("s", 1, N, C_S), draw("z", N, N, C_Z)
    wanted = a.double()
    for block in transformer.blocks:
        w = doubles(block)
        x = F.layer_norm(z.double(), (C_Z,), w["attention.norm_z.weight"])
        bias = (x @ w["attention.bias.weight"].T).movedim(-1, 0)
        wanted = block_by_hand(w, wanted, s[0].double(), bias)
    biases = transformer.biases(z, MASK, ops) if kept else None
    transformer(a, s, None if kept else z, MASK, biases, ops)
    assert torch.allclose(a[:, MASK].double(), wanted[:, MASK], atol=1e-4)


def positions() -> Positions:
    generator = torch.Generator().manual_seed(3)
    return Positions(*(torch.randint(0, 4, (N,), generator=generator, dtype=torch.int32) for _ in range(5)))


@pytest.mark.parametrize("rows", [Rows(), Rows(point=N * 2)], ids=str)
def test_pair_conditioning(rows: Rows) -> None:
    module = fill(build.diffusion_conditioning(SPEC))
    z, ops = draw("z", N, N, C_Z), select()
    relative = module.relative(positions(), slice(0, N))
    both = torch.cat([z, relative], dim=-1).double()
    wanted = F.layer_norm(both, (2 * C_Z,), module.norm_z.weight.double()) @ module.z.weight.double().T
    wanted = wanted.float()
    for transition in (module.transition_z1, module.transition_z2):
        transition(wanted, ops)
    before = z.clone()
    assert torch.allclose(module.pair(z, positions(), torch.float32, select(rows)), wanted, atol=1e-5)
    assert torch.equal(z, before)
    assert module.bfloat16().pair(z, positions(), torch.bfloat16, ops).dtype == torch.bfloat16


@pytest.mark.parametrize("t_hat", [0.02, 16.0, 2560.0])
def test_single_conditioning(t_hat: float) -> None:
    """W LN([s, s_inputs]) + W LN(cos(2 pi (log(t / sigma_data) / 4 w + b))), then two transitions."""
    module, ops = fill(build.diffusion_conditioning(SPEC)), select()
    s, s_inputs = draw("s", N, C_S), draw("s_inputs", N, SPEC.c_s_inputs)
    w = doubles(module)
    both = torch.cat([s, s_inputs], dim=-1).double()
    wanted = F.layer_norm(both, both.shape[-1:], w["norm_s.weight"]) @ w["s.weight"].T
    level = torch.log(torch.tensor(t_hat, dtype=torch.float64) / 16.0) / 4
    noise = torch.cos(2 * torch.pi * (level * w["fourier_w"] + w["fourier_b"]))
    wanted = wanted + F.layer_norm(noise, noise.shape, w["norm_n.weight"]) @ w["n.weight"].T
    wanted = wanted.float()
    module.transition_s1(wanted, ops)
    module.transition_s2(wanted, ops)
    base = module.single_base(s, s_inputs)
    before = base.clone()
    assert torch.allclose(module.single(base, torch.tensor(t_hat), ops), wanted, atol=1e-4)
    assert torch.equal(base, before), "the part that all steps share was changed"
