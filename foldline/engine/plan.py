"""Plan: precision, work sizes and what is kept, decided from sizes and memory before anything runs. Pure functions."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache

import torch

from foldline.engine.memory_model import STAGES, Sizes, host_terms, process_terms, stage_terms
from foldline.errors import DoesNotFit
from foldline.models.spec import ModelSpec
from foldline.ops import Rows

GIB = 2**30
SAMPLES_TOGETHER = 5  # samples of one seed drawn together however many tokens there are
TOKENS_TOGETHER = {"cpu": 4_096, "cuda": 16_384}  # tokens x samples of a diffusion batch that several seeds share
PAIRS_TOGETHER = {"cpu": 128**2, "cuda": 1024**2}  # token pairs x seeds of a trunk that several seeds share
TOKENS_BESIDE = 256  # tokens of a job of one seed that goes beside other jobs on a CPU
ROW_HALVINGS = 3  # how often row blocks may be halved


@dataclass(frozen=True)
class Process:
    """What of a CPU process weighs on its plans."""

    kernel_sets: int = 0  # that it keeps of what ran before, for each size and number of threads: with oneDNN
    sets_beside: int = 0  # of jobs that run or ran beside each other, in threads that take a part of theirs with them
    cached_heap: bool = False  # whether its heap keeps small blocks apart (foldline/heap.py)


FRESH = Process()


@dataclass(frozen=True)
class Request:
    """What a plan was asked for."""

    sizes: Sizes
    spec: ModelSpec
    device: str  # device type: "cpu" or "cuda"
    threads: int = 1  # of the CPU that computes
    process: Process = FRESH
    beside: tuple[Sizes, ...] = ()  # of other jobs that may run beside this one, which is small enough for it


@dataclass(frozen=True)
class Plan:
    """How one job runs. `stage_bytes` are the estimated device peaks of every stage, weights included."""

    bucket: tuple[int, int]  # tokens and atoms, padding included
    trunk_dtype: torch.dtype
    diffusion_dtype: torch.dtype
    confidence_dtype: torch.dtype
    rows: Rows
    side_by_side: int  # groups, of this job or others, that run at the same time, each in its share of a CPU's threads
    seed_batch: int  # seeds whose trunks run along a leading axis; 1 = one after another
    diffusion_batch: int  # seeds x samples of one diffusion batch; a multiple of the samples where it is above them
    job_batch: int  # jobs of one bucket in one forward pass
    keep_biases: bool  # attention biases of all diffusion blocks are held, not made again at each step
    staged_weights: bool  # only the weights of the running stage are on the device
    park_template: bool  # z rests on the host, or in a file, during the template step
    park_pair: bool  # z rests there while samples are drawn and scored
    stage_bytes: dict[str, int]
    request: Request = field(repr=False)

    @property
    def peak_bytes(self) -> int:
        """Estimated peak over all stages."""
        return max(self.stage_bytes.values())

    @property
    def seed_group(self) -> int:
        """Seeds of a group: taken through trunk, diffusion and confidence together; their trunk results are held."""
        return max(self.seed_batch, -(-self.diffusion_batch // self.request.sizes.n_sample))

    @property
    def beside(self) -> "tuple[Plan, ...]":
        """Groups that run beside one of this plan: others like it, or those of the largest other jobs."""
        asked, count = self.request, self.side_by_side - 1
        if not asked.beside:
            return (self,) * count
        largest = sorted(asked.beside, key=lambda sizes: (sizes.n_seed * sizes.n_token**2, sizes.n_atom), reverse=True)
        return tuple(_of_another(sizes, asked.spec, self.trunk_dtype) for sizes in largest[:count])

    @property
    def seeds_at_once(self) -> int:
        """Seeds that run at the same time, together or beside each other, of all jobs."""
        return self.seed_group + sum(one.seed_group for one in self.beside)

    @property
    def own_groups(self) -> int:
        """Groups of the job itself that run at the same time."""
        return 1 if self.request.beside else self.side_by_side

    @property
    def precisions(self) -> tuple[torch.dtype, torch.dtype, torch.dtype]:
        """Of trunk, diffusion and confidence."""
        return self.trunk_dtype, self.diffusion_dtype, self.confidence_dtype

    @property
    def host_bytes(self) -> int:
        """Estimated bytes of tensors that an accelerator's host holds: z at rest, positions, what is being written."""
        return sum(host_terms(self.request.sizes, self.request.spec, self).values())

    def dtype_of(self, name: str) -> torch.dtype:
        """Precision of a parameter; the input embedder is always fp32 (positions go through it)."""
        if name.startswith("trunk.input_encoder."):
            return torch.float32
        if name.startswith("diffusion."):
            return self.diffusion_dtype
        return self.confidence_dtype if name.startswith("confidence.") else self.trunk_dtype

    def smaller(self, stage: str | None = None) -> "Plan | None":
        """The next rung of the ladder: fewer seeds, then fewer samples, then fewer rows, then the host; None = none.

        With a `stage` (trunk, diffusion or confidence), the next rung on which that stage needs less.
        """
        leaner = next(filter(None, (concede(self) for concede in CONCESSIONS)), None)
        if leaner is None:
            return None
        leaner = estimate(leaner)
        enough = stage is None or leaner.bytes_of(stage) < self.bytes_of(stage)
        return leaner if enough else leaner.smaller(stage)

    def bytes_of(self, stage: str) -> int:
        """Estimated peak of the trunk, of diffusion or of confidence."""
        return max(size for name, size in self.stage_bytes.items() if STAGES[name] == stage)

    def record(self) -> dict[str, object]:
        """The plan as plain values, for the run's record."""
        plain = {k: str(v).removeprefix("torch.") if isinstance(v, torch.dtype) else v for k, v in vars(self).items()}
        del plain["request"]
        return plain | {"rows": asdict(self.rows), "bucket": list(self.bucket), "peak_bytes": self.peak_bytes}


