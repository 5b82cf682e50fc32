"""Every random draw of a prediction, each from a generator of its own made from (seed, sample, purpose), on the CPU.

A seed's draws depend on nothing but the seed: not on batch, device, other samples or order. A tape replays others.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from foldline.errors import InputError
from foldline.tensors import Features


def generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Generator of one purpose of one seed; `index` is the sample or the pass."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little")))


def random_rotations(rng: np.random.Generator, n: int) -> np.ndarray:
    """Uniform rotations, float32 [n, 3, 3], from normalised quaternions."""
    q = rng.standard_normal((n, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1).astype(np.float32)


class SampleDraws:
    """Draws of some samples in sampler order; every method is called once per step, in order of the steps."""

    def __init__(self, seed: int, samples: Sequence[int]) -> None:
        purposes = ("x_init", "rotation", "translation", "noise")
        self.rng = {purpose: [generator(seed, purpose, i) for i in samples] for purpose in purposes}

    def x_init(self, n_atom: int) -> Tensor:
        """Standard normal start positions [N_sample, N_atom, 3]."""
        return self._normal("x_init", (n_atom, 3))

    def rotation(self, _step: int) -> Tensor:
        """Rotations [N_sample, 3, 3]."""
        return torch.from_numpy(np.concatenate([random_rotations(rng, 1) for rng in self.rng["rotation"]]))

    def translation(self, _step: int) -> Tensor:
        """Standard normal translations [N_sample, 1, 3] in Å."""
        return self._normal("translation", (1, 3))

    def noise(self, _step: int, n_atom: int) -> Tensor:
        """Standard normal noise [N_sample, N_atom, 3]."""
        return self._normal("noise", (n_atom, 3))

    def _normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.stack([rng.standard_normal(shape, np.float32) for rng in self.rng[purpose]]))


@dataclass(frozen=True)
class Draws:
    """The draws of one seed."""

    seed: int

    @property
    def digest(self) -> str:
        """What tells these draws from others."""
        return f"seed {self.seed}"

    def ref_pos(self, features: Features) -> np.ndarray:
        """Posed reference conformers [N_atom, 3]: every residue rotated at random and shifted by U(-1, 1) Å per axis.

        Protenix: centred, rotated and translated, protenix/data/core/featurizer.py:393-405.
        """
        atoms = features.atom_mask
        _, residue = np.unique(features.ref_space_uid[atoms], return_inverse=True)
        rng = generator(self.seed, "ref_pos")
        n = int(residue.max()) + 1 if len(residue) else 0
        rotation = random_rotations(rng, n)
        shift = rng.uniform(-1, 1, (n, 3)).astype(np.float32)
        return np.einsum("aij,aj->ai", rotation[residue], features.ref_pos[atoms]) + shift[residue]

    def msa_rows(self, pass_index: int, n_msa: int) -> Tensor:
        """Alignment rows of a pass, int64 [K]: K ~ U{1 .. n_msa}, then K rows without replacement.

        Protenix: random number of rows in every pass, protenix/model/utils.py:290-349.
        """
        rng = generator(self.seed, "msa_rows", pass_index)
        count = int(rng.integers(1, n_msa + 1))
        return torch.from_numpy(rng.permutation(n_msa)[:count].astype(np.int64))

    def dropout(self) -> torch.Generator:
        """Generator of Monte Carlo dropout."""
        return torch.Generator().manual_seed(int(generator(self.seed, "dropout").integers(2**62)))

    def samples(self, samples: Sequence[int]) -> SampleDraws:
        """Draws of the diffusion sampler for the given sample indices."""
        return SampleDraws(self.seed, samples)


class _TapedSamples(SampleDraws):
    """Draws of some samples read from a tape; those that it lacks come from the seed."""

    def __init__(self, tape: "Tape", samples: Sequence[int]) -> None:
        super().__init__(tape.seed, samples)
        self.tape, self.index = tape, list(samples)

    def x_init(self, n_atom: int) -> Tensor:
        recorded = self.tape.arrays.get("x_init")
        return super().x_init(n_atom) if recorded is None else self._positions("x_init", recorded, n_atom)

    def rotation(self, step: int) -> Tensor:
        recorded = self._at("rotation", step)
        return super().rotation(step) if recorded is None else _tensor(recorded[self.index])

    def translation(self, step: int) -> Tensor:
        recorded = self._at("translation", step)
        return super().translation(step) if recorded is None else _tensor(recorded[self.index])

    def noise(self, step: int, n_atom: int) -> Tensor:
        recorded = self._at("noise", step)
        return super().noise(step, n_atom) if recorded is None else self._positions("noise", recorded, n_atom)

    def _at(self, name: str, step: int) -> np.ndarray | None:
        """Recorded draw of a step for all samples."""
        recorded = self.tape.arrays.get(name)
        if recorded is not None and step >= len(recorded):
            raise InputError(f"the tape holds {len(recorded)} steps, {step + 1} asked", path="draws")
        return None if recorded is None else recorded[step]

    def _positions(self, name: str, recorded: np.ndarray, n_atom: int) -> Tensor:
        """Recorded positions of these samples, for as many atoms as the job has."""
        if recorded.shape[1] != n_atom:
            raise InputError(f"the tape's {name} holds {recorded.shape[1]} atoms, the job has {n_atom}", path="draws")
        return _tensor(recorded[self.index])


def _tensor(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x))


@dataclass(frozen=True)
class Tape(Draws):
    """Recorded draws of one seed that replay a run.

    Arrays: ref_pos [N_atom, 3]; msa_rows_<pass> [K]; x_init [S, N_atom, 3]; rotation [T, S, 3, 3];
    translation [T, S, 1, 3]; noise [T, S, N_atom, 3]. Anything absent is drawn from the seed.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str) -> "Tape":
        """Read a safetensors tape; its metadata holds the seed. Raises InputError when it is none."""
        try:
            with safe_open(path, framework="numpy") as file:
                seed = int((file.metadata() or {}).get("seed", "0"))
                return cls(seed, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"not a readable tape of draws ({error})", path="draws", source=str(path)) from error

    @property
    def digest(self) -> str:
        """SHA-256 of the seed and all that is recorded."""
        found = hashlib.sha256(f"tape {self.seed}".encode())
        for name, array in sorted(self.arrays.items()):
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def save(self, path: Path | str) -> None:
        """Write a safetensors tape."""
        save_file({k: np.ascontiguousarray(v) for k, v in self.arrays.items()}, path, metadata={"seed": str(self.seed)})

    def ref_pos(self, features: Features) -> np.ndarray:
        """Posed conformers as recorded."""
        recorded = self.arrays.get("ref_pos")
        if recorded is None:
            return super().ref_pos(features)
        if len(recorded) != features.n_atom:
            raise InputError(f"the tape holds {len(recorded)} atoms, the job has {features.n_atom}", path="draws")
        return recorded

    def msa_rows(self, pass_index: int, n_msa: int) -> Tensor:
        """Rows as recorded."""
        recorded = self.arrays.get(f"msa_rows_{pass_index}")
        if recorded is None:
            return super().msa_rows(pass_index, n_msa)
        if len(recorded) and recorded.max() >= n_msa:
            raise InputError(f"the tape names alignment row {recorded.max()}, the job has {n_msa}", path="draws")
        return torch.from_numpy(recorded.astype(np.int64))

    def samples(self, samples: Sequence[int]) -> SampleDraws:
        """Sampler draws as recorded, or from the seed where the tape has none."""
        for name, axis in (("x_init", 0), ("rotation", 1), ("translation", 1), ("noise", 1)):
            held = self.arrays[name].shape[axis] if name in self.arrays else max(samples) + 1
            if max(samples) >= held:
                raise InputError(f"the tape's {name} holds {held} samples, {max(samples) + 1} asked", path="draws")
        return _TapedSamples(self, samples)
