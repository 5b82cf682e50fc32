"""Loading: a network built without memory, filled tensor by tensor; total in both directions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from foldline.errors import WeightsError
from foldline.models.network import Network
from foldline.models.spec import ModelSpec
from foldline.weights import protenix
from foldline.weights.card import read_card
from foldline.weights.checkpoint import Checkpoint, open_checkpoint
from foldline.weights.identity import refusal

DtypeOf = Callable[[str], torch.dtype]


class Adapter(Protocol):
    """The module of a family: its tensor names in terms of ours."""

    def read_spec(self, shapes: dict[str, tuple[int, ...]], source: str) -> ModelSpec:
        """The spec of a checkpoint from its tensor names and shapes."""
        ...

    def sources(self, name: str) -> list[str]:
        """The checkpoint's tensors that make up our parameter `name`, in stacking order."""
        ...

    def dead(self, name: str, spec: ModelSpec) -> bool:
        """Whether a tensor of the checkpoint is known to be read by nothing."""
        ...


@dataclass(frozen=True)
class Family:
    """A tensor that all checkpoints of a family have and no others, and the family's adapter."""

    mark: str
    adapter: Adapter


FAMILIES = {"protenix": Family("linear_no_bias_z_cycle.weight", protenix)}


def open_model(path: Path) -> tuple[Checkpoint, ModelSpec]:
    """A checkpoint file and its spec, without reading its values.

    Raises:
        WeightsError: unreadable file, or unknown family.
    """
    checkpoint = open_checkpoint(path)
    marked = (family.adapter for family in FAMILIES.values() if family.mark in checkpoint.shapes)
    try:
        spec = next(marked, protenix).read_spec(checkpoint.shapes, str(path))
        return checkpoint, read_card(checkpoint.metadata, str(path)).complete(spec)
    except WeightsError as error:
        raise refusal(checkpoint.path, str(error).removeprefix(f"{path}: ")) from error


def load_network(path: Path, *, dtype_of: DtypeOf | None = None, device: torch.device | str = "cpu") -> Network:
    """Network of a checkpoint file on `device`, each parameter in the dtype that `dtype_of` gives for its name.

    Raises:
        WeightsError: unreadable file, unknown family, or tensors that are missing, unexpected or of the wrong shape.
    """
    checkpoint, spec = open_model(path)
    with torch.device("meta"):
        network = Network(spec)
    load_parameters(network, checkpoint, ("",), dtype_of=dtype_of, device=device)
    return network


def load_parameters(
    network: Network,
    checkpoint: Checkpoint,
    modules: Sequence[str],
    *,
    dtype_of: DtypeOf | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Read the parameters of some sub-modules ("" = all), tensor by tensor; the whole checkpoint is checked first."""
    for name, names in match(network, checkpoint).items():
        if not any(name.startswith(f"{module}." if module else "") for module in modules):
            continue
        parts = [checkpoint.read(source) for source in names]
        value = parts[0] if len(parts) == 1 else torch.cat(parts)
        dtype = dtype_of(name) if dtype_of is not None else torch.float32
        assign(network, name, value.to(device=device, dtype=dtype).contiguous())


def match(network: Network, checkpoint: Checkpoint) -> dict[str, list[str]]:
    """Sources of every parameter: each tensor of the checkpoint is used once or is listed as dead.

    Raises:
        WeightsError: naming what is missing, unexpected or of the wrong shape.
    """
    shapes, path, spec = checkpoint.shapes, checkpoint.path, network.spec
    adapter = FAMILIES[spec.family].adapter
    plan: dict[str, list[str]] = {}
    for name, parameter in network.named_parameters():
        plan[name] = names = adapter.sources(name)
        missing = [source for source in names if source not in shapes]
        if missing:
            raise refusal(path, f"{_list('tensor', missing)} missing, needed for {name}")
        parts = [shapes[source] for source in names]
        found = (sum(part[0] for part in parts), *parts[0][1:])
        if any(part[1:] != parts[0][1:] for part in parts) or found != tuple(parameter.shape):
            have, wanted = " + ".join(map(str, parts)), tuple(parameter.shape)
            raise refusal(path, f"{' + '.join(names)} of shape {have}, expected {wanted} for {name}")
    used = [source for names in plan.values() for source in names]
    known = set(used)
    twice = sorted({source for source in used if used.count(source) > 1}) if len(known) != len(used) else []
    if twice:
        raise refusal(path, f"{_list('tensor', twice)} used twice")
    unexpected = [name for name in shapes if name not in known and not adapter.dead(name, spec)]
    if unexpected:
        raise refusal(path, f"unexpected {_list('tensor', unexpected)}; is this another family or a newer version?")
    return plan


def assign(network: torch.nn.Module, name: str, value: Tensor) -> None:
    """Put a value in the place of the parameter `name`."""
    module_name, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(module_name), leaf, torch.nn.Parameter(value, requires_grad=False))


def _list(what: str, names: list[str], limit: int = 3) -> str:
    """`tensors a, b, c and 4 more`."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(names[:limit])}{more}"
