"""A queue of jobs through the network: prepared ahead, some of them together, written beside the next ones' passes.

Knows the order of things; what a stage does is told elsewhere.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from foldline.config import EngineConfig
from foldline.engine.group import Group, Lane
from foldline.engine.job_run import JobRun, Prediction, as_job_error
from foldline.engine.ladder import Rung, run_lanes
from foldline.engine.plan import Plan
from foldline.engine.prepare import Prepared, Preparer
from foldline.engine.record import describe, new_peak, peak_bytes, run_record
from foldline.engine.runner import MadeSample, Run, most_msa_rows
from foldline.engine.schedule import Throughput, bucket_of, estimated_tokens, in_order, rounds
from foldline.errors import DoesNotFit, FoldlineError, InputError, during
from foldline.execute import Background, Event, InProcess, StopRequest
from foldline.execute import Progress as Listener
from foldline.sampler import Draws
from foldline.tensors import EmbeddingRows

if TYPE_CHECKING:
    from foldline.inputs import Job
    from foldline.outputs.claims import Claims
    from foldline.outputs.layout import SampleWriter

TOKENS_AHEAD = 256  # a job of so many tokens counts as one of those that are prepared ahead
END_SHARE = 0.02  # share of a round's time that its last files are waited for before the next round begins
MOST_SHARING = 64  # seeds of all jobs that may share forward passes, whatever the plan


class Machine(Protocol):
    """What a queue needs of an engine."""

    config: EngineConfig
    device: torch.device
    throughput: Throughput

    @property
    def buckets(self) -> Sequence[int]:
        """Token counts that jobs are padded to; empty = no padding."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Device memory that plans may use."""
        ...

    def plan_of(self, bucket: tuple[int, int], n_msa: int, n_seed: int, n_msa_drawn: int | None = None) -> Plan:
        """The plan for seeds of jobs of a bucket; a pass reads `n_msa_drawn` alignment rows at most."""
        ...

    def has_run(self, chosen: Plan, group: Group) -> None:
        """Note that a plan has run a group."""
        ...

    def runner(self) -> Run:
        """What takes groups of seeds through the network."""
        ...

    def writer(self, prepared: Prepared) -> "SampleWriter":
        """What writes a job's files."""
        ...

    def identity(self) -> dict[str, object]:
        """Version, device and checkpoint, for the record."""
        ...


class Ending(NamedTuple):
    """A job whose prediction is there or on its way."""

    name: str
    prediction: Future[Prediction]


