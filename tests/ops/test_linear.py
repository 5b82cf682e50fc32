"""Products: the same numbers whichever library computes them, for every layout that the ops pass."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

from foldline.ops import linear as room
from foldline.ops.linear import linear, product

needs_onednn = pytest.mark.skipif(not room._ONEDNN, reason="no oneDNN with AVX-512 here")


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Relative RMS difference, in double precision."""
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 70, 96), (257, 128)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear(shape: tuple[int, ...], with_bias: bool) -> None:
    x, weight = torch.randn(shape), torch.randn(33, shape[-1])
    bias = torch.randn(33) if with_bias else None
    wanted = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    found = linear(x, weight, bias)
    assert found.shape == wanted.shape and found.is_contiguous()
    assert relative(found, wanted) < 1e-6


def test_linear_takes_views() -> None:
    x = torch.randn(64, 50, 40).transpose(0, 2)[3:, ::2]
    weight = torch.randn(128, 128)[::4, 32:96]
    assert relative(linear(x, weight), x.double() @ weight.double().t()) < 1e-6


def test_linear_of_nothing() -> None:
    assert linear(torch.randn(0, 16), torch.randn(4, 16)).shape == (0, 4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_linear_leaves_other_precisions_alone(dtype: torch.dtype) -> None:
    x, weight = torch.randn(9, 16, dtype=dtype), torch.randn(4, 16, dtype=dtype)
    assert torch.equal(linear(x, weight), F.linear(x, weight))


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
@pytest.mark.parametrize("size", [8, 128, 260])  # the last one is above what gets a call of its own
def test_product(lead: tuple[int, ...], size: int) -> None:
    a, b = torch.randn(*lead, size, size), torch.randn(*lead, size + 1, size)
    wanted = a.double() @ b.double().transpose(-1, -2)
    found = product(a, b)
    assert found.shape == wanted.shape
    assert relative(found, wanted) < 1e-6


def test_product_takes_views_and_expanded_operands() -> None:
    a = torch.randn(128, 96).expand(2, -1, -1)
    b = torch.randn(2, 96, 160).transpose(-1, -2)
    assert relative(product(a, b), a.double() @ b.double().transpose(-1, -2)) < 1e-6


@needs_onednn
def test_both_libraries_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(300, 128), torch.randn(512, 128)
    with_onednn = linear(x, weight)
    monkeypatch.setattr(room, "_ONEDNN", False)
    assert relative(with_onednn, linear(x, weight).double()) < 1e-6


@needs_onednn
def test_linear_has_shapes_without_values() -> None:
    with FakeTensorMode():
        assert linear(torch.empty(7, 9, 64), torch.empty(32, 64)).shape == (7, 9, 32)
