"""Checks of checkpoints without a published hash: what is whole passes, what is damaged is refused in one sentence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from upstream_layout import small_network, state

from foldline.errors import WeightsError
from foldline.weights.check import check
from foldline.weights.registry import DEMO

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def tensors() -> State:
    return state(small_network())


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_whole_files_pass(tensors: State, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"whole.{kind}"
    torch.save({"model": tensors}, path) if kind == "pt" else save_file(tensors, path)
    held = check(path)
    assert (held.n_tensor, held.spec.family) == (len(tensors), "protenix")
    assert held.n_value == sum(value.numel() for value in tensors.values())


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b"PK" + bytes(range(256)), lambda _: b"{}"]
)
def test_damaged_files_are_refused(tensors: State, tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"broken.{kind}"
    torch.save(tensors, path) if kind == "pt" else save_file(tensors, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError) as refused:
        check(path)
    assert str(refused.value).startswith(f"{path} (") and "\n" not in str(refused.value)


def test_a_flipped_bit_is_seen_where_the_file_has_checksums(tensors: State, tmp_path: Path) -> None:
    path = tmp_path / "flipped.pt"
    torch.save(tensors, path)
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(WeightsError, match="does not have the checksum that the file states for it"):
        check(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tensors: State, tmp_path: Path, bad: float) -> None:
    name = "linear_no_bias_z_cycle.weight"
    value = tensors[name].clone()
    value.view(-1)[5] = bad
    save_file(tensors | {name: value}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=f"{name} holds NaN or infinity"):
        check(tmp_path / "x.safetensors")


def test_other_networks_are_refused(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError):
        check(tmp_path / "x.safetensors")
    assert DEMO.bundled is not None
    shutil.copy(DEMO.bundled, tmp_path / "demo.safetensors")
    assert check(tmp_path / "demo.safetensors").spec.family == "protenix"


def test_files_go_by_their_content_and_not_by_their_name(tensors: State, tmp_path: Path) -> None:
    torch.save(tensors, tmp_path / "torch.safetensors")
    save_file(tensors, tmp_path / "safe.pt")
    assert check(tmp_path / "torch.safetensors") == check(tmp_path / "safe.pt")
