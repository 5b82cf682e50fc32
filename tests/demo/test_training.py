"""The training: its graph computes what Foldline computes, its losses mean what they say, and it can be resumed."""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foldline.chem.components import Components
from foldline.features.build import build_features
from foldline.inputs import Job, Ligand, Polymer
from foldline.layers.heads import bin_centers
from foldline.models import Network
from foldline.ops import select
from foldline.weights.load import load_network
from tools.train_demo import graph, losses
from tools.train_demo.confidence import lesson, loss_of, token_frames
from tools.train_demo.model import SPEC, new_network, save_checkpoint
from tools.train_demo.rollout import deviations, embed, roll_out
from tools.train_demo.train import Target, Training, load_target, random_poses

SEQUENCE = "MKTAYIAKQRGSWC"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small target: two copies of a peptide and a glycerol, on a helix with some atoms not observed."""
    folder = tmp_path_factory.mktemp("target")
    peptide = Polymer("protein", ("A", "B"), SEQUENCE, templates=())
    job = Job("small", (1,), (peptide, Ligand(("C",), ccd_codes=("GOL",))))
    made = build_features(job, components=Components.open(), msa="none")
    made.features.save(folder / "small.features.safetensors")
    t = made.features.atom_to_token.astype(np.float32)[:, None] * np.array([[0.3, 1.7, 0.5]], np.float32)
    x = np.concatenate([9 * np.cos(t[:, 1:2]), 9 * np.sin(t[:, 1:2]), 3 * t[:, :1]], axis=1) + made.features.ref_pos
    mask = np.arange(len(x)) % 7 != 6
    np.savez(folder / "small.target.npz", x=(x - x[mask].mean(0)).astype(np.float32), mask=mask)
    return folder


@pytest.fixture(scope="session")
def target(data: Path) -> Target:
    return load_target(data, "small")


@pytest.fixture(scope="session")
def network() -> Network:
    """A network without zeros but for those that stay."""
    made = new_network(3)
    generator = torch.Generator().manual_seed(5)
    for parameter in made.parameters():
        if parameter.requires_grad:
            scale = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 1.0
            parameter.data.add_(0.1 * scale * torch.randn(parameter.shape, generator=generator))
    return made


def options(data: Path, state: Path, **changes: object) -> argparse.Namespace:
    given = {
        "data": data,
        "state": state,
        "targets": ["small"],
        "shares": ["1"],
        "seconds": 1e9,
        "place_seconds": 0,
        "rate": 1e-3,
        "draws": 2,
        "renew_trunk": 2,
        "renew_shared": 2,
        "seed": 0,
        "bf16": False,
    }
    return argparse.Namespace(**given | changes)


def test_the_graph_computes_what_foldline_computes(network: Network, target: Target, tmp_path: Path) -> None:
    save_checkpoint(network, tmp_path / "x.safetensors", torch.float32, {})
    loaded, ops, batch = load_network(tmp_path / "x.safetensors"), select(), target.batch
    assert loaded.spec == SPEC
    with torch.no_grad():
        ours = embed(loaded, target)
        trained = graph.trunk(network.trunk, batch, torch.arange(2))
        for a, b in zip(trained, ours, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        noisy, level = 20 * torch.randn(2, len(target.x), 3), torch.tensor(15.0)
        fixed = loaded.diffusion.prepare(batch, *ours, True, ops)
        x = loaded.diffusion(noisy, level, fixed, None, ops)
        shared = graph.share(network.diffusion, batch, *trained)
        torch.testing.assert_close(graph.denoise(network.diffusion, batch, noisy, level.expand(2), shared), x)
        contacts = graph.distogram(network, trained[2]).softmax(-1)[..., : loaded.distogram.n_contact_bin].sum(-1)
        torch.testing.assert_close(contacts, loaded.distogram(ours[2], ops), rtol=1e-4, atol=1e-4)
        pair = torch.empty_like(ours[2])
        loaded.confidence.embed(ours[2], ours[0], x[0][batch.rep_atom], pair, ops)
        single = loaded.confidence(ours[1], pair, None, ops)
        errors = graph.confidence(network.confidence, batch, trained, x[0])
        plddt = errors.plddt.softmax(-1) @ bin_centers(0.0, 1.0, SPEC.n_plddt)
        expected = loaded.confidence.atom_plddt(single, batch.atoms.to_token, batch.atom_in_token)
        torch.testing.assert_close(plddt, expected, rtol=1e-4, atol=1e-4)
        rows = list(loaded.confidence.error_rows(pair, ops))
        torch.testing.assert_close(errors.pae.softmax(-1), torch.cat([row.pae for row in rows]), rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(errors.pde.softmax(-1), torch.cat([row.pde for row in rows]), rtol=1e-3, atol=1e-5)


def test_the_trunk_does_not_depend_on_the_pose_of_conformers(network: Network, target: Target) -> None:
    atoms = target.batch.atoms
    turned = torch.einsum("ij,aj->ai", torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]), atoms.ref_pos) + 3
    assert not torch.allclose(turned, atoms.ref_pos)
    with torch.no_grad():
        before = graph.embed_inputs(network.trunk, target.batch)
        after = graph.embed_inputs(network.trunk, replace(target.batch, atoms=atoms._replace(ref_pos=turned)))
    torch.testing.assert_close(before, after)


def test_every_part_that_is_trained_gets_a_gradient(data: Path, tmp_path: Path) -> None:
    training = Training(options(data, tmp_path / "state.pt"))
    for parameter in training.trained:
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    (target,) = training.targets
    (training.place(target, whole=True) + training.loss(target)).backward()
    missing = [
        name
        for name, parameter in training.network.named_parameters()
        if parameter.requires_grad and "confidence" not in name and parameter.grad is None
    ]
    assert missing == []


def test_losses_fall_and_the_state_is_taken_up_again(data: Path, tmp_path: Path) -> None:
    training = Training(options(data, tmp_path / "state.pt"))
    for group in training.optimizer.param_groups:
        group["lr"] = 2e-3
    (target,), found = training.targets, []
    for _ in range(25):
        loss = training.place_loss(target)
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        found.append(loss.item())
    assert min(found[-4:]) < 0.8 * min(found[:2])
    training.step, training.seconds = 25, 60.0
    training.save()
    again = Training(options(data, tmp_path / "state.pt"))
    assert (again.step, again.seconds) == (25, 60.0)
    for a, b in zip(training.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.rand(3, generator=training.generator), torch.rand(3, generator=again.generator))


def test_alignment_undoes_a_motion_and_keeps_the_hand() -> None:
    x = torch.randn(1, 30, 3, generator=torch.Generator().manual_seed(0)) * 10
    moved = random_poses(x[0], 4, torch.Generator().manual_seed(1))
    weight = torch.rand(30, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(losses.align(moved, x.expand_as(moved), weight), x.expand_as(moved), rtol=0, atol=1e-3)
    assert float(losses.aligned_error(-x, x, torch.ones(30))) > 5
    assert float(losses.aligned_error(moved[:1], x, weight)) < 1e-6
    assert float(losses.smooth_lddt_loss(moved[:1], x, torch.arange(30))) == pytest.approx(
        1 - sum(1 / (1 + math.exp(-limit)) for limit in (0.5, 1, 2, 4)) / 4, abs=1e-3
    )


def test_errors_of_a_shifted_part_are_seen_where_they_are(target: Target) -> None:
    frames, usable = token_frames(target)
    x = target.x.clone()
    exact = lesson(target, frames, x)
    assert int(exact.pae.max()) == 0 and int(exact.plddt[target.mask].min()) == SPEC.n_plddt - 1
    chain = target.batch.position.asym_id == 1
    x[chain[target.batch.atoms.to_token]] += torch.tensor([6.25, 0.0, 0.0])
    moved = lesson(target, frames, x)
    first, second = usable & ~chain, chain & usable
    first[-6:] = False  # the glycerol, whose frames stay where they were
    assert (moved.pae[first][:, chain] == 12).all() and (moved.pae[second][:, first] == 12).all()
    assert (moved.pae[first][:, first] == 0).all() and (moved.pae[second][:, second] == 0).all()


def test_the_head_learns_from_samples(network: Network, target: Target) -> None:
    embedded = embed(network, target)
    x = roll_out(network, target, embedded, seed=1, n_sample=2, n_step=2)
    assert torch.isfinite(x).all() and deviations(target, x)[0].shape == (2,)
    frames, usable = token_frames(target)
    taught = lesson(target, frames, x[0])
    parameters = [p for name, p in network.named_parameters() if p.requires_grad and name.startswith("confidence")]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    found = []
    for _ in range(12):
        plddt, errors = loss_of(
            graph.confidence(network.confidence, target.batch, embedded, x[0]), taught, target, usable
        )
        optimizer.zero_grad()
        (plddt + errors).backward()
        optimizer.step()
        found.append((plddt.item(), errors.item()))
    assert found[-1][0] < 0.9 * found[0][0] and found[-1][1] < 0.9 * found[0][1]
