"""Distogram and confidence heads against their formulas on the whole pair at once."""

import pytest
import torch
import torch.nn.functional as F
from random_weights import draw, fill, tiny_spec

from foldline.layers.heads import bin_centers
from foldline.models import build
from foldline.models.spec import PROTENIX_V1
from foldline.ops import Rows, select

N, SPEC = 15, tiny_spec()
BLOCKS = [Rows(), Rows(point=N * 4), Rows(point=1)]


def test_bin_centres() -> None:
    centers = bin_centers(0.0, 32.0, 64)
    assert torch.allclose(centers, torch.arange(64) * 0.5 + 0.25)
    assert torch.allclose(bin_centers(0.0, 1.0, 50), torch.arange(50) * 0.02 + 0.01)
    width = (21.6875 - 2.3125) / 64
    found = bin_centers(*PROTENIX_V1.distogram_range, PROTENIX_V1.n_distogram)
    assert float(found[0]) == pytest.approx(2.3125 + width / 2) and float(found[-1]) == pytest.approx(
        21.6875 - width / 2
    )


def test_contacts_are_the_first_19_bins() -> None:
    head = build.distogram_head(PROTENIX_V1)
    centers = bin_centers(*PROTENIX_V1.distogram_range, PROTENIX_V1.n_distogram)
    assert head.n_contact_bin == 19 and centers[18] < 8.0 < centers[19]


@pytest.mark.parametrize("rows", BLOCKS, ids=str)
def test_contact_probabilities(rows: Rows) -> None:
    head = fill(build.distogram_head(SPEC))
    z = draw("z", N, N, SPEC.c_z)
    logits = z.double() @ head.linear.weight.double().T + head.linear.bias.double()
    wanted = (logits + logits.transpose(0, 1)).softmax(-1)[..., :19].sum(-1)
    found = head(z, select(rows))
    assert torch.allclose(found.double(), wanted, atol=1e-6)
    assert torch.allclose(found, found.T, atol=1e-6)
    low = head.bfloat16()(z.bfloat16(), select(rows))
    assert low.dtype == torch.float32 and torch.allclose(low, found, atol=0.05)


@pytest.mark.parametrize("rows", BLOCKS, ids=str)
def test_confidence_embedding(rows: Rows) -> None:
    """z + W1 s_j + W2 s_i + W onehot(d) + W d, bins of 1.25 Å from 3.25 Å up, strict at both ends."""
    head = fill(build.confidence_head(SPEC))
    z, s_inputs, x = draw("z", N, N, SPEC.c_z), draw("s", N, SPEC.c_s_inputs), 12 * draw("x", N, 3)
    distance = (x[:, None].double() - x[None].double()).norm(dim=-1)
    lower = torch.arange(39) * 1.25 + 3.25
    one_hot = torch.zeros(N, N, 39, dtype=torch.float64)
    for i in range(39):
        upper = lower[i + 1] if i < 38 else 1e6
        one_hot[..., i] = ((distance > lower[i]) & (distance < upper)).double()
    assert one_hot.sum((0, 1)).count_nonzero() > 20 and (one_hot.sum(-1) == 0).any()
    s = s_inputs.double()
    wanted = z.double() + (s @ head.left.weight.double().T)[None] + (s @ head.right.weight.double().T)[:, None]
    wanted = wanted + one_hot @ head.distance_bins.weight.double().T
    wanted = wanted + distance[..., None] @ head.distance.weight.double().T
    before, out = z.clone(), torch.full_like(z, torch.nan)
    head.embed(z, s_inputs, x, out, select(rows))
    assert torch.allclose(out.double(), wanted, atol=1e-5)
    assert torch.equal(z, before)
    head.embed(z, s_inputs, x, z, select(rows))  # the trunk's own buffer may be given
    assert torch.equal(z, out)


@pytest.mark.parametrize("rows", BLOCKS, ids=str)
def test_error_rows(rows: Rows) -> None:
    """PAE from LN(z), PDE from LN(z + z^T), probabilities in float32."""
    head = fill(build.confidence_head(SPEC))
    z = draw("z", N, N, SPEC.c_z)
    y = z.double()

    def wanted(x: torch.Tensor, norm: torch.nn.Module, linear: torch.nn.Module) -> torch.Tensor:
        x = F.layer_norm(x, x.shape[-1:], norm.weight.double(), norm.bias.double())
        return (x @ linear.weight.double().T).softmax(-1)

    blocks = list(head.error_rows(z, select(rows)))
    assert [i for b in blocks for i in range(b.rows.start, b.rows.stop)] == list(range(N))
    pae, pde = torch.cat([b.pae for b in blocks]), torch.cat([b.pde for b in blocks])
    assert torch.allclose(pae.double(), wanted(y, head.norm_pae, head.pae), atol=1e-6)
    assert torch.allclose(pde.double(), wanted(y + y.transpose(0, 1), head.norm_pde, head.pde), atol=1e-6)
    low = next(iter(head.bfloat16().error_rows(z.bfloat16(), select())))
    assert low.pae.dtype == low.pde.dtype == torch.float32


def test_stack_reads_the_clamped_and_normalised_single() -> None:
    head = fill(build.confidence_head(SPEC))
    s, z = draw("s", N, SPEC.c_s), draw("z", N, N, SPEC.c_z)
    s[0, 0], s[1, 1] = 1e5, -1e5
    clamped = s.clamp(-512, 512)
    found = head(s, z.clone(), None, select())
    assert torch.equal(found, head(clamped, z.clone(), None, select()))
    single, pair = head.norm_s(clamped), z.clone()
    head.stack(single, pair, None, select())
    assert torch.equal(found, single)


def test_plddt_and_resolved_have_weights_for_every_atom_slot() -> None:
    head = fill(build.confidence_head(SPEC))
    s = draw("s", 6, SPEC.c_s)
    token, slot = torch.tensor([0, 0, 0, 2, 5, 5]), torch.tensor([0, 1, 23, 0, 3, 4])
    plddt, resolved = head.atom_plddt(s, token, slot), head.atom_resolved(s, token, slot)
    for atom, (t, k) in enumerate(zip(token.tolist(), slot.tolist(), strict=True)):
        x = F.layer_norm(s[t].double(), (SPEC.c_s,), head.norm_plddt.weight.double(), head.norm_plddt.bias.double())
        p = (x @ head.plddt[k].double()).softmax(-1)
        assert float(plddt[atom]) == pytest.approx(float(sum(p[b] * (b + 0.5) / 50 for b in range(50))), abs=1e-6)
        norm = head.norm_resolved
        x = F.layer_norm(s[t].double(), (SPEC.c_s,), norm.weight.double(), norm.bias.double())
        assert torch.allclose(resolved[atom].double(), x @ head.resolved[k].double(), atol=1e-5)
