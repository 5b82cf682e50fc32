"""The network's stages on one device, for a group of seeds that share forward passes.

A group keeps what it has finished, so that it can go on with another plan from the stage where memory ran out. Knows
no files, queues or checkpoints.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from foldline.confidence import confidences, reduce_errors
from foldline.engine.group import Group, Lane, TrunkResult, make_batch
from foldline.engine.offload import Resting, release_memory
from foldline.engine.plan import Plan
from foldline.layers.primitives import gather_tokens
from foldline.models import Batch, Network
from foldline.models.batch import on_device
from foldline.models.network import Dropout
from foldline.ops import Ops, row_blocks, select
from foldline.sampler import Draws, sample
from foldline.tensors import EmbeddingRows, Embeddings, Features, Samples

EMBEDDED_AT_ONCE = 1 << 20  # values of the pair representation that are on their way to a file, or a row of it
Progress = Callable[[Sequence[Lane], str, int, int], None]
Weights = Callable[[str, Plan], None]
MadeSample = Callable[[], Samples]  # finishes one sample's scores on the host; to be called once, in any thread


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a user may choose for a run. None = the checkpoint's own."""

    n_sample: int = 5
    n_recycle: int | None = None
    n_step: int | None = None
    mc_dropout: bool = False
    save_embeddings: bool = False


@dataclass
class SeedResult:
    """Samples of one seed, with what they cost."""

    samples: Samples
    seconds: dict[str, float] = field(default_factory=dict)
    embeddings: Embeddings | None = None
    trunk_passes: int = 0
    steps: int = 0


def _no_sample(_lane: Lane, _make: MadeSample) -> None:
    """Let a sample go."""


def _no_embeddings(_lane: Lane, _embeddings: EmbeddingRows) -> None:
    """Let embeddings go."""


def _quiet(_lanes: Sequence[Lane], _stage: str, _done: int, _total: int) -> None:
    """Report nothing."""


def _resident(_stage: str, _plan: Plan) -> None:
    """All weights are there already."""


@dataclass(frozen=True)
class Run:
    """The network, what a user chose, and whom to tell; the same for all groups and plans."""

    network: Network
    options: RunOptions
    device: torch.device | str = "cpu"
    on_sample: Callable[[Lane, MadeSample], None] = _no_sample
    on_embeddings: Callable[[Lane, EmbeddingRows], None] = _no_embeddings
    progress: Progress = _quiet  # called with (lanes, stage, done, total)
    weights: Weights = _resident  # called with a stage before it runs, to bring in its weights
    conditioning: threading.Lock = field(default_factory=threading.Lock)  # for one group at a time: it holds most

    @property
    def passes(self) -> int:
        """Trunk passes."""
        given = self.options.n_recycle
        return 1 + (self.network.spec.n_recycle if given is None else given)

    @property
    def steps(self) -> int:
        """Steps of the sampler."""
        return self.options.n_step or self.network.spec.sampler.n_step


@torch.inference_mode()
def advance(run: Run, group: Group, plan: Plan) -> None:
    """Take a group from where it is to its last scored sample. Samples are handed over as they come."""
    ops, clock = select(plan.rows), _Clock(run.device, group.seconds)
    if not group.has_trunk:
        group.stage = "trunk"
        run.weights("trunk", plan)
        group.batch = make_batch(group.lanes, plan.bucket, run.device, run.network.spec.max_msa)
        run_trunk(run, group, plan, ops)
        clock.lap("trunk")
        _trim(run.device)
    trunk, batch = group.trunk, group.batch
    assert trunk is not None and batch is not None
    if not group.is_drawn(run.options.n_sample):
        group.stage = "diffusion"
        run.weights("diffusion", plan)
        trunk.settle(rests=plan.park_pair)
        run_diffusion(run, group, plan, ops)
        clock.lap("diffusion")
        _trim(run.device)
    group.stage = "confidence"
    run.weights("confidence", plan)
    trunk.settle(rests=plan.park_pair)
    run_confidence(run, group, plan, ops)
    clock.lap("confidence")
    _trim(run.device)


