"""Embeddings, Samples and Confidences: what the network gives back, as numpy arrays."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from foldline.errors import NonFiniteOutput


@dataclass(frozen=True)
class Embeddings:
    """Single and pair representations after the last trunk pass, without padding."""

    s_inputs: np.ndarray  # float32 [N_token, c_s_inputs]
    s: np.ndarray  # float32 [N_token, c_s]
    z: np.ndarray  # float32 [N_token, N_token, c_z]

    def save(self, path: Path) -> None:
        """Write to one safetensors file."""
        save_file({f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}, path)

    @classmethod
    def load(cls, path: Path) -> "Embeddings":
        """Read a file that `save` wrote."""
        with safe_open(path, framework="numpy") as file:
            return cls(**{f.name: file.get_tensor(f.name) for f in fields(cls)})


@dataclass(frozen=True)
class EmbeddingRows:
    """Embeddings whose pair representation comes by rows, from where it is: nowhere is it whole beside itself.

    To be read while whoever hands it over waits; it is gone afterwards.
    """

    s_inputs: np.ndarray  # float32 [N_token, c_s_inputs]
    s: np.ndarray  # float32 [N_token, c_s]
    z_shape: tuple[int, int, int]
    z_rows: Callable[[], Iterator[np.ndarray]]  # blocks float32 [N_row, N_token, c_z], from the first row to the last

    def whole(self) -> Embeddings:
        """All of it in memory."""
        z = np.empty(self.z_shape, np.float32)
        start = 0
        for block in self.z_rows():
            z[start : start + len(block)] = block
            start += len(block)
        return Embeddings(self.s_inputs, self.s, z)


@dataclass(frozen=True)
class Confidences:
    """Confidence of one sample, without padding. Chain order is that of asym_id; NaN = undefined (written as null)."""

    atom_plddt: np.ndarray  # float32 [N_atom], 0-100
    pae: np.ndarray  # float32 [N_token, N_token], Å, row = frame, column = scored token
    pde: np.ndarray  # float32 [N_token, N_token], Å
    plddt: float  # mean over atoms, 0-100
    ptm: float
    iptm: float  # NaN for a single chain
    gpde: float  # Å
    chain_ptm: np.ndarray  # float32 [N_chain]
    chain_iptm: np.ndarray  # float32 [N_chain]
    chain_pair_iptm: np.ndarray  # float32 [N_chain, N_chain]
    chain_pair_pae_min: np.ndarray  # float32 [N_chain, N_chain], Å
    chain_plddt: np.ndarray  # float32 [N_chain], 0-100
    has_clash: bool
    ranking_score: float


@dataclass(frozen=True)
class Samples:
    """Samples of one seed: all, or those from number `first` on."""

    seed: int
    coordinates: np.ndarray  # float32 [N_sample, N_atom, 3], Å
    contact_probs: np.ndarray  # float32 [N_token, N_token]
    confidences: tuple[Confidences, ...]
    first: int = 0

    @classmethod
    def join(cls, parts: Sequence["Samples"]) -> "Samples":
        """Samples of one seed, one part after the other in the order of their numbers."""
        parts = sorted(parts, key=lambda part: part.first)
        return cls(
            seed=parts[0].seed,
            coordinates=np.concatenate([part.coordinates for part in parts]),
            contact_probs=parts[0].contact_probs,
            confidences=tuple(one for part in parts for one in part.confidences),
            first=parts[0].first,
        )

    def require_finite(self, place: int) -> None:
        """Check what the network gave for the sample at `place`; undefined scores may be NaN (`Confidences`).

        Raises:
            NonFiniteOutput: naming what is not finite, the seed and the sample.
        """
        c = self.confidences[place]
        for what, values in (
            ("coordinates", self.coordinates[place]),
            ("pLDDT", c.atom_plddt),
            ("PAE", c.pae),
            ("PDE", c.pde),
            ("contact probabilities", self.contact_probs),
            ("ranking score", np.array(c.ranking_score)),
        ):
            bad = int((~np.isfinite(values)).sum())
            if bad:
                raise NonFiniteOutput(
                    f"seed {self.seed}, sample {self.first + place}: {bad} of {values.size} values of the {what} are"
                    " not finite, so nothing of this sample was written; try --dtype fp32"
                )
