"""Tensors put away come back as they were, whole or by rows, and take no memory meanwhile."""

import gc
import tempfile
from pathlib import Path

import pytest
import torch
from random_weights import draw
from torch._subclasses.fake_tensor import FakeTensorMode

from foldline.engine.memory_bench import DEVICE, LiveBytes
from foldline.engine.offload import Resting, release_memory
from foldline.errors import WriteError
from foldline.shapes import PairRows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(7, 5, 3), (1,), (0, 4), (2, 6, 6, 3)], ids=str)
def test_a_tensor_comes_back_as_it_was(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = draw("x", *shape).to(dtype)
    found = Resting(x).bring()
    assert torch.equal(found, x) and found.dtype == dtype and found.shape == x.shape
    assert found.data_ptr() != x.data_ptr() or not x.numel()


def test_views_come_back_contiguous() -> None:
    x = draw("x", 6, 8)
    found = Resting(x[:, ::2].t()).bring()
    assert torch.equal(found, x[:, ::2].t()) and found.is_contiguous()


def test_what_comes_back_can_be_written() -> None:
    x = draw("x", 4, 4)
    found = Resting(x).bring()
    found += 1
    assert torch.equal(found, x + 1)


def test_two_at_a_time_do_not_mix() -> None:
    a, b = draw("a", 100, 100), draw("b", 100, 100)
    first, second = Resting(a), Resting(b)
    assert torch.equal(second.bring(), b) and torch.equal(first.bring(), a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rows_are_those_of_the_tensor(dtype: torch.dtype) -> None:
    x, batch = draw("x", 9, 9, 4).to(dtype), draw("b", 2, 9, 9, 4).to(dtype)
    resting, both = Resting(x), Resting(batch)
    for rows in (slice(0, 9), slice(0, 1), slice(4, 7), slice(8, 20)):
        assert torch.equal(resting[rows], x[rows])
        assert torch.equal(resting[..., rows, :, :], x[rows])
        assert torch.equal(both[..., rows, :, :], batch[..., rows, :, :])
    assert isinstance(resting, PairRows) and isinstance(x, PairRows)


def test_a_place_is_used_again() -> None:
    a, b = draw("a", 5, 5, 2), draw("b", 5, 5, 2)
    place = Resting(a)
    assert place.put(b) is place
    assert torch.equal(place.bring(), b) and torch.equal(place[1:3], b[1:3])
    with pytest.raises(AssertionError, match="another tensor"):
        place.put(draw("c", 4, 5, 2))


def test_an_accelerator_s_tensor_rests_on_the_host() -> None:
    with torch.inference_mode(), FakeTensorMode(), LiveBytes() as live:
        place = Resting(torch.empty(10, 10, 4, device=DEVICE))
        assert (live.now[DEVICE], live.now["cpu"]) == (0, 1600)
        row = place[2:4]
        assert (live.now[DEVICE], row.shape) == (320, (2, 10, 4))
        assert live.peak[DEVICE] == 1600


def test_releasing_memory_leaves_tensors_alone() -> None:
    x = draw("x", 1000)
    before = x.clone()
    release_memory("cpu")
    release_memory(torch.device("cpu"))
    assert torch.equal(x, before)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device is always full here")
@pytest.mark.parametrize("n_token", [8, 700], ids=["less than a buffer", "more"])
def test_no_room_for_a_file_is_said_with_the_remedies(n_token: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw("x", 1, n_token, n_token, 4)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "r+b"))  # noqa: SIM115, PTH123
        with pytest.raises(
            WriteError, match=r"cannot rest in .* \(No space left on device\): free 0.0 GB .*TMPDIR.*--max-m"
        ):
            Resting(x)
        gc.collect()
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with pytest.raises(WriteError, match=r"cannot rest in /proc/nowhere \(No such file or directory\)"):
        Resting(x)
