"""Searching for the jobs of a run ahead of their turn, their chains together, while earlier jobs are predicted.

The first job's chains come first and alone, then those of two jobs, of four, and so on: the first need not wait for the
last, and a database is read once for many of the later ones. Knows jobs and the searcher; not what runs meanwhile.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from foldline.errors import Stopped
from foldline.execute import Event, Executor, InProcess, Progress, go_on
from foldline.inputs.job import Job
from foldline.search.jobs import chains_of, lacks_alignment, lacks_templates, searched
from foldline.search.settings import SearchSettings
from foldline.search.stage import Chain, Searcher


@dataclass(frozen=True)
class Machines:
    """What searches instead of this process."""

    executor: Callable[[Callable[[], None]], Executor]  # made with a check, which ends its work by raising
    threads: int  # of each search
    first: int = 1  # jobs that are begun with


class JobSearch:
    """Gives jobs the alignments and templates that they lack, in any thread. Errors of the search are `SearchError`s.

    What goes wrong ahead is told when the job asks: its own search then runs into the same.
    """

    def __init__(self, searcher: Searcher, jobs: Sequence[Job], machines: Machines | None = None) -> None:
        """`jobs`: those to search for ahead, in the order of their turns."""
        self._searcher = replace(searcher, check=self._check)
        if machines is not None:
            self._searcher.machines = machines.executor(self._check)
            self._searcher.threads = machines.threads
        self._asked_to_end = searcher.check
        self._closed = False
        self._ended = {chain: threading.Event() for job in jobs for chain in chains_of(job)}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="foldline-search")
        if self._ended:
            self._thread.submit(self._run, _batches(jobs, 1 if machines is None else machines.first))

    def __call__(self, job: Job, progress: Progress) -> Job:
        """The job with alignments and templates for all its chains.

        Raises:
            SearchError: a search failed.
            Stopped: the searches were ended.
        """
        settings = self._searcher.settings
        if not any(lacks_alignment(entity) or lacks_templates(entity, settings) for entity in job.entities):
            return job
        progress(Event(job.name, "search"))
        for chain in chains_of(job):
            if chain in self._ended:
                self._ended[chain].wait()
        self._check()
        own = replace(self._searcher, say=lambda message: progress(Event(job.name, "search", message=message)))
        return searched([job], own)[0]

    def close(self) -> None:
        """End what runs; nobody may ask any more."""
        self._closed = True
        self._release()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._searcher.executor.close()

    def _run(self, batches: Iterator[list[Chain]]) -> None:
        try:
            self._searcher.search_ahead(batches, lambda chain: self._ended[chain].set())
        finally:
            self._release()

    def _release(self) -> None:
        for event in self._ended.values():
            event.set()

    def _check(self) -> None:
        if self._closed:
            raise Stopped
        self._asked_to_end()


def job_search(
    table: Mapping[str, object],
    cache_root: Path,
    jobs: Sequence[Job] = (),
    *,
    progress: Progress = lambda event: None,
    check: Callable[[], None] = go_on,
    machines: Machines | None = None,
) -> JobSearch | None:
    """What gives jobs the alignments that they lack; None where no database is configured.

    Args:
        table: the [search] table of the configuration.
        cache_root: folder of a user's files.
        jobs: those to search for ahead of their turn.
        progress: is told of searches ahead.
        check: is called between pieces of work, and ends it by raising.
        machines: what searches instead of this process.

    Raises:
        InputError: a bad setting.
    """
    settings = SearchSettings.make(table)
    if settings.is_empty:
        return None

    def say(message: str) -> None:
        progress(Event("queue", "search", message=message))

    local = InProcess(settings.threads or os.cpu_count() or 1, check=check)
    return JobSearch(Searcher(settings, cache_root, local, say, check=check), jobs, machines)


def _batches(jobs: Sequence[Job], first: int) -> Iterator[list[Chain]]:
    """Chains of jobs that are searched for together, for twice as many jobs each time."""
    at, size = 0, first
    while at < len(jobs):
        yield [chain for job in jobs[at : at + size] for chain in chains_of(job)]
        at, size = at + size, 2 * size
