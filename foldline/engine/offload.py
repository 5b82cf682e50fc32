"""Where a pair representation rests while it is not needed: the host's memory for an accelerator, a file for a CPU.

Rows of it are read, and nothing else of it is on the device meanwhile. Knows tensors, not what they stand for.
"""

import ctypes
import math
import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import EllipsisType
from typing import IO, Self

import torch
from torch import Tensor

from foldline.errors import WriteError

Index = slice | tuple[EllipsisType | slice, ...]


class Resting:
    """A tensor [*b, N, N, c] put away. The place that it takes is kept, so that it can be put away again.

    On the host of a CUDA device the memory is page-locked in place: PyTorch's own pinned memory is rounded up to a
    power of two, which is up to twice the tensor.
    """

    def __init__(self, x: Tensor) -> None:
        self.device, self.shape, self.dtype = x.device, x.shape, x.dtype
        self._host: Tensor | None = None
        self._file = None
        if x.device.type == "cpu":
            with _writing(x.nbytes):
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the tensor rests)
            weakref.finalize(self, _close, self._file)
        else:
            self._host = torch.empty(x.shape, dtype=x.dtype)
            if x.device.type == "cuda":
                _lock_pages(self, self._host)
        self.put(x)

    def put(self, x: Tensor) -> Self:
        """Put away other values of the same shape, in the same place.

        Raises:
            WriteError: there is no room for a file.
        """
        assert (x.shape, x.dtype, x.device) == (self.shape, self.dtype, self.device), "another tensor's place"
        if self._file is None:
            assert self._host is not None
            self._host.copy_(x)
        else:
            with _writing(x.nbytes):
                self._file.seek(0)
                for part in _chunks(x):
                    self._file.write(part.contiguous().flatten().view(torch.uint8).numpy().data)
                self._file.flush()
        return self

    def bring(self) -> Tensor:
        """The whole tensor on its device, contiguous."""
        if self._host is not None:
            return self._host.to(self.device)
        x = torch.empty(self.shape, dtype=self.dtype)
        self._read(x, 0)
        return x

    def __getitem__(self, index: Index) -> Tensor:
        """Rows on the device: x[i] of [N, N, c], x[..., i, :, :] with leading axes."""
        if self._host is not None:
            return self._host[index].to(self.device, non_blocking=True)
        rows = index if isinstance(index, slice) else next(i for i in index if isinstance(i, slice))
        start, stop, _ = rows.indices(self.shape[-3])
        lead = self.shape[:-3]
        x = torch.empty(math.prod(lead), stop - start, *self.shape[-2:], dtype=self.dtype)
        for k, part in enumerate(x):
            self._read(part, (k * self.shape[-3] + start) * math.prod(self.shape[-2:]))
        return x.view(*lead, stop - start, *self.shape[-2:])

    def _read(self, x: Tensor, first: int) -> None:
        """Fill x from the file, from element `first` on."""
        assert self._file is not None
        self._file.seek(first * self.dtype.itemsize)
        self._file.readinto(x.flatten().view(torch.uint8).numpy().data)


@contextmanager
def _writing(size: int) -> Iterator[None]:
    """What is written of `size` bytes in the block goes to a temporary file."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"the pair representation cannot rest in {_temporary_folder()} ({error.strerror or error}): free"
            f" {size / 1e9:.1f} GB there, name another folder with TMPDIR, or give more memory with --max-memory"
        ) from error


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # what found no room is tried once more
        file.close()


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return "the folder of temporary files"


def _chunks(x: Tensor) -> tuple[Tensor, ...]:
    """Parts to write one by one, so that a view needs no contiguous copy of all of it."""
    return (x,) if x.is_contiguous() or not x.dim() else x.unbind(0)


def _lock_pages(owner: object, x: Tensor) -> None:
    """Page-lock the host memory of x while `owner` lives; where that is refused, copies are slower and no more."""
    runtime = torch.cuda.cudart()
    assert runtime is not None
    if int(runtime.cudaHostRegister(x.data_ptr(), x.nbytes, 0)) == 0:
        weakref.finalize(owner, lambda kept: runtime.cudaHostUnregister(kept.data_ptr()), x)


def release_memory(device: torch.device | str) -> None:
    """Give freed memory back: to the system on a CPU (glibc keeps it), to other programs on a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
