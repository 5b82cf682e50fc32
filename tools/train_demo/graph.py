"""The network with gradients: Foldline's own modules hold the parameters, the forward pass is written out of place.

Foldline's layers are for inference and update in place; what is here computes the same (a test compares them). Knows no
losses, files or steps.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldline.layers.atoms import AtomFeatures, AtomTransformer
from foldline.layers.diffusion import AdaptiveLayerNorm, DiffusionTransformerBlock, Modulation
from foldline.layers.heads import ConfidenceHead
from foldline.layers.msa import MsaBlock, OuterProductMean
from foldline.layers.pairformer import (
    PairBlock,
    PairformerBlock,
    PairformerStack,
    SingleAttention,
    Transition,
    TriangleAttention,
    TriangleMultiplication,
)
from foldline.layers.primitives import Linear, gather_tokens, mean_over_atoms
from foldline.models.batch import Batch
from foldline.models.network import DiffusionModule, Network, Trunk
from foldline.ops.triangle_attention import MASKED
from foldline.ops.window_attention import N_KEY, N_QUERY, n_window, window_key_mask, window_queries

Block = TypeVar("Block", bound=nn.Module)


def blocks_of(modules: nn.ModuleList, kind: type[Block]) -> Iterator[Block]:
    """The modules of a list, which are all of a kind."""
    for module in modules:
        assert isinstance(module, kind)
        yield module


def linear(layer: Linear, x: Tensor) -> Tensor:
    """The layer by autograd's own linear, which autocast knows."""
    return F.linear(x, layer.weight, layer.bias)