def _trim(device: torch.device | str) -> None:
    """Give a finished stage's memory back on a CPU; an accelerator's allocator keeps it, as asking again takes time."""
    if torch.device(device).type == "cpu":
        release_memory(device)


def run_trunk(run: Run, group: Group, plan: Plan, ops: Ops) -> None:
    """All passes of all lanes: inputs embedded together, trunks along a leading axis as far as the plan says."""
    network, batch, lanes = run.network, group.batch, group.lanes
    assert batch is not None
    run.progress(lanes, "trunk", 0, len(lanes) * run.passes)
    s_inputs = network.trunk.embed_inputs(batch, ops)
    s, z = network.trunk.start(batch, s_inputs.to(network.trunk.recycle_z.weight.dtype))
    trunk = group.trunk = TrunkResult(s_inputs, s, z)
    del s, z
    for start in range(0, len(lanes), plan.seed_batch):
        which = slice(start, min(start + plan.seed_batch, len(lanes)))
        for i in range(run.passes):
            run_pass(run, group, which, plan, ops, i)
            done = start * run.passes + (i + 1) * (which.stop - start)
            run.progress(lanes, "trunk", done, len(lanes) * run.passes)
        contact = network.distogram(trunk.of(which), ops).cpu().numpy()
        for lane, probabilities in zip(lanes[which], contact, strict=True):
            n = lane.features.n_token
            trunk.contacts.append(probabilities[:n, :n])


def run_pass(run: Run, group: Group, which: slice, plan: Plan, ops: Ops, number: int) -> None:
    """One trunk pass of some lanes, in place."""
    trunk, result, batch = run.network.trunk, group.trunk, group.batch
    assert result is not None and batch is not None
    part, s = batch.lanes(which), result.s[which]
    low = result.s_inputs[which].to(s.dtype)
    rows = on_device(msa_rows(group.lanes[which], part, number), low.device)
    dropout = None
    if run.options.mc_dropout:
        if number == 0:
            lanes = group.lanes[which]
            group.dropout = Dropout(
                run.network.spec.mc_dropout, *((x.draws.dropout(), x.features.n_token) for x in lanes)
            )
        dropout = group.dropout
    embedder = trunk.template_embedder
    if embedder is None or not plan.park_template or len(group.lanes) > 1:
        trunk(part, low, s, result.of(which), rows, ops, dropout)
        return
    trunk.recycle(part, low, s, result.of(which), ops, dropout)
    result.settle(rests=True)
    total = embedder.total(result.z, part.templates, part.position.asym_id, part.token_mask, ops)
    result.settle(rests=False)
    embedder.add_(result.of(which), total, ops)
    del total
    trunk.update(part, low, s, result.of(which), rows, ops)


def most_msa_rows(lanes: Sequence[Lane], passes: int, max_msa: int) -> int:
    """Alignment rows that the fullest of all passes of some seeds reads."""

    def most(lane: Lane) -> int:
        n_msa = min(int(lane.features.msa_mask.sum()), max_msa)
        return max(len(lane.draws.msa_rows(i, n_msa)) for i in range(passes))

    return max(map(most, lanes))


def msa_rows(lanes: Sequence[Lane], batch: Batch, number: int) -> Tensor:
    """Rows of `batch.msa` that a pass of each lane reads, int64 [N_lane, N_msa_drawn], filled up with -1."""
    drawn = []
    for i, lane in enumerate(lanes):
        own = batch.alignment(i)
        drawn.append(own.start + lane.draws.msa_rows(number, own.stop - own.start))
    return torch.nn.utils.rnn.pad_sequence(drawn, batch_first=True, padding_value=-1)


