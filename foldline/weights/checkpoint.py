"""Checkpoint files as lazy tensor stores: names and shapes first, values one tensor at a time.

A file can never run code. Reads upstream's `torch.save` zip files (weights only) and safetensors. Knows no families.
"""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from foldline.errors import WeightsError
from foldline.weights.identity import refusal, sha256_of


class Checkpoint:
    """Tensors of one checkpoint file by name; `shapes` is known at once, `read` fetches one tensor from disk.

    `metadata` is what a safetensors file says of itself, text by name.
    """

    def __init__(
        self,
        path: Path,
        shapes: dict[str, tuple[int, ...]],
        read: Callable[[str], Tensor],
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.shapes, self.read = path, shapes, read
        self.metadata = dict(metadata or {})

    def sha256(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return sha256_of(self.path)


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint by its content.

    Raises:
        WeightsError: the file is missing, truncated, of an unknown kind, or holds something other than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint file")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WeightsError(f"{path}: the file cannot be read ({error.strerror or error})") from error
    if start[:2] == b"PK":
        return _open_torch(path)
    if start[8:] == b"{":
        return _open_safetensors(path)
    raise refusal(path, "neither a torch checkpoint (zip) nor a safetensors file; was the download cut off?")


def _open_safetensors(path: Path) -> Checkpoint:
    try:
        file = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise refusal(path, f"not a readable safetensors file ({error})") from error
    with file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()

    def read(name: str) -> Tensor:
        try:
            with safe_open(path, framework="pt") as source:
                return source.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise refusal(path, f"{name} cannot be read ({error})") from error

    return Checkpoint(path, _strip(shapes), lambda name: read(_original(shapes, name)), metadata)


def _open_torch(path: Path) -> Checkpoint:
    """Names, shapes and file offsets come from unpickling to the meta device: torch (2.11 on) reads no values then."""
    try:
        with path.open("rb") as file:  # by its content, where torch would go by its name
            content = torch.load(file, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refusal(path, f"refused, it holds more than tensors: {_refused(path)}") from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise refusal(path, f"not a readable checkpoint, it may be truncated ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(x, Tensor) for x in content.values()):
        raise refusal(path, "expected a dictionary of tensors, or one under the key 'model'")
    shapes = {name: tuple(x.shape) for name, x in content.items()}

    def read(name: str) -> Tensor:
        given = content[name]
        storage = given.untyped_storage()
        offset = storage._checkpoint_offset
        item = given.element_size()
        span = 1 + sum((n - 1) * k for n, k in zip(given.shape, given.stride(), strict=True)) if given.numel() else 0
        buffer = bytearray(span * item)
        try:
            with path.open("rb") as file:
                file.seek(offset + given.storage_offset() * item)
                n_byte = file.readinto(buffer)
        except OSError as error:
            raise refusal(path, f"{name} cannot be read ({error.strerror or error})") from error
        if n_byte != len(buffer):
            raise refusal(path, f"truncated inside {name}")
        flat = torch.frombuffer(buffer, dtype=given.dtype) if span else torch.empty(0, dtype=given.dtype)
        return flat.as_strided(given.shape, given.stride())

    return Checkpoint(path, _strip(shapes), lambda name: read(_original(shapes, name)))


def _refused(path: Path) -> str:
    """Classes and functions that a checkpoint would have had called, by name; nothing of it is run."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError, pickle.UnpicklingError):
        names = []
    return ", ".join(sorted(names)) or "its list of contents cannot be read"


PREFIX = "module."


def _strip(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Names without the prefix that distributed training leaves."""
    return {name.removeprefix(PREFIX): shape for name, shape in shapes.items()}


def _original(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return PREFIX + name if PREFIX + name in shapes else name
