"""Plan: precision, work sizes and what is kept, decided from sizes and memory before anything runs. Pure functions."""

from dataclasses import asdict, dataclass, replace
from functools import cache

import torch

from foldline.errors import DoesNotFit
from foldline.models.spec import ModelSpec
from foldline.ops import Rows

GIB = 2**30
PROCESS_BYTES = 600_000_000  # interpreter, libraries and what the allocator keeps, on a CPU


@dataclass(frozen=True)
class Sizes:
    """Sizes of one padded job."""

    n_token: int
    n_atom: int
    n_msa: int
    n_sample: int = 5


@dataclass(frozen=True)
class Plan:
    """How one job runs. `peak_bytes` is the estimate of the largest stage, weights included."""

    trunk_dtype: torch.dtype
    diffusion_dtype: torch.dtype
    confidence_dtype: torch.dtype
    rows: Rows
    sample_batch: int
    keep_biases: bool
    staged_weights: bool
    park_pair: bool  # z rests on the host, or in a file, while samples are drawn
    stage_bytes: dict[str, int]

    @property
    def peak_bytes(self) -> int:
        """Estimated peak over all stages."""
        return max(self.stage_bytes.values())

    def dtype_of(self, name: str) -> torch.dtype:
        """Precision of a parameter; the input embedder is always fp32 (positions go through it)."""
        if name.startswith("trunk.input_encoder."):
            return torch.float32
        if name.startswith("diffusion."):
            return self.diffusion_dtype
        return self.confidence_dtype if name.startswith("confidence.") else self.trunk_dtype

    def record(self) -> dict[str, object]:
        """The plan as plain values, for the run's record."""
        plain = {k: str(v).removeprefix("torch.") if isinstance(v, torch.dtype) else v for k, v in vars(self).items()}
        return plain | {"rows": asdict(self.rows), "peak_bytes": self.peak_bytes}


def parameter_bytes(spec: ModelSpec, dtypes: Plan) -> dict[str, int]:
    """Bytes of the weights of each stage in the plan's precision."""
    total = {"trunk": 0, "diffusion": 0, "confidence": 0}
    for name, count in _parameters(spec).items():
        stage = name.split(".")[0]
        stage = "trunk" if stage == "distogram" else stage
        total[stage] += count * dtypes.dtype_of(name).itemsize
    return total


@cache
def _parameters(spec: ModelSpec) -> dict[str, int]:
    """Number of values of every parameter; found once, as it takes a part of a second."""
    from foldline.models.network import Network

    with torch.device("meta"):
        network = Network(spec)
    return {name: parameter.numel() for name, parameter in network.named_parameters()}


def plan(
    sizes: Sizes, spec: ModelSpec, memory_bytes: int, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Plan:
    """The plan for a job of these sizes in `memory_bytes` of device memory.

    In order of what they cost in time: keep the token attention biases of all diffusion blocks, sample all together,
    hold all weights, keep z where it is while samples are drawn; each is given up while the estimate is above the
    memory.

    Raises:
        DoesNotFit: even the leanest plan needs more.
    """
    low = dtype == torch.bfloat16
    n = sizes.n_token
    chosen = Plan(
        trunk_dtype=dtype,
        diffusion_dtype=torch.bfloat16 if low and n > spec.fp32_diffusion_to else torch.float32,
        confidence_dtype=torch.bfloat16 if low and n > spec.fp32_confidence_to else torch.float32,
        rows=work_sizes(n, device),
        sample_batch=max(1, min(sizes.n_sample, 5)),
        keep_biases=True,
        staged_weights=False,
        park_pair=False,
        stage_bytes={},
    )
    weights = parameter_bytes(spec, chosen)
    while True:
        chosen = replace(chosen, stage_bytes=_stages(sizes, spec, chosen, weights, device))
        if chosen.peak_bytes <= memory_bytes:
            return chosen
        if chosen.keep_biases:
            chosen = replace(chosen, keep_biases=False)
        elif chosen.sample_batch > 1:
            chosen = replace(chosen, sample_batch=chosen.sample_batch // 2)
        elif not chosen.staged_weights:
            chosen = replace(chosen, staged_weights=True)
        elif not chosen.park_pair:
            chosen = replace(chosen, park_pair=True)
        else:
            hint = "use --dtype bf16 or a device with more memory" if not low else "use a device with more memory"
            raise DoesNotFit(n, chosen.peak_bytes, memory_bytes, hint)


def work_sizes(n_token: int, device: str) -> Rows:
    """Row blocks: on a CPU what stays near its caches, on an accelerator what fills it without weighing against z."""
    if device == "cpu":
        return Rows(pair=max(8_192, 32 * n_token), point=4_096, msa=32_768)
    return Rows(pair=max(262_144, 64 * n_token), point=262_144, msa=1_048_576)


def _stages(sizes: Sizes, spec: ModelSpec, p: Plan, weights: dict[str, int], device: str) -> dict[str, int]:
    """Estimated bytes at the peak of every stage."""
    n, pairs = sizes.n_token, sizes.n_token**2
    trunk, diff, conf = p.trunk_dtype.itemsize, p.diffusion_dtype.itemsize, p.confidence_dtype.itemsize
    z = pairs * spec.c_z * trunk
    block = p.rows.pair * 8 * max(spec.c_z, 128) * 4
    held = {stage: weights[stage] if p.staged_weights else sum(weights.values()) for stage in weights}
    alignment = 3 * min(sizes.n_msa, spec.max_msa) * n * spec.c_m * trunk
    operand = pairs * spec.c_tri_mul * trunk
    template = pairs * (2 * spec.c_template + spec.c_tri_mul_template) * trunk if spec.n_template else 0
    bias = pairs * spec.n_head_token * diff * (spec.n_diffusion if p.keep_biases else 1)
    atom = sizes.n_atom * 4 * (6 * 4 * 128 + 7 * 6 * spec.c_atom + 40 * spec.c_atom * p.sample_batch)
    token = p.sample_batch * n * spec.c_token * diff * 16
    pair_z = pairs * spec.c_z * diff
    process = PROCESS_BYTES if device == "cpu" else 0
    conditioning = max(z + pair_z, pair_z + bias + token + (0 if p.park_pair else z)) + atom
    scoring = max(z, pairs * spec.c_tri_mul * conf) + pairs * spec.c_z * conf
    if sizes.n_sample > 1:
        scoring += z
    totals = {
        "trunk": held["trunk"] + z + max(operand + alignment, template) + block,
        "diffusion": held["diffusion"] + conditioning + block,
        "confidence": held["confidence"] + scoring + 5 * pairs * 4 + block,
    }
    return {stage: total + process for stage, total in totals.items()}
