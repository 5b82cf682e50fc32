"""Products with weights, and of two operands. Chooses the library that computes them, never what is computed.

On a CPU, PyTorch hands float32 products to MKL, which keeps to AVX2 on processors that are not Intel's. oneDNN, which
PyTorch carries as well and uses for bfloat16, has AVX-512 on all of them: up to twice as fast where that is wider.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST_APART = 1 << 24  # multiplications of one of several products from which a call of its own is as fast or faster


def _has_onednn() -> bool:
    """Whether this PyTorch offers oneDNN's linear layer for plain tensors and the processor has AVX-512."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


_ONEDNN = _has_onednn()


def keeps_kernels(dtype: torch.dtype) -> bool:
    """Whether products on this CPU go through oneDNN, which keeps a kernel of half a megabyte for every new shape."""
    return _ONEDNN if dtype == torch.float32 else torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _takes_onednn(x: Tensor) -> bool:
    return _ONEDNN and x.dtype == torch.float32 and x.device.type == "cpu"


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = W x (+ b) over the last axis.

    Args:
        x: [..., c_in].
        weight: [c_out, c_in].
        bias: [c_out] or None.
    """
    if _takes_onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b^T for every leading index: a [*b, I, K], b [*b, J, K] -> [*b, I, J]; leading axes are equal.

    Several small products are made at once by PyTorch's own, which spreads them over the threads: one oneDNN call after
    the other took up to 2.5 times as long for those of a triangle multiplication in two threads.
    """
    n_matrix, size = math.prod(a.shape[:-2]), a.shape[-2] * b.shape[-2] * a.shape[-1]
    if not _takes_onednn(a) or (n_matrix != 1 and size < _LEAST_APART):
        return torch.matmul(a, b.transpose(-1, -2))
    if n_matrix == 1:
        return linear(a.reshape(a.shape[-2:]), b.reshape(b.shape[-2:])).view(*a.shape[:-1], b.shape[-2])
    out = a.new_empty(*a.shape[:-1], b.shape[-2])
    for left, right, to in zip(_matrices(a), _matrices(b), _matrices(out), strict=True):
        to.copy_(linear(left, right))
    return out


def _matrices(x: Tensor) -> tuple[Tensor, ...]:
    """The matrices of [*b, I, K], as views."""
    views = (x,)
    while views[0].dim() > 3:
        views = tuple(part for view in views for part in view.unbind())
    return tuple(matrix for view in views for matrix in view.unbind())
