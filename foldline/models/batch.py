"""Batch: the features as tensors that the network reads, on its device. Padding is cleared here, whatever was in it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foldline.layers.atoms import Atoms
from foldline.layers.relative import Positions
from foldline.layers.template import Template
from foldline.tensors import Features


@dataclass(frozen=True)
class Batch:
    """One job on a device. Masks are None where nothing is padded, so that unpadded runs pay nothing for them."""

    n_token: int  # padding included
    token_mask: Tensor | None  # bool [N_token]
    position: Positions
    restype: Tensor  # int64 [N_token]
    profile: Tensor  # float32 [N_token, n_class]
    deletion_mean: Tensor  # float32 [N_token]
    bonds: tuple[Tensor, Tensor]  # token indices int64 [N_bond] each, both directions listed
    bond_weight: Tensor  # float32 [N_bond], 0 for padding
    rep_atom: Tensor  # int64 [N_token]
    atoms: Atoms
    atom_in_token: Tensor  # int64 [N_atom]
    msa: Tensor  # int8 [N_msa, N_token]
    deletions: Tensor  # uint8 [N_msa, N_token]
    templates: list[Template]

    @classmethod
    def of(cls, features: Features, ref_pos: np.ndarray, device: torch.device | str, max_msa: int) -> "Batch":
        """Put features on `device`; `ref_pos` [N_atom, 3] is the posed conformer of the seed (padded or not).

        Alignment rows beyond `max_msa` are dropped, padding rows are not carried along: the rows that a pass reads are
        drawn on the CPU, from the true count.
        """
        f = features
        token, atom = f.token_mask, f.atom_mask

        def put(x: np.ndarray, mask: np.ndarray, dtype: torch.dtype) -> Tensor:
            keep = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
            return torch.from_numpy(np.where(keep, x, np.zeros((), x.dtype))).to(device=device, dtype=dtype)

        posed = np.zeros(f.ref_pos.shape, np.float32)
        posed[: len(ref_pos)] = ref_pos
        columns = (f.residue_index, f.token_index, f.asym_id, f.entity_id, f.sym_id)
        bonds = put(f.bond_tokens, f.bond_mask, torch.int64)
        rows = np.flatnonzero(f.msa_mask)[:max_msa]
        return cls(
            n_token=len(token),
            token_mask=None if token.all() else torch.from_numpy(token).to(device),
            position=Positions(*(put(x, token, torch.int32) for x in columns)),
            restype=put(f.restype, token, torch.int64),
            profile=put(f.profile, token, torch.float32),
            deletion_mean=put(f.deletion_mean, token, torch.float32),
            bonds=(bonds[:, 0], bonds[:, 1]),
            bond_weight=torch.from_numpy(f.bond_mask.astype(np.float32)).to(device),
            rep_atom=put(f.rep_atom, token, torch.int64),
            atoms=Atoms(
                mask=None if atom.all() else torch.from_numpy(atom).to(device),
                ref_pos=put(posed, atom, torch.float32),
                ref_mask=put(f.ref_mask, atom, torch.bool),
                ref_charge=put(f.ref_charge, atom, torch.float32),
                ref_element=put(f.ref_element, atom, torch.int64),
                ref_atom_name_chars=put(f.ref_atom_name_chars, atom, torch.int64),
                ref_space_uid=put(f.ref_space_uid, atom, torch.int64),
                to_token=put(f.atom_to_token, atom, torch.int64),
            ),
            atom_in_token=put(f.atom_in_token, atom, torch.int64),
            msa=put(f.msa[rows].T, token, torch.int8).t().contiguous(),
            deletions=put(f.deletions[rows].T, token, torch.uint8).t().contiguous(),
            templates=_templates(f, device),
        )


def _templates(f: Features, device: torch.device | str) -> list[Template]:
    """The distinct template slots with how often each occurs, so that equal (empty) slots are computed once."""
    slots: dict[bytes, list[int]] = {}
    names = ("template_pseudo_beta", "template_pseudo_beta_mask", "template_backbone", "template_backbone_mask")
    cleared = {}
    for name in ("template_aatype", *names):
        x = getattr(f, name)
        keep = f.token_mask.reshape((1, -1) + (1,) * (x.ndim - 2))
        cleared[name] = np.where(keep, x, np.zeros((), x.dtype))
    for slot in range(len(f.template_aatype)):
        key = b"".join(np.ascontiguousarray(x[slot]).tobytes() for x in cleared.values())
        slots.setdefault(key, []).append(slot)
    return [
        Template(
            torch.from_numpy(cleared["template_aatype"][i[0]]).to(device=device, dtype=torch.int64),
            *(torch.from_numpy(cleared[name][i[0]]).to(device) for name in names),
            count=len(i),
        )
        for i in slots.values()
    ]
