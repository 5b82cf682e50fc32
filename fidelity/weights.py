"""The random weights that both sides agree on: a pure function of (upstream tensor name, shape, seed), never zero.

Written from the description of upstream's test weights; a checkpoint of any size can be made where it is needed.
"""

import re
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from foldline.models import Network
from foldline.models.spec import ModelSpec
from foldline.weights import protenix

_RESIDUAL = re.compile(
    r"(linear_z|mha\.linear_o|attention\.linear_o|transition(_m|_z1|_z2|_s1|_s2)?\.linear_no_bias|linear_nobias_b"
    r"|outer_product_mean_msa\.linear_out|linear_no_bias_out|linear_no_bias_u|linear_no_bias_z_cycle|linear_no_bias_s)"
    r"\.weight$"
)
_LOUD = re.compile(
    r"(linear_no_bias_pae\.weight|linear_no_bias_pde\.weight|plddt_weight|resolved_weight"
    r"|distogram_head\.linear\.weight)$"
)


def random_value(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """The value of one upstream tensor; Fourier constants are upstream's own (seed 42)."""
    if name.endswith(("fourier_embedding.w", "fourier_embedding.b")):
        generator = torch.Generator().manual_seed(42)
        w = torch.randn(shape, generator=generator)
        return w if name.endswith("w") else torch.randn(shape, generator=generator)
    generator = torch.Generator().manual_seed((zlib.crc32(name.encode()) + 1000003 * seed) & 0x7FFFFFFF)
    r = torch.randn(shape, generator=generator)
    r[r == 0] = 1e-3
    if len(shape) == 1:
        return _vector(name, r)
    w = r / (shape[-2] if len(shape) == 3 else shape[-1]) ** 0.5
    if _RESIDUAL.search(name):
        w = 0.3 * w
    return 2.0 * w if _LOUD.search(name) else w


def _vector(name: str, r: Tensor) -> Tensor:
    norm = any(part in name for part in ("layernorm", "layer_norm", "_ln."))
    if norm and name.endswith("weight"):
        return 1.0 + 0.1 * r
    if name.endswith(("linear_a_last.bias", "linear_s.bias")):
        gate = "linear_a_last" in name or "transition_block.linear_s" in name
        return 0.2 * r - (2.0 if gate else 0.0)
    return 0.1 * r


def random_network(spec: ModelSpec, seed: int = 0, dtype_of: Callable[[str], torch.dtype] | None = None) -> Network:
    """A network with these weights, as if loaded from upstream's checkpoint."""
    from foldline.weights.load import assign

    with torch.device("meta"):
        network = Network(spec)
    for name, parameter in list(network.named_parameters()):
        sources = protenix.sources(name)
        rows = parameter.shape[0] // len(sources)
        parts = [random_value(source, (rows, *parameter.shape[1:]), seed) for source in sources]
        value = torch.cat(parts) if len(parts) > 1 else parts[0]
        assign(network, name, value.to(dtype_of(name)) if dtype_of is not None else value)
    return network


def write_checkpoint(spec: ModelSpec, path: Path, seed: int = 0) -> Path:
    """A checkpoint in upstream's layout with these weights."""
    with torch.device("meta"):
        network = Network(spec)
    tensors = {}
    for name, parameter in network.named_parameters():
        sources = protenix.sources(name)
        rows = parameter.shape[0] // len(sources)
        for source in sources:
            tensors[f"module.{source}"] = random_value(source, (rows, *parameter.shape[1:]), seed)
    torch.save({"model": tensors}, path)
    return path
