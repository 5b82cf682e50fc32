"""What is made of a job before its turn at the network: its JSON, its fingerprint, its features. Knows no network."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from foldline.errors import FoldlineError, InternalError, during
from foldline.execute import Children, Event, Progress

if TYPE_CHECKING:
    from foldline.features.featuriser import Featurised, Featuriser
    from foldline.inputs import Job


@dataclass
class Prepared:
    """A job with all that was made of it before the network."""

    job: "Job"
    name: str
    directory: Path | None
    data_json: str = ""
    fingerprint: str = ""
    finished: bool = False
    featurised: "Featurised | None" = None
    error: FoldlineError | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def without_features(self) -> "Prepared":
        """What is needed to wait for another process."""
        return replace(self, data_json="", featurised=None)


@dataclass(frozen=True)
class Preparer:
    """Prepares jobs, in any thread; features are made there, or in a child process where there are any."""

    featuriser: "Featuriser"
    fingerprint: Callable[[str], str]  # of a job's JSON: hash of all that decides the result
    out: Path | None
    overwrite: bool = False
    children: Children | None = None
    progress: Progress = lambda _event: None
    search: Callable[["Job", Progress], "Job"] | None = None  # gives a job the alignments that it lacks
    notes: Callable[["Job"], tuple[str, ...]] = lambda _job: ()  # what the checkpoint wants said of its answer

    def __call__(self, job: "Job") -> Prepared:
        """Everything of a job that needs no network. Errors are kept for the job's turn."""
        from foldline.inputs import slug, to_json
        from foldline.outputs.layout import is_finished

        start = time.perf_counter()
        name = slug(job.name)
        directory = None if self.out is None else self.out / name
        job = replace(job, notes=tuple(dict.fromkeys((*job.notes, *self.notes(job)))))  # it may have been here before
        prepared = Prepared(job, name, directory)
        try:
            if self.search is not None:
                with during("search"):
                    prepared.job = job = self.search(job, self.progress)
                prepared.seconds["search"] = round(time.perf_counter() - start, 4)
                start = time.perf_counter()
            with during("features"):
                prepared.data_json = to_json(job, inline=True)
                prepared.fingerprint = self.fingerprint(prepared.data_json)
                if directory is not None and not self.overwrite:
                    prepared.finished = is_finished(directory, name, prepared.fingerprint)
                if not prepared.finished:
                    self.progress(Event(job.name, "features"))
                    prepared.featurised = self._features(job)
        except FoldlineError as error:
            prepared.error = error
        except Exception as error:  # noqa: BLE001 - a fault of ours in one job is no reason to lose the others
            prepared.error = InternalError(error)
        prepared.seconds["features"] = round(time.perf_counter() - start, 4)
        return prepared

    def _features(self, job: "Job") -> "Featurised":
        from foldline.features.featuriser import featurise

        if self.children is None:
            return self.featuriser(job)
        return self.children.run(featurise, job, self.featuriser.cache_dir, self.featuriser.msa)
