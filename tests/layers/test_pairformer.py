"""Order of the pairformer's updates (AF3 SI Alg. 17) and the wiring of weights to ops."""

import torch
import torch.nn.functional as F
from random_weights import draw, fill, tiny_spec

from foldline.layers.pairformer import PairBlock
from foldline.models import build
from foldline.ops import select

N, SPEC = 9, tiny_spec()
MASK = torch.arange(N) != 5


def pair_block_by_hand(block: PairBlock, z: torch.Tensor) -> None:
    ops = select()
    block.tri_mul_out(z, MASK, ops)
    block.tri_mul_in(z, MASK, ops)
    block.tri_att_start(z, MASK, ops)
    block.tri_att_end(z, MASK, ops)
    block.pair_transition(z, ops)


def test_pair_block() -> None:
    block = fill(build.pair_block(SPEC))
    assert (block.tri_mul_out.outgoing, block.tri_mul_in.outgoing) == (True, False)
    assert (block.tri_att_start.starting, block.tri_att_end.starting) == (True, False)
    assert block.tri_att_end.bias_transposed is SPEC.ending_bias_transposed is True
    z = draw("z", N, N, SPEC.c_z)
    by_hand = z.clone()
    pair_block_by_hand(block, by_hand)
    block(z, MASK, select())
    assert torch.equal(z, by_hand)


def test_the_bias_orientation_follows_the_spec() -> None:
    other = build.pair_block(tiny_spec(ending_bias_transposed=False))
    assert other.tri_att_end.bias_transposed is False
    z = draw("z", N, N, SPEC.c_z)
    here, there = z.clone(), z.clone()
    fill(build.pair_block(SPEC))(here, MASK, select())
    fill(other)(there, MASK, select())
    assert not torch.allclose(here, there, atol=1e-3)


def test_block_updates_the_single_with_the_new_pair() -> None:
    block = fill(build.pairformer(SPEC, 1)).blocks[0]
    s, z, ops = draw("s", N, SPEC.c_s), draw("z", N, N, SPEC.c_z), select()
    by_hand_s, by_hand_z = s.clone(), z.clone()
    pair_block_by_hand(block.pair, by_hand_z)
    block.single_attention(by_hand_s, by_hand_z, MASK, ops)
    block.single_transition(by_hand_s, ops)
    block(s, z, MASK, ops)
    assert torch.equal(s, by_hand_s) and torch.equal(z, by_hand_z)


def test_single_attention() -> None:
    """s plus gated attention of LN(s) with the bias W LN(z), masked keys left out, in double precision."""
    layer = fill(build.pairformer(SPEC, 1)).blocks[0].single_attention
    s, z = draw("s", N, SPEC.c_s), draw("z", N, N, SPEC.c_z)
    w = {name: p.double() for name, p in layer.named_parameters()}
    a = F.layer_norm(s.double(), (SPEC.c_s,), w["norm.weight"], w["norm.bias"])
    bias = F.layer_norm(z.double(), (SPEC.c_z,), w["norm_z.weight"], w["norm_z.bias"]) @ w["bias.weight"].T
    heads, c = SPEC.n_head_single, SPEC.c_s // SPEC.n_head_single
    q = (a @ w["q.weight"].T + w["q.bias"]).unflatten(-1, (heads, c))
    k, v = ((a @ part.T).unflatten(-1, (heads, c)) for part in w["kv.weight"].chunk(2))
    logits = torch.einsum("ihc,jhc->ijh", q, k) / c**0.5 + bias
    weight = logits[:, MASK].softmax(1)
    o = torch.einsum("ijh,jhc->ihc", weight, v[MASK]).flatten(-2) * torch.sigmoid(a @ w["gate.weight"].T)
    wanted = s.double() + o @ w["out.weight"].T
    layer(s, z, MASK, select())
    assert torch.allclose(s[MASK].double(), wanted[MASK], atol=1e-5)


def test_stack_runs_its_blocks_in_order() -> None:
    stack = fill(build.pairformer(SPEC, 3))
    s, z, ops = draw("s", N, SPEC.c_s), draw("z", N, N, SPEC.c_z), select()
    by_hand_s, by_hand_z = s.clone(), z.clone()
    for i in range(3):
        stack.blocks[i](by_hand_s, by_hand_z, MASK, ops)
    stack(s, z, MASK, ops)
    assert torch.equal(s, by_hand_s) and torch.equal(z, by_hand_z)
