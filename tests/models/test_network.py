"""Trunk and diffusion module against AF3 SI Alg. 1, 2 and 20, their parts taken as given."""

import pytest
import torch
import torch.nn.functional as F
from random_weights import draw, tiny_network
from tiny_features import tiny_features
from torch import Tensor

from foldline.layers.atoms import AtomConditions
from foldline.models import Batch, Network
from foldline.models.network import Invariants
from foldline.ops import Rows, select

FEATURES = tiny_features()
N, N_ATOM = FEATURES.n_token, FEATURES.n_atom
BATCH = Batch.of(FEATURES, FEATURES.ref_pos, "cpu", 1000)


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny_network()


def norm(x: Tensor, layer: torch.nn.Module) -> Tensor:
    return F.layer_norm(x.double(), x.shape[-1:], layer.weight.double(), layer.bias.double())


def test_input_embedding(network: Network) -> None:
    """Atom encoder, residue class, profile, deletion mean, in this order (Alg. 2)."""
    trunk, ops = network.trunk, select()
    found = trunk.embed_inputs(BATCH, ops)
    encoder = trunk.input_encoder
    c, (conditions,) = encoder.condition(BATCH.atoms, None, None, [encoder.transformer], ops)
    a, _ = encoder(BATCH.atoms, c, conditions, None, N, ops)
    assert torch.equal(found[:, :20], a)
    restype = torch.from_numpy(FEATURES.restype).long()
    assert torch.equal(found[:, 20:52].argmax(-1), restype) and (found[:, 20:52].sum(-1) == 1).all()
    assert torch.equal(found[:, 52:84], torch.from_numpy(FEATURES.profile))
    assert torch.equal(found[:, 84], torch.from_numpy(FEATURES.deletion_mean))


@pytest.mark.parametrize("rows", [Rows(), Rows(point=3 * N)], ids=str)
def test_recycling(network: Network, rows: Rows) -> None:
    """s = W s_inputs + W LN(s); z_ij = a_i + b_j + relative_ij + w bond_ij + W LN(z_ij)."""
    trunk = network.trunk
    s_inputs, s, z = draw("si", N, network.spec.c_s_inputs), draw("s", N, network.spec.c_s), draw("z", N, N, 16)
    first = s_inputs.double() @ trunk.s_init.weight.double().T
    left, right = (first @ w.weight.double().T for w in (trunk.z_init_left, trunk.z_init_right))
    bonds = torch.zeros(N, N, dtype=torch.float64)
    for i, j in FEATURES.bond_tokens:
        bonds[i, j] = 1
    wanted = left[:, None] + right[None] + trunk.relative(BATCH.position, slice(0, N)).double()
    wanted = wanted + bonds[..., None] * trunk.bond.weight.double()[:, 0]
    wanted = wanted + norm(z, trunk.norm_z) @ trunk.recycle_z.weight.double().T
    wanted_s = first + norm(s, trunk.norm_s) @ trunk.recycle_s.weight.double().T
    trunk.recycle(BATCH, s_inputs, s, z, select(rows))
    assert torch.allclose(z.double(), wanted, atol=1e-5) and torch.allclose(s.double(), wanted_s, atol=1e-5)
    assert 0 < bonds.sum() < N * N and torch.equal(bonds, bonds.T)


def test_the_first_pass_starts_from_nothing(network: Network) -> None:
    s, z = network.trunk.start(BATCH, draw("si", N, network.spec.c_s_inputs).bfloat16())
    assert not s.any() and not z.any() and s.dtype == z.dtype == torch.bfloat16
    assert s.shape == (N, network.spec.c_s) and z.shape == (N, N, network.spec.c_z)


@torch.inference_mode()
def test_order_of_a_pass(network: Network) -> None:
    """Recycling, templates, alignment, pairformer."""
    trunk, ops = network.trunk, select()
    s_inputs, s, z = draw("si", N, network.spec.c_s_inputs), draw("s", N, network.spec.c_s), draw("z", N, N, 16)
    rows = torch.tensor([4, 0, 33, 69])
    by_hand_s, by_hand_z = s.clone(), z.clone()
    trunk.recycle(BATCH, s_inputs, by_hand_s, by_hand_z, ops)
    trunk.template_embedder(by_hand_z, BATCH.templates, BATCH.position.asym_id, None, ops)
    m = trunk.msa_module.embed(BATCH.msa[rows], BATCH.deletions[rows], s_inputs, ops)
    trunk.msa_module(m, by_hand_z, None, None, ops)
    trunk.pairformer(by_hand_s, by_hand_z, None, ops)
    trunk(BATCH, s_inputs, s, z, rows, ops)
    assert torch.equal(s, by_hand_s) and torch.equal(z, by_hand_z)


