"""Embedding of the alignment and the order of the MSA module (AF3 SI Alg. 8)."""

import pytest
import torch
import torch.nn.functional as F
from random_weights import draw, fill, tiny_spec

from foldline.models import build
from foldline.ops import Rows, select

N, N_MSA, SPEC = 9, 13, tiny_spec()


@pytest.mark.parametrize("rows", [Rows(), Rows(msa=N * 3), Rows(msa=1)], ids=str)
def test_embedding(rows: Rows) -> None:
    module = fill(build.msa_module(SPEC))
    generator = torch.Generator().manual_seed(2)
    msa = torch.randint(0, 32, (N_MSA, N), generator=generator).to(torch.int8)
    deletions = torch.randint(0, 255, (N_MSA, N), generator=generator).to(torch.uint8)
    deletions[torch.rand(N_MSA, N, generator=generator) < 0.5] = 0
    s_inputs = draw("s", N, SPEC.c_s_inputs)
    count = deletions.double()
    value = 2 / torch.pi * torch.arctan(count / 3)
    features = torch.cat([F.one_hot(msa.long(), 32), (count > 0)[..., None], value[..., None]], dim=-1).double()
    wanted = features @ module.m.weight.double().T + (s_inputs.double() @ module.s.weight.double().T)
    found = module.embed(msa, deletions, s_inputs, select(rows))
    assert torch.allclose(found.double(), wanted, atol=1e-6)


def test_the_last_block_leaves_the_alignment_alone() -> None:
    module = fill(build.msa_module(SPEC))
    first, last = module.blocks
    assert first.pwa is not None and first.transition is not None
    assert last.pwa is None and last.transition is None
    m, z = draw("m", N_MSA, N, SPEC.c_m), draw("z", N, N, SPEC.c_z)
    before, pair = m.clone(), z.clone()
    last(m, z, None, None, select())
    assert torch.equal(m, before) and not torch.equal(z, pair)


def test_order_of_a_block() -> None:
    """The outer product mean comes first, then the alignment is updated with the new pair, then the pair stack."""
    block = fill(build.msa_module(SPEC)).blocks[0]
    m, z, ops = draw("m", N_MSA, N, SPEC.c_m), draw("z", N, N, SPEC.c_z), select()
    mask, row_mask = torch.arange(N) != 4, torch.arange(N_MSA) % 3 != 0
    by_hand_m, by_hand_z = m.clone(), z.clone()
    block.opm(by_hand_z, by_hand_m, row_mask, ops)
    block.pwa(by_hand_m, by_hand_z, mask, ops)
    block.transition(by_hand_m, ops)
    block.pair(by_hand_z, mask, ops)
    block(m, z, row_mask, mask, ops)
    assert torch.equal(m, by_hand_m) and torch.equal(z, by_hand_z)