def run_diffusion(run: Run, group: Group, plan: Plan, ops: Ops) -> None:
    """Positions of all samples that the group lacks: as many seeds and samples at a time as the plan says."""
    diffusion, lanes, n_sample, steps = run.network.diffusion, group.lanes, run.options.n_sample, run.steps
    trunk, batch = group.trunk, group.batch
    assert trunk is not None and batch is not None
    mask = batch.atoms.mask
    if mask is None:
        mask = torch.ones_like(batch.atoms.to_token, dtype=torch.bool)
    total = len(lanes) * n_sample * steps
    run.progress(lanes, "diffusion", len(group.drawn) * steps, total)
    for which in _parts(len(lanes), max(1, plan.diffusion_batch // n_sample)):
        width = which.stop - which.start
        numbers = range(which.start, which.stop)
        missing = [k for k in range(n_sample) if any((i, k) not in group.drawn for i in numbers)]
        if not missing:
            continue
        part, some = batch.lanes(which), mask[which] if mask.dim() > 1 else mask
        with run.conditioning:
            fixed = diffusion.prepare(
                part, trunk.s_inputs[which], trunk.s[which], trunk.rows_of(which), plan.keep_biases, ops
            )

        def denoise(x: Tensor, t_hat: Tensor, fixed: object = fixed, part: Batch = part) -> Tensor:
            return diffusion(x, t_hat, fixed, part.token_mask, ops)  # type: ignore[arg-type]

        del fixed
        for these in _parts(len(missing), max(1, plan.diffusion_batch // width)):
            chosen, done = missing[these], len(group.drawn) * steps

            def on_step(step: int, done: int = done, count: int = width * len(chosen)) -> None:
                run.progress(lanes, "diffusion", done + step * count, total)

            draws = [lane.draws.samples(chosen) for lane in lanes[which]]
            x = sample(denoise, run.network.spec, draws, some, n_step=steps, on_step=on_step).cpu().numpy()
            for i, k in itertools.product(range(width), range(len(chosen))):
                group.drawn[which.start + i, chosen[k]] = x[i, k, : lanes[which.start + i].features.n_atom]
        del denoise


def run_confidence(run: Run, group: Group, plan: Plan, ops: Ops) -> None:
    """Score and hand over every sample that is not yet; seeds go together as far as their trunks did.

    The only sample of a seed that is alone is scored in the memory of the trunk's z, which it uses up.
    """
    head, lanes, n_sample, dtype = run.network.confidence, group.lanes, run.options.n_sample, plan.confidence_dtype
    trunk, batch, only = group.trunk, group.batch, n_sample == len(lanes) == 1
    assert trunk is not None and batch is not None
    run.progress(lanes, "confidence", len(group.scored), len(lanes) * n_sample)
    if run.options.save_embeddings:
        _hand_embeddings(run, group)
    for which in _parts(len(lanes), plan.seed_batch):
        part, s_inputs, pair = batch.lanes(which), trunk.s_inputs[which].to(dtype), None
        numbers = range(which.start, which.stop)
        for k in range(n_sample):
            if all((i, k) in group.scored for i in numbers):
                continue
            x = torch.zeros(len(numbers), batch.atoms.ref_pos.shape[-2], 3)
            for row, i in zip(x, numbers, strict=True):
                row[: lanes[i].features.n_atom] = torch.from_numpy(group.drawn[i, k])
            z = trunk.rows_of(which)
            if only and isinstance(z, Tensor) and z.dtype == dtype:
                pair, trunk.is_whole = z, False
            if pair is None:
                pair = torch.empty(z.shape, dtype=dtype, device=z.device)
            head.embed(z, s_inputs, gather_tokens(on_device(x, z.device), part.rep_atom), pair, ops)
            del z
            if only:
                trunk.give_up()
            single = head(trunk.s[which].to(dtype), pair, part.token_mask, ops)
            for place, i in enumerate(numbers):
                if (i, k) not in group.scored:
                    reduced = _reduce(run, group, part.lane(place), (single[place], pair[place]), (i, k), ops)
                    run.on_sample(lanes[i], reduced)
                    group.scored.add((i, k))
            run.progress(lanes, "confidence", len(group.scored), len(lanes) * n_sample)


def _reduce(
    run: Run, group: Group, batch: Batch, made: tuple[Tensor, Tensor], number: tuple[int, int], ops: Ops
) -> MadeSample:
    """Reduce single and pair of one sample of one lane after the head's stack; returns what is left for the host."""
    head, spec = run.network.confidence, run.network.spec
    (lane, k), (single, pair) = number, made
    features, draws = group.lanes[lane].features, group.lanes[lane].draws
    plddt = head.atom_plddt(single, batch.atoms.to_token, batch.atom_in_token)[: features.n_atom].cpu().numpy()
    sums = reduce_errors(head, pair, batch, spec, features.n_token, ops)
    assert group.trunk is not None
    x, contact = group.drawn[number], group.trunk.contacts[lane]

    def finish() -> Samples:
        scores = confidences(features, sums, plddt, x, contact, spec)
        return Samples(draws.seed, x[None], contact, (scores,), first=k)

    return finish


def _hand_embeddings(run: Run, group: Group) -> None:
    """Hand over s_inputs, s and z of every lane, without padding; z by rows, from where it rests."""
    trunk = group.trunk
    assert trunk is not None
    for i, lane in enumerate(group.lanes):
        if i in group.embedded:
            continue
        n, z = lane.features.n_token, trunk.rows_of(slice(i, i + 1))
        s_inputs, s = _on_host(trunk.s_inputs[i, :n]), _on_host(trunk.s[i, :n])
        run.on_embeddings(lane, EmbeddingRows(s_inputs, s, (n, n, z.shape[-1]), partial(_pair_rows, z, n)))
        group.embedded.add(i)


def _pair_rows(z: Tensor | Resting, n: int) -> Iterator[np.ndarray]:
    """The pair representation [1, N_token, N_token, c_z] of a lane of n tokens in blocks of rows, float32."""
    for rows in row_blocks(n, z.shape[-2] * z.shape[-1], EMBEDDED_AT_ONCE):
        yield _on_host(z[..., rows, :, :][0, :, :n])


def _on_host(x: Tensor) -> np.ndarray:
    with torch.inference_mode():  # a thread of its own may read
        return x.to("cpu", torch.float32).numpy()


def _parts(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def run_seed(
    network: Network,
    features: Features,
    draws: Draws,
    plan: Plan,
    options: RunOptions,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[str, int, int], None] | None = None,
    weights: Callable[[str], None] | None = None,
) -> SeedResult:
    """Predict all samples of one seed.

    Args:
        network: the network, its parameters in the plan's precision on `device`.
        features: the job, padded or not.
        draws: the seed's random draws.
        plan: precision, work sizes and what is kept.
        options: numbers of samples, passes and steps.
        device: where to run.
        progress: called with (stage, done, total).
        weights: called with a stage's name before it runs, when its weights have to be brought in.
    """
    results = Results()
    run = Run(
        network,
        options,
        device,
        on_sample=results.on_sample,
        on_embeddings=results.on_embeddings,
        progress=_quiet if progress is None else lambda _lanes, *counts: progress(*counts),
        weights=_resident if weights is None else lambda stage, _plan: weights(stage),
    )
    group = Group([Lane(features, draws)])
    advance(run, group, plan)
    return results.of(group.lanes[0], group.seconds, run)


class Results:
    """Collects what groups hand over."""

    def __init__(self) -> None:
        self.samples: dict[int, list[Samples]] = {}
        self.embeddings: dict[int, Embeddings] = {}

    def on_sample(self, lane: Lane, make: MadeSample) -> None:
        """Keep a sample."""
        self.samples.setdefault(id(lane), []).append(make())

    def on_embeddings(self, lane: Lane, embeddings: EmbeddingRows) -> None:
        """Keep embeddings."""
        self.embeddings[id(lane)] = embeddings.whole()

    def of(self, lane: Lane, seconds: dict[str, float], run: Run) -> SeedResult:
        """All that came of one lane."""
        samples = Samples.join(self.samples.pop(id(lane)))
        return SeedResult(samples, seconds, self.embeddings.pop(id(lane), None), run.passes, run.steps)


class _Clock:
    """Adds to seconds per stage; waits for an accelerator before it reads the time."""

    def __init__(self, device: torch.device | str, seconds: dict[str, float]) -> None:
        self.cuda = torch.device(device).type == "cuda"
        self.seconds = seconds
        self.start = time.perf_counter()

    def lap(self, stage: str) -> None:
        if self.cuda:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self.start, 4)
        self.start = now
