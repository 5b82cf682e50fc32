"""Where a tensor rests while it is not needed: the host's memory for an accelerator, a file for a CPU."""

import ctypes
import sys
import tempfile

import torch
from torch import Tensor


class Parked:
    """A tensor put away. `bring` gives it back, once."""

    def __init__(self, x: Tensor) -> None:
        self.device, self.shape, self.dtype = x.device, x.shape, x.dtype
        self._host: Tensor | None = None
        self._file = None
        if x.device.type == "cpu":
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the tensor rests)
            x.contiguous().flatten().view(torch.uint8).numpy().tofile(self._file)
        else:
            self._host = x.to("cpu")

    def bring(self) -> Tensor:
        """The tensor, on its device; the resting copy is given up."""
        if self._file is None:
            assert self._host is not None
            x, self._host = self._host.to(self.device), None
            return x
        x = torch.empty(self.shape, dtype=self.dtype)
        self._file.seek(0)
        self._file.readinto(x.flatten().view(torch.uint8).numpy().data)
        self._file.close()
        return x


def release_memory(device: torch.device | str) -> None:
    """Give freed memory back: to the system on a CPU (glibc keeps it), to other programs on a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
