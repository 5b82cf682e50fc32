"""Peak live bytes of every stage at any size, without computing anything: the network runs on fake tensors.

A dispatch mode counts the bytes of all live storages per device. Kernel workspaces and allocator fragmentation are not
counted. Scaled dot product attention counts as a fused kernel, which holds no score matrix.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foldline.engine.plan import Plan, Sizes, plan, work_sizes
from foldline.layers.atoms import Atoms
from foldline.layers.relative import Positions
from foldline.layers.template import Template
from foldline.models import Batch, ModelSpec, Network
from foldline.ops import Rows, select

UNLIMITED = 1 << 62
DEVICE = "meta"  # under FakeTensorMode, tensors of this device can be moved to the host and are told apart from it


class LiveBytes(TorchDispatchMode):
    """Counts live bytes per device type, and their peak since the last `mark`."""

    def __init__(self) -> None:
        super().__init__()
        self.now: dict[str, int] = {}
        self.peak: dict[str, int] = {}
        self._seen: set[int] = set()

    def mark(self) -> None:
        """Start a new peak from what is live now."""
        self.peak = dict(self.now)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self._track(x)
        return out

    def _track(self, x: Tensor) -> None:
        storage = x.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        device = x.fake_device.type if isinstance(x, FakeTensor) else x.device.type
        size = storage.nbytes()
        self._seen.add(key)
        self.now[device] = self.now.get(device, 0) + size
        self.peak[device] = max(self.peak.get(device, 0), self.now[device])
        weakref.finalize(storage, self._free, key, device, size)
        setattr(x, "_live_storage", storage)  # noqa: B010 - the Python storage has to live as long as the tensor

    def _free(self, key: int, device: str, size: int) -> None:
        self._seen.discard(key)
        self.now[device] -= size


@dataclass
class StagePeak:
    """Peak of one stage in bytes: `held` is live when it starts, weights included."""

    stage: str
    device: int
    host: int
    held: int


@dataclass
class MemoryReport:
    """Stages of one run at one size."""

    sizes: Sizes
    dtype: str
    weights: int
    stages: list[StagePeak] = field(default_factory=list)

    @property
    def peak(self) -> int:
        """Largest device peak."""
        return max(stage.device for stage in self.stages)


@torch.inference_mode()
def measure(spec: ModelSpec, sizes: Sizes, dtype: torch.dtype, rows: Rows | None = None) -> MemoryReport:
    """Peak live device bytes of every stage with all weights resident.

    Args:
        spec: the network.
        sizes: the job.
        dtype: of the trunk; diffusion and confidence follow the family's rule.
        rows: work sizes; default those of an accelerator.
    """
    chosen = plan(sizes, spec, UNLIMITED, dtype=dtype, device="cuda")
    rows = rows or work_sizes(sizes.n_token, "cuda")
    with FakeTensorMode(), LiveBytes() as live:
        network = Network(spec)
        for name, parameter in list(network.named_parameters()):
            module = network.get_submodule(name.rpartition(".")[0])
            value = torch.empty(parameter.shape, dtype=chosen.dtype_of(name), device=DEVICE)
            setattr(module, name.rpartition(".")[2], torch.nn.Parameter(value, requires_grad=False))
            del parameter, value
        report = MemoryReport(sizes, str(dtype).removeprefix("torch."), live.now.get(DEVICE, 0))
        _run(network, fake_batch(spec, sizes), chosen, rows, live, report)
    return report


@contextmanager
def _stage(live: LiveBytes, report: MemoryReport, name: str) -> Iterator[None]:
    live.mark()
    held = live.now.get(DEVICE, 0)
    yield
    report.stages.append(StagePeak(name, live.peak.get(DEVICE, 0), live.peak.get("cpu", 0), held))


def _run(network: Network, batch: Batch, chosen: Plan, rows: Rows, live: LiveBytes, report: MemoryReport) -> None:
    """One block of every kind, one pass, one step, one sample scored: what repeats has the same peak."""
    trunk, sizes, ops = network.trunk, report.sizes, select(rows)
    with _stage(live, report, "input embedder"):
        s_inputs = trunk.embed_inputs(batch, ops)
    low = s_inputs.to(chosen.trunk_dtype)
    s, z = trunk.start(batch, low)
    with _stage(live, report, "recycling"):
        trunk.recycle(batch, low, s, z, ops)
    if trunk.template_embedder is not None:
        with _stage(live, report, "template embedder"):
            trunk.template_embedder(z, batch.templates, batch.position.asym_id, None, ops)
    with _stage(live, report, "MSA module"):
        drawn = torch.arange(len(batch.msa), device=DEVICE)
        m = trunk.msa_module.embed(batch.msa[drawn], batch.deletions[drawn], low, ops)
        for block in trunk.msa_module.blocks[:1] + trunk.msa_module.blocks[-1:]:
            block(m, z, None, None, ops)
        del m
    with _stage(live, report, "pairformer block"):
        trunk.pairformer.blocks[0](s, z, None, ops)
    with _stage(live, report, "distogram"):
        contact = network.distogram(z, ops)
        del contact
    with _stage(live, report, "diffusion, prepare"):
        fixed = network.diffusion.prepare(batch, s_inputs, s, z, False, ops)
    with _stage(live, report, f"diffusion, step of {sizes.n_sample}"):
        x = torch.empty(sizes.n_sample, sizes.n_atom, 3, device=DEVICE)
        x = network.diffusion(x, torch.empty((), device=DEVICE), fixed, None, ops)
    del fixed
    with _stage(live, report, "confidence, one sample"):
        pair = torch.empty(z.shape, dtype=chosen.confidence_dtype, device=DEVICE)
        network.confidence.embed(z, s_inputs.to(pair.dtype), x[0][batch.rep_atom], pair, ops)
        single = s.to(pair.dtype)
        single = network.confidence.norm_s(single)
        network.confidence.stack.blocks[0](single, pair, None, ops)
        for _ in network.confidence.error_rows(pair, ops):
            pass
        network.confidence.atom_plddt(single.float(), batch.atoms.to_token, batch.atom_in_token)


def fake_batch(spec: ModelSpec, sizes: Sizes) -> Batch:
    """A batch of these sizes with two distinct template slots, to be made under FakeTensorMode."""
    n, a, m = sizes.n_token, sizes.n_atom, min(sizes.n_msa, spec.max_msa)

    def ints(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=DEVICE)

    def floats(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=DEVICE)

    def template(count: int) -> Template:
        masks = ints(n, dtype=torch.bool), ints(n, dtype=torch.bool)
        return Template(ints(n), floats(n, 3), masks[0], floats(n, 3, 3), masks[1], count)

    return Batch(
        n_token=n,
        token_mask=None,
        position=Positions(*(ints(n, dtype=torch.int32) for _ in range(5))),
        restype=ints(n),
        profile=floats(n, spec.n_class),
        deletion_mean=floats(n),
        bonds=(ints(2 * n), ints(2 * n)),
        bond_weight=floats(2 * n),
        rep_atom=ints(n),
        atoms=Atoms(
            mask=None,
            ref_pos=floats(a, 3),
            ref_mask=ints(a, dtype=torch.bool),
            ref_charge=floats(a),
            ref_element=ints(a),
            ref_atom_name_chars=ints(a, 4),
            ref_space_uid=ints(a),
            to_token=ints(a),
        ),
        atom_in_token=ints(a),
        msa=ints(m, n, dtype=torch.int8),
        deletions=ints(m, n, dtype=torch.uint8),
        templates=[template(1), template(3)],
    )
