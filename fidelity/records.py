"""Reading what upstream_side.py wrote: its arrays as our Features, its draws as our Tape, errors between tensors."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foldline.sampler import Tape
from foldline.tensors import Features


class Record:
    """The recorded tensors of one upstream run by name."""

    def __init__(self, path: Path) -> None:
        self.tensors: dict[str, Tensor] = torch.load(path, mmap=True, weights_only=True)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name starts with `prefix.`, without it."""
        return {k[len(prefix) + 1 :]: v for k, v in self.tensors.items() if k.startswith(prefix + ".")}

    def modules(self) -> list[str]:
        """Names of upstream modules whose inputs were recorded."""
        return sorted(
            {re.split(r"\.0\.(?:args|kw)", k)[0][5:] for k in self.tensors if re.match(r"taps\..*\.0\.(args|kw)", k)}
        )

    def features(self) -> Features:
        """Upstream's feature arrays in our form; ref_pos is the posed conformer."""
        f = {k: v.numpy() for k, v in self.under("features").items()}
        n_token, n_atom, n_msa = len(f["asym_id"]), len(f["ref_mask"]), len(f["msa"])
        bonds = np.argwhere(f["token_bonds"] > 0).astype(np.int32)
        templates = {
            name: np.stack([self[f"templates.{i}.{name}"].numpy() for i in range(len(f["template_aatype"]))])
            for name in ("pseudo_beta", "pseudo_beta_mask", "backbone", "backbone_mask")
        }
        ints = {k: f[k].astype(np.int32) for k in ("token_index", "residue_index", "asym_id", "entity_id", "sym_id")}
        return Features(
            token_mask=np.ones(n_token, bool),
            **ints,
            restype=f["restype"].argmax(-1).astype(np.int8),
            profile=f["profile"].astype(np.float32),
            deletion_mean=f["deletion_mean"].astype(np.float32),
            has_frame=f["has_frame"].astype(bool),
            rep_atom=np.flatnonzero(f["distogram_rep_atom_mask"]).astype(np.int32),
            bond_tokens=bonds,
            bond_mask=np.ones(len(bonds), bool),
            atom_mask=np.ones(n_atom, bool),
            ref_pos=f["ref_pos"].astype(np.float32),
            ref_mask=f["ref_mask"].astype(bool),
            ref_charge=f["ref_charge"].astype(np.float32),
            ref_element=f["ref_element"].argmax(-1).astype(np.int16),
            ref_atom_name_chars=f["ref_atom_name_chars"].argmax(-1).astype(np.int8),
            ref_space_uid=f["ref_space_uid"].astype(np.int32),
            atom_to_token=f["atom_to_token_idx"].astype(np.int32),
            atom_in_token=f["atom_to_tokatom_idx"].astype(np.int32),
            is_ligand=f["is_ligand"].astype(bool),
            msa=f["msa"].astype(np.int8),
            deletions=f["deletion_matrix"].astype(np.uint8),
            msa_mask=np.ones(n_msa, bool),
            template_aatype=f["template_aatype"].astype(np.int8),
            **{f"template_{name}": array for name, array in templates.items()},
        )

    def tape(self) -> Tape:
        """Upstream's draws: alignment rows per pass, and per step rotation, translation and noise."""
        rows = self.under("tape.msa_indices")
        randn = [self[f"tape.randn.{i}"].numpy() for i in range(len(self.under("tape.randn")))]
        rot = [self[f"tape.rot.{i}"].numpy() for i in range(len(self.under("tape.rot")))]
        n_step, n_sample = len(rot), len(randn[0])
        arrays = {f"msa_rows_{i}": rows[str(i)].numpy() for i in range(len(rows))}
        arrays["ref_pos"] = self["features.ref_pos"].numpy().astype(np.float32)
        arrays["x_init"] = randn[0]
        arrays["rotation"] = np.stack(rot).reshape(n_step, n_sample, 3, 3)
        arrays["translation"] = np.stack(randn[1::2]).reshape(n_step, n_sample, 1, 3)
        arrays["noise"] = np.stack(randn[2::2])
        return Tape(0, arrays)


@dataclass(frozen=True)
class Difference:
    """Error of one tensor: largest difference and RMS difference, both over the RMS of upstream's tensor."""

    name: str
    maximum: float
    rms: float

    def __str__(self) -> str:
        return f"{self.name:<78} max {self.maximum:8.1e}   rms {self.rms:8.1e}"


def difference(name: str, ours: Tensor, theirs: Tensor) -> Difference:
    """Compare two tensors of one shape; NaN anywhere counts as infinite."""
    if ours.shape != theirs.shape:
        raise ValueError(f"{name}: ours {tuple(ours.shape)}, upstream {tuple(theirs.shape)}")
    ours, theirs = ours.double(), theirs.double()
    scale = theirs.square().mean().sqrt().clamp(min=1e-30)
    delta = (ours - theirs).abs().nan_to_num(nan=torch.inf)
    return Difference(name, float(delta.max() / scale), float(delta.square().mean().sqrt() / scale))
