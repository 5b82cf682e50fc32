"""The run of `foldline predict`: jobs through the engine, shown, listed and counted. Knows no options or networks."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from foldline.cli.display import Display, End, print_error
from foldline.cli.signals import SignalStop
from foldline.config import EngineConfig
from foldline.errors import ExitCode, FoldlineError, InputError, Stopped, WriteError
from foldline.execute import Event

if TYPE_CHECKING:
    from foldline.cluster.replicas import Replicas
    from foldline.engine import Engine, Prediction
    from foldline.engine.carry import Carrier
    from foldline.inputs import Job
    from foldline.outputs.journal import Journal

LISTS_SECONDS = 30.0  # between two times that the lists of results are put into a store
LISTS_SHARE = 20  # times as long as that takes, at least


@dataclass
class Run:
    """What is to be run and how; what came of it."""

    jobs: list["Job"]
    faults: list[InputError]  # of inputs that are refused
    out: Path | str  # folder, or the URL of one in a store
    settings: EngineConfig
    show: Display
    stop: SignalStop
    report: bool = False
    ray: str | None = None  # address of the cluster that runs them
    done: int = 0
    errors: list[FoldlineError] = field(default_factory=list)
    unreported: list[FoldlineError] = field(default_factory=list)
    stages: dict[str, str] = field(default_factory=dict)  # where each job is
    pages: dict[str, Path | str | FoldlineError] = field(default_factory=dict)  # made of jobs before they are finished
    start: float = field(default_factory=time.monotonic)

    def event(self, event: Event) -> None:
        """Take a step of the engine; a run that was asked to end ends here."""
        self.stop.check()
        self.stages[event.job] = event.stage
        self.show.event(event)

    @property
    def has_run(self) -> bool:
        """Whether anything but bad input has come to its end."""
        return self.done > 0 or not all(isinstance(error, InputError) for error in self.errors)

    @property
    def end(self) -> End:
        """How it ended."""
        from foldline.inputs import count_refused

        left, refused = len(self.jobs) - self.done - len(self.errors), count_refused(self.faults)
        counts = {"done": self.done, "failed": len(self.errors), "not run": left, "refused": refused}
        return End(counts, time.monotonic() - self.start, self.stop.signal.name if self.stop.asked else None)


def run(work: Run) -> ExitCode:
    """Predict all jobs; the exit code of the command.

    Raises:
        FoldlineError: nothing can be run at all: no such checkpoint or device.
        Stopped: a signal came before the first job.
    """
    from foldline.outputs.journal import Journal

    with ExitStack() as whole:
        if isinstance(work.out, Path):
            carrier, folder = None, work.out
        else:
            carrier = whole.enter_context(_carrier(work, work.out))
            folder = carrier.store.folder
        lists = _Lists(work, Journal(folder), carrier)
        stack = ExitStack()
        engine = stack.enter_context(_engine(work))
        progress = work.event if carrier is None else carrier.progress
        made = engine.predict(work.jobs, out=folder, progress=progress, stop=work.stop)
        predictions = made if carrier is None else carrier.carried(made)
        with suppress(Stopped), stack, closing(made):
            for prediction in predictions:
                with work.stop.kept_whole():
                    _take(work, lists, prediction)
                if prediction.error is not None and work.settings.on_error == "stop":
                    break
        try:
            with work.stop.kept_whole():
                for prediction in () if carrier is None else carrier.rest():
                    _take(work, lists, prediction)
                lists.close()
                work.show.ended(work.end)
        except Stopped:
            pass
    return work.stop.exit_code if work.stop.asked else exit_code(work.done, work.errors + work.unreported + work.faults)


@contextmanager
def _carrier(work: Run, url: str) -> "Iterator[Carrier]":
    """What carries results into a store, which has been asked for the jobs that are done there.

    Raises:
        InputError: the store cannot be used.
    """
    from foldline.engine.carry import into_store

    def make_page(prediction: "Prediction") -> None:
        if work.report and prediction.directory is not None:
            name, is_made = prediction.directory.name, not prediction.skipped
            where = carrier.store.url_if_away(name, prediction.fingerprint, is_made=is_made)
            work.pages[prediction.job_name] = _page(where or prediction.directory)

    with ExitStack() as stack:
        try:
            carrier = stack.enter_context(into_store(url, work.settings.work_root, work.event, make_page))
            carrier.bring(work.jobs)
        except WriteError as error:
            raise InputError(str(error), path="--out") from error
        yield carrier


@contextmanager
def _engine(work: Run) -> "Iterator[Engine | Replicas]":
    """What predicts: an engine here, or those of a cluster. A checkpoint known by name is fetched if it is missing."""
    from foldline.engine import Engine
    from foldline.weights.registry import known

    settings, show = work.settings, work.show
    if known(settings.model):
        from foldline.weights.download import fetch
        from foldline.weights.registry import lookup

        entry = lookup(settings.model)
        fetch(entry, settings.cache_root, progress=lambda done, total: show.fetched(entry.name, done, total))
    if work.ray is None:
        yield Engine(settings.model, config=settings)
        return
    from foldline.cluster.replicas import Replicas
    from foldline.cluster.session import session

    with session(work.ray) as cluster, Replicas(cluster, settings) as replicas:
        yield replicas


def _take(work: Run, lists: "_Lists", prediction: "Prediction") -> None:
    """Show and list one job's end, and make its page."""
    from foldline.inputs import slug, to_json

    name, error = prediction.job_name, prediction.error
    stage = work.stages.pop(name, "features")
    if error is None:
        work.done += 1
    else:
        error.stage = error.stage or stage
        work.errors.append(error)
    work.show.finished(prediction, work.done + len(work.errors), len(work.jobs))
    if error is None:
        lists.note(lambda journal: journal.finished(name, slug(name)))
        if work.report and prediction.directory is not None:
            work.pages[name] = _page(prediction.directory)
        if name in work.pages:
            _show_page(work, name, work.pages.pop(name), prediction.url)
        return
    error.__traceback__ = error.__cause__ = error.__context__ = None  # they hold the job's arrays
    text = to_json(next(job for job in work.jobs if job.name == name))
    lists.note(lambda journal: journal.failed(name, slug(name), error, stage=stage, job_json=text))