def window_keys(x: Tensor) -> Tensor:
    """Foldline's key windows of x [*b, N_atom, c], from slices, whose gradients are cheap; [*b, N_window, 128, c]."""
    n_atom, count, left = x.shape[-2], n_window(x.shape[-2]), (N_KEY - N_QUERY) // 2
    x = F.pad(x, (0, 0, left, count * N_QUERY + left - n_atom)).unflatten(-2, (-1, N_QUERY))
    return torch.cat([x[..., i : i + count, :, :] for i in range(N_KEY // N_QUERY)], dim=-2)


def transition(layer: Transition, x: Tensor) -> Tensor:
    """Update of a SwiGLU transition (AF3 SI Alg. 11)."""
    a, b = linear(layer.ab, layer.norm(x)).chunk(2, dim=-1)
    return linear(layer.out, F.silu(a) * b)


def triangle_multiplication(layer: TriangleMultiplication, z: Tensor) -> Tensor:
    """Update of z [N, N, c] (AF3 SI Alg. 12, 13)."""
    x = layer.norm_in(z)
    a_gate, a, b_gate, b = linear(layer.ab, x).chunk(4, dim=-1)
    a, b = a * a_gate.sigmoid(), b * b_gate.sigmoid()
    if layer.outgoing:
        update = torch.matmul(a.permute(2, 0, 1), b.permute(2, 1, 0))
    else:
        update = torch.matmul(a.permute(2, 1, 0), b.permute(2, 0, 1))
    return linear(layer.z, layer.norm_out(update.permute(1, 2, 0).float())) * linear(layer.gate, x).sigmoid()


def triangle_attention(layer: TriangleAttention, z: Tensor) -> Tensor:
    """Update of z [N, N, c] (AF3 SI Alg. 14, 15)."""
    view = z if layer.starting else z.transpose(0, 1)
    x = layer.norm(view)
    n_head = layer.bias.weight.shape[0]
    bias_of = x if layer.bias_transposed or layer.starting else layer.norm(z)
    bias = linear(layer.bias, bias_of).permute(2, 0, 1)
    q, k, v, gate = linear(layer.qkvg, x).unflatten(-1, (4, n_head, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    weight = (torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)) + bias).softmax(-1)
    o = torch.matmul(weight, v) * gate.sigmoid()
    update = linear(layer.out, o.transpose(1, 2).flatten(-2))
    return update if layer.starting else update.transpose(0, 1)


def pair_block(block: PairBlock, z: Tensor) -> Tensor:
    """z [N, N, c] after triangle updates and transition (AF3 SI Alg. 17, lines 2-6)."""
    for layer in (block.tri_mul_out, block.tri_mul_in):
        z = z + triangle_multiplication(layer, z)
    for layer in (block.tri_att_start, block.tri_att_end):
        z = z + triangle_attention(layer, z)
    return z + transition(block.pair_transition, z)


def single_attention(layer: SingleAttention, s: Tensor, z: Tensor) -> Tensor:
    """Update of s [N, c] with pair bias (AF3 SI Alg. 24)."""
    x = layer.norm(s)
    bias = linear(layer.bias, layer.norm_z(z)).permute(2, 0, 1)
    q = linear(layer.q, x).unflatten(-1, (layer.n_head, -1)).transpose(0, 1)
    k, v = linear(layer.kv, x).unflatten(-1, (2, layer.n_head, -1)).permute(1, 2, 0, 3).unbind(0)
    weight = (torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)) + bias).softmax(-1)
    o = torch.matmul(weight, v).transpose(0, 1).flatten(-2)
    return linear(layer.out, o * linear(layer.gate, x).sigmoid())


def pairformer(stack: PairformerStack, s: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """s and z after the stack (AF3 SI Alg. 17)."""
    for block in blocks_of(stack.blocks, PairformerBlock):
        z = pair_block(block.pair, z)
        s = s + single_attention(block.single_attention, s, z)
        s = s + transition(block.single_transition, s)
    return s, z


def outer_product_mean(layer: OuterProductMean, m: Tensor) -> Tensor:
    """Update of z from m [N_msa, N, c_m] (AF3 SI Alg. 9)."""
    a, b = linear(layer.ab, layer.norm(m)).chunk(2, dim=-1)
    outer = torch.einsum("sic,sjd->ijcd", a, b).flatten(-2)
    return linear(layer.out, outer) / (m.shape[0] + 1e-3)


def embed_inputs(network: Trunk, batch: Batch) -> Tensor:
    """s_inputs [N_token, c_s_inputs] (AF3 SI Alg. 2)."""
    encoder = network.input_encoder
    c = atom_single(encoder.features, batch, None)
    p = atom_pairs(encoder.features, batch, c, None)
    q = atom_transformer(encoder.transformer, c, c, atom_biases(encoder.transformer, batch, p))
    a = mean_over_atoms(F.relu(linear(encoder.q, q)).float(), batch.atoms.to_token, None, batch.n_token)
    restype = F.one_hot(batch.restype, batch.profile.shape[-1]).float()
    return torch.cat([a, restype, batch.profile, batch.deletion_mean[:, None]], dim=-1)


def pair_track(network: Trunk, batch: Batch, msa_rows: Tensor, s_inputs: Tensor) -> list[Tensor]:
    """z [N_token, N_token, c_z] as every pairformer block leaves it (AF3 SI Alg. 1 with one pass, no templates)."""
    s_init = linear(network.s_init, s_inputs).float()
    left, right = linear(network.z_init_left, s_init), linear(network.z_init_right, s_init)
    zero = s_init.new_zeros(batch.n_token, batch.n_token, network.c_z)
    z = linear(network.recycle_z, network.norm_z(zero)) + left[:, None] + right
    z = z + network.relative(batch.position, slice(0, batch.n_token))
    bond = batch.bond_weight[:, None] * network.bond.weight[:, 0]
    z = z.float().index_put(batch.bonds, bond, accumulate=True)
    module = network.msa_module
    table, has_deletion, deletion_value = module.m.weight.t().split([module.n_class, 1, 1])
    count = batch.deletions[msa_rows][..., None].float()
    value = torch.atan(count / 3) * (2 / torch.pi)
    m = table[batch.msa[msa_rows].long()] + (count > 0).float() * has_deletion + value * deletion_value
    m = (m + linear(module.s, s_inputs)).float()
    for block in blocks_of(module.blocks, MsaBlock):
        assert block.pwa is None, "one MSA block, which does not update the alignment"
        z = z + outer_product_mean(block.opm, m)
        z = pair_block(block.pair, z)
    after = []
    for block in blocks_of(network.pairformer.blocks, PairformerBlock):
        z = pair_block(block.pair, z)
        after.append(z)
    return after


def single_track(network: Trunk, s_inputs: Tensor, after: list[Tensor]) -> Tensor:
    """s [N_token, c_s] of one pass, from the result of `pair_track`."""
    s = linear(network.s_init, s_inputs).float()
    s = s + linear(network.recycle_s, network.norm_s(torch.zeros_like(s)))
    for block, z in zip(blocks_of(network.pairformer.blocks, PairformerBlock), after, strict=True):
        s = s + single_attention(block.single_attention, s, z)
        s = s + transition(block.single_transition, s)
    return s


def trunk(network: Trunk, batch: Batch, msa_rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """s_inputs, s and z of one pass from nothing (AF3 SI Alg. 1 with one cycle; networks without templates)."""
    s_inputs = embed_inputs(network, batch)
    after = pair_track(network, batch, msa_rows, s_inputs)
    return s_inputs, single_track(network, s_inputs, after), after[-1]


def atom_single(features: AtomFeatures, batch: Batch, s_trunk: Tensor | None) -> Tensor:
    """Atom conditioning c [N_atom, c_atom] (AF3 SI Alg. 5, lines 1, 9)."""
    atoms = batch.atoms
    mask, element, chars = features.ref_features.weight.t().split([1, features.n_element, 4 * 64])
    letter = torch.arange(4) * 64 + atoms.ref_atom_name_chars
    present = atoms.ref_mask[..., None].float()
    c = F.linear(atoms.ref_pos, features.ref_pos.weight)
    c = c + F.linear(torch.arcsinh(atoms.ref_charge)[..., None], features.ref_charge.weight)
    c = (c + present * mask + element[atoms.ref_element] + chars[letter].sum(-2)) * present
    if s_trunk is None:
        return c
    return c + gather_tokens(linear(features.s, features.norm_s(s_trunk)).float(), batch.atoms.to_token)


def atom_pairs(features: AtomFeatures, batch: Batch, c: Tensor, z: Tensor | None) -> Tensor:
    """Window pairs p [N_window, 32, 128, c_atompair] (AF3 SI Alg. 5, lines 2-6, 10, 13, 14)."""

    def windows(x: Tensor) -> tuple[Tensor, Tensor]:
        return window_queries(x)[..., :, :, None, :], window_keys(x)[..., :, None, :, :]

    pos_q, pos_k = windows(batch.atoms.ref_pos)
    uid_q, uid_k = windows(batch.atoms.ref_space_uid[:, None] + 1)
    offset = pos_q - pos_k
    same = (uid_q == uid_k).float() * (uid_k > 0)
    inverse = 1 / (1 + offset.square().sum(-1, keepdim=True))
    known = torch.cat([offset * same, inverse * same, same], dim=-1)
    weight = torch.cat([features.offset.weight, features.inverse_distance.weight, features.same_space.weight], dim=1)
    p = F.linear(known, weight)
    if z is not None:
        query, key = windows(batch.atoms.to_token[:, None])
        p = p + linear(features.z, features.norm_z(z))[query[..., 0], key[..., 0]]
    activated = F.relu(c)
    p = p + window_queries(linear(features.pair_query, activated))[:, :, None]
    p = p + window_keys(linear(features.pair_key, activated))[:, None]
    hidden = p
    for layer in blocks_of(features.mlp, Linear):
        hidden = linear(layer, F.relu(hidden))
    return p + hidden


def atom_biases(transformer: AtomTransformer, batch: Batch, p: Tensor) -> list[Tensor]:
    """Attention bias of every block, [N_window, N_head, 32, 128], missing keys masked."""
    mask = window_key_mask(torch.ones_like(batch.atoms.to_token, dtype=torch.bool))[:, None, None, :]
    made = []
    for block in transformer.blocks:
        attention = block.attention
        bias = linear(attention.bias, attention.norm_z(p.float())).movedim(-1, -3)
        made.append(bias.masked_fill(~mask, MASKED))
    return made


def modulation(norm: AdaptiveLayerNorm, s: Tensor) -> Modulation:
    """Scale and shift of an adaptive norm (AF3 SI Alg. 26)."""
    s = norm.norm_s(s)
    return Modulation(linear(norm.scale, s).sigmoid(), linear(norm.shift, s))


def modulate(a: Tensor, m: Modulation) -> Tensor:
    """The adaptive norm."""
    return F.layer_norm(a, a.shape[-1:]) * m.scale + m.shift


def conditioned_transition(block: DiffusionTransformerBlock, a: Tensor, s: Tensor) -> Tensor:
    """Update of a (AF3 SI Alg. 25)."""
    layer = block.transition
    left, right = linear(layer.ab, modulate(a, modulation(layer.norm, s))).chunk(2, dim=-1)
    return linear(layer.out, F.silu(left) * right) * linear(layer.out_gate, s).sigmoid()


def token_block(block: DiffusionTransformerBlock, a: Tensor, s: Tensor, bias: Tensor) -> Tensor:
    """a [B, N, c] after one block of the token transformer (AF3 SI Alg. 23, 24)."""
    layer = block.attention
    x = modulate(a, modulation(layer.norm, s))
    q = linear(layer.q, x).unflatten(-1, (layer.n_head, -1)).transpose(1, 2)
    k, v = linear(layer.kv, x).unflatten(-1, (2, layer.n_head, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    weight = (torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)) + bias).softmax(-1).to(v.dtype)
    o = torch.matmul(weight, v).transpose(1, 2).flatten(-2)
    a = a + linear(layer.out, o * linear(layer.gate, x).sigmoid()) * linear(layer.out_gate, s).sigmoid()
    return a + conditioned_transition(block, a, s)


def atom_block(block: DiffusionTransformerBlock, q: Tensor, c: Tensor, bias: Tensor) -> Tensor:
    """q [*b, N_atom, c] after one block of the atom transformer (AF3 SI Alg. 7)."""
    layer = block.attention
    assert layer.norm_keys is not None, "atom attention normalises its keys apart"
    x = modulate(q, modulation(layer.norm, c))
    keys = modulate(x, modulation(layer.norm_keys, c))
    n_head, n_atom = layer.n_head, q.shape[-2]
    queries = window_queries(linear(layer.q, x)).unflatten(-1, (n_head, -1)).transpose(-2, -3)
    k, v = window_keys(linear(layer.kv, keys)).unflatten(-1, (2, n_head, -1)).movedim(-4, -2).unbind(-4)
    weight = (torch.matmul(queries * queries.shape[-1] ** -0.5, k.transpose(-1, -2)) + bias).softmax(-1).to(v.dtype)
    o = torch.matmul(weight, v).transpose(-2, -3).flatten(-2).flatten(-3, -2)[..., :n_atom, :]
    q = q + linear(layer.out, o * linear(layer.gate, x).sigmoid()) * linear(layer.out_gate, c).sigmoid()
    return q + conditioned_transition(block, q, c)


def atom_transformer(transformer: AtomTransformer, q: Tensor, c: Tensor, biases: list[Tensor]) -> Tensor:
    """q after all blocks."""
    for block, bias in zip(transformer.blocks, biases, strict=True):
        q = atom_block(block, q, c, bias)
    return q


class Shared(NamedTuple):
    """What the noise draws of one target share."""

    s: Tensor  # [N_token, c_s], single conditioning without noise
    token_biases: list[Tensor]  # [N_head, N_token, N_token] of every block
    c: Tensor  # [N_atom, c_atom]
    encoder_biases: list[Tensor]
    decoder_biases: list[Tensor]

    def detach(self) -> "Shared":
        """The same values without gradients."""

        def cut(x: list[Tensor]) -> list[Tensor]:
            return [one.detach() for one in x]

        return Shared(
            self.s.detach(), cut(self.token_biases), self.c.detach(), cut(self.encoder_biases), cut(self.decoder_biases)
        )


def share(module: DiffusionModule, batch: Batch, s_inputs: Tensor, s: Tensor, z: Tensor) -> Shared:
    """Everything of the diffusion module that depends on the trunk alone (AF3 SI Alg. 21, lines 1-7)."""
    conditioning = module.conditioning
    relative = conditioning.relative(batch.position, slice(0, batch.n_token))
    pair = linear(conditioning.z, conditioning.norm_z(torch.cat([z, relative], dim=-1))).float()
    pair = pair + transition(conditioning.transition_z1, pair)
    pair = pair + transition(conditioning.transition_z2, pair)
    base = linear(conditioning.s, conditioning.norm_s(torch.cat([s, s_inputs], dim=-1))).float()
    c = atom_single(module.encoder.features, batch, s)
    p = atom_pairs(module.encoder.features, batch, c, pair)
    biases = [
        linear(block.attention.bias, block.attention.norm_z(pair)).permute(2, 0, 1)
        for block in module.transformer.blocks
    ]
    return Shared(
        base,
        biases,
        c,
        atom_biases(module.encoder.transformer, batch, p),
        atom_biases(module.decoder.transformer, batch, p),
    )


def denoise(module: DiffusionModule, batch: Batch, x_noisy: Tensor, t_hat: Tensor, shared: Shared) -> Tensor:
    """Denoised positions float32 [B, N_atom, 3] in Å (AF3 SI Alg. 20) of B draws, each with its own noise level.

    Args:
        module: the diffusion module.
        batch: the target.
        x_noisy: [B, N_atom, 3] Å.
        t_hat: [B] Å.
        shared: from `share`.
    """
    level = t_hat[:, None, None]
    conditioning = module.conditioning
    noise = (torch.log(t_hat / conditioning.sigma_data) / 4)[:, None]
    noise = torch.cos(2 * torch.pi * (noise * conditioning.fourier_w + conditioning.fourier_b))
    s = shared.s + linear(conditioning.n, conditioning.norm_n(noise))[:, None]
    s = s + transition(conditioning.transition_s1, s)
    s = s + transition(conditioning.transition_s2, s)
    r = x_noisy / torch.sqrt(module.sigma_data**2 + level**2)
    assert module.encoder.r is not None, "the encoder of the diffusion module reads positions"
    q = shared.c + F.linear(r, module.encoder.r.weight)
    q = atom_transformer(module.encoder.transformer, q, shared.c, shared.encoder_biases)
    a = mean_over_atoms(F.relu(linear(module.encoder.q, q)).float(), batch.atoms.to_token, None, batch.n_token)
    a = a + linear(module.s, module.norm_s(s))
    for block, bias in zip(module.transformer.blocks, shared.token_biases, strict=True):
        a = token_block(block, a, s, bias)
    q = q + gather_tokens(linear(module.decoder.a, module.norm_a(a)), batch.atoms.to_token)
    q = atom_transformer(module.decoder.transformer, q, shared.c, shared.decoder_biases)
    with torch.autocast("cpu", enabled=False):
        out = F.linear(module.decoder.norm_q(q.float()), module.decoder.out.weight)
    ratio = level / module.sigma_data
    return x_noisy / (1 + ratio**2) + level / torch.sqrt(1 + ratio**2) * out


def distogram(network: Network, z: Tensor) -> Tensor:
    """Logits [N_token, N_token, n_bin]."""
    logits = linear(network.distogram.linear, z)
    return logits + logits.transpose(0, 1)


class Errors(NamedTuple):
    """Logits of the confidence head for one sample."""

    plddt: Tensor  # [N_atom, n_bin]
    resolved: Tensor  # [N_atom, 2]
    pae: Tensor  # [N_token, N_token, n_bin]
    pde: Tensor  # [N_token, N_token, n_bin]


def confidence(head: ConfidenceHead, batch: Batch, embeddings: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Errors:
    """Confidence logits of positions x [N_atom, 3] in Å from (s_inputs, s, z) (AF3 SI Alg. 31)."""
    s_inputs, s_trunk, z = embeddings
    rep = x[batch.rep_atom]
    distance = (rep[:, None] - rep[None]).square().sum(-1, keepdim=True).sqrt()
    lower = torch.arange(3.25, 52.0, 1.25)
    upper = torch.cat([lower[1:], lower.new_full((1,), 1e6)])
    bins = ((distance > lower) & (distance < upper)).float()
    left, right = linear(head.left, s_inputs), linear(head.right, s_inputs)
    z = z + left[None] + right[:, None] + linear(head.distance_bins, bins) + F.linear(distance, head.distance.weight)
    s, z = pairformer(head.stack, head.norm_s(s_trunk.clamp(-512, 512)), z.float())
    pae = linear(head.pae, head.norm_pae(z))
    pde = linear(head.pde, head.norm_pde(z + z.transpose(0, 1)))
    pick = (batch.atoms.to_token, batch.atom_in_token)
    plddt = torch.einsum("ic,ncb->inb", head.norm_plddt(s), head.plddt)[pick]
    resolved = torch.einsum("ic,ncb->inb", head.norm_resolved(s), head.resolved)[pick]
    return Errors(plddt.float(), resolved.float(), pae.float(), pde.float())
