"""Template geometry and the embedder (AF3 SI Alg. 16) against all slots computed one by one on the whole pair."""

import pytest
import torch
import torch.nn.functional as F
from random_weights import draw, fill, tiny_spec
from torch import Tensor

from foldline.layers.template import Template, TemplateEmbedder, backbone_frames
from foldline.models import build
from foldline.ops import Rows, select

N, SPEC = 12, tiny_spec()
ASYM = torch.tensor([0] * 7 + [1] * 5, dtype=torch.int32)
MASK = torch.arange(N) != 9


def template(number: int, count: int = 1) -> Template:
    """A random walk with some atoms missing."""
    generator = torch.Generator().manual_seed(number)
    backbone = 3 * torch.randn((N, 3, 3), generator=generator) + 4 * torch.arange(N)[:, None, None]
    beta = backbone[:, 1] + torch.randn((N, 3), generator=generator)
    beta_mask, mask = (torch.rand(N, generator=generator) < 0.75 for _ in range(2))
    return Template(torch.randint(0, 32, (N,), generator=generator), beta, beta_mask, backbone, mask, count)


def geometry(t: Template) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distogram, its mask, unit vectors and their mask, pair by pair."""
    dgram, vector = torch.zeros(N, N, 39), torch.zeros(N, N, 3)
    beta, frame = torch.zeros(N, N, 1), torch.zeros(N, N, 1)
    lower = torch.linspace(3.25, 50.75, 39)
    for i in range(N):
        e1 = t.backbone[i, 2] - t.backbone[i, 1]
        e1 = e1 / e1.norm()
        e2 = t.backbone[i, 0] - t.backbone[i, 1]
        e2 = e2 - (e2 @ e1) * e1
        e2 = e2 / e2.norm()
        axes = torch.stack([e1, e2, torch.linalg.cross(e1, e2)])
        for j in range(N):
            if ASYM[i] != ASYM[j]:
                continue
            if t.pseudo_beta_mask[i] and t.pseudo_beta_mask[j]:
                beta[i, j] = 1
                d = (t.pseudo_beta[i] - t.pseudo_beta[j]).norm()
                for b in range(39):
                    dgram[i, j, b] = float(d > lower[b] and (b == 38 or d < lower[b + 1]))
            if t.backbone_mask[i] and t.backbone_mask[j]:
                frame[i, j] = 1
                v = axes @ (t.backbone[j, 1] - t.backbone[i, 1])
                vector[i, j] = v / (v.norm() + 1e-6)
    return dgram, beta, vector, frame


def embedder() -> TemplateEmbedder:
    module = build.template_embedder(SPEC)
    assert module is not None
    fill(module)
    return module


@pytest.mark.parametrize("rows", [slice(0, N), slice(3, 8)])
def test_features_of_pairs(rows: slice) -> None:
    t = template(1)
    found = embedder().features(t, backbone_frames(t.backbone), ASYM, rows)
    wanted = torch.cat(geometry(t), dim=-1)[rows]
    assert torch.allclose(found, wanted, atol=1e-5)
    assert wanted[..., :39].sum(-1).max() == 1 and wanted[..., 40:43].abs().max() > 0.5


def test_frames_are_rotations_along_the_backbone() -> None:
    t = template(2)
    frames = backbone_frames(t.backbone)
    assert torch.allclose(frames @ frames.transpose(1, 2), torch.eye(3).expand(N, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(frames), torch.ones(N), atol=1e-5)
    n, ca, c = t.backbone.unbind(1)
    local_c = torch.einsum("ijk,ij->ik", frames, c - ca)
    local_n = torch.einsum("ijk,ij->ik", frames, n - ca)
    assert (local_c[:, 0] > 0).all() and local_c[:, 1:].abs().max() < 1e-4
    assert (local_n[:, 1] > 0).all() and local_n[:, 2].abs().max() < 1e-4


def test_missing_backbones_make_no_nan() -> None:
    assert backbone_frames(torch.zeros(N, 3, 3)).isfinite().all()
    module, z = embedder(), draw("z", N, N, SPEC.c_z)
    empty = template(3)._replace(backbone=torch.zeros(N, 3, 3), pseudo_beta=torch.zeros(N, 3))
    module(z, [empty._replace(count=4)], ASYM, None, select())
    assert z.isfinite().all()


@pytest.mark.parametrize("rows", [Rows(), Rows(pair=N * 5, point=N * 2)], ids=str)
def test_embedder(rows: Rows) -> None:
    """z + W relu(sum over four slots of LN(stack(W LN(z) + W features)) / (4 + 1e-7)); equal slots count twice."""
    module, ops = embedder(), select()
    z = draw("z", N, N, SPEC.c_z)
    slots = [template(1), template(2), template(3, count=2)]
    total = torch.zeros(N, N, SPEC.c_template)
    for slot in [slots[0], slots[1], slots[2], slots[2]]:
        dgram, beta, vector, frame = geometry(slot)
        kind = F.one_hot(slot.aatype, 32).float()
        features = [dgram, beta, kind[None].expand(N, N, 32), kind[:, None].expand(N, N, 32), vector, frame]
        v = module.z(module.norm_z(z)) + module.a(torch.cat(features, dim=-1))
        for block in module.blocks:
            block(v, MASK, ops)
        total += module.norm_v(v)
    wanted = z + module.u(torch.relu(total / (4 + 1e-7)))
    module(z, slots, ASYM, MASK, select(rows))
    keep = MASK.nonzero()[:, 0]
    assert torch.allclose(z[keep][:, keep], wanted[keep][:, keep], atol=1e-5)


def test_no_template_blocks_no_embedder() -> None:
    assert build.template_embedder(tiny_spec(n_template=0)) is None