class _Lists:
    """The lists of the output folder, begun when something has been run: bad input alone leaves nothing behind.

    Those of a store are written now and then, beside the run.
    """

    def __init__(self, work: Run, journal: "Journal", carrier: "Carrier | None") -> None:
        self.work, self.journal, self.carrier = work, journal, carrier
        self._waiting: list[Callable[[Journal], None]] = [self._begin]
        self._kept: list[Callable[[Journal], None]] = []  # what a store has not taken
        self._told = False
        self._next = 0.0

    def note(self, write: "Callable[[Journal], None]") -> None:
        """Write to a list. Where that cannot be, it is said once, and the results themselves still count."""
        self._waiting.append(write)
        if self.work.has_run and (self.carrier is None or time.monotonic() >= self._next):
            self._write()

    def close(self) -> None:
        """Write what is only known at the end."""
        self._waiting.append(lambda journal: journal.close())
        if self.work.has_run:
            self._write().result()

    def _write(self) -> Future[None]:
        waiting, self._waiting = self._waiting, []
        if self.carrier is not None:
            self._next = time.monotonic() + LISTS_SECONDS
            return self.carrier.submit(lambda: self._write_in_store(waiting))
        for each in waiting:
            try:
                each(self.journal)
            except OSError as error:
                self._tell(error)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _write_in_store(self, waiting: "list[Callable[[Journal], None]]") -> None:
        assert self.carrier is not None
        self._kept += waiting
        start = time.monotonic()
        try:
            with self.carrier.store.lists():
                for each in self._kept:
                    each(self.journal)
            self._kept = []
        except OSError as error:
            self._tell(error)
        now = time.monotonic()
        self._next = now + max(LISTS_SECONDS, LISTS_SHARE * (now - start))

    def _tell(self, error: OSError) -> None:
        if not self._told:
            reason = error.strerror or error
            print_error(WriteError(f"the lists of results in {self.work.out} cannot be written: {reason}"))
        self._told = True

    def _begin(self, journal: "Journal") -> None:
        work = self.work
        journal.begin({job.source for job in work.jobs} | {fault.source for fault in work.faults})
        for fault in work.faults:
            journal.unreadable(fault)


def _page(place: Path | str) -> Path | str | FoldlineError:
    """Make the page of a job's result in a folder or at a URL; where it is, or the error that this ended in."""
    from foldline.outputs.report.in_store import made_in_store
    from foldline.outputs.report.page import write_report

    try:
        if isinstance(place, Path):
            return write_report(place)
        return made_in_store(place, lambda folder: [write_report(folder)])[0]
    except FoldlineError as error:
        return error


def _show_page(work: Run, name: str, page: Path | str | FoldlineError, url: str) -> None:
    """Tell where a job's page is, or why there is none: the prediction itself is done."""
    if isinstance(page, FoldlineError):
        work.unreported.append(page)
        work.show.reported(name, None, page)
    else:
        work.show.reported(name, f"{url}/{page.name}" if url and isinstance(page, Path) else page)


def exit_code(done: int, errors: list[FoldlineError] | list[FoldlineError | InputError]) -> ExitCode:
    """0 all done, 1 some failed, 2 nothing but bad input (nothing was run), 3 none succeeded."""
    if not errors:
        return ExitCode.OK
    if done:
        return ExitCode.SOME_FAILED
    return ExitCode.BAD_INPUT if all(isinstance(error, InputError) for error in errors) else ExitCode.NONE_SUCCEEDED
