"""One job on one device: trunk passes, diffusion and confidence of a seed, in the memory that the plan gives."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from foldline.confidence import confidences, reduce_errors
from foldline.engine.offload import Resting, release_memory
from foldline.engine.plan import Plan
from foldline.models import Batch, Network
from foldline.models.network import Dropout
from foldline.ops import Ops, select
from foldline.sampler import Draws, sample
from foldline.tensors import Confidences, Embeddings, Features, Samples

Progress = Callable[[str, int, int], None]
Weights = Callable[[str], None]


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


class Run(NamedTuple):
    """What every stage of one seed reads."""

    network: Network
    features: Features
    batch: Batch
    draws: Draws
    plan: Plan
    options: RunOptions
    ops: Ops
    progress: Progress


@dataclass
class TrunkResult:
    """What the trunk leaves behind; z may rest elsewhere and be given up, so nobody else keeps it."""

    s_inputs: Tensor  # [N_token, c_s_inputs], float32
    s: Tensor  # [N_token, c_s], the trunk's precision
    z: Tensor | Resting  # [N_token, N_token, c_z], the trunk's precision
    place: Resting | None = None  # where z rested before

    def rest(self) -> None:
        """Put z away; from now on rows of it are read."""
        if isinstance(self.z, Tensor):
            self.z = Resting(self.z) if self.place is None else self.place.put(self.z)
            self.place = None

    def whole(self) -> Tensor:
        """All of z on the device."""
        return self.z if isinstance(self.z, Tensor) else self.z.bring()

    def give_up(self) -> None:
        """Forget z."""
        self.z = torch.empty(0)


def _quiet(_stage: str, _done: int, _total: int) -> None:
    """Report nothing."""


def _resident(_stage: str) -> None:
    """All weights are there already."""


@torch.inference_mode()
def run_seed(
    network: Network,
    features: Features,
    draws: Draws,
    plan: Plan,
    options: RunOptions,
    *,
    device: torch.device | str = "cpu",
    progress: Progress = _quiet,
    weights: Weights = _resident,
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
    spec, clock = network.spec, _Clock(device)
    weights("trunk")
    batch = Batch.of(features, draws.ref_pos(features), device, spec.max_msa)
    run = Run(network, features, batch, draws, plan, options, select(plan.rows), progress)
    passes = 1 + (spec.n_recycle if options.n_recycle is None else options.n_recycle)
    trunk = run_trunk(run, passes)
    contact = network.distogram(trunk.whole(), run.ops)
    if plan.park_pair:
        trunk.rest()
    clock.lap("trunk")

    release_memory(device)
    weights("diffusion")
    steps = options.n_step or spec.sampler.n_step
    x = run_diffusion(run, trunk, steps)
    clock.lap("diffusion")

    release_memory(device)
    weights("confidence")
    n_token, n_atom = features.n_token, features.n_atom
    contact_probs = contact[:n_token, :n_token].cpu().numpy()
    coordinates = x[:, :n_atom].cpu().numpy()
    embeddings = None
    if options.save_embeddings:
        # copies: the last sample is scored in the memory of z
        parts = (trunk.s_inputs[:n_token], trunk.s[:n_token], trunk.whole()[:n_token, :n_token])
        embeddings = Embeddings(*(part.to("cpu", torch.float32, copy=True).numpy() for part in parts))
    scored = []
    for i in range(options.n_sample):
        last = i + 1 == options.n_sample
        scored.append(score_sample(run, trunk, x[i], contact_probs, reuse=last))
        progress("confidence", i + 1, options.n_sample)
    clock.lap("confidence")
    samples = Samples(draws.seed, coordinates, contact_probs, tuple(scored))
    return SeedResult(samples, clock.seconds, embeddings, passes, steps)


def run_trunk(run: Run, passes: int) -> TrunkResult:
    """The trunk's result after `passes` passes."""
    trunk, batch, draws, ops = run.network.trunk, run.batch, run.draws, run.ops
    s_inputs = trunk.embed_inputs(batch, ops)
    low = s_inputs.to(trunk.recycle_z.weight.dtype)
    s, z = trunk.start(batch, low)
    place = None
    dropout = None
    if run.options.mc_dropout:
        dropout = Dropout(run.network.spec.mc_dropout, draws.dropout(), run.features.n_token)
    for i in range(passes):
        rows = draws.msa_rows(i, len(batch.msa)).to(low.device)
        embedder = trunk.template_embedder
        if run.plan.park_template and embedder is not None:
            trunk.recycle(batch, low, s, z, ops, dropout)
            place = Resting(z) if place is None else place.put(z)
            del z
            total = embedder.total(place, batch.templates, batch.position.asym_id, batch.token_mask, ops)
            z = place.bring()
            embedder.add_(z, total, ops)
            del total
            trunk.update(batch, low, s, z, rows, ops)
        else:
            trunk(batch, low, s, z, rows, ops, dropout)
        run.progress("trunk", i + 1, passes)
    return TrunkResult(s_inputs, s, z, place)


