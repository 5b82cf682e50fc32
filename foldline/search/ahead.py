"""Searching for the jobs of a run ahead of their turn, their chains together, while earlier jobs are predicted.

The first job's chains come first and alone, then those of two jobs, of four, and so on: the first need not wait for the
last, and a database is read once for many of the later ones. Knows jobs and the searcher; not what runs meanwhile.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from foldline.errors import FoldlineError, Stopped
from foldline.execute import Event, Executor, Progress, go_on
from foldline.inputs.job import Entity, Job, Text
from foldline.search.jobs import chain_of, chains_of, lacks_alignment, lacks_templates, lookup_of, searched
from foldline.search.pieces import Piece, Task
from foldline.search.settings import MMCIF, OFF, SEQRES, SearchSettings
from foldline.search.stage import Chain, Lookup, Searcher
from foldline.search.template_stage import TemplateResult, TemplateSearch


@dataclass(frozen=True)
class Machines:
    """What searches instead of this process."""

    executor: Callable[[Callable[[], None]], Executor]  # made with a check, which ends its work by raising
    threads: int  # of each search
    first: int = 1  # jobs that are begun with


class JobSearch:
    """Gives jobs the alignments and templates that they lack, in any thread. Errors of the search are `SearchError`s.

    What goes wrong ahead is told when the job asks: its own search then runs into the same. Templates of a chain follow
    its alignments at once.
    """

    def __init__(self, searcher: Searcher, jobs: Sequence[Job], machines: Machines | None = None) -> None:
        """`jobs`: those to search for ahead, in the order of their turns."""
        self._searcher = replace(searcher, check=self._check)
        if machines is not None:
            self._searcher.executor = machines.executor(self._check)
            self._searcher.threads = machines.threads
        self._asked_to_end = searcher.check
        self._closed = False
        self._ended = {key: threading.Event() for job in jobs for key in self._keys(job)}
        both = (
            entity
            for job in jobs
            for entity in job.entities
            if lacks_alignment(entity) and lacks_templates(entity, searcher.settings)
        )
        self._templated = set(map(chain_of, both))
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
        for key in self._keys(job):
            if key in self._ended:
                self._ended[key].wait()
        self._check()
        own = replace(self._searcher, say=lambda message: progress(Event(job.name, "search", message=message)))
        return searched([job], own)[0]

    def close(self) -> None:
        """End what runs; nobody may ask any more."""
        self._closed = True
        self._release()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _keys(self, job: Job) -> list[Chain | Lookup]:
        """What is looked for: chains, and the templates of those that bring alignments."""
        return [*chains_of(job), *map(lookup_of, filter(self._lacks_templates_alone, job.entities))]

    def _lacks_templates_alone(self, entity: Entity) -> bool:
        return lacks_templates(entity, self._searcher.settings) and not lacks_alignment(entity)

    def _run(self, batches: Iterator[Sequence[Job]]) -> None:
        begun: set[Lookup] = set()

        def keys() -> Iterator[tuple[list[Chain], list[Task]]]:
            for jobs in batches:
                wanted = [key for job in jobs for key in self._keys(job)]
                lookups = dict.fromkeys(key for key in wanted if isinstance(key, Lookup) and key not in begun)
                begun.update(lookups)
                yield (
                    [key for key in wanted if isinstance(key, Chain)],
                    [_ahead(partial(TemplateSearch, key, self._searcher), self._ended[key].set) for key in lookups],
                )

        try:
            self._searcher.search_ahead(keys(), self._chain_ended)
        finally:
            self._release()

    def _chain_ended(self, chain: Chain) -> list[Task]:
        if chain in self._templated:
            return [_ahead(partial(self._templates_of, chain), self._ended[chain].set)]
        self._ended[chain].set()
        return []

    def _templates_of(self, chain: Chain) -> TemplateSearch | None:
        """The lookup of a chain's templates; None where its alignments are not there."""
        found = self._searcher.known(chain)
        if found is None or found.paired is None:
            return None
        unpaired, paired = (Text(path=path.absolute()) for path in (found.unpaired, found.paired))
        return TemplateSearch(Lookup(chain.sequence, unpaired, paired), self._searcher)

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
    templates: bool = True,
) -> JobSearch | None:
    """What gives jobs the alignments that they lack; None where no database is configured.

    Args:
        table: the [search] table of the configuration.
        cache_root: folder of a user's files.
        jobs: those to search for ahead of their turn.
        progress: is told of searches ahead.
        check: is called between pieces of work, and ends it by raising.
        machines: what searches instead of this process.
        templates: whether they are looked for, which is in vain where the network does not read them.

    Raises:
        InputError: a bad setting.
    """
    settings = SearchSettings.make(table)

    def say(message: str) -> None:
        progress(Event("queue", "search", message=message))

    if not templates:
        if any(lacks_templates(entity, settings) for job in jobs for entity in job.entities):
            say("no templates are searched for: this network does not read them")
        settings = replace(settings, databases={**settings.databases, SEQRES: OFF, MMCIF: OFF})
    if settings.is_empty:
        return None

    return JobSearch(Searcher(settings, cache_root, None, say, check=check), jobs, machines)


def _ahead(make: Callable[[], TemplateSearch | None], over: Callable[[], None]) -> Task:
    """The task of a template search that is made when it is its turn; its errors are for whoever asks later."""
    made: list[TemplateSearch] = []

    def begin(locks: ExitStack, threads: int) -> Piece | None:
        piece = None
        with contextlib.suppress(FoldlineError):
            search = make()
            if search is not None:
                made.append(search)
                piece = search.begin(locks, threads)
        if piece is None:
            over()
        return piece

    def end(future: "Future[TemplateResult]") -> None:
        with contextlib.suppress(FoldlineError):
            made[0].end(future)
        over()

    return Task(begin, end)


def _batches(jobs: Sequence[Job], first: int) -> Iterator[Sequence[Job]]:
    """Jobs that are searched for together, twice as many each time."""
    at, size = 0, first
    while at < len(jobs):
        yield jobs[at : at + size]
        at, size = at + size, 2 * size
