"""An engine in a worker of the cluster: it is given jobs and asked what has happened. Knows neither Ray nor the driver.

Its methods are called from several threads: one predicts, others ask.
"""

import os
import platform
import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldline.config import EngineConfig
from foldline.errors import FoldlineError, InternalError, Stopped, WeightsError, WriteError
from foldline.execute import Event, StopRequest
from foldline.inputs.job import Job

if TYPE_CHECKING:
    from foldline.engine import Engine, Prediction

MOST_MESSAGES = 1000  # of an answer
SEEN_SECONDS = 40.0  # within which a network's file system shows a new file


@dataclass(frozen=True)
class About:
    """Where a replica is."""

    node: str
    process: int
    device: str
    family: str  # of the checkpoint
    templates: bool  # whether its network reads them


@dataclass(frozen=True)
class Unfit:
    """A replica cannot work at all, and why."""

    error: FoldlineError


class End:
    """All jobs that were handed over have ended, or it was asked to end."""


class Replica:
    """One engine. Nothing is done before `start`."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Event | Prediction | Unfit | End] = queue.SimpleQueue()
        self._stop = StopRequest()
        self._engine: Engine | None = None  # the network's libraries are loaded with it

    def start(self, settings: EngineConfig) -> About:
        """Make the engine.

        Raises:
            FoldlineError: a checkpoint or device that is not there; it names the machine.
        """
        from foldline.engine import Engine

        try:
            self._engine = Engine(config=settings)
        except WeightsError as error:
            raise WeightsError(f"on {platform.node()}: {error}") from None
        spec = self._engine.spec
        return About(platform.node(), os.getpid(), str(self._engine.device), spec.family, spec.n_template > 0)

    def predict(self, jobs: list[Job], out: Path, mark: Path) -> None:
        """Begin to predict jobs; `mark` is a file in the output folder that must be seen here."""
        threading.Thread(target=self._predict, args=(jobs, out, mark), name="foldline-replica").start()

    def take(self, seconds: float) -> "list[Event | Prediction | Unfit | End]":
        """What has happened since it was last asked; waits so long for something to happen."""
        found: list[Any] = []
        try:
            found.append(self._messages.get(timeout=seconds))
            while len(found) < MOST_MESSAGES:
                found.append(self._messages.get_nowait())
        except queue.Empty:
            pass
        return found

    def ask_to_end(self) -> None:
        """End after the write that is under way."""
        self._stop.ask()

    def _predict(self, jobs: list[Job], out: Path, mark: Path) -> None:
        assert self._engine is not None
        self._stop = StopRequest()
        try:
            if not _is_seen(mark):
                error = WriteError(f"{platform.node()} does not see the output folder {out} of the driver: share it")
                self._messages.put(Unfit(error))
                return
            for prediction in self._engine.predict(jobs, out=out, progress=self._event, stop=self._stop):
                self._messages.put(prediction)
        except Stopped:
            pass
        except FoldlineError as error:
            self._messages.put(Unfit(error))
        except Exception as error:  # noqa: BLE001  (told to the driver, who ends the run or goes on with others)
            self._messages.put(Unfit(InternalError(error)))
        finally:
            self._messages.put(End())

    def _event(self, event: Event) -> None:
        self._stop.check()
        if event.job != "queue":
            self._messages.put(event)


def _is_seen(mark: Path) -> bool:
    """Whether a file shows up here."""
    late = time.monotonic() + SEEN_SECONDS
    while not mark.is_file():
        if time.monotonic() > late:
            return False
        time.sleep(1)
    return True
