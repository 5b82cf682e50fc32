"""The driver's queue of jobs for replicas: searched for, with all their texts in them, handed out a few at a time.

Knows jobs, and how many replicas there are; not where they are.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from foldline.engine import Prediction
from foldline.engine.schedule import bucket_of, estimated_tokens
from foldline.errors import FoldlineError, InternalError, during
from foldline.execute import Progress
from foldline.inputs.job import Entity, Job, Polymer, Text
from foldline.inputs.text import read_text

MOST_HANDED = 16  # jobs that a replica is given at a time
MOST_READY = 64  # jobs that wait with their alignments in memory


@dataclass
class Handed:
    """A job and how many replicas died while it was with them."""

    job: Job
    deaths: int = 0


class Feed:
    """Jobs in their order; a thread searches for them and reads their files. A context manager."""

    def __init__(
        self,
        jobs: Sequence[Job],
        search: Callable[[Job, Progress], Job] | None,
        progress: Progress,
        buckets: Sequence[int],
    ) -> None:
        """`search` gives a job the alignments that it lacks. Jobs handed out together are of one of the `buckets`."""
        self._jobs, self._search, self._progress, self._buckets = jobs, search, progress, buckets
        self._ready: deque[Handed] = deque()
        self._again: deque[Handed] = deque()
        self._failed: deque[Prediction] = deque()
        self._left = len(jobs)  # neither handed out nor failed
        self._closed = False
        self._news = threading.Condition()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="foldline-feed")

    def __enter__(self) -> "Feed":
        self._thread.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._thread.shutdown(wait=True)

    def take(self, n_replica: int) -> list[Handed]:
        """Jobs for one of so many replicas: of one bucket, fewer towards the end; those of a dead one come alone."""
        with self._news:
            if self._again:
                return [self._again.popleft()]
            most = max(1, min(MOST_HANDED, self._left // (2 * n_replica)))
            found: list[Handed] = []
            while (
                self._ready
                and len(found) < most
                and self._bucket(self._ready[0]) == self._bucket(found[0] if found else self._ready[0])
            ):
                found.append(self._ready.popleft())
            self._left -= len(found)
            self._news.notify_all()
            return found

    def give_back(self, some: Sequence[Handed]) -> None:
        """Have jobs handed out again, each alone."""
        with self._news:
            self._again.extend(some)

    def failed(self) -> list[Prediction]:
        """Jobs whose search or files ended in an error since this was last asked."""
        with self._news:
            found = list(self._failed)
            self._failed.clear()
            return found

    def wait(self, seconds: float) -> None:
        """Wait so long for a job to be ready or to have failed."""
        with self._news:
            self._news.wait_for(lambda: self._ready or self._again or self._failed, timeout=seconds)

    def _run(self) -> None:
        for job in self._jobs:
            with self._news:
                self._news.wait_for(lambda: self._closed or len(self._ready) < MOST_READY)
                if self._closed:
                    return
            try:
                made = self._whole(job)
            except FoldlineError as error:
                self._fail(job, error)
            except Exception as error:  # noqa: BLE001 - a fault of ours in one job is no reason to lose the others
                self._fail(job, InternalError(error))
            else:
                with self._news:
                    self._ready.append(Handed(made))
                    self._news.notify_all()

    def _whole(self, job: Job) -> Job:
        """The job with its alignments and all its files' texts: other machines need not see them."""
        if self._search is not None:
            with during("search"):
                job = self._search(job, self._progress)
        with during("features"):
            return inlined(job)

    def _fail(self, job: Job, error: FoldlineError) -> None:
        with self._news:
            self._left -= 1
            self._failed.append(Prediction(job.name, error=error))
            self._news.notify_all()

    def _bucket(self, one: Handed) -> int:
        return bucket_of(estimated_tokens(one.job), 0, self._buckets)[0] if self._buckets else 0


def inlined(job: Job) -> Job:
    """The job with the texts of its files in place of their paths.

    Raises:
        InputError: a file cannot be read.
    """
    entities = tuple(_inlined_entity(entity) for entity in job.entities)
    return replace(job, entities=entities, user_ccd=_inlined_text(job.user_ccd, "userCCD"))


def _inlined_entity(entity: Entity) -> Entity:
    if not isinstance(entity, Polymer):
        return entity
    chain = entity.ids[0]
    found = entity.templates or ()
    templates = tuple(replace(one, mmcif=_inlined_text(one.mmcif, f"a template of chain {chain}")) for one in found)
    return replace(
        entity,
        unpaired_msa=_inlined_text(entity.unpaired_msa, f"the unpaired MSA of chain {chain}"),
        paired_msa=_inlined_text(entity.paired_msa, f"the paired MSA of chain {chain}"),
        templates=None if entity.templates is None else templates,
    )


def _inlined_text(text: Text | None, what: str) -> Text | None:
    return text if text is None or text.path is None else Text(read_text(text, what))
