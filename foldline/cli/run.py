"""The run of `foldline predict`: jobs through the engine, shown, listed and counted. Knows no options or networks."""

import time
from collections.abc import Callable, Iterator
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
    from foldline.inputs import Job
    from foldline.outputs.journal import Journal


@dataclass
class Run:
    """What is to be run and how; what came of it."""

    jobs: list["Job"]
    faults: list[InputError]  # inputs that could not be read
    out: Path
    settings: EngineConfig
    show: Display
    stop: SignalStop
    report: bool = False
    ray: str | None = None  # address of the cluster that runs them
    done: int = 0
    errors: list[FoldlineError] = field(default_factory=list)
    unreported: list[FoldlineError] = field(default_factory=list)
    stages: dict[str, str] = field(default_factory=dict)  # where each job is
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
        left = len(self.jobs) - self.done - len(self.errors)
        counts = {"done": self.done, "failed": len(self.errors), "not run": left, "not readable": len(self.faults)}
        return End(counts, time.monotonic() - self.start, self.stop.signal.name if self.stop.asked else None)


def run(work: Run) -> ExitCode:
    """Predict all jobs; the exit code of the command.

    Raises:
        FoldlineError: nothing can be run at all: no such checkpoint or device.
        Stopped: a signal came before the first job.
    """
    from foldline.outputs.journal import Journal

    lists = _Lists(work, Journal(work.out))
    stack = ExitStack()
    engine = stack.enter_context(_engine(work))
    predicted = engine.predict(work.jobs, out=work.out, progress=work.event, stop=work.stop)
    with suppress(Stopped), stack, closing(predicted) as predictions:
        for prediction in predictions:
            with work.stop.kept_whole():
                _take(work, lists, prediction)
            if prediction.error is not None and work.settings.on_error == "stop":
                break
    try:
        with work.stop.kept_whole():
            lists.close()
            work.show.ended(work.end)
    except Stopped:
        pass
    return work.stop.exit_code if work.stop.asked else exit_code(work.done, work.errors + work.unreported + work.faults)


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
            work.unreported += _report(name, prediction.directory, work.show)
        return
    error.__traceback__ = error.__cause__ = error.__context__ = None  # they hold the job's arrays
    text = to_json(next(job for job in work.jobs if job.name == name))
    lists.note(lambda journal: journal.failed(name, slug(name), error, stage=stage, job_json=text))


class _Lists:
    """The lists of the output folder, begun when something has been run: bad input alone leaves nothing behind."""

    def __init__(self, work: Run, journal: "Journal") -> None:
        self.work, self.journal = work, journal
        self._waiting: list[Callable[[Journal], None]] = [self._begin]
        self._told = False

    def note(self, write: "Callable[[Journal], None]") -> None:
        """Write to a list. Where that cannot be, it is said once, and the results themselves still count."""
        self._waiting.append(write)
        if not self.work.has_run:
            return
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            try:
                each(self.journal)
            except OSError as error:
                if not self._told:
                    reason = error.strerror or error
                    print_error(WriteError(f"the lists of results in {self.work.out} cannot be written: {reason}"))
                self._told = True

    def close(self) -> None:
        """Write what is only known at the end."""
        self.note(lambda journal: journal.close())

    def _begin(self, journal: "Journal") -> None:
        work = self.work
        journal.begin({job.source for job in work.jobs} | {fault.source for fault in work.faults})
        for fault in work.faults:
            journal.unreadable(fault)


def _report(name: str, directory: Path, show: Display) -> list[FoldlineError]:
    """Make a job's page; the error that this ended in, if any: the prediction itself is done."""
    from foldline.outputs.report.page import write_report

    try:
        path = write_report(directory)
    except FoldlineError as error:
        show.reported(name, None, error)
        return [error]
    show.reported(name, path)
    return []


def exit_code(done: int, errors: list[FoldlineError] | list[FoldlineError | InputError]) -> ExitCode:
    """0 all done, 1 some failed, 2 nothing but bad input (nothing was run), 3 none succeeded."""
    if not errors:
        return ExitCode.OK
    if done:
        return ExitCode.SOME_FAILED
    return ExitCode.BAD_INPUT if all(isinstance(error, InputError) for error in errors) else ExitCode.NONE_SUCCEEDED
