"""Random groups of seeds and jobs through a tiny network, each compared with itself alone on the richest plan.

    fuzz_batches.py [--cases N] [--seed S] [--real N] [--failures] [--seconds S]

A case draws jobs, seeds, padding, a plan and options. --real takes the jobs from that many random AlphaFold 3 JSONs,
--failures lets memory run out at random operations. Exit code 1 when a seed's result depends on its company.

fp32: positions and embeddings within 1e-5 (relative RMS), contacts within 1e-4, or within ten times what weights that
differ by 1e-7 do to the seed alone; scores within 1e-4 of those of the same positions, as a bin's edge may lie between
two that differ by rounding. bf16: not much farther from fp32 than it is alone.
"""

import argparse
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path += [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests/network_cases")]

from made_up_features import made_up_features
from random_weights import tiny_network
from small_random_jobs import small_jobs
from tiny_features import rel_rms

from foldline.engine import ladder, runner
from foldline.engine.group import Group, Lane
from foldline.engine.ladder import Rung, run_lanes
from foldline.engine.plan import Plan, Sizes, estimate, plan, richest
from foldline.engine.runner import Results, Run, RunOptions, SeedResult, advance, run_seed
from foldline.errors import DoesNotFit
from foldline.models import Network
from foldline.models.spec import SamplerSpec
from foldline.ops import Rows, linear
from foldline.sampler import Draws
from foldline.tensors import Features

FEW = {
    f"n_{part}": 1 for part in ("pairformer", "template", "confidence", "atom_input", "atom_encoder", "atom_decoder")
}
MINI = FEW | {"n_msa": 1, "n_diffusion": 1, "n_template": 0}
KINDS: dict[str, dict[str, object]] = {
    "v1": {},
    "v2": {
        **FEW,
        "c_z": 20,
        "c_m": 14,
        "c_tri_mul": 20,
        "n_head_tri_att": 4,
        "n_head_tri_att_template": 2,
        "fp32_confidence_to": 0,
    },
    "v0.5": {**FEW, "n_template": 0},
    "mini": {**MINI, "sampler": SamplerSpec(gamma_0=0.0, step_scale=1.0)},
    "low": {**FEW, "fp32_diffusion_to": 0, "fp32_confidence_to": 0},
}
TOLERANCE, SCORES = 1e-5, 1e-4  # contacts are scores
JITTER, TIMES = 1e-7, 10.0  # of weights, and how much farther a seed may be in company than with such weights alone
FARTHER = 2.0  # how much farther from fp32 a seed may be in company than alone, in bf16


@cache
def network_of(kind: str, dtypes: tuple[torch.dtype, ...] = ()) -> Network:
    """The tiny network of a kind, in the precision of a plan (trunk, diffusion, confidence)."""
    if not dtypes:
        return tiny_network(**KINDS[kind])
    network, request = deepcopy(network_of(kind)), richest(Sizes(1, 1, 1), network_of(kind).spec)
    names = dict(zip(("trunk_dtype", "diffusion_dtype", "confidence_dtype"), dtypes, strict=True))
    chosen = replace(request, **names)  # type: ignore[arg-type]
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.to(chosen.dtype_of(name))
    return network


@cache
def jittered_network(kind: str) -> Network:
    """The network of a kind in fp32 with weights that differ by about rounding."""
    network, generator = deepcopy(network_of(kind)), torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = parameter.data * (1 + JITTER * torch.randn(parameter.shape, generator=generator))
    return network


@dataclass
class Case:
    """What runs: lanes of jobs, in any order, with a plan and options."""

    kind: str
    lanes: list[Lane]
    plan: Plan
    options: RunOptions

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Precision of trunk, diffusion and confidence."""
        return self.plan.trunk_dtype, self.plan.diffusion_dtype, self.plan.confidence_dtype

    def alone(self, lane: Lane, *, exact: bool = False) -> Plan:
        """The richest plan of one lane by itself; `exact`: in fp32."""
        n, a, m = (lane.features.sizes[axis] for axis in ("N_token", "N_atom", "N_msa"))
        rich = richest(Sizes(n, a, m, self.options.n_sample, 1), network_of(self.kind).spec)
        if exact:
            return rich
        names = dict(zip(("trunk_dtype", "diffusion_dtype", "confidence_dtype"), self.dtypes, strict=True))
        return replace(rich, **names)  # type: ignore[arg-type]

    def of(self, lane: Lane, *, exact: bool = False) -> tuple[Features, Draws, Plan, RunOptions]:
        """What `run_seed` takes beside the network to run a lane alone."""
        return lane.features, lane.draws, self.alone(lane, exact=exact), self.options

    def __str__(self) -> str:
        """One line."""
        p, o = self.plan, self.options
        jobs = [(lane.job, lane.draws.seed, *lane.features.sizes.values()) for lane in self.lanes]
        switches = [name for name in ("keep_biases", "park_template", "park_pair") if getattr(p, name)]
        switches += [name for name in ("mc_dropout", "save_embeddings") if getattr(o, name)]
        return (
            f"{self.kind} {str(p.trunk_dtype)[6:]} lanes (job, seed, {'/'.join(self.lanes[0].features.sizes)}) {jobs}"
            f" bucket {p.bucket} seed_batch {p.seed_batch} diffusion_batch {p.diffusion_batch} {p.rows}"
            f" samples {o.n_sample} recycles {o.n_recycle} steps {o.n_step} {' '.join(switches)}"
        )


def a_case(rng: random.Random, pool: Sequence[Features] = ()) -> Case:
    """A random case; its jobs come from `pool` where there is one."""
    kind = rng.choice(list(KINDS))
    dtype = rng.choice((torch.float32, torch.float32, torch.float32, torch.bfloat16))
    jobs = [rng.choice(pool) if pool else made_up_features(rng) for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))]
    if rng.random() < 0.15:
        jobs.append(rng.choice(jobs))  # the same job under another number
    options = RunOptions(
        n_sample=rng.choice((1, 1, 2, 3, 6)) if len(jobs) < 3 else rng.choice((1, 1, 2, 3)),
        n_recycle=rng.choice((0, 0, 1, 2)),
        n_step=rng.choice((1, 2, 3)),
        mc_dropout=rng.random() < 0.3,
        save_embeddings=rng.random() < 0.5,
    )
    lanes = [
        Lane(features, Draws(seed), number)
        for number, features in enumerate(jobs)
        for seed in rng.sample(range(2**32), rng.choice((1, 1, 1, 2, 3)))
    ]
    if rng.random() < 0.3:
        rng.shuffle(lanes)
    return Case(kind, lanes, a_plan(rng, lanes, kind, options.n_sample, dtype), options)


def a_plan(rng: random.Random, lanes: list[Lane], kind: str, n_sample: int, dtype: torch.dtype) -> Plan:
    """A plan for the lanes: some rungs down, or any combination of its fields."""
    features = [lane.features for lane in lanes]
    n, a, m = (max(f.sizes[axis] for f in features) for axis in ("N_token", "N_atom", "N_msa"))
    bucket = (n + rng.choice((0, 0, 1, 3, 9)), a + rng.choice((0, 0, 1, 17, 64)))
    chosen = plan(Sizes(*bucket, m, n_sample, len(lanes)), network_of(kind).spec, 1 << 50, dtype=dtype)
    for _ in range(rng.choice((0, 0, 1, 2, 4, 8, 12))):
        chosen = chosen.smaller() or chosen
    if rng.random() < 0.7:
        alone, beside = rng.random() < 0.3, rng.choice((1, 1, 2, 3, 8))
        chosen = replace(
            chosen,
            side_by_side=beside,
            seed_batch=1 if alone else rng.randint(1, len(lanes)),
            diffusion_batch=rng.choice(
                (rng.randint(1, n_sample), 1 if alone else n_sample * rng.randint(1, len(lanes)))
            ),
            job_batch=len({lane.job for lane in lanes}),
            keep_biases=rng.random() < 0.5,
            park_template=beside == 1 and rng.random() < 0.3,
            park_pair=beside == 1 and rng.random() < 0.3,
            staged_weights=chosen.staged_weights and beside == 1,
            rows=Rows(*(rng.choice((1, 7, 40, 90, 300, 2_000, 100_000)) for _ in range(3))),
        )
    return estimate(chosen)


class Exhausted(TorchDispatchMode):
    """Counts operations that make tensors, and lets memory run out at some of them, counted from 1."""

    def __init__(self, fails: Sequence[range] = ()) -> None:
        super().__init__()
        self.fails, self.count, self.raised = fails, 0, 0
        self.whole = self  # which counts for all threads

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """In this thread, and in those of groups that run beside each other."""
        real = ladder.abreast

        def abreast(work: Callable[[Group], bool], groups: Sequence[Group]) -> list[bool | BaseException]:
            def inside(group: Group) -> bool:
                here = Exhausted()
                here.whole = self
                with here:
                    return work(group)

            return real(work if len(groups) == 1 else inside, groups)

        with patch.object(ladder, "abreast", abreast), self:
            yield

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        """See the class."""
        device = (kwargs or {}).get("device") or next((x.device for x in args if isinstance(x, torch.Tensor)), "cpu")
        if not func.is_view and torch.device(device).type != "meta":
            whole = self.whole
            whole.count += 1
            if any(whole.count in fails for fails in whole.fails):
                whole.raised += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return func(*args, **(kwargs or {}))


@dataclass
class Seen:
    """What a run handed over, in its order, and what must not happen twice."""

    scored: Counter[tuple[int, int]] = field(default_factory=Counter)  # by (lane, sample)
    embedded: Counter[int] = field(default_factory=Counter)
    ended: Counter[int] = field(default_factory=Counter)
    rungs: list[Rung] = field(default_factory=list)
    trunks: dict[int, tuple[Group, int]] = field(default_factory=dict)  # where a lane's trunk ran last
    faults: list[str] = field(default_factory=list)

    def starts(self, group: Group, which: slice, number: int) -> None:
        """A pass of some lanes begins: none of them may have a trunk already."""
        for place in range(which.start, which.stop):
            lane = id(group.lanes[place])
            before, at = self.trunks.get(lane, (None, 0))
            if number == 0 and before is not None:
                trunk = before.trunk
                if trunk is not None and trunk.is_whole and at < len(trunk.contacts):
                    self.faults.append("a finished trunk runs again")
            self.trunks[lane] = group, place


@contextmanager
def watched(seen: Seen) -> Iterator[None]:
    """Trunk passes are told to `seen`."""
    real, put_away = runner.run_pass, Group.after_failure

    def run_pass(run: Run, group: Group, which: slice, *rest: object) -> None:
        seen.starts(group, which, rest[-1])  # type: ignore[arg-type]
        real(run, group, which, *rest)  # type: ignore[arg-type]

    def after_failure(group: Group) -> tuple[list[Group], list[Group]]:
        try:
            return put_away(group)
        except torch.OutOfMemoryError:
            seen.trunks.clear()  # no room to put trunks away: all start anew
            raise

    with patch.object(runner, "run_pass", run_pass), patch.object(Group, "after_failure", after_failure):
        yield


def together(case: Case, seen: Seen, memory: Exhausted | None = None) -> dict[int, SeedResult]:
    """Results of all lanes by id, from one call. Raises what `run_lanes` raises."""
    results, groups = Results(), {}

    def on_sample(lane: Lane, make: runner.MadeSample) -> None:
        with torch.utils._python_dispatch._disable_current_modes():
            results.on_sample(lane, make)
        seen.scored[id(lane), results.samples[id(lane)][-1].first] += 1

    def on_embeddings(lane: Lane, embeddings: runner.EmbeddingRows) -> None:
        results.on_embeddings(lane, embeddings)
        seen.embedded[id(lane)] += 1

    def on_group(group: Group) -> None:
        for lane in group.lanes:
            seen.ended[id(lane)] += 1
            groups[id(lane)] = group

    run = Run(network_of(case.kind, case.dtypes), case.options, on_sample=on_sample, on_embeddings=on_embeddings)
    with watched(seen), nullcontext() if memory is None else memory.everywhere():
        run_lanes(run, case.lanes, case.plan, 1 << 40, on_rung=seen.rungs.append, on_group=on_group)
    return {id(lane): results.of(lane, groups[id(lane)].seconds, run) for lane in case.lanes}


def once(case: Case, seen: Seen) -> list[str]:
    """What of samples, embeddings and ends came twice or not at all."""
    lanes = [id(lane) for lane in case.lanes]
    wanted = {(lane, k) for lane in lanes for k in range(case.options.n_sample)}
    found = list(seen.faults)
    if seen.scored != Counter(wanted):
        found.append(f"samples handed over {sorted(seen.scored.values())} times, {len(wanted)} wanted")
    if seen.embedded != Counter(lanes if case.options.save_embeddings else []):
        found.append(f"embeddings handed over {sorted(seen.embedded.values())} times")
    if seen.ended != Counter(lanes):
        found.append(f"lanes ended {sorted(seen.ended.values())} times")
    return found


def distances(found: SeedResult, wanted: SeedResult) -> dict[str, float]:
    """Relative RMS of positions, contacts and embeddings."""
    pairs = {name: (getattr(found.samples, name), getattr(wanted.samples, name)) for name in ("coordinates",)}
    pairs["contact_probs"] = found.samples.contact_probs, wanted.samples.contact_probs
    if found.embeddings is not None and wanted.embeddings is not None:
        names = ("s_inputs", "s", "z")
        pairs |= {name: (getattr(found.embeddings, name), getattr(wanted.embeddings, name)) for name in names}
    return {name: rel_rms(a, b) for name, (a, b) in pairs.items()}


def scores_apart(found: SeedResult, wanted: SeedResult) -> float:
    """Largest difference of any score, over 1 + its size; infinite where one is undefined and the other is not."""
    worst = 0.0
    for a, b in zip(found.samples.confidences, wanted.samples.confidences, strict=True):
        for name, value in vars(b).items():
            x, y = np.asarray(getattr(a, name), np.float64), np.asarray(value, np.float64)
            if x.shape != y.shape or not np.array_equal(np.isfinite(x), np.isfinite(y)):
                return float("inf")
            apart = np.abs(np.nan_to_num(x) - np.nan_to_num(y)) / (1 + np.abs(np.nan_to_num(y)))
            worst = max(worst, float(apart.max(initial=0)))
    return worst


def rescored(case: Case, lane: Lane, found: SeedResult) -> SeedResult:
    """The lane alone, with the positions that were found in company."""
    results = Results()
    network = network_of(case.kind, case.dtypes)
    run = Run(network, replace(case.options, save_embeddings=False), on_sample=results.on_sample)
    group = Group([lane])
    group.drawn = {(0, k): x for k, x in enumerate(found.samples.coordinates)}
    advance(run, group, case.alone(lane))
    return results.of(lane, {}, run)


def compare(case: Case, results: dict[int, SeedResult], count: Counter[str], worst: Counter[str]) -> list[str]:
    """What differs from each lane alone; `worst` takes the largest distances seen."""
    faults, low = [], str(case.plan.trunk_dtype)[6:]
    for lane in case.lanes:
        found, network = results[id(lane)], network_of(case.kind, case.dtypes)
        wanted = run_seed(network, *case.of(lane))
        apart = distances(found, wanted)
        scores = scores_apart(found, wanted)
        if low == "float32":
            if scores > SCORES:
                scores = scores_apart(found, rescored(case, lane, found))
            limits = dict.fromkeys(apart, TOLERANCE) | {"contact_probs": SCORES}
            if any(value > limits[name] for name, value in apart.items()):
                count["lanes judged by other weights"] += 1
                other = run_seed(jittered_network(case.kind), *case.of(lane))
                limits = {name: max(limits[name], TIMES * value) for name, value in distances(other, wanted).items()}
        else:
            exact = run_seed(network_of(case.kind), *case.of(lane, exact=True))
            limits = {name: 0.01 + FARTHER * value for name, value in distances(wanted, exact).items()}
            limits["contact_probs"] = max(limits["contact_probs"], 0.2)  # of a few tokens, one decides
            apart, scores = distances(found, exact), min(scores, scores_apart(found, rescored(case, lane, found)))
        for name, value in apart.items():
            plain = low == "float32" and limits[name] in (TOLERANCE, SCORES)
            ratio = value if plain else value / limits[name]
            key = f"{low} {name}" + " of its limit" * (not plain)
            worst[key] = max(worst[key], ratio)  # type: ignore[assignment]
        worst[f"{low} scores"] = max(worst[f"{low} scores"], scores)  # type: ignore[assignment]
        faults += [f"{name} {value:.2g} > {limits[name]:.2g}" for name, value in apart.items() if value > limits[name]]
        if scores > (SCORES if low == "float32" else 0.3):
            faults.append(f"scores {scores:.2g}")
        if faults:
            faults.append(f"job {lane.job} seed {lane.draws.seed}")
            break
    return faults


def failures(rng: random.Random, most: float = 4.2) -> list[range]:
    """Where memory runs out: at some of about 10 ** `most` operations, or at many after each other."""
    starts = [int(10 ** rng.uniform(1.5, most)) for _ in range(rng.choice((1, 1, 2, 3)))]
    return [range(start, start + rng.choice((1, 1, 1, 1, 1, 1, 2, 40))) for start in starts]


def trial(rng: random.Random, pool: Sequence[Features], count: Counter[str], worst: Counter[str], *, fail: bool) -> str:
    """One case; returns what is wrong with it."""
    onednn = linear._has_onednn() and rng.random() < 0.1  # it takes its time for every new shape
    with patch.object(linear, "_ONEDNN", onednn):
        return _trial(rng, pool, count, worst, fail=fail)


def _trial(
    rng: random.Random, pool: Sequence[Features], count: Counter[str], worst: Counter[str], *, fail: bool
) -> str:
    """See `trial`."""
    case, seen = a_case(rng, pool), Seen()
    memory = Exhausted(failures(rng)) if fail else None
    try:
        results = together(case, seen, memory)
    except DoesNotFit as error:
        count["did not fit"] += 1
        if memory is None or case.plan.smaller() is not None and not seen.rungs or "smallest plan" not in str(error):
            return f"{case}: {error}"
        seen, memory = Seen(), None
        results = together(case, seen)  # nothing is left over
    except torch.OutOfMemoryError:
        return f"{case}: memory that ran out was not caught\n{traceback.format_exc()}"
    found = once(case, seen)
    count["lanes"] += len(case.lanes)
    count["rungs"] += len(seen.rungs)
    raised = memory.raised if memory is not None else 0
    if bool(raised) != bool(seen.rungs) or len(seen.rungs) > raised:
        found.append(f"{len(seen.rungs)} rungs for {raised} failures")
    found += compare(case, results, count, worst)
    return f"{case}: {'; '.join(found)}" if found else ""


def main() -> None:
    """Run cases, print what differs, a count and the worst distances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first case; the next case has the next")
    parser.add_argument("--real", type=int, default=0, help="number of random AlphaFold 3 jobs to take from")
    parser.add_argument("--failures", action="store_true", help="let memory run out")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    given = parser.parse_args()
    torch.set_num_threads(1)
    count, worst, start = Counter(), Counter(), time.perf_counter()
    pool = small_jobs(given.real, given.seed) if given.real else []
    for seed in range(given.seed, given.seed + given.cases):
        if time.perf_counter() - start > given.seconds:
            break
        try:
            said = trial(random.Random(seed), pool, count, worst, fail=given.failures)
        except Exception:  # noqa: BLE001 - told, and the next case runs
            said = traceback.format_exc()
        count["cases"] += 1
        if said:
            count["cases that differ"] += 1
            sys.stdout.write(f"case {seed}: {said}\n")
            sys.stdout.flush()
    sys.stdout.write(", ".join(f"{number:,} {what}" for what, number in count.items()) + "\n")
    sys.stdout.write("worst: " + ", ".join(f"{what} {value:.2g}" for what, value in sorted(worst.items())) + "\n")
    raise SystemExit(1 if count["cases that differ"] else 0)


if __name__ == "__main__":
    main()
