"""One job from the network to its files: samples are scored and written in a thread beside the network, as they come.

An error that this ends in is the job's own. Knows no queue and no other jobs.
"""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from foldline.engine.ladder import Rung, out_of_memory
from foldline.engine.plan import Plan
from foldline.engine.prepare import Prepared
from foldline.engine.runner import MadeSample
from foldline.errors import FoldlineError, InternalError, WriteError
from foldline.tensors import EmbeddingRows, Features, Samples

if TYPE_CHECKING:
    from foldline.features.build import FeatureSet
    from foldline.outputs.layout import SampleWriter


@dataclass(frozen=True)
class Prediction:
    """The result of one job, or the error that it ended in."""

    job_name: str
    directory: Path | None = None
    error: FoldlineError | None = None
    skipped: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    n_token: int = 0
    n_atom: int = 0
    plan: Plan | None = None
    warnings: tuple[str, ...] = ()
    ranking_score: float | None = None
    samples: tuple[Samples, ...] = ()
    fingerprint: str = ""  # hash of all that decides the result
    url: str = ""  # where the files are, if that is in a store

    @property
    def place(self) -> str | None:
        """Where the files are, in words; None: nowhere."""
        return self.url or (None if self.directory is None else str(self.directory))


class JobRun:
    """A job at the network and after it. What says so may be called by the writing thread, one call at a time."""

    def __init__(self, prepared: Prepared, writer: "SampleWriter | None", n_sample: int, *, embeddings: bool) -> None:
        """`writer`: None keeps the samples. `n_sample` and `embeddings` are what every seed gives."""
        self.prepared, self.writer, self.n_sample, self.embeddings = prepared, writer, n_sample, embeddings
        self.error: FoldlineError | None = None
        self.plan: Plan | None = None
        self.rungs: list[Rung] = []
        self.seconds: dict[int, dict[str, float]] = {}  # of the network, by seed
        self.samples: dict[tuple[int, int], Samples] = {}
        self.handed: dict[int, int] = {}  # samples that the network has handed over, by seed
        self.waits: list[float] = []  # seconds that the network has waited for the writing thread
        self._write_seconds = 0.0
        self._start = time.perf_counter()

    @property
    def name(self) -> str:
        """The job's own name."""
        return self.prepared.job.name

    @property
    def made(self) -> "FeatureSet":
        """Features and what belongs to them."""
        assert self.prepared.featurised is not None
        return self.prepared.featurised.made

    @property
    def features(self) -> Features:
        """The job's features, without padding, for all its seeds."""
        return self.made.features

    @property
    def missing_seeds(self) -> list[int]:
        """Seeds that are neither on disk nor through the network."""
        writer, seeds = self.writer, self.prepared.job.seeds
        if writer is not None:
            seeds = [s for s in seeds if not writer.has_seed(s, self.n_sample, embeddings=self.embeddings)]
        return [seed for seed in seeds if seed not in self.seconds]

    @property
    def notes(self) -> tuple[str, ...]:
        """Everything to warn of."""
        return (*self.prepared.job.notes, *self.made.notes, *map(str, self.rungs))

    def begins(self) -> None:
        """It is the job's turn: what it waited for room beside others is no time of its own."""
        self._start = time.perf_counter()

    def fail(self, error: BaseException, stage: str = "") -> None:
        """End the job in an error, the first one there is; `stage` is where, unless the error knows it itself."""
        if self.error is None:
            self.error = as_job_error(error, self.prepared.directory)
            self.error.stage = self.error.stage or stage

    def take_sample(self, seed: int, make: MadeSample) -> None:
        """Finish a sample's scores, and write or keep it. In the writing thread."""
        if self.error is not None:
            return
        start, stage = time.perf_counter(), "confidence"
        try:
            samples = replace(make(), seed=seed)
            stage = "write"
            if self.writer is not None:
                self.writer.write(samples)
            else:
                samples.require_finite(0)
                self.samples[seed, samples.first] = samples
        except Exception as error:  # noqa: BLE001 - it ends this job, not the others
            self.fail(error, stage)
        self._write_seconds += time.perf_counter() - start

    def take_embeddings(self, seed: int, embeddings: EmbeddingRows) -> None:
        """Write embeddings, which are read from where they rest. In the writing thread, while the network waits.

        Raises:
            RuntimeError: memory ran out, which the network has to know.
        """
        if self.error is not None or self.writer is None:
            return
        start = time.perf_counter()
        try:
            self.writer.write_embeddings(seed, embeddings)
        except Exception as error:
            if out_of_memory(error):
                raise
            self.fail(error, "write")
        self._write_seconds += time.perf_counter() - start

    def took(self, seed: int, seconds: dict[str, float], n_lane: int) -> None:
        """A seed is through the network, one of `n_lane` at the same time that took `seconds`: its share of them."""
        self.seconds[seed] = {stage: round(spent / n_lane, 4) for stage, spent in seconds.items()}

    def end(self, record: dict[str, object], peak_bytes: int) -> Prediction:
        """Write what is written last, and tell how the job ended. In the writing thread, after all samples."""
        start = time.perf_counter()
        best = max((c.ranking_score for s in self.samples.values() for c in s.confidences), default=None)
        if self.error is None and self.writer is not None:
            try:
                record = record | self._measured()
                text = () if self.prepared.data_json is None else self.prepared.data_json.pieces()
                best = self.writer.finish(text, record, self.prepared.job.seeds).ranking_score
            except Exception as error:  # noqa: BLE001 - it ends this job, not the others
                self.fail(error, "write")
        if self.error is not None:
            return Prediction(self.name, error=self.error)
        self._write_seconds += time.perf_counter() - start
        return Prediction(
            self.name,
            self.prepared.directory,
            seconds=self._seconds(),
            peak_bytes=peak_bytes,
            n_token=self.features.n_token,
            n_atom=self.features.n_atom,
            plan=self.plan,
            warnings=self.notes,
            ranking_score=best,
            samples=self._joined(),
            fingerprint=self.prepared.fingerprint,
        )

    def _seconds(self) -> dict[str, float]:
        """Seconds by stage; `total` is from the job's turn at the network to now, with its features."""
        found = dict(self.prepared.seconds)
        for of_seed in self.seconds.values():
            for stage, spent in of_seed.items():
                found[stage] = found.get(stage, 0.0) + spent
        found["write"] = self._write_seconds
        found["total"] = time.perf_counter() - self._start + self.prepared.seconds["features"]
        return {stage: round(spent, 4) for stage, spent in found.items()}

    def _measured(self) -> dict[str, object]:
        """What the record says of the job's own run."""
        return {
            "seconds": self._seconds(),
            "seconds_per_seed": [{"seed": seed} | spent for seed, spent in self.seconds.items()],
            "out_of_memory": [rung.record() for rung in self.rungs],
            "warnings": list(self.notes),
        }

    def _joined(self) -> tuple[Samples, ...]:
        """The samples that are kept, by seed in the job's order."""
        seeds = [seed for seed in self.prepared.job.seeds if (seed, 0) in self.samples]
        return tuple(Samples.join([part for (s, _), part in self.samples.items() if s == seed]) for seed in seeds)


def as_job_error(error: BaseException, directory: Path | None = None) -> FoldlineError:
    """Any error as one that a job may end in, without the frames that it came through: they hold the job's tensors.

    `directory` is where the job's files are, which a full disk does not tell.
    """
    if isinstance(error, FoldlineError):
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return error
    if isinstance(error, OSError):
        named = error.filename2 or error.filename
        place = directory if named is None or str(named).endswith(".tmp") else named
        where = "" if place is None or error.strerror is None else f" ({place})"
        return WriteError(f"the result cannot be written: {error.strerror or error}{where}")
    return InternalError(error)
