"""A pretended GPU: tensors that say they are on "cuda:0" and hold their values on the CPU, for code that mixes neither.

What a real device forbids raises here: operands on both sides, more memory than there is. What it punishes is noted:
every moment at which the host would wait for the device (`Gpu.waits`), and what is copied. Live bytes are counted as
the caching allocator does, in blocks of 512; kernels' own workspaces are not.
"""

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import foldline

aten = torch.ops.aten
PACKAGE = f"{Path(foldline.__file__).parent}/"
MEMORY = 16 << 30
BLOCK = 512
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
# their answer is a number or a shape that the host has to know
READS = {aten._local_scalar_dense, aten.nonzero, aten.equal, aten.masked_select, aten.is_nonzero, aten.unique_dim}
COPIES = {aten.copy_, aten._to_copy}
FUSED = {aten.scaled_dot_product_attention}  # one kernel on a device, which holds no score matrix

# bindings that ask the real device before they get to an operator, in terms of operators
BINDINGS: dict[Callable, Callable] = {
    Tensor.contiguous: lambda x: x if x.is_contiguous() else x.clone(memory_format=torch.contiguous_format),
    Tensor.__invert__: torch.bitwise_not,
    Tensor.copy_: aten.copy_.default,
    Tensor.item: aten._local_scalar_dense,
    Tensor.__bool__: lambda x: bool(aten._local_scalar_dense(x)),
    Tensor.__int__: lambda x: int(aten._local_scalar_dense(x)),
    Tensor.__float__: lambda x: float(aten._local_scalar_dense(x)),
    Tensor.tolist: lambda x: x.cpu().tolist(),
}


@dataclass
class Gpu:
    """The device: what it holds, and what the host did to it."""

    memory: int
    limit: int  # what this process may take of it
    now: int = 0
    peak: int = 0
    waits: Counter[str] = field(default_factory=Counter)  # by what was waited for, and where
    copied: dict[str, int] = field(default_factory=lambda: {"in": 0, "out": 0})  # bytes
    kernels: int = 0
    locked: dict[int, int] = field(default_factory=dict)  # page-locked host memory: address, bytes
    _users: Counter[int] = field(default_factory=Counter)  # tensors of each storage

    def hold(self, x: "OnGpu") -> None:
        """Count the storage of a new tensor. Raises torch.OutOfMemoryError."""
        storage = x.values.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // BLOCK) * BLOCK
        if not self._users[key]:
            if self.now + size > self.limit:
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes")
            self.now += size
            self.peak = max(self.peak, self.now)
        self._users[key] += 1
        weakref.finalize(x, self._let_go, key, size, storage)

    def _let_go(self, key: int, size: int, _storage: torch.UntypedStorage) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self.now -= size

    def wait(self, why: str) -> None:
        """Note that the host would wait here."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
            frame = frame.f_back
        where = "a test"
        if frame is not None:
            where = f"{frame.f_code.co_filename.removeprefix(PACKAGE)}:{frame.f_code.co_name}"
        self.waits[f"{why} in {where}"] += 1

    def is_locked(self, x: Tensor) -> bool:
        """Whether copies from and to this host memory can go on beside other work."""
        start = x.untyped_storage().data_ptr()
        return not x.nbytes or any(first <= start < first + size for first, size in self.locked.items())

    def lock(self, address: int, size: int) -> int:
        self.locked[address] = size
        return 0

    def unlock(self, address: int) -> int:
        del self.locked[address]
        return 0


class OnGpu(Tensor):
    """A tensor of the pretend device."""

    gpu: Gpu
    values: Tensor

    @staticmethod
    def __new__(cls: type["OnGpu"], values: Tensor, gpu: Gpu) -> "OnGpu":
        x = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=CUDA,
        )
        x.values, x.gpu = values, gpu
        gpu.hold(x)
        return x

    @classmethod
    def __torch_function__(cls, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Indexing asks for a guard of the real device before it gets to the operators: done here."""
        with torch._C.DisableTorchFunctionSubclass():
            if func in BINDINGS:
                return BINDINGS[func](*args, **(kwargs or {}))
            if func not in (Tensor.__getitem__, Tensor.__setitem__):
                return func(*args, **(kwargs or {}))
            gpu = next(x.gpu for x in tree_leaves(args) if isinstance(x, OnGpu))
            for index in tree_leaves(args[1]):
                if isinstance(index, Tensor) and index.dtype == torch.bool:
                    gpu.wait("a mask as an index")
                elif (
                    isinstance(index, Tensor) and index.dim() and isinstance(index, OnGpu) != isinstance(args[0], OnGpu)
                ):
                    raise AssertionError("an index on the other device")
            if func is Tensor.__getitem__:
                assert isinstance(args[0], OnGpu), "a tensor of the host indexed with one of the device"
                return OnGpu(args[0].values[_values(args[1])], gpu)
            target, index, value = args
            if isinstance(value, Tensor) and value.dim() and isinstance(value, OnGpu) != isinstance(target, OnGpu):
                _note_copy(gpu, value, target, nowait=False)
            return _values(target).__setitem__(_values(index), _values(value))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(next(x.gpu for x in tree_leaves((args, kwargs)) if isinstance(x, OnGpu)), func, args, kwargs or {})


