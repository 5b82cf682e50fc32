"""Engines on the nodes of a cluster that share the jobs of a run: an engine on each GPU, or one on each node without.

They stand where an `Engine` stands: `predict` gives predictions as they come. Jobs are handed out a few at a time;
those of a replica that dies go to others, and nodes that join get theirs. Knows engines and searches; not how a run is
shown.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foldline.cluster.executor import POLL_SECONDS, TRIES, cores_of_search, search_executor
from foldline.cluster.feed import Feed, Handed
from foldline.cluster.replica import About, End, Replica, Unfit
from foldline.cluster.session import Node, nodes, signals_later
from foldline.config import EngineConfig
from foldline.engine import Prediction
from foldline.engine.schedule import BUCKETS, in_order
from foldline.errors import FoldlineError, InputError, InternalError, WorkerLost, WriteError
from foldline.execute import Event, Progress, StopRequest, ignore
from foldline.inputs.job import Job
from foldline.limits import SPINS
from foldline.outputs.locks import HIDDEN
from foldline.search.ahead import JobSearch, Machines, job_search
from foldline.search.settings import SearchSettings

ENDING_SECONDS = 10.0  # that replicas have to finish what they write when a run is asked to end
DEATHS = 2 * TRIES  # of a place one after the other, without a job that ended
CALLS = 4  # that a replica may be asked at a time
JOIN_SECONDS = 5.0  # between looks for nodes that have joined


@dataclass(eq=False)
class _Place:
    """Where a replica is or will be again."""

    node: Node
    actor: Any
    answer: Any  # the call that is under way; None: none is
    about: About | None = None
    handed: dict[str, Handed] = field(default_factory=dict)
    deaths: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether it could be given jobs."""
        return self.about is not None and self.answer is None

    def listen(self) -> None:
        """Ask what has happened."""
        with signals_later():
            self.answer = self.actor.take.remote(POLL_SECONDS)

    def __str__(self) -> str:
        """Where it is in words."""
        return self.node.name if self.about is None else f"{self.node.name} (process {self.about.process})"