def test_a_network_without_templates_skips_them() -> None:
    network = tiny_network(n_template=0)
    assert network.trunk.template_embedder is None
    s_inputs = network.trunk.embed_inputs(BATCH, select())
    s, z = network.trunk.start(BATCH, s_inputs)
    network.trunk(BATCH, s_inputs, s, z, torch.arange(9), select())
    assert z.isfinite().all() and z.any()


@pytest.mark.parametrize("t_hat", [0.05, 16.0, 900.0])
def test_denoising(network: Network, t_hat: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """x sd^2 / (sd^2 + t^2) + sd t / sqrt(sd^2 + t^2) F(x / sqrt(sd^2 + t^2)) with sd = 16 (Alg. 20, lines 2 and 8)."""
    module, seen = network.diffusion, {}
    update = draw("update", 3, N_ATOM, 3)

    def encoder(atoms: object, c: Tensor, conditions: AtomConditions, r: Tensor, n: int, ops: object) -> tuple:
        seen["r"] = r
        return draw("a", 3, n, network.spec.c_token), draw("q", 3, N_ATOM, network.spec.c_atom)

    def transformer(a: Tensor, s: Tensor, z: object, mask: object, biases: object, ops: object) -> None:
        seen["a"], seen["s"] = a.clone(), s

    def decoder(a: Tensor, q: Tensor, to_token: Tensor, conditions: AtomConditions, ops: object) -> Tensor:
        seen["decoded"] = a
        return update

    for name, stand_in in (("encoder", encoder), ("transformer", transformer), ("decoder", decoder)):
        monkeypatch.setattr(getattr(module, name), "forward", stand_in)
    base = draw("base", N, network.spec.c_s)
    nothing = AtomConditions([], [])
    fixed = Invariants(base, None, None, torch.zeros(1), nothing, nothing, BATCH.atoms)
    x, t = 50 * draw("x", 3, N_ATOM, 3), torch.tensor(t_hat)
    found = module(x, t, fixed, None, select())
    total = 16.0**2 + t_hat**2
    wanted = x * 256 / total + update * 16 * t_hat / total**0.5
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-4)
    assert torch.allclose(seen["r"], x / total**0.5, rtol=1e-5, atol=1e-6)
    s = module.conditioning.single(base, t, select())
    scaled = F.layer_norm(s.double(), s.shape[-1:], module.norm_s.weight.double()) @ module.s.weight.double().T
    wanted_a = draw("a", 3, N, network.spec.c_token).double() + scaled
    assert torch.allclose(seen["a"].double(), wanted_a, atol=1e-4)
    decoded = F.layer_norm(wanted_a, wanted_a.shape[-1:], module.norm_a.weight.double())
    assert torch.allclose(seen["decoded"].double(), decoded, atol=1e-4)


@torch.inference_mode()
def test_what_steps_share_is_left_as_it_is(network: Network) -> None:
    """A second step with the same input gives the same answer, so no step writes into what they share."""
    ops, spec = select(), network.spec
    s_inputs, s, z = draw("si", N, spec.c_s_inputs), draw("s", N, spec.c_s), draw("z", N, N, spec.c_z)
    before = s_inputs.clone(), s.clone(), z.clone()
    for keep in (True, False):
        fixed = network.diffusion.prepare(BATCH, s_inputs, s, z, keep, ops)
        assert (fixed.z is None, fixed.biases is None) == (keep, not keep)
        x, t = 20 * draw("x", 2, N_ATOM, 3), torch.tensor(30.0)
        first = network.diffusion(x, t, fixed, None, ops)
        assert torch.equal(network.diffusion(x, t, fixed, None, ops), first)
    assert all(torch.equal(a, b) for a, b in zip(before, (s_inputs, s, z), strict=True))
