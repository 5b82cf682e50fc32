"""Weights that are a pure function of a parameter's name and shape, nowhere zero, of a size that keeps values tame."""

import hashlib

import torch
from torch import Tensor, nn

from foldline.layers.primitives import LayerNorm
from foldline.models import ModelSpec, Network


def draw(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers of a name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "little")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def fill(module: nn.Module) -> nn.Module:
    """Give every parameter of a module its random value; parameters on the meta device are made."""
    scales = {f"{name}.weight" for name, child in module.named_modules() if isinstance(child, LayerNorm)}
    for name, parameter in list(module.named_parameters()):
        value = draw(name, *parameter.shape)
        if name in scales:
            value = 1 + 0.2 * value
        elif parameter.dim() == 1:
            value = 0.3 * value
        else:
            value = value / parameter.shape[-2 if parameter.dim() == 3 else -1] ** 0.5
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, nn.Parameter(value.to(parameter.dtype), requires_grad=False))
    return module


def tiny_spec(**changes: object) -> ModelSpec:
    """Two blocks of everything, narrow, all widths different where the network allows it."""
    sizes = {f"n_{part}": 2 for part in ("pairformer", "msa", "template", "diffusion", "confidence")}
    sizes |= {f"n_atom_{part}": 2 for part in ("input", "encoder", "decoder")}
    widths = {"c_s": 24, "c_z": 16, "c_m": 12, "c_s_inputs": 20 + 65, "c_atom": 18, "c_atompair": 4, "c_token": 28}
    inner = {"c_template": 10, "c_tri_mul": 14, "c_tri_mul_template": 6, "c_tri_att": 3, "c_opm": 5, "c_pwa": 3}
    heads = {"n_head_tri_att": 2, "n_head_tri_att_template": 3, "n_head_single": 4, "n_head_token": 4}
    heads |= {"n_head_atom": 3, "n_head_pwa": 2, "c_fourier": 8}
    return ModelSpec(**(sizes | widths | inner | heads | changes))  # type: ignore[arg-type]


def tiny_network(**changes: object) -> Network:
    """A narrow network with random weights."""
    network = Network(tiny_spec(**changes))
    fill(network)
    return network
