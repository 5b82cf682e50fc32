"""Names of axes and tensors: the legend that every docstring and annotation of the network uses.

Sizes     N_token tokens, N_atom atoms, N_msa alignment rows, N_templ templates, N_sample samples, N_seed seeds,
          N_block blocks, N_head heads; `*b` any leading batch axes
Channels  c_s single, c_z pair, c_m MSA, c_atom, c_atompair, c_token (diffusion), c_hidden
Letters   i j k tokens, l m atoms, s MSA row, t template, h head, c d channel
Tensors   s single, z pair, m MSA, a token activations (diffusion), q c atom single and its condition, p atom pair,
          x coordinates in Å; s_inputs, s_trunk, z_trunk, x_noisy, t_hat

The aliases carry their axes where jaxtyping is installed, so that tests can check them, else they are tensors.
"""

from types import EllipsisType
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

if TYPE_CHECKING:
    Pair: TypeAlias = Tensor
    Single: TypeAlias = Tensor
    Msa: TypeAlias = Tensor
    TokenMask: TypeAlias = Tensor
    PairMask: TypeAlias = Tensor
    AtomMask: TypeAlias = Tensor
    AtomSingle: TypeAlias = Tensor
    TokenActivations: TypeAlias = Tensor
    AtomCoords: TypeAlias = Tensor
else:
    try:
        import jaxtyping
    except ImportError:
        jaxtyping = None

    def _axes(kind: str, axes: str) -> object:
        return Tensor if jaxtyping is None else getattr(jaxtyping, kind)[Tensor, axes]

    Pair = _axes("Float", "*b N_token N_token c_z")
    Single = _axes("Float", "*b N_token c_s")
    Msa = _axes("Float", "*b N_msa N_token c_m")
    TokenMask = _axes("Bool", "*b N_token")  # True = keep
    PairMask = _axes("Bool", "*b N_token N_token")
    AtomMask = _axes("Bool", "*b N_atom")
    AtomSingle = _axes("Float", "*b N_atom c_atom")
    TokenActivations = _axes("Float", "*b N_sample N_token c_token")
    AtomCoords = _axes("Float", "*b N_sample N_atom 3")


@runtime_checkable
class PairRows(Protocol):
    """A pair representation whose rows are read: a tensor, or one that rests elsewhere and gives rows on `device`."""

    @property
    def shape(self) -> torch.Size:
        """[*b, N_token, N_token, c_z]."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows."""
        ...

    @property
    def device(self) -> torch.device:
        """Where rows are given."""
        ...

    def __getitem__(self, index: slice | tuple[EllipsisType | slice, ...], /) -> Tensor:
        """Rows: [i] without leading axes, [..., i, :, :] with them."""
        ...
