"""How a run looks: bars on a terminal, plain lines elsewhere, JSON lines for programs. Knows events and predictions.

People's lines go to stderr, JSON lines to stdout. Events may come from several threads.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import TimeElapsedColumn as Elapsed

from foldline.cli.summary import Row, job_line, table, totals
from foldline.errors import FoldlineError, InputError
from foldline.execute import Event

if TYPE_CHECKING:
    from foldline.engine import Prediction

WORDS = ("auto", "plain", "json", "none")
SAY_AFTER = 20.0  # seconds in which a job may be silent


def print_error(error: FoldlineError, place: str = "") -> None:
    """One line on stderr per fault."""
    for each in getattr(error, "errors", (error,)):
        print(f"error: {place}{each}", file=sys.stderr)


def print_note(note: str) -> None:
    """What is to be said of the inputs as a whole, as one line on stderr."""
    print(f"note: {note}", file=sys.stderr)


@dataclass(frozen=True)
class End:
    """How a run ended: jobs by what became of them, seconds, and the signal that stopped it."""

    counts: Mapping[str, int]  # done, failed, not run, refused
    seconds: float
    stopped_by: str | None = None


class Display(Protocol):
    """What a run shows."""

    def unreadable(self, fault: InputError) -> None:
        """An input that cannot be read; the others are run."""
        ...

    def event(self, event: Event) -> None:
        """A step of the run."""
        ...

    def fetched(self, name: str, done: int, total: int | None) -> None:
        """Bytes of a checkpoint that have come."""
        ...

    def finished(self, prediction: "Prediction", number: int, count: int) -> None:
        """A job's end, the `number`th of `count`."""
        ...

    def reported(self, job: str, path: Path | str | None, error: FoldlineError | None = None) -> None:
        """A finished job's page, or why there is none."""
        ...

    def ended(self, end: "End") -> None:
        """The run's end."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def display(word: str) -> Display:
    """The display that `--progress` names.

    Raises:
        InputError: unknown word.
    """
    if word == "auto":
        return Bars() if sys.stderr.isatty() else Plain()
    if word not in WORDS:
        raise InputError(f"'{word}' is not possible here: give {', '.join(WORDS[:-1])} or none", path="--progress")
    return {"plain": Plain, "json": Json, "none": Errors}[word]()


class Errors:
    """Shows failed jobs and nothing else."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def line(self, text: str) -> None:
        """Print a line for people."""
        print(text, file=sys.stderr, flush=True)

    def unreadable(self, fault: InputError) -> None:
        """See `Display`."""
        print_error(fault)

    def event(self, event: Event) -> None:
        """See `Display`."""

    def fetched(self, name: str, done: int, total: int | None) -> None:
        """See `Display`."""

    def finished(self, prediction: "Prediction", number: int, count: int) -> None:
        """See `Display`."""
        if prediction.error is not None:
            self.line(f"error: job {prediction.job_name}: {prediction.error}")

    def reported(self, job: str, path: Path | str | None, error: FoldlineError | None = None) -> None:
        """See `Display`."""
        if error is not None:
            self.line(f"error: job {job}: it is done, but its report is not: {error}")

    def ended(self, end: "End") -> None:
        """Say what stopped the run, if anything did."""
        if end.stopped_by:
            self.line(
                f"stopped by {end.stopped_by} with {end.counts['done']} jobs done; the same command goes on from here"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Plain(Errors):
    """A line per job, its remarks, and how far it is when nothing was said of it for a while."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}  # when, of jobs at work
        self._rows: list[Row] = []
        self._tenth: dict[str, int] = {}

    def event(self, event: Event) -> None:
        """Print remarks, and the stage and step of a job that was silent for some time."""
        with self.lock:
            now = time.monotonic()
            if event.message:
                self.line(f"{event.job}: {event.stage}: {event.message}")
            elif now < self._said.setdefault(event.job, now) + SAY_AFTER:
                return
            else:
                seed = "" if event.seed is None else f", seed {event.seed}"
                step = f", {event.step} of {event.total}" if event.total else ""
                self.line(f"{event.job}: {event.stage}{seed}{step}")
            self._said[event.job] = now

    def fetched(self, name: str, done: int, total: int | None) -> None:
        """A line per tenth of a download."""
        tenth = 10 * done // total if total else done // 10**8
        with self.lock:
            if self._tenth.get(name) != tenth:
                self._tenth[name] = tenth
                self.line(f"fetching {name}: {done / 1e6:.0f} MB" + (f" of {total / 1e6:.0f}" if total else ""))

    def finished(self, prediction: "Prediction", number: int, count: int) -> None:
        """The job in one line, and a line per warning."""
        with self.lock:
            self._rows.append(Row.of(prediction))
            self._said.pop(prediction.job_name, None)
            for warning in prediction.warnings:
                self.line(f"note: {prediction.job_name}: {warning}")
            if prediction.error is not None:
                super().finished(prediction, number, count)
            else:
                self.line(f"[{number}/{count}] {job_line(prediction)}")

    def reported(self, job: str, path: Path | str | None, error: FoldlineError | None = None) -> None:
        """The page's path in one line."""
        with self.lock:
            if path is not None:
                self.line(f"{job}: report -> {path}")
            super().reported(job, path, error)

    def ended(self, end: "End") -> None:
        """A table of all jobs, where there are several, and the counts in one line."""
        with self.lock:
            for line in table(self._rows) if len(self._rows) > 1 else ():
                self.line(line)
            self.line(totals(end.counts, self._rows, end.seconds))
            super().ended(end)


class Bars(Plain):
    """A bar per job at work, or per seed of it that runs beside others, with the lines of finished jobs above."""

    def __init__(self) -> None:
        super().__init__()
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[steps]}"))
        self._bars = Progress(*columns, Elapsed(), console=console, transient=True)
        self._transfer = Progress(
            *columns[:2], DownloadColumn(), TimeRemainingColumn(), console=console, transient=True
        )
        self._tasks: dict[tuple[str, int | None], TaskID] = {}  # by job and seed
        self._free: set[tuple[str, int | None]] = set()  # those that the next seed of the job takes over
        self._transfers: dict[str, TaskID] = {}

    def line(self, text: str) -> None:
        """Print above the bars."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def event(self, event: Event) -> None:
        """Move the bar of the job's seed."""
        with self.lock:
            if event.message:
                self.line(f"{event.job}: {event.message}")
                return
            task = self._task(event.job, event.seed)
            if event.stage == "write" or event.seed is None:
                self._free.add((event.job, event.seed))
            steps = f"{event.step}/{event.total}" if event.total else ""
            seed = "" if event.seed is None else f" (seed {event.seed})"
            self._bars.update(
                task,
                description=f"{event.job}{seed} {event.stage}",
                completed=event.step,
                total=event.total or None,
                steps=steps,
            )

    def _task(self, job: str, seed: int | None) -> TaskID:
        """The bar of a seed: its own, one that its job has free, or a new one."""
        if (job, seed) not in self._tasks:
            free = next((one for one in self._free if one[0] == job), None)
            if free is None:
                self._tasks[job, seed] = self._bars.add_task(job, total=None, steps="")
            else:
                self._free.remove(free)
                self._tasks[job, seed] = self._tasks.pop(free)
        return self._tasks[job, seed]

    def fetched(self, name: str, done: int, total: int | None) -> None:
        """Move the download's bar."""
        if name not in self._transfers:
            self._bars.stop()
            self._transfer.start()
            self._transfers[name] = self._transfer.add_task(f"fetching {name}", total=total)
        self._transfer.update(self._transfers[name], completed=done, total=total)
        if done == total:
            self._transfer.stop()
            self._bars.start()

    def finished(self, prediction: "Prediction", number: int, count: int) -> None:
        """Take the job's bars away and print its line."""
        with self.lock:
            for one in [one for one in self._tasks if one[0] == prediction.job_name]:
                self._bars.remove_task(self._tasks.pop(one))
                self._free.discard(one)
        self._bars.refresh()
        super().finished(prediction, number, count)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transfer.stop()
        self._bars.stop()


