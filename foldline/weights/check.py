"""Checks of a checkpoint file that need no published hash: its own checksums, the network in it, and its values.

Knows files and networks; not where a file came from or which hash it should have.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from foldline.models.network import Network
from foldline.models.spec import ModelSpec
from foldline.weights.identity import refusal
from foldline.weights.load import match, open_model

BLOCK = 1 << 20


@dataclass(frozen=True)
class Readable:
    """What a checkpoint holds that can be run."""

    spec: ModelSpec
    n_tensor: int
    n_value: int


def check(path: Path) -> Readable:
    """Read a checkpoint whole, one tensor at a time.

    Raises:
        WeightsError: it is cut off or damaged, holds no network that is known, or values that are not finite.
    """
    checkpoint, spec = open_model(path)
    with torch.device("meta"):
        network = Network(spec)
    used = {name for names in match(network, checkpoint).values() for name in names}
    _check_sums(path)
    n_value = 0
    for name in checkpoint.shapes:
        value = checkpoint.read(name)
        n_value += value.numel()
        if name in used and not torch.isfinite(value).all():
            raise refusal(path, f"{name} holds NaN or infinity: the file is damaged, fetch it again")
    return Readable(spec, len(checkpoint.shapes), n_value)


def _check_sums(path: Path) -> None:
    """Compare the parts of a zip file with the checksums that it states; safetensors files state none."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as file:
        for part in file.infolist():
            try:
                with file.open(part) as stream:
                    while stream.read(BLOCK):
                        pass
            except (zipfile.BadZipFile, EOFError, OSError) as error:
                said = f"{part.filename} does not have the checksum that the file states for it"
                raise refusal(path, f"{said}: the file is damaged, fetch it again") from error
