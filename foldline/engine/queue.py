"""A queue of jobs through the network: prepared ahead, some of them together or beside each other, written meanwhile.

Knows the order of things; what a stage does is told elsewhere.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from foldline.config import EngineConfig
from foldline.engine.abreast import Beside
from foldline.engine.group import Group, Lane
from foldline.engine.job_run import JobRun, Prediction, as_job_error
from foldline.engine.ladder import Rung, run_lanes
from foldline.engine.memory_model import Sizes
from foldline.engine.plan import Plan, goes_beside
from foldline.engine.prepare import Prepared, Preparer
from foldline.engine.record import describe, new_peak, peak_bytes, run_record
from foldline.engine.runner import MadeSample, Run, most_msa_rows
from foldline.engine.schedule import Throughput, bucket_of, estimated_tokens, in_order, rounds, small_from
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

    def plan_of(
        self,
        bucket: tuple[int, int],
        n_msa: int,
        n_seed: int,
        n_msa_drawn: int | None = None,
        beside: tuple[Sizes, ...] = (),
    ) -> Plan:
        """The plan for seeds of jobs of a bucket; a pass reads `n_msa_drawn` alignment rows, others run `beside`."""
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
    beside: Beside = field(default_factory=Beside)  # jobs that are in the network beside each other
    running: dict[Future[list[Ending]], Sizes] = field(default_factory=dict)  # of these, and some that have ended
    precisions: tuple[torch.dtype, ...] = ()  # of their network
    looked: dict[str, bool] = field(default_factory=dict)  # by name of a job: whether its result seems to be there

    @cached_property
    def runner(self) -> Run:
        """What takes groups of seeds through the network."""
        return self.machine.runner()

    def run(self, jobs: "Iterable[Job]", executor: InProcess) -> Iterator[Prediction]:
        """Predictions, by buckets in the order of their first jobs; jobs of other processes come last."""
        left: list[Prepared] = []
        before: deque[Future[list[Ending]]] = deque()
        jobs = in_order(jobs, self.machine.buckets)
        listed, place = jobs if isinstance(jobs, Sequence) and self._has_room() else (), 0
        made = executor.map(self.preparer, jobs)
        with self.after, closing(made), self.beside:  # however this ends, what is not begun is not made
            ahead = (future.result() for future in made)
            for members in rounds(ahead, self._fits, self._is_full):
                self.stop.check()
                start = time.perf_counter()
                small = self._small_from(listed, place) if members[0].featurised is not None else ()
                now = self._round(members, left, small)
                place += len(members)
                all_ended = self.beside.running == 0
                yield from self._ended(before, all_ended)
                before.append(now)
                patience = None if self.machine.config.on_error == "stop" else END_SHARE * (time.perf_counter() - start)
                if all_ended:
                    wait([one.prediction for one in now.result()], patience)
                yield from self._ended(before)
            self.beside.none_come()
            yield from self._ended(before, wait_for_all=True)
            speed = self.machine.throughput
            if speed.jobs > 1:
                self.progress(Event("queue", "throughput", message=str(speed)))
            for prepared in left:
                yield from self._after_another(prepared)

    def _ended(self, rounds: deque[Future[list[Ending]]], wait_for_all: bool = False) -> Iterator[Prediction]:
        """Predictions in their order, each as soon as it is there: of the rounds that have ended first, or of all."""
        while rounds and (wait_for_all or _has_ended(rounds[0])):
            for one in rounds[0].result():
                prediction = one.prediction.result()
                self.claims.give_back(one.name)
                yield prediction
            rounds.popleft()

    def _after_another(self, prepared: Prepared) -> Iterator[Prediction]:
        """A job that another process was at: its result, or ours where it left none."""
        from foldline.outputs.claims import Claim

        name, progress = prepared.job.name, self.progress
        progress(Event(name, "wait", message="waiting for the process that is at it"))
        try:
            claim = self.claims.wait(prepared.name, prepared.fingerprint, lambda: progress(Event(name, "wait")))
        except OSError as error:
            yield Prediction(name, error=as_job_error(error, prepared.directory))
            return
        self.claims.give_back(prepared.name)
        if claim is Claim.FINISHED:
            yield _done_before(prepared, "it was predicted by another process while this one ran")
            return
        left: list[Prepared] = []
        yield from self._ended(deque([self._round([self.preparer(prepared.job)], left)]), wait_for_all=True)
        for again in left:
            yield from self._after_another(again)

    def _round(
        self, members: list[Prepared], left: list[Prepared], small: "Sequence[Job]" = ()
    ) -> Future[list[Ending]]:
        """Jobs that share passes, when they are through the network; those that another process is at go to `left`.

        One that may go beside others is begun alone, when there is room: it is the first of the `small` ones that come.
        """
        found = [(prepared, self._admitted(prepared)) for prepared in members]
        left += [prepared.without_features() for prepared, one in found if one is None]
        runs = [one for _, one in found if isinstance(one, JobRun)]

        def endings() -> list[Ending]:
            self.stop.check()
            if runs:
                self._through_network(runs, chosen)
            return [
                _there(prepared, one) if isinstance(one, Prediction) else Ending(prepared.name, self._end(one))
                for prepared, one in found
                if one is not None
            ]

        chosen = self._plan_beside(runs[0], small) if len(runs) == 1 and small else None
        if chosen is not None:
            ended = self.beside.start(endings, chosen.side_by_side, coming=len(small) - 1)
            self.running[ended] = chosen.request.sizes
            return ended
        if runs:
            self.beside.wait()
            self.running.clear()
        now: Future[list[Ending]] = Future()
        now.set_result(endings())
        return now

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

    def _has_room(self) -> bool:
        """Whether jobs may run beside each other: on several threads of a CPU, in which nothing is padded or shared."""
        machine = self.machine
        alone = machine.device.type != "cpu" or machine.buckets or machine.config.on_error == "stop"
        return not alone and self.draws is None and self.beside.n_thread > 1

    def _small_from(self, jobs: "Sequence[Job]", place: int) -> "list[Job]":
        """The small jobs that come from this place of a list on, as many as there are threads."""

        def is_done(job: "Job") -> bool:
            if job.name not in self.looked:
                self.looked[job.name] = self.preparer.looks_finished(job)
            return self.looked[job.name]

        return small_from(jobs, place, _is_small, is_done, self.beside.n_thread)

    def _plan_beside(self, run: JobRun, small: "Sequence[Job]") -> Plan | None:
        """The plan of a job that goes beside others, in its share of the threads; None: it has them all.

        The fewer there are, the more threads has each. Made when there is room: those that run then are beside it.
        """
        lanes = self._lanes([run])
        self.beside.have_room(self.beside.running + len(small))
        try:
            chosen = self._plan([run], lanes, small)
        except Exception:  # noqa: BLE001 - it comes again and is told when it is the job's turn
            return None
        if chosen.side_by_side == 1 or not 0 < len(lanes) <= chosen.seed_group:
            return None
        if self.precisions != chosen.precisions:
            self.beside.wait()  # the weights are there once
        self.precisions = chosen.precisions
        self.machine.has_run(chosen, Group(list(lanes)))  # the next plan is made before this one ends
        return chosen

    def _others(self, own: Sizes, small: "Sequence[Job]") -> tuple[Sizes, ...]:
        """Jobs beside the first of the small ones: those that run, and the next ones where threads are left.

        Of jobs that come the residues are known. One that begins when another has ended counts this one in its plan.
        """
        self.running = {one: sizes for one, sizes in self.running.items() if not one.done()}
        found = list(self.running.values())
        for job in small[1 : self.beside.n_thread - len(found)]:
            n_token, n_seed = max(1, estimated_tokens(job)), len(job.seeds)
            found.append(replace(own, n_token=n_token, n_atom=own.n_atom * n_token // own.n_token, n_seed=n_seed))
        return tuple(found)

    def _through_network(self, runs: list[JobRun], beside: Plan | None) -> None:
        """Run jobs together; where that fails, each of them alone, so that errors stay with their job."""
        speed, start = self.machine.throughput, time.perf_counter()
        new_peak(self.machine.device)
        for run in runs:
            run.begins()
        failure = None
        try:
            self._attempt(runs, beside)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one job is no reason to lose the others
            failure = as_job_error(error, runs[0].prepared.directory)
        if failure is not None:  # and the round's tensors are gone
            for run in runs:
                self._alone(run, failure, len(runs))
        abreast = runs[0].plan.side_by_side if runs[0].plan is not None else 1  # one that waits idles its share alone
        waited, share = sum(sum(run.waits) for run in runs), 1.0
        if beside is None:
            waited /= abreast
        else:
            share = self.beside.average_share()
        speed.add(sum(run.error is None for run in runs), start, time.perf_counter(), waited, share)

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

    def _lanes(self, runs: list[JobRun]) -> dict[Lane, int]:
        """A lane for every seed that jobs lack."""
        return {
            Lane(run.features, self.draws or Draws(seed), number): seed
            for number, run in enumerate(runs)
            for seed in run.missing_seeds
        }

    def _plan(self, runs: list[JobRun], lanes: Iterable[Lane], small: "Sequence[Job]" = ()) -> Plan:
        """The plan for lanes of jobs that share passes, or for that of the first of `small` jobs beside others."""
        lanes = list(lanes)
        with during("plan"):
            n_msa = max(run.features.sizes["N_msa"] for run in runs)
            drawn = most_msa_rows(lanes, self.runner.passes, self.runner.network.spec.max_msa) if lanes else None
            bucket = _bucket_of_all(runs, self.machine.buckets)
            own = Sizes(*bucket, n_msa, self.machine.config.samples, max(1, len(lanes)), drawn)
            beside = self._others(own, small) if small else ()
            chosen = self.machine.plan_of(bucket, n_msa, own.n_seed, drawn, beside)
            return replace(chosen, job_batch=len(runs))

    def _attempt(self, runs: list[JobRun], beside: Plan | None = None) -> None:
        """All seeds that jobs lack, as many together as the plan says; none may be left, only the end of the job.

        `beside` is the plan of a job that goes beside others; when its memory runs out, it goes on alone.
        """
        seeds = self._lanes(runs)
        machine, lanes = self.machine, list(seeds)
        chosen, grown = beside or self._plan(runs, lanes), []
        for run in runs:
            run.plan = chosen
            self.progress(Event(run.name, "plan", message=describe(run.features, chosen)))

        def on_sample(lane: Lane, make: MadeSample) -> None:
            run, seed = runs[lane.job], seeds[lane]
            run.handed[seed] = run.handed.get(seed, 0) + 1
            if run.handed[seed] == machine.config.samples:
                self.progress(Event(run.name, "write", seed=seed))
            start = time.perf_counter()
            self.after.submit(partial(run.take_sample, seed, make))
            run.waits.append(time.perf_counter() - start)

        def on_embeddings(lane: Lane, embeddings: EmbeddingRows) -> None:
            run, seed = runs[lane.job], seeds[lane]
            self.after.submit(lambda: run.take_embeddings(seed, embeddings)).result()

        def on_progress(some: Sequence[Lane], stage: str, done: int, total: int) -> None:
            if beside is not None and (threads := self.beside.take_free()):
                grown.append(replace(chosen, side_by_side=beside.request.threads // threads))
            for number in dict.fromkeys(lane.job for lane in some):
                own = [seeds[lane] for lane in some if lane.job == number]
                seed = own[0] if len(own) == 1 else None
                self.progress(Event(runs[number].name, stage, step=done, total=total, seed=seed))

        def on_rung(rung: Rung) -> None:
            if beside is not None:
                self.beside.have_all()
            for number in rung.jobs:
                runs[number].rungs.append(rung)
                runs[number].plan = rung.plan
                self.progress(Event(runs[number].name, rung.stage, message=str(rung)))

        def on_group(group: Group) -> None:
            for one in (chosen, *grown):
                machine.has_run(one, group)
            for lane in group.lanes:
                runs[lane.job].took(seeds[lane], group.seconds, len(group.lanes) * group.n_abreast)

        run_lanes(
            replace(self.runner, on_sample=on_sample, on_embeddings=on_embeddings, progress=on_progress),
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
        told = machine.identity() | {"peak_bytes": peak, "asked_fingerprint": run.prepared.asked}
        if run.plan is not None:
            told = run_record(told, self.runner, run.features, run.plan)
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


def _is_small(job: "Job") -> bool:
    return goes_beside(estimated_tokens(job), len(job.seeds))


def _has_ended(one: Future[list[Ending]]) -> bool:
    """Whether the jobs of a round are through the network, and their files are written."""
    return one.done() and all(ending.prediction.done() for ending in one.result())


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
