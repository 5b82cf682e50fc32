"""Checkpoints as Protenix writes them, made from a network of ours: the inverse of the name map."""

from dataclasses import replace

import torch
from random_weights import fill
from torch import Tensor

from foldline.models import ModelSpec, Network
from foldline.models.spec import PROTENIX_V1
from foldline.weights import protenix

# One block of everything and narrow pairs; the widths that no checkpoint differs in stay.
SMALL = replace(
    PROTENIX_V1,
    **{f"n_{part}": 1 for part in ("pairformer", "diffusion", "confidence", "atom_input")},
    n_atom_encoder=1,
    n_atom_decoder=1,
    n_msa=2,
    n_template=1,
    c_z=24,
    c_m=12,
    c_tri_mul=20,
    n_head_tri_att=2,
    c_tri_mul_template=16,
    n_head_tri_att_template=3,
)


def state(network: Network, prefix: str = "") -> dict[str, Tensor]:
    """Upstream's tensors of a network: stacked parameters cut apart, with the constants that upstream stores."""
    out = {}
    for name, parameter in network.named_parameters():
        names = protenix.sources(name)
        parts = parameter.chunk(len(names)) if len(names) > 1 else [parameter]
        out |= {prefix + source: part.detach().clone() for source, part in zip(names, parts, strict=True)}
    out |= {f"{prefix}confidence_head.{end}_bins": torch.zeros(39) for end in ("lower", "upper")}
    return out


def small_network(spec: ModelSpec = SMALL) -> Network:
    """A network that a checkpoint can describe, with random weights."""
    with torch.device("meta"):
        network = Network(spec)
    for parameter in network.parameters():
        assert parameter.is_meta
    fill(network)
    return network


def shapes_only(spec: ModelSpec, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of the right names and shapes that take no space: one number each, expanded."""
    with torch.device("meta"):
        network = Network(spec)
    return {k: torch.zeros(()).expand(v.shape) for k, v in state(network, prefix).items()}
