"""Peak bytes of every stage of a plan: counted on tensors without values, at any size, or of this process on a CPU.

On tensors without values nothing is computed: a dispatch mode counts the bytes of all live storages per device. Kernel
workspaces and allocator fragmentation are not counted. Scaled dot product attention counts as a fused kernel, which
holds no score matrix.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foldline.engine.group import Group, Lane, TrunkResult
from foldline.engine.memory_model import STAGES, Sizes
from foldline.engine.offload import release_memory
from foldline.engine.plan import Plan
from foldline.engine.runner import Run, RunOptions, run_pass
from foldline.layers.atoms import Atoms
from foldline.layers.primitives import Blocks
from foldline.layers.relative import Positions
from foldline.layers.template import Template
from foldline.models import Batch, ModelSpec, Network
from foldline.ops import Ops, select

DEVICE = "meta"  # tensors of this device have sizes and no values; under `_WithoutValues` they can be moved to the host


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
        out = self.call(func, args, kwargs or {})
        for x in (out,) if isinstance(out, Tensor) else tree_leaves(out):
            if isinstance(x, Tensor):
                self._track(x)
        return out

    def call(self, func: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """What an operation gives."""
        return func(*args, **kwargs)

    def size(self, x: Tensor) -> int:
        """Bytes of a tensor's storage."""
        return x.untyped_storage().nbytes()

    def _track(self, x: Tensor) -> None:
        storage = x.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        device, size = (x.fake_device if isinstance(x, FakeTensor) else x.device).type, self.size(x)
        self._seen.add(key)
        self.now[device] = self.now.get(device, 0) + size
        self.peak[device] = max(self.peak.get(device, 0), self.now[device])
        weakref.finalize(storage, self._free, key, device, size)
        setattr(x, "_live_storage", storage)  # noqa: B010 - the Python storage has to live as long as the tensor

    def _free(self, key: int, device: str, size: int) -> None:
        self._seen.discard(key)
        self.now[device] -= size


