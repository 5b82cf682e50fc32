"""Counts the bytes of all storages that are alive in a block of code."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """`peak` is the largest number of bytes that tensors made inside the block held at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.count: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        before = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self._hold(x, before)
        return out

    def _hold(self, x: Tensor, known: set[int]) -> None:
        storage = x.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.count:
            if key in known:
                return  # was there before the block
            self.count[key] = 0
            self.now += size
            self.peak = max(self.peak, self.now)
        self.count[key] += 1
        weakref.finalize(x, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self.count[key] -= 1
        if not self.count[key]:
            del self.count[key]
            self.now -= size
