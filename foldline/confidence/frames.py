"""Frames of tokens by predicted positions (AF3 SI 4.3.2): a token of one atom takes its two nearest atoms.

Distances are made for a block of atoms at a time and forgotten: nothing is of size N_atom x N_atom. Knows positions and
chains, not residues: which tokens have a frame of their own is told.
"""

import math

import torch
from torch import Tensor

MIN_ANGLE = 25.0  # degrees from a line
EPS = 1e-8  # Å^2, on every axis of a distance and on a length
# distances at a time: a processor's cache, or enough work for one launch on an accelerator
_BLOCK, _DEVICE_BLOCK = 1 << 18, 1 << 23


def has_frame(x: Tensor, chain: Tensor, atom_mask: Tensor, atom_to_token: Tensor, standard: Tensor) -> Tensor:
    """Which tokens have a frame, bool [*, N_token], for every one of some samples.

    A token that holds one atom has a frame when its chain has two more atoms and the nearest two make an angle with it
    that is over 25 degrees from a line. All others have one where `standard` says so.
    OpenFold3: `has_frame` by predicted positions, core/utils/atomize_utils.py:730-887 (AlphaFold 3 and Protenix take
    the reference conformer). As there, an atom at the very place of its neighbour makes a right angle.

    Args:
        x: positions float [*, N_atom, 3], Å; those of padding are not read.
        chain: chain of every atom [N_atom].
        atom_mask: bool [N_atom], False = padding.
        atom_to_token: token of every atom [N_atom].
        standard: tokens with a frame of their own atoms, bool [N_token]; False for padding and for single atoms.
    """
    real = atom_mask.nonzero()[:, 0]
    token = atom_to_token[real].long()
    size = torch.zeros(len(standard), dtype=torch.long, device=x.device).index_add_(0, token, torch.ones_like(token))
    alone = size[token] == 1
    centre, token = real[alone], token[alone]
    out = standard.expand(*x.shape[:-2], -1).clone()
    near = nearest_two(x, chain, atom_mask, centre)
    b = x[..., centre, :]
    u, v = (_take(x, near[..., i].clamp(min=0)) - b for i in (0, 1))
    lengths = torch.sqrt(EPS + (u**2).sum(-1)) * torch.sqrt(EPS + (v**2).sum(-1))
    cosine = (u * v).sum(-1) / lengths
    limit = math.cos(math.radians(MIN_ANGLE))
    out[..., token] = (near[..., 1] >= 0) & (cosine < limit) & (cosine > -limit)
    return out


def nearest_two(x: Tensor, chain: Tensor, atom_mask: Tensor, atoms: Tensor) -> Tensor:
    """The nearest two other atoms of the same chain, int64 [*, N_query, 2]; -1 where the chain has no more.

    Exact: distances are differences in the precision of `x`, and equal ones go to the atom listed first, as a stable
    sort of all of them has it. Peak: 8 bytes per distance of a block (2 MB; 64 on an accelerator) and a few per atom.

    Args:
        x: positions float [*, N_atom, 3], Å.
        chain: chain of every atom [N_atom].
        atom_mask: bool [N_atom], False = padding, which is nobody's neighbour.
        atoms: int64 [N_query], whose neighbours are wanted; none of them padding.
    """
    out = x.new_full((*x.shape[:-2], len(atoms), 2), -1, dtype=torch.long)
    flat = x.reshape(-1, *x.shape[-2:])
    found = out.view(len(flat), len(atoms), 2)
    members = _by_chain(chain, atom_mask.nonzero()[:, 0])
    for key, asked in _by_chain(chain[atoms], torch.arange(len(atoms), device=x.device)).items():
        inside = members[key]
        count = min(2, len(inside) - 1)
        if count:
            own = torch.searchsorted(inside, atoms[asked])
            for sample in range(len(flat)):
                near = _nearest(flat[sample, inside], own, count)
                found[sample, asked, :count] = inside[near]
    return out


def _by_chain(chain: Tensor, which: Tensor) -> dict[int, Tensor]:
    """The entries `which` of `chain`, in their order, by chain."""
    order = chain[which].argsort(stable=True)
    keys, sizes = chain[which][order].unique_consecutive(return_counts=True)
    return dict(zip(keys.tolist(), which[order].split(sizes.tolist()), strict=True))


def _nearest(x: Tensor, own: Tensor, count: int) -> Tensor:
    """Places of the nearest `count` atoms in x [N, 3] but itself, for every place of `own`; int64 [N_query, count]."""
    columns = x.T.contiguous()
    out = torch.empty(len(own), count, dtype=torch.long, device=x.device)
    step = max(1, (_BLOCK if x.device.type == "cpu" else _DEVICE_BLOCK) // len(x))
    for start in range(0, len(own), step):
        places = own[start : start + step]
        row = torch.arange(len(places), device=x.device)
        distance = _distances(columns[:, places], columns)
        distance[row, places] = math.inf
        for i in range(count):
            chosen = distance.argmin(1)  # the first of equals
            out[start : start + step, i] = chosen
            distance[row, chosen] = math.inf
    return out


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Distances [N_a, N_b] of positions [3, N_a] and [3, N_b], by differences, axis by axis."""
    total = _squares(a[0], b[0])
    for axis in (1, 2):
        total += _squares(a[axis], b[axis])
    return total.sqrt_()


def _squares(a: Tensor, b: Tensor) -> Tensor:
    difference = a[:, None] - b
    return difference.mul_(difference).add_(EPS)


def _take(x: Tensor, atoms: Tensor) -> Tensor:
    """Positions x [*, N_atom, 3] of atoms [*, N]."""
    return x.gather(-2, atoms[..., None].expand(*atoms.shape, 3))
