"""The network on fake tensors at a size that would not fit here: no value decides a shape, no device is mixed up."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from foldline.layers.atoms import Atoms
from foldline.layers.relative import Positions
from foldline.layers.template import Template
from foldline.models import Batch, ModelSpec, Network
from foldline.models.spec import PROTENIX_V1, PROTENIX_V2
from foldline.ops import Rows, select

N_TOKEN, N_ATOM, N_MSA, N_SAMPLE = 2000, 16_000, 2048, 5
DEVICE = "meta"  # under FakeTensorMode told apart from the host, and an error where the two meet
ROWS = Rows(1 << 21, 1 << 21, 1 << 22)


def make(dtype: torch.dtype) -> Callable[..., Tensor]:
    return lambda *shape: torch.empty(shape, dtype=dtype, device=DEVICE)


def fake_batch() -> Batch:
    """A padded job."""
    n, a = N_TOKEN, N_ATOM
    ints, floats, flags = make(torch.int64), make(torch.float32), make(torch.bool)
    template = Template(ints(n), floats(n, 3), flags(n), floats(n, 3, 3), flags(n), 2)
    return Batch(
        n_token=n,
        token_mask=flags(n),
        position=Positions(*(make(torch.int32)(n) for _ in range(5))),
        restype=ints(n),
        profile=floats(n, 32),
        deletion_mean=floats(n),
        bonds=(ints(40), ints(40)),
        bond_weight=floats(40),
        rep_atom=ints(n),
        atoms=Atoms(
            mask=flags(a),
            ref_pos=floats(a, 3),
            ref_mask=flags(a),
            ref_charge=floats(a),
            ref_element=ints(a),
            ref_atom_name_chars=ints(a, 4),
            ref_space_uid=ints(a),
            to_token=ints(a),
        ),
        atom_in_token=ints(a),
        msa=make(torch.int8)(N_MSA, n),
        deletions=make(torch.uint8)(N_MSA, n),
        templates=[template, template],
    )


def fake_network(spec: ModelSpec, dtype: torch.dtype) -> Network:
    """A network on the fake device; the input embedder stays in float32."""
    network = Network(spec)
    for name, parameter in list(network.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        kind = torch.float32 if name.startswith("trunk.input_encoder.") else dtype
        value = torch.empty(parameter.shape, dtype=kind, device=DEVICE)
        setattr(network.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))
    return network


@torch.inference_mode()
@pytest.mark.parametrize(
    ("base", "dtype"), [(PROTENIX_V1, torch.float32), (PROTENIX_V2, torch.bfloat16)], ids=["v1 fp32", "v2 bf16"]
)
def test_no_shape_depends_on_values(base: ModelSpec, dtype: torch.dtype) -> None:
    spec, ops = replace(base, n_pairformer=2, n_diffusion=2, n_confidence=1), select(ROWS)
    with FakeTensorMode():
        network, batch = fake_network(spec, dtype), fake_batch()
        s_inputs = network.trunk.embed_inputs(batch, ops)
        assert s_inputs.shape == (N_TOKEN, 449) and s_inputs.dtype == torch.float32
        low = s_inputs.to(dtype)
        s, z = network.trunk.start(batch, low)
        rows = torch.empty(1000, dtype=torch.int64, device=DEVICE)
        network.trunk(batch, low, s, z, rows, ops)
        assert z.shape == (N_TOKEN, N_TOKEN, spec.c_z) and z.dtype == dtype
        assert network.distogram(z, ops).shape == (N_TOKEN, N_TOKEN)
        for keep_biases in (True, False):
            fixed = network.diffusion.prepare(batch, s_inputs, s, z, keep_biases, ops)
            x = make(torch.float32)(N_SAMPLE, N_ATOM, 3)
            x = network.diffusion(x, make(torch.float32)(), fixed, batch.token_mask, ops)
            assert x.shape == (N_SAMPLE, N_ATOM, 3) and x.dtype == torch.float32
            assert x.device.type == DEVICE
        pair = torch.empty(z.shape, dtype=dtype, device=DEVICE)
        network.confidence.embed(z, s_inputs.to(dtype), x[0][batch.rep_atom], pair, ops)
        single = network.confidence(s, pair, batch.token_mask, ops)
        blocks = list(network.confidence.error_rows(pair, ops))
        assert sum(len(b.pae) for b in blocks) == N_TOKEN and blocks[0].pde.dtype == torch.float32
        plddt = network.confidence.atom_plddt(single, batch.atoms.to_token, batch.atom_in_token)
        assert plddt.shape == (N_ATOM,) and plddt.dtype == torch.float32


def test_the_mode_notices_what_it_should() -> None:
    with FakeTensorMode():
        x = torch.empty(5, device=DEVICE)
        with pytest.raises(DataDependentOutputException):
            x.sum().item()
        with pytest.raises(Exception, match="[Dd]evice"):
            _ = x + torch.empty(5)