def run_diffusion(run: Run, trunk: TrunkResult, steps: int) -> Tensor:
    """Positions [N_sample, N_atom, 3] in Å, padding included, in batches of the plan's size."""
    diffusion, batch, ops, n_sample = run.network.diffusion, run.batch, run.ops, run.options.n_sample
    fixed = diffusion.prepare(batch, trunk.s_inputs, trunk.s, trunk.z, run.plan.keep_biases, ops)
    mask = batch.atoms.mask
    if mask is None:
        mask = torch.ones_like(batch.atoms.to_token, dtype=torch.bool)
    found = []
    for start in range(0, n_sample, run.plan.diffusion_batch):
        chosen = range(start, min(start + run.plan.diffusion_batch, n_sample))
        done, total = start * steps, n_sample * steps

        def on_step(step: int, done: int = done, width: int = len(chosen), total: int = total) -> None:
            run.progress("diffusion", done + step * width, total)

        def denoise(x: Tensor, t_hat: Tensor) -> Tensor:
            return diffusion(x, t_hat, fixed, batch.token_mask, ops)

        draws = run.draws.samples(chosen)
        found.append(sample(denoise, run.network.spec, draws, mask, n_step=steps, on_step=on_step))
    return torch.cat(found)


def score_sample(
    run: Run, trunk: TrunkResult, x: Tensor, contact_probs: np.ndarray, *, reuse: bool = False
) -> Confidences:
    """Confidences of one sample at positions x [N_atom, 3].

    `reuse`: the trunk's z is not needed any more; its buffer is written where its precision is the same, else given up.
    """
    head, spec, batch, features, ops = run.network.confidence, run.network.spec, run.batch, run.features, run.ops
    z, dtype = trunk.z, run.plan.confidence_dtype
    pair = (
        z
        if reuse and isinstance(z, Tensor) and z.dtype == dtype
        else torch.empty(z.shape, dtype=dtype, device=z.device)
    )
    head.embed(z, trunk.s_inputs.to(dtype), x[batch.rep_atom], pair, ops)
    del z
    if reuse:
        trunk.give_up()
    single = head(trunk.s.to(dtype), pair, batch.token_mask, ops)
    plddt = head.atom_plddt(single, batch.atoms.to_token, batch.atom_in_token)[: features.n_atom].cpu().numpy()
    sums = reduce_errors(head, pair, batch, spec, features.n_token, ops)
    return confidences(features, sums, plddt, x[: features.n_atom].cpu().numpy(), contact_probs, spec)


class _Clock:
    """Seconds per stage; waits for an accelerator before it reads the time."""

    def __init__(self, device: torch.device | str) -> None:
        self.cuda = torch.device(device).type == "cuda"
        self.seconds: dict[str, float] = {}
        self.start = time.perf_counter()

    def lap(self, stage: str) -> None:
        if self.cuda:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[stage] = round(now - self.start, 4)
        self.start = now
