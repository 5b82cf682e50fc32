"""Features: the arrays that the network reads, with a mask for every padded axis."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

# Axes of every field; "3" and other digits are fixed sizes.
AXES: dict[str, tuple[str, ...]] = {
    "token_mask": ("N_token",),
    "token_index": ("N_token",),
    "residue_index": ("N_token",),
    "asym_id": ("N_token",),
    "entity_id": ("N_token",),
    "sym_id": ("N_token",),
    "restype": ("N_token",),
    "profile": ("N_token", "32"),
    "deletion_mean": ("N_token",),
    "has_frame": ("N_token",),
    "rep_atom": ("N_token",),
    "bond_tokens": ("N_bond", "2"),
    "bond_mask": ("N_bond",),
    "atom_mask": ("N_atom",),
    "ref_pos": ("N_atom", "3"),
    "ref_mask": ("N_atom",),
    "ref_charge": ("N_atom",),
    "ref_element": ("N_atom",),
    "ref_atom_name_chars": ("N_atom", "4"),
    "ref_space_uid": ("N_atom",),
    "atom_to_token": ("N_atom",),
    "atom_in_token": ("N_atom",),
    "is_ligand": ("N_atom",),
    "msa": ("N_msa", "N_token"),
    "deletions": ("N_msa", "N_token"),
    "msa_mask": ("N_msa",),
    "template_aatype": ("N_templ", "N_token"),
    "template_pseudo_beta": ("N_templ", "N_token", "3"),
    "template_pseudo_beta_mask": ("N_templ", "N_token"),
    "template_backbone": ("N_templ", "N_token", "3", "3"),
    "template_backbone_mask": ("N_templ", "N_token"),
}


@dataclass(frozen=True)
class Features:
    """Network input of one job, shared by all its seeds but for the pose of `ref_pos` (design: randomness).

    `ref_pos` is the centred reference conformer of every residue, in Å, without the random pose.
    """

    # tokens
    token_mask: np.ndarray  # bool, False = padding
    token_index: np.ndarray  # int32
    residue_index: np.ndarray  # int32, 1-based; ligand atoms share it
    asym_id: np.ndarray  # int32, chain
    entity_id: np.ndarray  # int32
    sym_id: np.ndarray  # int32
    restype: np.ndarray  # int8, class of 32 (20 aa, UNK, A G C U N, DA DG DC DT DN, gap)
    profile: np.ndarray  # float32 [N_token, 32]
    deletion_mean: np.ndarray  # float32
    has_frame: np.ndarray  # bool
    rep_atom: np.ndarray  # int32, atom that represents the token (CB, C4, C2, ...)
    bond_tokens: np.ndarray  # int32 [N_bond, 2], each pair once per direction: entries (i, j) of the bond matrix
    bond_mask: np.ndarray  # bool
    # atoms
    atom_mask: np.ndarray  # bool, False = padding
    ref_pos: np.ndarray  # float32 [N_atom, 3] Å
    ref_mask: np.ndarray  # bool
    ref_charge: np.ndarray  # float32
    ref_element: np.ndarray  # int16, atomic number - 1
    ref_atom_name_chars: np.ndarray  # int8 [N_atom, 4], ord(c) - 32
    ref_space_uid: np.ndarray  # int32, one per residue of a chain
    atom_to_token: np.ndarray  # int32
    atom_in_token: np.ndarray  # int32, row of the pLDDT head
    is_ligand: np.ndarray  # bool
    # alignment
    msa: np.ndarray  # int8 [N_msa, N_token], class of 32
    deletions: np.ndarray  # uint8 [N_msa, N_token], deletions left of the column
    msa_mask: np.ndarray  # bool [N_msa], False = padding row
    # templates
    template_aatype: np.ndarray  # int8 [N_templ, N_token]
    template_pseudo_beta: np.ndarray  # float32 [N_templ, N_token, 3] Å
    template_pseudo_beta_mask: np.ndarray  # bool
    template_backbone: np.ndarray  # float32 [N_templ, N_token, 3 (N, CA, C), 3] Å
    template_backbone_mask: np.ndarray  # bool

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        for name, axes in AXES.items():
            shape = getattr(self, name).shape
            if len(shape) != len(axes):
                raise ValueError(f"Features.{name}: {len(shape)} axes where {axes} are expected")
            for size, axis in zip(shape, axes, strict=True):
                if size != (int(axis) if axis.isdigit() else sizes.setdefault(axis, size)):
                    raise ValueError(f"Features.{name}: axis {axis} has size {size}, expected {sizes.get(axis, axis)}")

    @property
    def sizes(self) -> dict[str, int]:
        """Size of every named axis, padding included."""
        return {
            axis: size
            for name, axes in AXES.items()
            for axis, size in zip(axes, getattr(self, name).shape, strict=True)
            if not axis.isdigit()
        }

    @property
    def n_token(self) -> int:
        """Number of real tokens."""
        return int(self.token_mask.sum())

    @property
    def n_atom(self) -> int:
        """Number of real atoms."""
        return int(self.atom_mask.sum())

    def pad_to(self, **sizes: int) -> "Features":
        """The same features with the named axes (N_token, N_atom, N_msa, N_bond) grown to `sizes`.

        Padding is zero, masks are False; arrays that have none of these axes are shared. Template slots have no mask:
        the network takes a mean over all of them, so none can be added. Raises ValueError when an axis would shrink,
        or is not one of these.
        """
        unknown = sizes.keys() - {"N_token", "N_atom", "N_msa", "N_bond"}
        if unknown:
            raise ValueError(f"Features: {', '.join(sorted(unknown))} cannot be padded, nothing masks it")
        changed = {}
        for name, axes in AXES.items():
            array = getattr(self, name)
            grow = [sizes.get(axis, size) - size for axis, size in zip(axes, array.shape, strict=True)]
            if min(grow) < 0:
                raise ValueError(f"Features.{name}: cannot pad {array.shape} to {sizes}")
            if any(grow):
                changed[name] = np.pad(array, [(0, g) for g in grow])
        return replace(self, **changed)

    def save(self, path: Path) -> None:
        """Write to one safetensors file."""
        save_file(
            {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)},
            path,
            metadata={"noun": "Features", "sizes": json.dumps(self.sizes)},
        )

    @classmethod
    def load(cls, path: Path) -> "Features":
        """Read a file that `save` wrote."""
        with safe_open(path, framework="numpy") as file:
            return cls(**{name: file.get_tensor(name) for name in AXES})
