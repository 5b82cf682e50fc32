"""Every module with weights on its own: upstream's recorded input through our module, against upstream's output."""

import re
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from fidelity.records import Difference, Record, difference
from foldline.layers.atoms import AtomTransformer
from foldline.models import Batch, Network
from foldline.ops import Ops
from foldline.ops.window_attention import window_bias, window_key_mask

Pair = tuple[Tensor, Tensor]
_BLOCKS = r"\.blocks\.(\d+)"
# upstream module name -> our module name, by prefix and suffix
_STACKS = (
    (rf"pairformer_stack{_BLOCKS}", r"trunk.pairformer.blocks.\1", True),
    (rf"confidence_head\.pairformer_stack{_BLOCKS}", r"confidence.stack.blocks.\1", True),
    (rf"template_embedder\.pairformer_stack{_BLOCKS}", r"trunk.template_embedder.blocks.\1", False),
    (rf"msa_module{_BLOCKS}\.pair_stack", r"trunk.msa_module.blocks.\1.pair", False),
)
_OTHERS = (
    (rf"msa_module{_BLOCKS}\.outer_product_mean_msa", r"trunk.msa_module.blocks.\1.opm"),
    (rf"msa_module{_BLOCKS}\.msa_stack\.msa_pair_weighted_averaging", r"trunk.msa_module.blocks.\1.pwa"),
    (rf"msa_module{_BLOCKS}\.msa_stack\.transition_m", r"trunk.msa_module.blocks.\1.transition"),
    (r"diffusion_module\.diffusion_conditioning\.(transition_[zs][12])", r"diffusion.conditioning.\1"),
    (r"diffusion_module\.diffusion_conditioning\.relpe", r"diffusion.conditioning.relative"),
    (r"relative_position_encoding", r"trunk.relative"),
    (rf"diffusion_module\.diffusion_transformer{_BLOCKS}", r"diffusion.transformer.blocks.\1"),
    (
        rf"diffusion_module\.atom_attention_(encoder|decoder)\.atom_transformer\.diffusion_transformer{_BLOCKS}",
        r"diffusion.\1.transformer.blocks.\2",
    ),
    (
        rf"input_embedder\.atom_attention_encoder\.atom_transformer\.diffusion_transformer{_BLOCKS}",
        r"trunk.input_encoder.transformer.blocks.\1",
    ),
)
_IN_BLOCK = {
    "tri_mul_out": "tri_mul_out",
    "tri_mul_in": "tri_mul_in",
    "tri_att_start": "tri_att_start",
    "tri_att_end": "tri_att_end",
    "pair_transition": "pair_transition",
}


def our_name(upstream: str) -> str | None:
    """Our module for an upstream module; None for those that are compared as part of another."""
    for pattern, target, single in _STACKS:
        match = re.fullmatch(pattern + r"(?:\.(\w+))?", upstream)
        if not match:
            continue
        child = match.group(match.lastindex) if match.lastindex == 2 else None
        ours = match.expand(target)
        if child is None:
            return ours
        if child in _IN_BLOCK:
            return f"{ours}.pair.{child}" if single else f"{ours}.{child}"
        return f"{ours}.{ {'attention_pair_bias': 'single_attention', 'single_transition': child}[child] }"
    for pattern, target in _OTHERS:
        match = re.fullmatch(pattern, upstream)
        if match:
            return match.expand(target)
    return None


def _updated(module: nn.Module, x: Tensor, update: Tensor, *rest: object) -> Pair:
    """(x after the in-place module, x plus upstream's update): the sum, since a small update of a large x cancels."""
    ours = x.clone()
    module(ours, *rest)
    return ours, x + update


def _inputs(record: Record, name: str) -> dict[str, Tensor]:
    """Positional and keyword inputs of the first call; positional ones by number."""
    return record.under(f"taps.{name}.0.args") | record.under(f"taps.{name}.0.kwargs")


def _atom_block(block: nn.Module, a: Tensor, s: Tensor, p: Tensor, ops: Ops) -> Tensor:
    mask = window_key_mask(torch.ones(a.shape[-2], dtype=torch.bool))
    attention = block.attention
    bias = window_bias(attention.bias(attention.norm_z(p)), mask)
    out = a.clone()
    block(out, block.condition(s), bias, ops)
    return out


def compare_module(record: Record, upstream: str, ours: str, network: Network, batch: Batch, ops: Ops) -> Pair:
    """(our output, upstream's output) of one module."""
    module, x = network.get_submodule(ours), _inputs(record, upstream)
    out = f"taps.{upstream}.0.out"
    whole = record.tensors.get(out, record.tensors.get(f"{out}.0"))
    first = whole
    kind = ours.rsplit(".", 1)[-1]
    if kind in ("tri_mul_out", "tri_mul_in"):
        z = x["0"].clone()
        module(z, None, ops)
        return z, whole
    if kind == "tri_att_start":
        return _updated(module, x["0"], whole, None, ops)
    if kind == "tri_att_end":  # upstream hands over z transposed
        return _updated(module, x["0"].transpose(0, 1).contiguous(), whole.transpose(0, 1), None, ops)
    if kind == "opm":
        n, c_z = x["0"].shape[-2], network.spec.c_z
        z = torch.zeros(n, n, c_z)
        module(z, x["0"], None, ops)
        return z, whole
    if kind == "pwa":
        return _updated(module, x["0"], whole, x["1"], None, ops)
    if kind == "single_attention":
        return _updated(module, x["a"], whole, x["z"], None, ops)
    if kind == "relative":
        return module(batch.position, slice(0, batch.n_token)), whole
    if "transition" in kind:
        return _updated(module, x["0"], whole, ops)
    if re.match(r"diffusion\.transformer\.blocks", ours):
        transformer = network.diffusion.transformer
        index = int(kind)
        bias = transformer.bias(index, x["2"].squeeze(0) if x["2"].dim() == 4 else x["2"], None, ops)
        a = x["0"].clone()
        module(a, module.condition(x["1"]), bias, ops)
        return a, first
    if isinstance(network.get_submodule(ours.rsplit(".blocks", 1)[0]), AtomTransformer):
        return _atom_block(module, x["0"], x["1"], x["2"], ops), first
    raise NotImplementedError(ours)


def compare_modules(record: Record, network: Network, batch: Batch, ops: Ops) -> Iterator[tuple[str, Difference]]:
    """Our name and error of every recorded module that has a counterpart."""
    for upstream in record.modules():
        ours = our_name(upstream)
        if ours is None or _is_block(upstream):
            continue
        pair = compare_module(record, upstream, ours, network, batch, ops)
        yield ours, difference(upstream, *pair)


def _is_block(upstream: str) -> bool:
    """Whole pair blocks are the sum of their parts, which are compared one by one."""
    return bool(re.fullmatch(r"(.*pairformer_stack\.blocks\.\d+|msa_module\.blocks\.\d+(\.pair_stack)?)", upstream))


Comparer = Callable[[Record, Network, Batch, Ops], Iterator[Difference]]