def plan(
    sizes: Sizes,
    spec: ModelSpec,
    memory_bytes: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    threads: int = 1,
    process: Process = FRESH,
    beside: tuple[Sizes, ...] = (),
) -> Plan:
    """The plan for a job of these sizes in `memory_bytes` of device memory.

    Down the ladder until every stage fits; then what turns out not to have been needed is taken back, rung by rung in
    the opposite order: what more memory gives back never costs what was given up later. `threads`, `process` and
    `beside` are of the `Request`.

    Raises:
        DoesNotFit: even the leanest plan needs more.
    """
    chosen = richest(sizes, spec, dtype=dtype, device=device, threads=threads, process=process, beside=beside)
    given_up: list[tuple[str, object]] = []
    while chosen.peak_bytes > memory_bytes:
        leaner = chosen.smaller()
        if leaner is None:
            raise DoesNotFit(sizes.n_token, chosen.peak_bytes, memory_bytes, _remedy(chosen, memory_bytes, dtype))
        given_up += [(name, getattr(chosen, name)) for name in KNOBS if getattr(chosen, name) != getattr(leaner, name)]
        chosen = leaner
    for name, value in reversed(given_up):
        before = estimate(replace(chosen, **{name: value}))
        if before.peak_bytes <= memory_bytes and _possible(before):
            chosen = before
    return chosen


def _possible(p: Plan) -> bool:
    """Whether only one seed is there where z rests, and one group where weights come and go."""
    rests = p.park_template or p.park_pair
    return not (rests and p.seeds_at_once > 1) and not (p.staged_weights and p.side_by_side > 1)


def _remedy(least: Plan, memory_bytes: int, dtype: torch.dtype) -> str:
    """Which option, or which size of a device, would do; an option is named where it is enough."""
    asked = least.request
    size = f"a device with at least {_tenths(least.peak_bytes)} GiB"
    if asked.device == "cpu":
        size = f"a machine with at least {_tenths(least.peak_bytes)} GiB of memory"
    if dtype == torch.bfloat16:
        return f"use {size}"
    low = leanest(asked.sizes, asked.spec, dtype=torch.bfloat16, device=asked.device, process=asked.process)
    if low.peak_bytes > memory_bytes:
        return f"use {size}"
    return f"use --dtype bf16, which needs {_tenths(low.peak_bytes)} GiB, or {size}"


def _tenths(size: int) -> str:
    """GiB rounded up to a tenth."""
    return f"{-(-size * 10 // GIB) / 10:.1f}"


