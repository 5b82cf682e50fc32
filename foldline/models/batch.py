"""Batch: the features as tensors that the network reads, on its device. Padding is cleared here, whatever was in it.

A batch holds one seed of one job, or several: its lanes, along one leading axis. What all lanes share has no such axis.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from foldline.layers.atoms import Atoms
from foldline.layers.relative import Positions
from foldline.layers.template import Template
from foldline.tensors import Features

# Axes of each column that seeds or jobs may have apart; more axes than these: the first is that of the lanes.
_AXES = {"restype": 1, "profile": 2, "deletion_mean": 1, "bond_weight": 1, "rep_atom": 1, "atom_in_token": 1}
_ATOM_AXES = Atoms(1, 2, 1, 1, 1, 2, 1, 1)  # type: ignore[arg-type]
_TEMPLATE_AXES = Template(1, 2, 1, 3, 1, 0)  # type: ignore[arg-type]
Change = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Batch:
    """Jobs on a device. Masks are None where nothing is padded, so that unpadded runs pay nothing for them.

    [*b] stands for no axis, or for one of lanes; columns that the lanes share have none even where others have one.
    """

    n_token: int  # padding included
    token_mask: Tensor | None  # bool [*b, N_token]
    position: Positions
    restype: Tensor  # int64 [*b, N_token]
    profile: Tensor  # float32 [*b, N_token, n_class]
    deletion_mean: Tensor  # float32 [*b, N_token]
    bonds: tuple[Tensor, Tensor]  # token indices int64 [*b, N_bond] each, both directions listed
    bond_weight: Tensor  # float32 [*b, N_bond], 0 for padding
    rep_atom: Tensor  # int64 [*b, N_token]
    atoms: Atoms
    atom_in_token: Tensor  # int64 [*b, N_atom]
    msa: Tensor  # int8 [N_msa, N_token], the rows of all jobs one below the other
    deletions: Tensor  # uint8 [N_msa, N_token]
    templates: list[Template]
    alignments: tuple[slice, ...] = ()  # rows of `msa` that belong to each lane; () = all of them to every lane

    @classmethod
    def of(cls, features: Features, ref_pos: np.ndarray, device: torch.device | str, max_msa: int) -> "Batch":
        """Put features on `device`; `ref_pos` is the posed conformer of the seed, or one for every seed of the job.

        Alignment rows beyond `max_msa` are dropped, padding rows are not carried along: the rows that a pass reads are
        drawn on the CPU, from the true count.

        Args:
            features: one job, padded or not.
            ref_pos: [*b, N_atom, 3], padded or not; its leading axis is the batch's.
            device: where the tensors go; copies to a GPU do not wait for it.
            max_msa: largest number of alignment rows.
        """
        f = features
        token, atom = f.token_mask, f.atom_mask

        def put(x: np.ndarray, mask: np.ndarray, dtype: torch.dtype) -> Tensor:
            keep = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
            return on_device(torch.from_numpy(np.where(keep, x, np.zeros((), x.dtype))).to(dtype), device)

        posed = np.zeros((*ref_pos.shape[:-2], *f.ref_pos.shape), np.float32)
        posed[..., : ref_pos.shape[-2], :] = ref_pos
        posed[..., ~atom, :] = 0
        columns = (f.residue_index, f.token_index, f.asym_id, f.entity_id, f.sym_id)
        bonds = put(f.bond_tokens, f.bond_mask, torch.int64)
        rows = np.flatnonzero(f.msa_mask)[:max_msa]
        return cls(
            n_token=len(token),
            token_mask=None if token.all() else on_device(torch.from_numpy(token), device),
            position=Positions(*(put(x, token, torch.int32) for x in columns)),
            restype=put(f.restype, token, torch.int64),
            profile=put(f.profile, token, torch.float32),
            deletion_mean=put(f.deletion_mean, token, torch.float32),
            bonds=(bonds[:, 0], bonds[:, 1]),
            bond_weight=on_device(torch.from_numpy(f.bond_mask.astype(np.float32)), device),
            rep_atom=put(f.rep_atom, token, torch.int64),
            atoms=Atoms(
                mask=None if atom.all() else on_device(torch.from_numpy(atom), device),
                ref_pos=on_device(torch.from_numpy(posed), device),
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

    @classmethod
    def stack(cls, parts: Sequence["Batch"]) -> "Batch":
        """The lanes of several batches in one, all padded to the same numbers of tokens, atoms and bonds.

        One batch alone stays as it is; else every part has an axis of lanes in `atoms.ref_pos`, and columns that its
        lanes share are repeated. Alignments keep their true numbers of rows.
        """
        if len(parts) == 1:
            return parts[0]
        n_slot = max(len(part.templates) for part in parts)
        whole = [part._whole(n_slot) for part in parts]
        ends = np.cumsum([len(part.msa) for part in parts]).tolist()
        starts = [0, *ends[:-1]]
        alignments = [slice(a, b) for part, a, b in zip(whole, starts, ends, strict=True) for _ in range(part.n_lane)]
        columns = [part._columns() for part in whole]
        joined = iter([torch.cat(same) for same in zip(*columns, strict=True)])
        stacked = whole[0]._changed(lambda _x, _axes: next(joined))
        return replace(
            stacked,
            msa=torch.cat([part.msa for part in whole]),
            deletions=torch.cat([part.deletions for part in whole]),
            alignments=tuple(alignments),
        )

    @property
    def n_lane(self) -> int:
        """Number of lanes; 1 where there is no axis of lanes."""
        return self.atoms.ref_pos.shape[0] if self.atoms.ref_pos.dim() == 3 else 1

    def lanes(self, which: slice) -> "Batch":
        """A batch of some lanes, with an axis of lanes; columns are views."""
        return self._changed(lambda x, axes: x[which] if x.dim() > axes else x, self.alignments[which])

    def lane(self, number: int) -> "Batch":
        """One lane, without an axis of lanes; columns are views."""
        alignments = self.alignments[number : number + 1]
        return self._changed(lambda x, axes: x[number] if x.dim() > axes else x, alignments)

    def alignment(self, lane: int) -> slice:
        """Rows of `msa` that belong to a lane."""
        return self.alignments[lane] if self.alignments else slice(0, len(self.msa))

    def _whole(self, n_slot: int) -> "Batch":
        """The same with an axis of lanes and a mask everywhere, and `n_slot` template slots; new ones count 0 times."""
        lanes, n_atom = self.n_lane, self.atoms.ref_pos.shape[-2]
        device = self.restype.device
        token, atom = self.token_mask, self.atoms.mask
        spare = [_no_template(self.n_token, device)] * (n_slot - len(self.templates))
        slots = [t._replace(count=on_device(torch.tensor(t.count), device)) for t in (*self.templates, *spare)]
        masked = replace(
            self,
            token_mask=token if token is not None else torch.ones(self.n_token, dtype=torch.bool, device=device),
            atoms=self.atoms._replace(
                mask=atom if atom is not None else torch.ones(n_atom, dtype=torch.bool, device=device)
            ),
            templates=slots,
        )
        return masked._changed(lambda x, axes: x if x.dim() > axes else x.expand(lanes, *x.shape))

    def _columns(self) -> list[Tensor]:
        """Every column that may have an axis of lanes, in the order of `_changed`."""
        found: list[Tensor] = []

        def collect(x: Tensor, _axes: int) -> Tensor:
            found.append(x)
            return x

        self._changed(collect)
        return found

    def _changed(self, change: Change, alignments: tuple[slice, ...] = ()) -> "Batch":
        """The batch with `change(column, axes without lanes)` in the place of every column that may have lanes."""

        def many(columns: tuple, axes: tuple) -> list:
            return [change(x, n) if isinstance(x, Tensor) else x for x, n in zip(columns, axes, strict=True)]

        return replace(
            self,
            token_mask=None if self.token_mask is None else change(self.token_mask, 1),
            position=Positions(*many(self.position, (1,) * len(self.position))),
            bonds=(change(self.bonds[0], 1), change(self.bonds[1], 1)),
            atoms=Atoms(*many(self.atoms, _ATOM_AXES)),
            templates=[Template(*many(t, _TEMPLATE_AXES)) for t in self.templates],
            alignments=alignments,
            **{name: change(getattr(self, name), axes) for name, axes in _AXES.items()},
        )


def on_device(x: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the host on `device`; a copy to a GPU goes through pinned memory and is not waited for."""
    if torch.device(device).type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def _no_template(n_token: int, device: torch.device | str) -> Template:
    """A slot that counts 0 times."""
    position, there = torch.zeros(n_token, 3, device=device), torch.zeros(n_token, dtype=torch.bool, device=device)
    backbone = position[:, None].expand(-1, 3, -1)
    return Template(torch.zeros(n_token, dtype=torch.long, device=device), position, there, backbone, there, 0)


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
            on_device(torch.from_numpy(cleared["template_aatype"][i[0]]).long(), device),
            *(on_device(torch.from_numpy(cleared[name][i[0]]), device) for name in names),
            count=len(i),
        )
        for i in slots.values()
    ]