class _WithoutValues(LiveBytes):
    """Lets tensors of `DEVICE` be moved to the host, where they count for their shape and take no memory either."""

    HOST = torch.device("cpu")
    MOVES = (torch.ops.aten.to, torch.ops.aten._to_copy)

    def call(self, func: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        packet, dtype = getattr(func, "overloadpacket", None), kwargs.get("dtype")
        if packet is torch.ops.aten.copy_ and args[1].device.type == DEVICE != args[0].device.type:
            return args[0]
        if packet is torch.ops.aten.empty and kwargs.get("device", self.HOST) == self.HOST:
            return torch.empty((), dtype=dtype).expand(args[0])
        if packet in self.MOVES and args[0].device.type == DEVICE and self.HOST in (*args, *kwargs.values()):
            return torch.empty((), dtype=dtype or args[0].dtype).expand(args[0].shape)
        if packet is torch.ops.aten.native_layer_norm and not args[0].is_contiguous():
            with self:  # which its kernels do to what is not
                args = (args[0].contiguous(), *args[1:])
        if packet is not torch.ops.aten.scaled_dot_product_attention:
            with self:  # what an operation is made of, such as the copies of a product
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        return func(*args, **kwargs)

    def size(self, x: Tensor) -> int:
        return x.nbytes if x.device == self.HOST else super().size(x)


class ProcessBytes:
    """Resident memory of this process, and its peak since the last `mark`; Linux alone tells it."""

    STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def mark(self) -> None:
        """Start a new peak from what is resident now."""
        release_memory("cpu")
        self.CLEAR.write_text("5")

    @property
    def now(self) -> dict[str, int]:
        """Bytes that are resident."""
        return {"cpu": self._read("VmRSS:")}

    @property
    def peak(self) -> dict[str, int]:
        """Most bytes that were resident."""
        return {"cpu": self._read("VmHWM:")}

    def _read(self, name: str) -> int:
        words = self.STATUS.read_text().split()
        return int(words[words.index(name) + 1]) * 1024


@dataclass
class StagePeak:
    """Peak of one stage in bytes: `held` is live when it starts, weights included."""

    stage: str
    device: int = 0
    host: int = 0
    held: int = 0


@dataclass
class MemoryReport:
    """Stages of one run of a plan."""

    plan: Plan
    weights: int = 0
    stages: dict[str, StagePeak] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        """Largest device peak."""
        return max(stage.device for stage in self.stages.values())


class _Watch:
    """Counts the peak of every stage around calls of the network; a stage may be entered more than once."""

    def __init__(self, live: LiveBytes | ProcessBytes, report: MemoryReport, device: str) -> None:
        self.live, self.report, self.device = live, report, device

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What is live inside belongs to the stage."""
        assert name in STAGES, name
        self.live.mark()
        found = self.report.stages.setdefault(name, StagePeak(name, held=self.live.now.get(self.device, 0)))
        yield
        found.device = max(found.device, self.live.peak.get(self.device, 0))
        found.host = max(found.host, self.live.peak.get("cpu", 0))

    def method(self, of: object, name: str, stage: str) -> None:
        """Let calls of a method of one object count for a stage."""
        plain = getattr(of, name)

        def counted(*args: object, **kwargs: object) -> object:
            with self.stage(stage):
                return plain(*args, **kwargs)

        object.__setattr__(of, name, counted)


def measure(p: Plan) -> MemoryReport:
    """Peak live bytes of every stage of a plan, on the device and on the host, all weights resident.

    One block of every kind runs, one pass, one step and the scoring of one batch: what repeats has the same peak.
    """
    report = MemoryReport(p)
    with _WithoutValues() as live:
        _run(p, _Watch(live, report, DEVICE))
    return report


def measure_process(p: Plan) -> MemoryReport:
    """The same for a CPU, from this process's resident memory: to be called once in a process of its own."""
    report = MemoryReport(p)
    _run(p, _Watch(ProcessBytes(), report, "cpu"))
    return report


@torch.inference_mode()
def _run(p: Plan, watch: _Watch) -> None:
    spec, device = p.request.spec, watch.device
    with torch.device("meta"):
        network = Network(spec)
    for name, parameter in list(network.named_parameters()):
        value = torch.full(parameter.shape, 0.01, dtype=p.dtype_of(name), device=device)
        watch.report.weights += value.nbytes
        setattr(
            network.get_submodule(name.rpartition(".")[0]),
            name.rpartition(".")[2],
            torch.nn.Parameter(value, requires_grad=False),
        )
        del parameter, value
    kept, ops = _one_block_each(network, p), select(p.rows)
    group = Group([Lane(None, _FirstRows(p.request.sizes)) for _ in range(p.seed_group)])  # type: ignore[arg-type]
    group.batch = blank_batch(spec, p.request.sizes, p.seed_group, device)
    _trunk(network, group, p, ops, watch)
    x = _diffusion(network, group, p, ops, watch)
    _confidence(network, group, p, ops, watch, x)
    del kept


def _one_block_each(network: Network, p: Plan) -> list[torch.nn.Module]:
    """Cut stacks of equal blocks to one; returns all blocks, so that their weights stay."""
    trunk, diffusion = network.trunk, network.diffusion.transformer
    kept = list(network.modules())
    trunk.pairformer.blocks = trunk.pairformer.blocks[:1]
    network.confidence.stack.blocks = network.confidence.stack.blocks[:1]
    trunk.msa_module.blocks = trunk.msa_module.blocks[:1] + trunk.msa_module.blocks[1:][-1:]
    if trunk.template_embedder is not None:
        trunk.template_embedder.blocks = trunk.template_embedder.blocks[:1]
    if not p.keep_biases:
        diffusion.blocks = Blocks(list(diffusion.blocks)[:2])
    return kept


@dataclass(frozen=True)
class _FirstRows:
    """Draws as many alignment rows as a pass reads at most."""

    sizes: Sizes

    def msa_rows(self, _number: int, n_msa: int) -> Tensor:
        """The first rows."""
        drawn = self.sizes.n_msa_drawn
        return torch.arange(n_msa if drawn is None else min(n_msa, drawn))


def _trunk(network: Network, group: Group, p: Plan, ops: Ops, watch: _Watch) -> None:
    trunk, batch = network.trunk, group.batch
    assert batch is not None
    with watch.stage("input embedder"):
        s_inputs = trunk.embed_inputs(batch, ops)
    s, z = trunk.start(batch, s_inputs.to(p.trunk_dtype))
    group.trunk = TrunkResult(s_inputs, s, z)
    del s, z
    watch.method(trunk, "recycle", "recycling")
    if trunk.template_embedder is not None:
        watch.method(trunk.template_embedder, "total", "template embedder")
        watch.method(trunk.template_embedder, "add_", "template embedder")
    watch.method(trunk.msa_module, "embed", "MSA module")
    watch.method(trunk.msa_module, "forward", "MSA module")
    watch.method(trunk.pairformer, "forward", "pairformer")
    which = slice(0, p.seed_batch)
    run_pass(Run(network, RunOptions()), group, which, p, ops, 0)
    with watch.stage("distogram"):
        contact = network.distogram(group.trunk.of(which), ops).cpu()
        del contact


def _diffusion(network: Network, group: Group, p: Plan, ops: Ops, watch: _Watch) -> Tensor:
    sizes, batch, trunk = p.request.sizes, group.batch, group.trunk
    assert batch is not None and trunk is not None
    seeds = max(1, p.diffusion_batch // sizes.n_sample)
    which = slice(0, seeds)
    trunk.settle(rests=p.park_pair)
    with watch.stage("diffusion, conditioning"):
        part = batch.lanes(which)
        fixed = network.diffusion.prepare(
            part, trunk.s_inputs[which], trunk.s[which], trunk.rows_of(which), p.keep_biases, ops
        )
    network.diffusion.transformer.blocks = Blocks(list(network.diffusion.transformer.blocks)[:2])
    with watch.stage("diffusion, step"):
        x = torch.zeros(seeds, min(p.diffusion_batch, sizes.n_sample), sizes.n_atom, 3, device=watch.device)
        x = network.diffusion(x, torch.ones((), device=watch.device), fixed, None, ops)
    return x


def _confidence(network: Network, group: Group, p: Plan, ops: Ops, watch: _Watch, x: Tensor) -> None:
    batch, trunk, head = group.batch, group.trunk, network.confidence
    assert batch is not None and trunk is not None
    which, only = slice(0, p.seed_batch), p.request.sizes.n_sample == p.seed_group == 1
    with watch.stage("confidence"):
        part, z = batch.lanes(which), trunk.rows_of(which)
        same = only and isinstance(z, Tensor) and z.dtype == p.confidence_dtype
        pair = z if same else torch.empty(z.shape, dtype=p.confidence_dtype, device=watch.device)
        assert isinstance(pair, Tensor)
        rep = x.new_zeros(p.seed_batch, batch.n_token, 3)
        head.embed(z, trunk.s_inputs[which].to(pair.dtype), rep, pair, ops)
        del z
        if only:
            trunk.give_up()
        single = head(trunk.s[which].to(pair.dtype), pair, None, ops)
        for block in head.error_rows(pair[0], ops):
            del block
        head.atom_plddt(single[0], part.lane(0).atoms.to_token, part.lane(0).atom_in_token)


def blank_batch(spec: ModelSpec, sizes: Sizes, lanes: int, device: str) -> Batch:
    """A batch of seeds with two distinct template slots, all zeros."""
    n, a, m = sizes.n_token, sizes.n_atom, min(sizes.n_msa, spec.max_msa)

    def ints(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    def floats(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float32, device=device)

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
            ref_pos=floats(lanes, a, 3),
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