def richest(
    sizes: Sizes,
    spec: ModelSpec,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    threads: int = 1,
    process: Process = FRESH,
    beside: tuple[Sizes, ...] = (),
) -> Plan:
    """The plan of a device whose memory has no end."""
    low, n = dtype == torch.bfloat16, sizes.n_token
    side_by_side = 1 if device != "cpu" or _all_in_one(sizes, device) else min(threads, sizes.n_seed)
    n_seed = sizes.n_seed // side_by_side  # of a group: no thread waits for a group that is larger than others
    if device == "cpu" and goes_beside(n, sizes.n_seed):
        side_by_side, n_seed = min(threads, 1 + len(beside)), sizes.n_seed
    else:
        beside = ()
    seed_batch = max(1, min(n_seed, PAIRS_TOGETHER[device] // n**2))
    if side_by_side > 1:
        n_seed = seed_batch  # what seeds gain that are drawn together, they gain beside each other
    chosen = Plan(
        bucket=(n, sizes.n_atom),
        trunk_dtype=dtype,
        diffusion_dtype=torch.bfloat16 if low and n > spec.fp32_diffusion_to else torch.float32,
        confidence_dtype=torch.bfloat16 if low and n > spec.fp32_confidence_to else torch.float32,
        rows=work_sizes(n, device),
        side_by_side=side_by_side,
        seed_batch=seed_batch,
        diffusion_batch=_drawn_together(replace(sizes, n_seed=n_seed), device),
        job_batch=1,
        keep_biases=True,
        staged_weights=False,
        park_template=False,
        park_pair=False,
        stage_bytes={},
        request=Request(sizes, spec, device, threads, process, beside),
    )
    return estimate(chosen)


def leanest(
    sizes: Sizes,
    spec: ModelSpec,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    process: Process = FRESH,
) -> Plan:
    """The last rung of the ladder."""
    chosen = richest(sizes, spec, dtype=dtype, device=device, process=process)
    while (leaner := chosen.smaller()) is not None:
        chosen = leaner
    return chosen


@lru_cache
def _of_another(sizes: Sizes, spec: ModelSpec, dtype: torch.dtype) -> Plan:
    """The plan of a job on a CPU that runs beside the one that is planned."""
    return richest(sizes, spec, dtype=dtype)


def goes_beside(n_token: int, n_seed: int) -> bool:
    """Whether a job may run beside others on a CPU: all its seeds are one group, and small."""
    return n_token <= TOKENS_BESIDE if n_seed == 1 else n_seed * n_token**2 <= PAIRS_TOGETHER["cpu"]


def _all_in_one(sizes: Sizes, device: str) -> bool:
    """Whether the trunks of all seeds are small enough to run along one leading axis."""
    return sizes.n_seed * sizes.n_token**2 <= PAIRS_TOGETHER[device]


def _drawn_together(sizes: Sizes, device: str) -> int:
    """Samples of a diffusion batch: all of several seeds while they are few tokens, else some of one seed."""
    seeds = TOKENS_TOGETHER[device] // (sizes.n_token * sizes.n_sample)
    if seeds > 1 and sizes.n_seed > 1:
        return min(seeds, sizes.n_seed) * sizes.n_sample
    return min(sizes.n_sample, max(SAMPLES_TOGETHER, TOKENS_TOGETHER[device] // sizes.n_token))


def work_sizes(n_token: int, device: str) -> Rows:
    """Row blocks: on a CPU what stays near its caches, on an accelerator what fills it without weighing against z."""
    if device == "cpu":
        return Rows(pair=max(8_192, 32 * n_token), point=4_096, msa=32_768)
    return Rows(pair=max(262_144, 64 * n_token), point=262_144, msa=1_048_576)


def _fewer_side_by_side(p: Plan) -> Plan | None:
    """Half as many groups at the same time."""
    return replace(p, side_by_side=p.side_by_side // 2) if p.side_by_side > 1 else None


def _fewer_seeds(p: Plan) -> Plan | None:
    """Half the seeds along the leading axis of the trunk, then half those of a diffusion batch."""
    n_sample = p.request.sizes.n_sample
    if p.seed_batch > 1:
        return replace(p, seed_batch=p.seed_batch // 2)
    if p.diffusion_batch > n_sample:
        return replace(p, diffusion_batch=p.diffusion_batch // n_sample // 2 * n_sample)
    return None


def _no_biases(p: Plan) -> Plan | None:
    return replace(p, keep_biases=False) if p.keep_biases else None


def _fewer_samples(p: Plan) -> Plan | None:
    return replace(p, diffusion_batch=p.diffusion_batch // 2) if p.diffusion_batch > 1 else None


def _halve_rows(p: Plan, halvings: int) -> Plan | None:
    """Row blocks of half the size, unless they have been halved that often."""
    most = work_sizes(p.bucket[0], p.request.device)
    if p.rows.point <= most.point >> halvings:
        return None
    return replace(p, rows=Rows(pair=p.rows.pair // 2, point=p.rows.point // 2, msa=p.rows.msa // 2))


def _fewer_rows(p: Plan) -> Plan | None:
    return _halve_rows(p, 1)


def _fewest_rows(p: Plan) -> Plan | None:
    """Blocks this small read the operand of a triangle multiplication so often that it costs time."""
    return _halve_rows(p, ROW_HALVINGS)


def _weights_by_stage(p: Plan) -> Plan | None:
    return replace(p, staged_weights=True) if not p.staged_weights else None


def _template_beside_host(p: Plan) -> Plan | None:
    """Only one seed alone can rest, and only where there is a template step."""
    possible = p.request.spec.n_template and p.seed_group == 1
    return replace(p, park_template=True) if possible and not p.park_template else None


def _pair_on_host(p: Plan) -> Plan | None:
    return replace(p, park_pair=True) if p.seed_group == 1 and not p.park_pair else None


# in the order in which they are made
CONCESSIONS: tuple[Callable[[Plan], Plan | None], ...] = (
    _fewer_side_by_side,
    _fewer_seeds,
    _no_biases,
    _fewer_samples,
    _fewer_rows,
    _weights_by_stage,
    _template_beside_host,
    _pair_on_host,
    _fewest_rows,
)
# what they change
KNOBS = (
    "side_by_side",
    "seed_batch",
    "diffusion_batch",
    "keep_biases",
    "rows",
    "staged_weights",
    "park_template",
    "park_pair",
)


def estimate(p: Plan) -> Plan:
    """The plan with its bytes per stage."""
    sizes, spec = p.request.sizes, p.request.spec
    stages = stage_terms(sizes, spec, p)
    if p.request.device == "cpu":
        beside = process_terms(sizes, spec, p)
        stages = {stage: terms | beside[stage] for stage, terms in stages.items()}
    return replace(p, stage_bytes={stage: sum(terms.values()) for stage, terms in stages.items()})
