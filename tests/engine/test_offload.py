"""Tensors put away come back as they were, and take no memory meanwhile."""

import pytest
import torch
from random_weights import draw

from foldline.engine.offload import Parked, release_memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(7, 5, 3), (1,), (0, 4)], ids=str)
def test_a_tensor_comes_back_as_it_was(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = draw("x", *shape).to(dtype)
    found = Parked(x).bring()
    assert torch.equal(found, x) and found.dtype == dtype and found.shape == x.shape
    assert found.data_ptr() != x.data_ptr() or not x.numel()


def test_views_come_back_contiguous() -> None:
    x = draw("x", 6, 8)
    found = Parked(x[:, ::2].t()).bring()
    assert torch.equal(found, x[:, ::2].t()) and found.is_contiguous()


def test_what_comes_back_can_be_written() -> None:
    x = draw("x", 4, 4)
    found = Parked(x).bring()
    found += 1
    assert torch.equal(found, x + 1)


def test_two_at_a_time_do_not_mix() -> None:
    a, b = draw("a", 100, 100), draw("b", 100, 100)
    first, second = Parked(a), Parked(b)
    assert torch.equal(second.bring(), b) and torch.equal(first.bring(), a)


def test_releasing_memory_leaves_tensors_alone() -> None:
    x = draw("x", 1000)
    before = x.clone()
    release_memory("cpu")
    release_memory(torch.device("cpu"))
    assert torch.equal(x, before)