@dataclass
class Queue:
    """One call of `predict`."""

    machine: Machine
    preparer: Preparer
    claims: "Claims"
    draws: Draws | None
    progress: Listener
    stop: StopRequest
    after: Background = field(default_factory=Background)
    capacities: dict[tuple[int, int], int] = field(default_factory=dict)

    def run(self, jobs: "Iterable[Job]", executor: InProcess) -> Iterator[Prediction]:
        """Predictions, by buckets in the order of their first jobs; jobs of other processes come last."""
        left: list[Prepared] = []
        before: list[Ending] = []
        made = executor.map(self.preparer, in_order(jobs, self.machine.buckets))
        with self.after, closing(made):  # however this ends, what is not begun is not made
            ahead = (future.result() for future in made)
            for members in rounds(ahead, self._fits, self._is_full):
                start = time.perf_counter()
                now = self._round(members, left)
                yield from self._ended(before)
                before = now
                patience = None if self.machine.config.on_error == "stop" else END_SHARE * (time.perf_counter() - start)
                if not wait([one.prediction for one in before], patience).not_done:
                    yield from self._ended(before)
                    before = []
            yield from self._ended(before)
            speed = self.machine.throughput
            if speed.jobs > 1:
                self.progress(Event("queue", "throughput", message=str(speed)))
            for prepared in left:
                yield from self._ended(self._after_another(prepared))

    def _ended(self, endings: list[Ending]) -> Iterator[Prediction]:
        """Predictions in their order, each as soon as it is there."""
        for one in endings:
            prediction = one.prediction.result()
            self.claims.give_back(one.name)
            yield prediction

    def _after_another(self, prepared: Prepared) -> list[Ending]:
        """A job that another process was at: its result, or ours where it left none."""
        from foldline.outputs.claims import Claim

        name, progress = prepared.job.name, self.progress
        progress(Event(name, "wait", message="waiting for the process that is at it"))
        try:
            claim = self.claims.wait(prepared.name, prepared.fingerprint, lambda: progress(Event(name, "wait")))
        except OSError as error:
            return [_there(prepared, Prediction(name, error=as_job_error(error, prepared.directory)))]
        if claim is Claim.FINISHED:
            note = "it was predicted by another process while this one ran"
            return [_there(prepared, _done_before(prepared, note))]
        self.claims.give_back(prepared.name)
        left: list[Prepared] = []
        endings = self._round([self.preparer(prepared.job)], left)
        return endings + [ending for again in left for ending in self._after_another(again)]

    def _round(self, members: list[Prepared], left: list[Prepared]) -> list[Ending]:
        """Jobs that share passes; those that another process is at go to `left`."""
        self.stop.check()
        found = [(prepared, self._admitted(prepared)) for prepared in members]
        runs = [one for _, one in found if isinstance(one, JobRun)]
        if runs:
            self._through_network(runs)
        endings = []
        for prepared, one in found:
            if one is None:
                left.append(prepared.without_features())
            elif isinstance(one, Prediction):
                endings.append(_there(prepared, one))
            else:
                endings.append(Ending(prepared.name, self._end(one)))
        return endings

    def _admitted(self, prepared: Prepared) -> JobRun | Prediction | None:
        """A job that is to be run, or its prediction; None where another process is at it."""
        from foldline.outputs.claims import Claim

        job, config = prepared.job, self.machine.config
        if prepared.error is not None:
            return Prediction(job.name, error=prepared.error)
        try:
            claim = self.claims.take(prepared.name, prepared.fingerprint, overwrite=config.overwrite)
            if claim is Claim.BUSY:
                self.progress(Event(job.name, "wait", message="left to another process that is at it"))
                return None
            if claim is Claim.FINISHED:
                return _done_before(prepared)
            if prepared.featurised is None:  # its result was there, and was replaced by another process since
                self.claims.give_back(prepared.name)
                return None
            with during("plan"):
                if self.draws is not None and len(job.seeds) != 1:
                    what = f"recorded draws replay one seed, the job has {len(job.seeds)}"
                    raise InputError(what, path="$.modelSeeds")
            writer = None if prepared.directory is None else self.machine.writer(prepared)
            if writer is not None and writer.remark:
                self.progress(Event(job.name, "plan", message=writer.remark))
            return JobRun(prepared, writer, config.samples, embeddings=config.save_embeddings)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one job is no reason to lose the others
            return Prediction(job.name, error=as_job_error(error, prepared.directory))

    def _through_network(self, runs: list[JobRun]) -> None:
        """Run jobs together; where that fails, each of them alone, so that errors stay with their job."""
        speed, start, waited = self.machine.throughput, time.perf_counter(), self.after.waited
        new_peak(self.machine.device)
        failure = None
        try:
            self._attempt(runs)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one job is no reason to lose the others
            failure = as_job_error(error, runs[0].prepared.directory)
        if failure is not None:  # and the round's tensors are gone
            for run in runs:
                self._alone(run, failure, len(runs))
        abreast = runs[0].plan.side_by_side if runs[0].plan is not None else 1  # one that waits idles its share alone
        waited = (self.after.waited - waited) / abreast
        speed.add(sum(run.error is None for run in runs), start, time.perf_counter(), waited)

    def _alone(self, run: JobRun, error: FoldlineError, n_run: int) -> None:
        """What is left of a job after an error in a round of `n_run`; that of a job that was alone is its own."""
        if n_run == 1 or run.error is not None:
            run.fail(error)
        elif run.missing_seeds:
            run.handed.clear()  # seeds that are not finished start anew
            try:
                self._attempt([run])
            except Exception as own:  # noqa: BLE001 - as above
                run.fail(own)

    def _attempt(self, runs: list[JobRun]) -> None:
        """All seeds that jobs lack, as many together as the plan says; none may be left, only the end of the job."""
        seeds = {
            Lane(run.features, self.draws or Draws(seed), number): seed
            for number, run in enumerate(runs)
            for seed in run.missing_seeds
        }
        machine, lanes, runner = self.machine, list(seeds), self.machine.runner()
        with during("plan"):
            n_msa = max(run.features.sizes["N_msa"] for run in runs)
            drawn = most_msa_rows(lanes, runner.passes, runner.network.spec.max_msa) if lanes else None
            chosen = machine.plan_of(_bucket_of_all(runs, machine.buckets), n_msa, max(1, len(lanes)), drawn)
            chosen = replace(chosen, job_batch=len(runs))
        for run in runs:
            run.plan = chosen
            self.progress(Event(run.name, "plan", message=describe(run.features, chosen)))

        def on_sample(lane: Lane, make: MadeSample) -> None:
            run, seed = runs[lane.job], seeds[lane]
            run.handed[seed] = run.handed.get(seed, 0) + 1
            if run.handed[seed] == machine.config.samples:
                self.progress(Event(run.name, "write", seed=seed))
            self.after.submit(lambda: run.take_sample(seed, make))

        def on_embeddings(lane: Lane, embeddings: EmbeddingRows) -> None:
            run, seed = runs[lane.job], seeds[lane]
            self.after.submit(lambda: run.take_embeddings(seed, embeddings)).result()

        def on_progress(some: Sequence[Lane], stage: str, done: int, total: int) -> None:
            for number in dict.fromkeys(lane.job for lane in some):
                own = [seeds[lane] for lane in some if lane.job == number]
                seed = own[0] if len(own) == 1 else None
                self.progress(Event(runs[number].name, stage, step=done, total=total, seed=seed))

        def on_rung(rung: Rung) -> None:
            for number in rung.jobs:
                runs[number].rungs.append(rung)
                runs[number].plan = rung.plan
                self.progress(Event(runs[number].name, rung.stage, message=str(rung)))

        def on_group(group: Group) -> None:
            machine.has_run(chosen, group)
            for lane in group.lanes:
                runs[lane.job].took(seeds[lane], group.seconds, len(group.lanes) * group.n_abreast)

        run_lanes(
            replace(runner, on_sample=on_sample, on_embeddings=on_embeddings, progress=on_progress),
            lanes,
            chosen,
            machine.memory_bytes,
            on_rung=on_rung,
            on_group=on_group,
            wanted=lambda lane: runs[lane.job].error is None,
        )

    def _end(self, run: JobRun) -> Future[Prediction]:
        """Have a job's last files written."""
        machine, peak = self.machine, peak_bytes(self.machine.device)
        told = machine.identity() | {"peak_bytes": peak}
        if run.plan is not None:
            told = run_record(told, machine.runner(), run.features, run.plan)
        return self.after.submit(lambda: run.end(told, peak))

    def _fits(self, held: list[Prepared], one: Prepared) -> bool:
        """Whether a job shares passes with those before it: one bucket, and no more seeds than the plan takes."""
        if not (self._shares(held[0]) and self._shares(one)):
            return False
        bucket = self._bucket(one)
        return bucket == self._bucket(held[0]) and _n_lane([*held, one]) <= self._capacity(bucket, one)

    def _is_full(self, held: list[Prepared]) -> bool:
        """Whether no job could join these."""
        if not self._shares(held[0]):
            return True
        return _n_lane(held) >= self._capacity(self._bucket(held[0]), held[0])

    def _shares(self, prepared: Prepared) -> bool:
        """Whether a job may share passes: sizes are padded to buckets, and it is to be run with draws of its own."""
        return bool(self.machine.buckets) and self.draws is None and prepared.featurised is not None

    def _bucket(self, prepared: Prepared) -> tuple[int, int]:
        assert prepared.featurised is not None
        features = prepared.featurised.made.features
        return bucket_of(features.n_token, features.n_atom, self.machine.buckets)

    def _capacity(self, bucket: tuple[int, int], one: Prepared) -> int:
        """How many seeds of jobs of a bucket go together."""
        if bucket not in self.capacities:
            assert one.featurised is not None
            n_msa = one.featurised.made.features.sizes["N_msa"]
            try:
                self.capacities[bucket] = self.machine.plan_of(bucket, n_msa, MOST_SHARING).seed_group
            except DoesNotFit:
                self.capacities[bucket] = 1
        return self.capacities[bucket]


def executor_of(config: EngineConfig, children: int) -> InProcess:
    """What prepares jobs ahead: by their number in this process, by their size in child processes."""
    if config.ahead == 0:
        return InProcess(0)
    if not children:
        return InProcess(config.ahead or 1, threads=1)
    return InProcess(config.ahead or MOST_SHARING, children, lambda job: max(1.0, estimated_tokens(job) / TOKENS_AHEAD))


def _bucket_of_all(runs: list[JobRun], buckets: Sequence[int]) -> tuple[int, int]:
    return bucket_of(max(run.features.n_token for run in runs), max(run.features.n_atom for run in runs), buckets)


def _n_lane(members: list[Prepared]) -> int:
    return sum(len(prepared.job.seeds) for prepared in members)


def _done_before(prepared: Prepared, *notes: str) -> Prediction:
    """The prediction of a job whose result is there."""
    name, directory = prepared.job.name, prepared.directory
    return Prediction(name, directory, skipped=True, warnings=notes, fingerprint=prepared.fingerprint)


def _there(prepared: Prepared, prediction: Prediction) -> Ending:
    """The ending of a job that needs nothing more."""
    future: Future[Prediction] = Future()
    future.set_result(prediction)
    return Ending(prepared.name, future)