class Replicas:
    """Engines of one cluster. A context manager: leaving it ends them."""

    def __init__(self, ray: Any, settings: EngineConfig) -> None:
        """`ray` is connected.

        Raises:
            InputError: the device named is one of a single machine.
        """
        if settings.device not in ("auto", "cpu", "cuda"):
            raise InputError(f"{settings.device} is of one machine: give auto, cuda or cpu with --ray", path="--device")
        model = Path(settings.model)
        self._ray = ray
        self._settings = replace(settings, model=str(model.absolute())) if model.exists() else settings
        self._places: list[_Place] = []
        self._faults: list[FoldlineError] = []  # why places are out of use
        self._on_gpus = False
        self._seen: set[str] = set()  # nodes that have or had places
        self._looked = 0.0  # when nodes were last looked for

    def __enter__(self) -> "Replicas":
        """Have an engine made everywhere; wait for the first.

        Raises:
            InputError: the cluster has nothing to run on.
            FoldlineError: no engine can be made.
        """
        here = nodes(self._ray)
        self._on_gpus = self._settings.device != "cpu" and any(node.gpus for node in here)
        if self._settings.device == "cuda" and not self._on_gpus:
            raise InputError("no node of the cluster has a GPU: give --device auto or cpu", path="--device")
        self._join(ignore)
        if not self._places:
            raise InputError("no node of the cluster has a core: ray start --num-cpus=N", path="--ray")
        try:
            while not self.processes:
                self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for place in self._places:
            self._ray.kill(place.actor)
        self._places = []

    def wait(self) -> None:
        """Wait a moment for engines to be made.

        Raises:
            FoldlineError: none could be made.
        """
        for place in self._answered():
            list(self._heard(place, _nowhere, ignore))
        if not self._places:
            raise self._faults[0]

    @property
    def processes(self) -> list[int]:
        """Process numbers of the replicas that are ready."""
        return [place.about.process for place in self._places if place.about is not None]

    def predict(
        self, jobs: Sequence[Job], *, out: Path, progress: Progress, stop: StopRequest
    ) -> Generator[Prediction, None, None]:
        """Predict jobs, each on one of the replicas; predictions in the order in which jobs end.

        Args:
            jobs: validated jobs.
            out: output folder, which all nodes see under this path.
            progress: called with events, from several threads.
            stop: somebody's wish to end the run; what replicas are writing is finished first.

        Raises:
            WriteError: the output folder cannot be made.
        """
        for fault in self._faults:
            _say(progress, f"a replica is not used: {fault}")
        default = BUCKETS if self._on_gpus else ()
        buckets = default if self._settings.buckets is None else self._settings.buckets
        ordered = list(in_order(jobs, buckets))
        left = {job.name for job in ordered}
        with ExitStack() as stack:
            mark = stack.enter_context(_mark(out.absolute()))
            search = self._search(ordered, progress, stop)
            feed = stack.enter_context(Feed(ordered, search, progress, buckets))
            if search is not None:
                stack.enter_context(closing(search))
            stack.callback(self._end_all)
            while left:
                stop.check()
                for prediction in self._round(feed, mark, progress):
                    left.discard(prediction.job_name)
                    yield prediction
                if time.monotonic() - self._looked > JOIN_SECONDS or not self._places:
                    self._join(progress)
                if not self._places:
                    yield from (Prediction(name, error=self._faults[-1]) for name in left)
                    return

    def _search(self, jobs: Sequence[Job], progress: Progress, stop: StopRequest) -> JobSearch | None:
        """What gives jobs the alignments that they lack, with searches on all nodes."""
        settings = self._settings
        if settings.msa == "none" or settings.stage == "infer" or not settings.search:
            return None
        threads = cores_of_search(self._ray, SearchSettings.make(settings.search).threads)
        about = next(place.about for place in self._places if place.about is not None)
        table = {**settings.search, "family": about.family}
        machines = Machines(
            lambda check: search_executor(self._ray, lambda message: _say(progress, message), check),
            threads,
            first=len(self._places),
        )
        return job_search(
            table,
            settings.cache_root,
            jobs,
            progress=progress,
            check=stop.check,
            machines=machines,
            templates=about.templates,
        )

    def _join(self, progress: Progress) -> None:
        """Have engines made on nodes that have none yet, of the kind that the others are."""
        self._looked = time.monotonic()
        for node in nodes(self._ray):
            count = node.gpus if self._on_gpus else min(1, node.cores)
            if node.key in self._seen or not count:
                continue
            if self._seen:
                _say(progress, f"{node.name} has joined, with {count} {'replica' if count == 1 else 'replicas'}")
            self._seen.add(node.key)
            for _ in range(count):
                self._places.append(_Place(node, *self._started(node)))

    def _started(self, node: Node) -> tuple[Any, Any]:
        """A new actor on a node, and the call that makes its engine.

        It takes no core of Ray's, so that searches find room; on a node without GPUs it works with as many threads as
        the node has cores. Threads that wait give way to searches soon, as those of the command do.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        gpu = self._on_gpus
        cores = max(1, node.cores // max(1, node.gpus)) if gpu else node.cores
        settings = replace(
            self._settings,
            device="cuda" if gpu else "cpu",
            threads=self._settings.threads or cores,
            stage="infer",
        )
        kind = self._ray.remote(num_cpus=0, num_gpus=int(gpu), max_restarts=0, max_concurrency=CALLS)(Replica)
        where = NodeAffinitySchedulingStrategy(node.key, soft=False)
        waiting = {"env_vars": {"GOMP_SPINCOUNT": SPINS}}
        with signals_later():
            actor = kind.options(scheduling_strategy=where, runtime_env=waiting).remote()
            return actor, actor.start.remote(settings)

    def _round(self, feed: Feed, mark: Path, progress: Progress) -> Iterator[Prediction]:
        """Hand out what there is, and hear what happens within a moment."""
        yield from feed.failed()
        for place in self._places:
            if place.is_idle and (some := feed.take(len(self._places))):
                place.handed = {one.job.name: one for one in some}
                with signals_later():
                    place.actor.predict.remote([one.job for one in some], mark.parents[1], mark)
                place.listen()
        if all(place.is_idle for place in self._places):
            feed.wait(POLL_SECONDS)
        for place in self._answered():
            yield from self._heard(place, feed.give_back, progress)

    def _answered(self) -> list[_Place]:
        """Places that have answered, after waiting a moment for one."""
        places = {place.answer: place for place in self._places if place.answer is not None}
        if not places:
            return []
        done, _ = self._ray.wait(list(places), num_returns=1, timeout=POLL_SECONDS)
        return [places[one] for one in done]

    def _heard(
        self, place: _Place, back: Callable[[Sequence[Handed]], None], progress: Progress
    ) -> Iterator[Prediction]:
        """What a place has answered; jobs that it cannot do go `back`."""
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(place.answer)
        except errors.RayTaskError as error:
            fault = error.cause if isinstance(error.cause, FoldlineError) else InternalError(error.cause)
            self._give_up(place, fault, back, progress)
            return
        except errors.RayError as error:
            yield from self._died(place, type(error).__name__, back, progress)
            return
        if isinstance(answer, About):
            place.about, place.answer = answer, None
            return
        ended = any(isinstance(message, End) for message in answer)
        place.answer = None
        if not ended:
            place.listen()
        for message in answer:
            if isinstance(message, Event):
                progress(message)
            elif isinstance(message, Unfit):
                self._give_up(place, message.error, back, progress)
            elif isinstance(message, Prediction):
                place.handed.pop(message.job_name, None)
                place.deaths = 0
                yield message

    def _give_up(
        self, place: _Place, error: FoldlineError, back: Callable[[Sequence[Handed]], None], progress: Progress
    ) -> None:
        """Use a place no more."""
        self._faults.append(error)
        if place in self._places:
            self._places.remove(place)
            self._ray.kill(place.actor)
        back(list(place.handed.values()))
        _say(progress, f"the replica on {place} is not used any more: {error}")

    def _died(
        self, place: _Place, how: str, back: Callable[[Sequence[Handed]], None], progress: Progress
    ) -> Iterator[Prediction]:
        """A replica is gone: its jobs go to others, but those that were with too many; a new one takes its place."""
        some = list(place.handed.values())
        place.handed, place.deaths = {}, place.deaths + 1
        for one in some:
            one.deaths += 1
        lost = [one for one in some if one.deaths >= TRIES]
        again = [one for one in some if one.deaths < TRIES]
        names = ", ".join(one.job.name for one in again)
        _say(progress, f"the replica on {place} died ({how})" + (f": {names} is done again" if names else ""))
        back(again)
        for one in lost:
            place.deaths = 0
            what = f"{TRIES} replicas died while the job was with them, the last on {place} ({how})"
            yield Prediction(one.job.name, error=WorkerLost(f"{what}: look at that node's memory and logs"))
        if place.deaths < DEATHS and any(node.key == place.node.key for node in nodes(self._ray)):
            place.about = None
            place.actor, place.answer = self._started(place.node)
        else:
            self._give_up(place, WorkerLost(f"the node {place.node.name} is lost, or its replicas die"), back, progress)

    def _end_all(self) -> None:
        """Have replicas that are at work end, after what they write."""
        busy = [place for place in self._places if place.about is not None and place.answer is not None]
        with signals_later():
            for place in busy:
                place.actor.ask_to_end.remote()
        late = time.monotonic() + ENDING_SECONDS
        while time.monotonic() < late and any(place.answer is not None for place in busy):
            for place in (one for one in self._answered() if one in busy):
                try:
                    answer = self._ray.get(place.answer)
                except self._ray.exceptions.RayError:
                    place.answer = None
                    continue
                ended = any(isinstance(message, End) for message in answer)
                place.answer = None
                if not ended:
                    place.listen()


def _say(progress: Progress, message: str) -> None:
    progress(Event("queue", "cluster", message=message))


def _nowhere(some: Sequence[Handed]) -> None:
    """Where jobs go back before there are any."""


@contextlib.contextmanager
def _mark(out: Path) -> Iterator[Path]:
    """A file in the output folder by which other machines know that it is the same."""
    folder = out / HIDDEN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=folder, prefix="cluster-")
        os.close(number)
    except OSError as error:
        raise WriteError(f"{folder} cannot be written to: {error.strerror or error}") from error
    try:
        yield Path(name)
    finally:
        with contextlib.suppress(OSError):
            Path(name).unlink()
            folder.rmdir()
            out.rmdir()
