"""What is made of a job before its turn at the network: its JSON, its fingerprint, its features. Knows no network."""

import hashlib
import re
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from foldline.errors import FoldlineError, InternalError, WriteError, during
from foldline.execute import Children, Event, Progress

if TYPE_CHECKING:
    from foldline.features.featuriser import Featurised, Featuriser
    from foldline.inputs import Job

_IN_MEMORY = 1 << 25  # bytes of a job's JSON; more goes to a file
_PIECE = 1 << 20
_SEEDS = re.compile(r'"modelSeeds": \[[\d,\s]*\]')  # no text inside of JSON has a bare quotation mark


class JobText:
    """A job's JSON as it was when its features were made: in memory while it is small, else in a file without a name.

    A deep alignment's file may be changed or removed while the network runs; what is recorded is what was read.
    """

    def __init__(self, job: "Job", folder: Path | None) -> None:
        """Read all texts of the job. `folder` takes the file, and None keeps the digest alone.

        Raises:
            InputError: a file that the job names cannot be read.
            WriteError: no room for the file.
        """
        from foldline.inputs import json_pieces

        digest, seedless = hashlib.sha256(), hashlib.sha256()
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=folder and str(folder))  # noqa: SIM115 - see below
        weakref.finalize(self, self._file.close)
        for piece in json_pieces(job, inline=True):
            digest.update(piece.encode())
            seedless.update(_SEEDS.sub("", piece).encode())
            if folder is not None:
                self._put_aside(piece.encode(), folder)
        self.digest, self.seedless = digest.hexdigest(), seedless.hexdigest()

    def _put_aside(self, piece: bytes, folder: Path) -> None:
        try:
            if self._file.tell() + len(piece) > _IN_MEMORY:
                folder.mkdir(parents=True, exist_ok=True)
            self._file.write(piece)
        except OSError as error:
            what = f"the job's alignments cannot be put aside in {folder} ({error.strerror or error})"
            raise WriteError(f"{what}: free space there") from error

    def pieces(self) -> Iterator[bytes]:
        """The text, from its start."""
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            yield piece


@dataclass
class Prepared:
    """A job with all that was made of it before the network."""

    job: "Job"
    name: str
    directory: Path | None
    data_json: "JobText | None" = None
    fingerprint: str = ""
    seedless: str = ""  # the same for all but the seeds
    asked: str = ""  # the same for the job as it was asked for, files by their names
    finished: bool = False
    featurised: "Featurised | None" = None
    error: FoldlineError | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def without_features(self) -> "Prepared":
        """What is needed to wait for another process."""
        return replace(self, data_json=None, featurised=None)


@dataclass(frozen=True)
class Preparer:
    """Prepares jobs, in any thread; features are made there, or in a child process where there are any."""

    featuriser: "Featuriser"
    fingerprint: Callable[[str], str]  # from the digest of a job's JSON: hash of all that decides the result
    out: Path | None
    overwrite: bool = False
    children: Children | None = None
    progress: Progress = lambda _event: None
    search: Callable[["Job", Progress], "Job"] | None = None  # gives a job the alignments that it lacks
    notes: Callable[["Job"], tuple[str, ...]] = lambda _job: ()  # what the checkpoint wants said of its answer

    def __call__(self, job: "Job") -> Prepared:
        """Everything of a job that needs no network. Errors are kept for the job's turn."""
        from foldline.inputs import slug
        from foldline.outputs.layout import is_finished

        start = time.perf_counter()
        name = slug(job.name)
        directory = None if self.out is None else self.out / name
        asked = job
        job = replace(job, notes=tuple(dict.fromkeys((*job.notes, *self.notes(job)))))  # it may have been here before
        prepared = Prepared(job, name, directory)
        try:
            if self.search is not None:
                with during("search"):
                    prepared.job = job = self.search(job, self.progress)
                prepared.seconds["search"] = round(time.perf_counter() - start, 4)
                start = time.perf_counter()
            with during("features"):
                prepared.asked = self._asked(asked)
                text = JobText(job, self.out)
                prepared.fingerprint, prepared.seedless = map(self.fingerprint, (text.digest, text.seedless))
                if directory is not None and not self.overwrite:
                    with _looking_at(directory):
                        prepared.finished = is_finished(directory, name, prepared.fingerprint)
                if not prepared.finished:
                    self._bring_kept(prepared)
                    prepared.data_json = text
                    self.progress(Event(job.name, "features"))
                    prepared.featurised = self._features(job)
        except FoldlineError as error:
            prepared.error = error
        except Exception as error:  # noqa: BLE001 - a fault of ours in one job is no reason to lose the others
            prepared.error = InternalError(error)
        prepared.seconds["features"] = round(time.perf_counter() - start, 4)
        return prepared

    def looks_finished(self, job: "Job") -> bool:
        """Whether a result of the same words and options is there: a guess, as files that the job names are not read.

        It decides with whom jobs run, and not whether they do.
        """
        from foldline.inputs import slug
        from foldline.outputs.layout import asked_for

        if self.out is None or self.overwrite:
            return False
        name = slug(job.name)
        try:
            found = asked_for(self.out / name, name)
            return bool(found) and self._asked(job) in found
        except (OSError, FoldlineError):  # which the job's turn will tell
            return False

    def _asked(self, job: "Job") -> str:
        from foldline.inputs import json_pieces

        return self.fingerprint(hashlib.sha256("".join(json_pieces(job)).encode()).hexdigest())

    def _bring_kept(self, prepared: Prepared) -> None:
        """Have what a result in a store has of the seeds wanted; where that fails, they are run."""
        from foldline.outputs.kept import bring_kept

        if prepared.directory is None or self.overwrite:
            return
        job = prepared.job
        try:
            seeds = bring_kept(prepared.directory, prepared.name, prepared.seedless, job.seeds)
            said = f"seeds kept of the result in the store: {len(seeds)}" if seeds else ""
        except OSError as error:
            said = f"no seeds are kept of the result in the store, which cannot be read ({error})"
        if said:
            self.progress(Event(job.name, "plan", message=said))

    def _features(self, job: "Job") -> "Featurised":
        from foldline.features.featuriser import featurise

        if self.children is None:
            return self.featuriser(job)
        return self.children.run(featurise, job, self.featuriser.cache_dir, self.featuriser.msa)


@contextmanager
def _looking_at(directory: Path) -> Iterator[None]:
    """A block that reads of an earlier result; a WriteError where that cannot be."""
    try:
        yield
    except OSError as error:
        what = f"what is in {error.filename or directory} cannot be read ({error.strerror or error})"
        raise WriteError(f"{what}: mend or remove it, or choose another output folder") from error
