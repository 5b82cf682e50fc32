"""Parameters in the paper's language: linear layers and norms without initialisation. Values come from a checkpoint."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldline.ops.linear import linear

Block = TypeVar("Block", bound=nn.Module)


class Blocks(nn.ModuleList, Generic[Block]):
    """A list of equal blocks that tells type checkers what they are."""

    if TYPE_CHECKING:

        def __getitem__(self, index: int) -> Block: ...

        def __iter__(self) -> Iterator[Block]: ...


class Linear(nn.Module):
    """y = W x (+ b); weight [c_out, c_in]."""

    def __init__(self, c_in: int, c_out: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c_out, c_in), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(c_out), requires_grad=False) if bias else None

    @property
    def affine(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, as the ops take them."""
        return self.weight, self.bias

    def forward(self, x: Tensor) -> Tensor:
        """Apply to the last axis."""
        return linear(x, self.weight, self.bias)

    def positions(self, x: Tensor) -> Tensor:
        """Apply to positions or charges x in float32, whatever the parameters' precision, which the result has."""
        return self.in_float32(x.float()).to(self.weight.dtype)

    def in_float32(self, x: Tensor) -> Tensor:
        """Apply the weight to x, float32, whatever the parameters' precision."""
        return linear(x, self.weight.float())


class LayerNorm(nn.Module):
    """Layer norm over the last axis, eps 1e-5; `offset` False = scale only."""

    def __init__(self, c: int, *, offset: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(c), requires_grad=False) if offset else None

    @property
    def affine(self) -> tuple[Tensor, Tensor | None]:
        """Scale and offset, as the ops take them."""
        return self.weight, self.bias

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias)

    def in_float32(self, x: Tensor) -> Tensor:
        """Normalise the last axis of x, float32, whatever the parameters' dtype."""
        return F.layer_norm(x, x.shape[-1:], self.weight.float(), None if self.bias is None else self.bias.float())


def gather_tokens(x: Tensor, atom_to_token: Tensor) -> Tensor:
    """Token rows at atoms: x [*b, N_token, c], atom_to_token [N_atom] or [*b', N_atom] -> [*b, N_atom, c]."""
    if atom_to_token.dim() == 1:
        return x.index_select(-2, atom_to_token)
    index = atom_to_token[..., None].expand(*x.shape[:-2], atom_to_token.shape[-1], x.shape[-1])
    return x.gather(-2, index)


def mean_over_atoms(x: Tensor, atom_to_token: Tensor, atom_mask: Tensor | None, n_token: int) -> Tensor:
    """Mean of the atoms of every token: x [*b, N_atom, c] -> [*b, N_token, c]; tokens without atoms get 0.

    Args:
        x: atom activations.
        atom_to_token: [N_atom] or [*b', N_atom].
        atom_mask: True = keep, same shape; None = no padding.
        n_token: number of tokens, padding included.
    """
    weight = torch.ones_like(atom_to_token, dtype=x.dtype) if atom_mask is None else atom_mask.to(x.dtype)
    if atom_mask is not None:
        x = x * weight[..., None]
    index = atom_to_token.expand(*x.shape[:-1])
    total = x.new_zeros(*x.shape[:-2], n_token, x.shape[-1])
    total.scatter_add_(-2, index[..., None].expand(x.shape), x)
    count = x.new_zeros(*atom_to_token.shape[:-1], n_token).scatter_add_(-1, atom_to_token, weight)
    return total.div_(count.clamp_(min=1)[..., None])
