"""Atom attention encoder and decoder (AF3 SI Alg. 5-7) over windows of 32 queries and 128 keys.

Pair features of atoms exist only inside windows and only while the attention biases are made from them.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldline.layers.diffusion import BlockConditions, DiffusionTransformerBlock
from foldline.layers.primitives import Blocks, LayerNorm, Linear, gather_tokens, mean_over_atoms
from foldline.ops import Ops
from foldline.ops.window_attention import (
    N_KEY,
    N_QUERY,
    n_window,
    window_bias,
    window_key_mask,
    window_keys,
    window_queries,
)


class Atoms(NamedTuple):
    """Atom columns of the features on the device; leading axes [*b] are those of a batch of seeds or jobs."""

    mask: Tensor | None  # bool [*b, N_atom]; None = no padding
    ref_pos: Tensor  # float32 [*b, N_atom, 3] Å, with the seed's random pose
    ref_mask: Tensor  # bool [*b, N_atom]
    ref_charge: Tensor  # float32 [*b, N_atom]
    ref_element: Tensor  # int [*b, N_atom], atomic number - 1
    ref_atom_name_chars: Tensor  # int [*b, N_atom, 4]
    ref_space_uid: Tensor  # int [*b, N_atom]
    to_token: Tensor  # int64 [N_atom] or [*b, N_atom]

    def for_samples(self) -> "Atoms":
        """The same columns with a sample axis of one before the atoms, to broadcast over samples."""
        if self.to_token.dim() == 1:
            return self
        return self._replace(
            to_token=self.to_token.unsqueeze(-2), mask=None if self.mask is None else self.mask.unsqueeze(-2)
        )


class AtomConditions(NamedTuple):
    """What an atom transformer needs beside its activations: per block, the conditions and the masked window bias."""

    blocks: list[BlockConditions]
    biases: list[Tensor]  # [*b, N_window, N_head, 32, 128]

    def for_samples(self) -> "AtomConditions":
        """The same with a sample axis of one, to broadcast over samples."""
        return AtomConditions([b.for_samples() for b in self.blocks], [bias.unsqueeze(-5) for bias in self.biases])


class AtomTransformer(nn.Module):
    """Sequence-local transformer of atoms (AF3 SI Alg. 7)."""

    def __init__(self, n_block: int, c_atom: int, c_atompair: int, n_head: int) -> None:
        super().__init__()
        self.blocks = Blocks(
            DiffusionTransformerBlock(c_atom, c_atom, c_atompair, n_head, cross=True) for _ in range(n_block)
        )

    def forward(self, q: Tensor, conditions: AtomConditions, ops: Ops) -> None:
        """Update q [*b, N_atom, c_atom] in place."""
        for block, c, bias in zip(self.blocks, *conditions, strict=True):
            block(q, c, bias, ops)


class AtomFeatures(nn.Module):
    """Atom single and window pair conditioning from the reference conformers (AF3 SI Alg. 5, lines 1-6).

    With `trunk` sizes, the trunk's single and pair representations are added (lines 8-10).
    Protenix: the offset term (line 3) is masked, the inverse distance (line 5) is masked, the same-space term is not
    multiplied again, protenix/model/modules/transformer.py:728-818.
    """

    def __init__(self, c_atom: int, c_atompair: int, n_element: int, trunk: tuple[int, int] | None) -> None:
        super().__init__()
        self.n_element = n_element
        self.ref_pos = Linear(3, c_atom)
        self.ref_charge = Linear(1, c_atom)
        self.ref_features = Linear(1 + n_element + 4 * 64, c_atom)
        self.offset = Linear(3, c_atompair)
        self.inverse_distance = Linear(1, c_atompair)
        self.same_space = Linear(1, c_atompair)
        self.pair_query = Linear(c_atom, c_atompair)
        self.pair_key = Linear(c_atom, c_atompair)
        self.mlp = nn.ModuleList(Linear(c_atompair, c_atompair) for _ in range(3))
        if trunk is not None:
            c_s, c_z = trunk
            self.norm_s = LayerNorm(c_s, offset=False)
            self.s = Linear(c_s, c_atom)
            self.norm_z = LayerNorm(c_z, offset=False)
            self.z = Linear(c_z, c_atompair)

    def single(self, atoms: Atoms) -> Tensor:
        """Atom conditioning [*b, N_atom, c_atom] from the conformer alone (line 1), zero where there is none."""
        mask, element, chars = self.ref_features.weight.t().split([1, self.n_element, 4 * 64])
        letter = torch.arange(4, device=chars.device) * 64 + atoms.ref_atom_name_chars.long()
        present = atoms.ref_mask[..., None].to(mask.dtype)
        c = self.ref_pos.positions(atoms.ref_pos) + self.ref_charge.positions(
            torch.arcsinh(atoms.ref_charge)[..., None]
        )
        c += present * mask + element[atoms.ref_element.long()] + chars[letter].sum(-2)
        return c.mul_(present)

    def pairs(self, atoms: Atoms, c: Tensor, z: Tensor | None, windows: slice) -> Tensor:
        """Window pairs [*b, n, 32, 128, c_atompair] of the windows in the slice (lines 2-6, 10, 13, 14).

        Args:
            atoms: atom columns.
            c: atom conditioning [*b, N_atom, c_atom], the trunk's single included.
            z: pair conditioning [*b, N_token, N_token, c_z] or None.
            windows: which query windows.
        """
        pos_q, pos_k = _pair_windows(atoms.ref_pos, windows)
        uid_q, uid_k = _pair_windows(atoms.ref_space_uid[..., None] + 1, windows)  # 0 = outside
        offset = pos_q - pos_k
        same = (uid_q == uid_k).to(c.dtype) * (uid_k > 0)
        p = self.offset.positions(offset) * same
        p += self.inverse_distance.positions(1 / (1 + offset.square().sum(-1, keepdim=True))) * same + self.same_space(
            same
        )
        if z is not None:
            p += self.z(self.norm_z(_gather_pairs(z, atoms.to_token, windows).to(c.dtype)))
        query, key = _pair_windows(F.relu(c), windows)
        p += self.pair_query(query)
        p += self.pair_key(key)
        hidden = p
        for layer in self.mlp:
            hidden = layer(F.relu(hidden))
        return p.add_(hidden)


def _pair_windows(x: Tensor, windows: slice) -> tuple[Tensor, Tensor]:
    """Query and key rows of some windows, shaped to broadcast: [*b, n, 32, 1, c] and [*b, n, 1, 128, c]."""
    return window_queries(x)[..., windows, :, None, :], window_keys(x)[..., windows, None, :, :]


def _gather_pairs(z: Tensor, to_token: Tensor, windows: slice) -> Tensor:
    """Token pairs of some windows: z [*b, N_token, N_token, c] -> [*b, n, 32, 128, c]."""
    query, key = _pair_windows(to_token[..., None], windows)
    index = (query * z.shape[-2] + key)[..., 0]
    flat = z.flatten(-3, -2)
    if index.dim() == 3:
        return flat[..., index, :]
    return flat.gather(-2, index.flatten(-3)[..., None].expand(*index.shape[:-3], -1, z.shape[-1])).unflatten(
        -2, index.shape[-3:]
    )


class AtomAttentionEncoder(nn.Module):
    """Atom attention encoder (AF3 SI Alg. 5)."""

    def __init__(
        self,
        n_block: int,
        *,
        c_atom: int,
        c_atompair: int,
        c_token: int,
        n_head: int,
        n_element: int,
        trunk: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.features = AtomFeatures(c_atom, c_atompair, n_element, trunk)
        self.r = Linear(3, c_atom) if trunk is not None else None
        self.transformer = AtomTransformer(n_block, c_atom, c_atompair, n_head)
        self.q = Linear(c_atom, c_token)

    def condition(
        self, atoms: Atoms, s: Tensor | None, z: Tensor | None, transformers: list[AtomTransformer], ops: Ops
    ) -> tuple[Tensor, list[AtomConditions]]:
        """Atom conditioning c [*b, N_atom, c_atom] and the conditions of each of `transformers`, equal for all steps.

        Args:
            atoms: atom columns.
            s: trunk single [*b, N_token, c_s] or None.
            z: pair conditioning [*b, N_token, N_token, c_z] or None.
            transformers: this encoder's and, in the diffusion module, the decoder's.
            ops: work sizes; windows are walked in blocks, window pairs are never held for all of them.
        """
        features = self.features
        c = features.single(atoms)
        if s is not None:
            c = c + gather_tokens(features.s(features.norm_s(s)), atoms.to_token)
        mask = atoms.mask if atoms.mask is not None else torch.ones_like(atoms.to_token, dtype=torch.bool)
        key_mask = window_key_mask(mask)
        total = n_window(c.shape[-2])
        blocks = [block for transformer in transformers for block in transformer.blocks]
        n_head = blocks[0].attention.n_head
        biases = [c.new_empty(*c.shape[:-2], total, n_head, N_QUERY, N_KEY) for _ in blocks]
        step = max(1, ops.rows.point * 8 // (N_QUERY * N_KEY * math.prod(c.shape[:-2])))
        for start in range(0, total, step):
            windows = slice(start, min(start + step, total))
            p = features.pairs(atoms, c, z, windows)
            for bias, block in zip(biases, blocks, strict=True):
                attention = block.attention
                bias[..., windows, :, :, :] = window_bias(
                    attention.bias(attention.norm_z(p)), key_mask[..., windows, :]
                )
        conditions, first = [], 0
        for transformer in transformers:
            last = first + len(transformer.blocks)
            conditions.append(AtomConditions([b.condition(c) for b in transformer.blocks], biases[first:last]))
            first = last
        return c, conditions

    def forward(
        self, atoms: Atoms, c: Tensor, conditions: AtomConditions, r: Tensor | None, n_token: int, ops: Ops
    ) -> tuple[Tensor, Tensor]:
        """Token activations a [*b, N_token, c_token] and atom activations q [*b, N_atom, c_atom].

        Args:
            atoms: atom columns; only `mask` and `to_token` are read.
            c: atom conditioning [*b, N_atom, c_atom]; with samples [*b, 1, N_atom, c_atom].
            conditions: of this encoder's transformer, with the same leading axes.
            r: noisy positions, scaled [*b, N_sample, N_atom, 3], or None. Protenix: q starts from c with the trunk's
                single already added, protenix/model/modules/transformer.py:908-909.
            n_token: number of tokens, padding included.
            ops: implementations.
        """
        q = c.clone() if self.r is None or r is None else c + self.r.positions(r)
        self.transformer(q, conditions, ops)
        return mean_over_atoms(F.relu(self.q(q)), atoms.to_token, atoms.mask, n_token), q


class AtomAttentionDecoder(nn.Module):
    """Atom attention decoder (AF3 SI Alg. 6)."""

    def __init__(self, n_block: int, *, c_atom: int, c_atompair: int, c_token: int, n_head: int) -> None:
        super().__init__()
        self.a = Linear(c_token, c_atom)
        self.transformer = AtomTransformer(n_block, c_atom, c_atompair, n_head)
        self.norm_q = LayerNorm(c_atom, offset=False)
        self.out = Linear(c_atom, 3)

    def forward(self, a: Tensor, q: Tensor, to_token: Tensor, conditions: AtomConditions, ops: Ops) -> Tensor:
        """Position update, float32 [*b, N_atom, 3], from tokens a [*b, N_token, c_token] and atoms q; q is used up."""
        q += gather_tokens(self.a(a), to_token)
        self.transformer(q, conditions, ops)
        return self.out.in_float32(self.norm_q(q).float())