class _OnDevice(TorchDispatchMode):
    """Sends what is made on "cuda" to the pretend device."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        concerned = _is_cuda(kwargs.get("device")) or any(isinstance(x, OnGpu) for x in tree_leaves((args, kwargs)))
        if concerned or func.overloadpacket in (aten.pin_memory, aten.is_pinned, aten._pin_memory, aten.to):
            with self:
                return _run(self.gpu, func, args, kwargs)
        return func(*args, **kwargs)


def _run(gpu: Gpu, func: Any, args: tuple, kwargs: dict) -> Any:
    """One operator: on the device where an operand or its result is there."""
    packet = func.overloadpacket
    if packet is aten.is_pinned:
        return gpu.is_locked(args[0])
    if packet in (aten.pin_memory, aten._pin_memory):
        with torch._C._DisableTorchDispatch():
            pinned = args[0].clone(memory_format=torch.contiguous_format)
        storage = pinned.untyped_storage()
        gpu.lock(storage.data_ptr(), storage.nbytes())
        return pinned
    if packet is aten.to:
        return _to(gpu, func, args, kwargs)
    if packet not in FUSED:
        parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
    operands = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    here = [x for x in operands if isinstance(x, OnGpu)]
    target = kwargs.get("device")
    stays = _is_cuda(target) if target is not None else bool(here)
    if packet in COPIES:
        source = args[1] if packet is aten.copy_ else args[0]
        end: Tensor | bool = args[0] if packet is aten.copy_ else stays
        nowait = kwargs.get("non_blocking", False) or (packet is aten.copy_ and len(args) > 2 and args[2])
        crosses = isinstance(source, OnGpu) != (isinstance(end, OnGpu) if isinstance(end, Tensor) else end)
        if crosses and "meta" not in (source.device.type, str(target)):
            _note_copy(gpu, source, end, nowait=nowait)
        stays = isinstance(end, OnGpu) if isinstance(end, Tensor) else end
    elif here:
        apart = [x for x in operands if x.dim() and not isinstance(x, OnGpu)]
        assert not apart, f"{func} of operands on both sides: {[tuple(x.shape) for x in operands]}"
        if packet in READS or (packet is aten.index and any(x is not None and x.dtype == torch.bool for x in args[1])):
            gpu.wait(f"{packet.__name__}")
    gpu.kernels += bool(here)
    plain = dict(kwargs)
    if _is_cuda(target):
        plain["device"] = CPU
    if packet is aten._to_copy:
        plain.pop("non_blocking", None)
    known = {id(x.values): x for x in here}
    with torch._C._DisableTorchDispatch():
        out = func(*tree_map(_values, args), **tree_map(_values, plain))

    def wrapped(x: Any) -> Any:
        if not isinstance(x, Tensor) or not stays or x.device.type == "meta":
            return x
        return known[id(x)] if id(x) in known else OnGpu(x, gpu)

    return tree_map(wrapped, out)


def _to(gpu: Gpu, func: Any, args: tuple, kwargs: dict) -> Any:
    """`Tensor.to`, whose own way asks the real device: a copy where device or precision differ."""
    given = dict(zip((each.name for each in func._schema.arguments), args, strict=False)) | kwargs
    x, other = given["self"], given.get("other")
    device = other.device if other is not None else given.get("device")
    dtype = other.dtype if other is not None else given.get("dtype")
    moves = device is not None and torch.device(device).type != x.device.type
    if not (moves or given.get("copy") or (dtype is not None and dtype != x.dtype)):
        return x
    wanted = {"dtype": dtype, "device": device, "non_blocking": bool(given.get("non_blocking"))}
    return _run(gpu, aten._to_copy.default, (x,), {name: value for name, value in wanted.items() if value is not None})


def _note_copy(gpu: Gpu, source: Tensor, end: "Tensor | bool", *, nowait: bool) -> None:
    """A copy over the bus: waited for, unless asked otherwise and the host's side is page-locked."""
    outward = isinstance(source, OnGpu)
    gpu.copied["out" if outward else "in"] += source.nbytes
    host = end if outward and isinstance(end, Tensor) else None if outward else source
    if not nowait:
        gpu.wait(f"a copy {'from' if outward else 'to'} the device")
    elif host is None or not gpu.is_locked(host):
        gpu.wait(f"a copy {'from' if outward else 'to'} the device, of memory that is not page-locked,")


def _values(x: Any) -> Any:
    if isinstance(x, tuple | list):
        return type(x)(map(_values, x))
    return x.values if isinstance(x, OnGpu) else x


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


@contextmanager
def pretend_gpu(patch: pytest.MonkeyPatch, memory: int = MEMORY) -> Iterator[Gpu]:
    """A block in which this thread has a GPU of so many bytes; tensors of it can be read by other threads too."""
    gpu = Gpu(memory, memory)
    runtime = SimpleNamespace(
        cudaHostRegister=lambda address, size, _flags: gpu.lock(address, size), cudaHostUnregister=gpu.unlock
    )

    def new_peak(_device: object = None) -> None:
        gpu.peak = gpu.now

    for name, what in {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "cudart": lambda: runtime,
        "synchronize": lambda _device=None: None,
        "empty_cache": lambda: None,
        "set_per_process_memory_fraction": lambda share, _device=None: setattr(gpu, "limit", int(share * memory)),
        "get_device_properties": lambda _device=None: SimpleNamespace(total_memory=memory),
        "get_device_name": lambda _device=None: "pretend GPU",
        "mem_get_info": lambda _device=None: (memory - gpu.now, memory),
        "memory_reserved": lambda _device=None: gpu.now,
        "memory_allocated": lambda _device=None: gpu.now,
        "max_memory_allocated": lambda _device=None: gpu.peak,
        "reset_peak_memory_stats": new_peak,
    }.items():
        patch.setattr(torch.cuda, name, what)
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _OnDevice(gpu):
            yield gpu
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