class Json(Errors):
    """One JSON object a line on stdout: `unreadable`, `progress`, `fetch`, `job`, `report` and `end`."""

    def _write(self, kind: str, **content: object) -> None:
        with self.lock:
            print(json.dumps({"event": kind, **content}, allow_nan=False), flush=True)

    def unreadable(self, fault: InputError) -> None:
        """The fault, which stands on stderr too: where nothing else can be read, that is all there is."""
        super().unreadable(fault)
        self._write("unreadable", **_fault(fault) | {"stage": "read"}, source=fault.source or None)

    def event(self, event: Event) -> None:
        """The event's fields."""
        self._write("progress", **asdict(event))

    def fetched(self, name: str, done: int, total: int | None) -> None:
        """Bytes of the download."""
        self._write("fetch", name=name, bytes=done, total=total)

    def finished(self, prediction: "Prediction", number: int, count: int) -> None:
        """The prediction without its arrays; of a skipped job, what its record says."""
        error, known = prediction.error, _as_predicted(prediction)
        self._write(
            "job",
            number=number,
            count=count,
            job=prediction.job_name,
            directory=prediction.place,
            skipped=prediction.skipped,
            error=None if error is None else _fault(error),
            **known,
            warnings=list(prediction.warnings),
        )

    def reported(self, job: str, path: Path | str | None, error: FoldlineError | None = None) -> None:
        """The page's path, or why there is none."""
        told = None if error is None else _fault(error)
        self._write("report", job=job, path=None if path is None else str(path), error=told)

    def ended(self, end: "End") -> None:
        """The counts by word, seconds, and the signal that stopped the run."""
        self._write("end", **end.counts, seconds=round(end.seconds, 3), stopped_by=end.stopped_by)


def _fault(error: FoldlineError) -> dict[str, str | None]:
    """An error as plain values; `path` is the JSON path or option at fault where it is known."""
    path = getattr(error, "path", "") or None
    return {"code": error.code, "stage": error.stage, "message": str(error), "path": path}


def _as_predicted(prediction: "Prediction") -> dict[str, object]:
    """Score, sizes, plan and costs of a job, which the record tells where it was predicted by an earlier run."""
    plan = prediction.plan
    known: dict[str, object] = {
        "ranking_score": prediction.ranking_score,
        "n_token": prediction.n_token,
        "n_atom": prediction.n_atom,
        "plan": None if plan is None else plan.record(),
        "seconds": prediction.seconds,
        "peak_bytes": prediction.peak_bytes,
    }
    if not prediction.skipped or prediction.directory is None:
        return known
    from foldline.outputs.layout import record_of

    record = record_of(prediction.directory, prediction.directory.name)
    score = (record.get("best") or {}).get("ranking_score")
    return known | {key: record[key] for key in known if key in record} | {"ranking_score": score}
