"""The demo network: its spec, its first values, and its checkpoint file in Protenix's tensor names."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from foldline.models import ModelSpec, Network
from foldline.models.spec import PROTENIX_V1, SamplerSpec
from foldline.weights import protenix
from foldline.weights.card import Card, write_card

# Sampler and constants of Protenix's distilled networks. The aligned loss leaves the orientation of an answer open, and
# a network that has memorised a structure picks its own: many small steps mix orientations, few large ones do not.
N_STEP = 3

SPEC: ModelSpec = replace(
    PROTENIX_V1,
    n_pairformer=2,
    n_msa=1,
    n_template=0,
    n_diffusion=4,
    n_atom_input=1,
    n_atom_encoder=1,
    n_atom_decoder=1,
    n_confidence=1,
    c_s=96,
    c_z=32,
    c_m=32,
    c_s_inputs=161,
    c_atom=64,
    c_atompair=16,
    c_token=192,
    c_tri_mul=32,
    c_tri_att=16,
    n_head_tri_att=2,
    n_head_single=8,
    n_head_token=8,
    c_opm=16,
    n_recycle=0,
    sampler=SamplerSpec(n_step=N_STEP, gamma_0=0.0, step_scale=1.0),
)
# The pose of a reference conformer is random and says nothing here: these weights stay zero, so that the trunk's result
# depends on the job alone.
FROZEN_AT_ZERO = ("features.ref_pos.weight", "features.offset.weight")
CONSTANT = ("fourier_w", "fourier_b")
_TABLES = ("features.ref_features.weight", "relative.linear.weight")


def new_network(seed: int) -> Network:
    """A network with first values: projections of unit variance, closed residual branches, tables of random rows."""
    network = Network(SPEC)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        leaf = name.rsplit(".", 2)[-2] if name.count(".") else name
        if name.endswith(FROZEN_AT_ZERO):
            parameter.data.zero_()
        elif name.endswith(CONSTANT):
            parameter.data.normal_(generator=generator)
        elif leaf.startswith("norm"):
            parameter.data.fill_(1.0 if name.endswith("weight") else 0.0)
        elif leaf == "out_gate":
            parameter.data.fill_(0.0 if name.endswith("weight") else -1.0)
        elif name.endswith("bias"):
            parameter.data.fill_(1.0 if leaf == "scale" else 0.0)
        elif name.endswith(("plddt", "resolved")):
            parameter.data.normal_(std=0.01, generator=generator)
        else:
            std = 0.3 if name.endswith(_TABLES) else parameter.shape[-1] ** -0.5
            std = 0.02 if name == "confidence.distance.weight" else std  # it takes Å, tens of them
            parameter.data.normal_(std=0.1 * std if leaf == "out" else std, generator=generator)
        parameter.requires_grad_(not name.endswith(FROZEN_AT_ZERO + CONSTANT))
    return network


def save_checkpoint(network: Network, path: Path, dtype: torch.dtype, memorised: Mapping[str, list[str]]) -> None:
    """Write the parameters under Protenix's names in `dtype`, with a card of what names and shapes do not tell."""
    tensors = {}
    for name, parameter in network.named_parameters():
        names = protenix.sources(name)
        for source, part in zip(names, parameter.detach().chunk(len(names)), strict=True):
            tensors[source] = part.to(dtype).contiguous()
    card = Card(n_recycle=SPEC.n_recycle, n_step=SPEC.sampler.n_step, memorised=memorised)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata=write_card(card))
    partial.replace(path)
