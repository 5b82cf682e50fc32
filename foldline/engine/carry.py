"""Predictions of a run whose results go into a store: a thread carries each job there while the network goes on.

Stands between an engine and whoever takes its predictions. What cannot be carried is tried once more at the end of the
run, and stays in the working folder if that fails too. Knows no networks and no stores.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from foldline.engine.job_run import Prediction
from foldline.errors import Stopped, WriteError
from foldline.execute import Event, Progress, ignore
from foldline.remote import RemoteError, check_place

if TYPE_CHECKING:
    from foldline.inputs import Job
    from foldline.outputs.stored import StoredResults

REST_SECONDS = 60.0  # after a failure in which nothing is tried


@contextmanager
def into_store(
    url: str,
    work_root: Path,
    progress: Progress = ignore,
    finished: Callable[[Prediction], None] = lambda _prediction: None,
) -> "Iterator[Carrier]":
    """What carries the results of a run to a URL; `work_root` is the folder of working folders. See `Carrier`.

    Raises:
        WriteError: nothing can be written there, or no working folder be made.
    """
    from foldline.outputs.stored import StoredResults

    with ExitStack() as stack:
        try:
            check_place(url)
            store = stack.enter_context(StoredResults(url, work_root))
        except RemoteError as error:
            raise WriteError(str(error)) from error
        except OSError as error:
            what = f"results cannot be made in {work_root} ({error.strerror or error})"
            raise WriteError(f"{what}: free space there, or choose another folder with work_dir") from error
        yield stack.enter_context(Carrier(store, progress=progress, finished=finished))


@dataclass
class _Going:
    """A job on its way: its prediction as the engine gave it, and as it is when the files are in the store."""

    made: Prediction
    carried: Future[Prediction | None]  # None: it could not be carried


class Carrier:
    """Carries the jobs of one run. A context manager: leaving it waits for what is under way."""

    def __init__(
        self,
        store: "StoredResults",
        *,
        progress: Progress = ignore,
        finished: Callable[[Prediction], None] = lambda _prediction: None,
    ) -> None:
        """`finished` is called with each prediction when its files are in the working folder, before they go."""
        self.store, self.finished, self._listener = store, finished, progress
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="foldline-carrier")
        self._going: deque[_Going] = deque()
        self._again: list[Prediction] = []
        self._failed_at, self._reason = -REST_SECONDS, ""

    def __enter__(self) -> Self:
        """Start the thread: one in whose start a signal ends the run later would be waited for by nobody."""
        self._thread.submit(int).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)

    def bring(self, jobs: "Iterable[Job]") -> "Iterable[Job]":
        """The jobs, after it is known what of them lies in the store: of a list at once, else one by one.

        Raises:
            WriteError: the store cannot be asked.
        """
        from foldline.inputs import slug

        def bring(some: "Sequence[Job]") -> None:
            names = {slug(job.name): job.name for job in some}
            try:
                faults = self.store.bring(names)
            except OSError as error:
                raise WriteError(str(error)) from error
            for name, fault in faults.items():
                what = f"its result in the store is damaged ({fault}): the job is predicted again"
                self._listener(Event(names[name], "plan", message=what))

        def one_by_one() -> "Iterator[Job]":
            for job in jobs:
                bring([job])
                yield job

        if not isinstance(jobs, Sequence):
            return one_by_one()
        bring(jobs)
        return jobs

    def progress(self, event: Event) -> None:
        """Tell the listener of an event; when a seed's samples are made, they are carried."""
        self._listener(event)
        if event.stage == "write" and not event.message:
            with suppress(RuntimeError):  # it is the end
                self._thread.submit(self._carry_samples, event.job)

    def submit(self, call: Callable[[], None]) -> Future[None]:
        """Have something else done in the thread that talks to the store, after what is under way."""
        return self._thread.submit(call)

    def carried(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Predictions in their order, each when its files are in the store; those of which that failed come last."""
        for prediction in predictions:
            self.take(prediction)
            while self._going and self._going[0].carried.done():
                yield from self._next()
        yield from self.rest()

    def take(self, prediction: Prediction) -> None:
        """Have the files of a prediction carried."""
        if prediction.error is None:
            self.finished(prediction)
        call = self._carry if prediction.error is None else self._carry_failed
        self._going.append(_Going(prediction, self._thread.submit(call, prediction)))

    def rest(self) -> Iterator[Prediction]:
        """What is still under way, as it ends; then what could not be carried is tried once more."""
        while self._going:
            yield from self._next()
        self._failed_at = -REST_SECONDS
        while self._again:
            prediction = self._again[0]
            done = self._thread.submit(self._carry, prediction, last=True).result()
            self._again.pop(0)
            assert done is not None
            yield done

    def _next(self) -> Iterator[Prediction]:
        done = self._going[0].carried.result()
        made = self._going.popleft().made
        if done is None:
            self._again.append(made)
        else:
            yield done

    def _carry(self, prediction: Prediction, *, last: bool = False) -> Prediction | None:
        """The prediction with its new place; None, or one with an error, where it cannot be carried."""
        from foldline.inputs import slug

        name = slug(prediction.job_name)
        url = self.store.url_of(name)
        if time.monotonic() - self._failed_at >= REST_SECONDS:
            try:
                self.store.carry(name, prediction.fingerprint, is_made=not prediction.skipped)
                return replace(prediction, directory=None, url=url)
            except OSError as error:
                self._failed_at, self._reason = time.monotonic(), str(error)
        if not last:
            with suppress(Stopped):  # which is for the main thread
                again = f"{self._reason}; it is tried again at the end of the run"
                self._listener(Event(prediction.job_name, "write", message=again))
            return None
        what = f"the result is kept in {self.store.folder / name} and is not in the store ({self._reason})"
        fault = WriteError(f"{what}; the same command puts it there without predicting it again")
        return Prediction(prediction.job_name, error=fault)

    def _carry_failed(self, prediction: Prediction) -> Prediction:
        """What is there of a job that failed is carried: another machine may go on with it."""
        self._carry_samples(prediction.job_name)
        return prediction

    def _carry_samples(self, job: str) -> None:
        """Carry what is there of a job that is at work; where that fails, the job's end will tell."""
        from foldline.inputs import slug

        if time.monotonic() - self._failed_at >= REST_SECONDS:
            try:
                self.store.carry_samples(slug(job))
            except RemoteError as error:
                self._failed_at, self._reason = time.monotonic(), str(error)
            except OSError:  # a file that went meanwhile
                return
