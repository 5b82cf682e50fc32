"""The queue of searches: groups of sequences in shards of databases, run by an executor and kept in the cache.

What is found in a shard goes into the cache when it comes: a run that dies goes on from there. Other tasks may go
through the queue beside them, and come before searches that are not begun. Knows chains, databases and keys; not how
alignments are merged.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from foldline.errors import FoldlineError, SearchError, Stopped
from foldline.execute import Executor, InProcess, go_on
from foldline.search import tools
from foldline.search.cache import Cache, key_of
from foldline.search.databases import Database, fetch
from foldline.search.pieces import Item, Piece, Realignment, Task, count_of, run_piece
from foldline.search.recipes import Kind, Search
from foldline.search.rows import Alignment, Found, Row, alignment_of, joined
from foldline.search.settings import SearchSettings

MOST_TOGETHER = 32  # sequences of an item: bounds what a search holds
ITEMS_PER_SLOT = 2  # items that there should be for each of an executor's searches that run at a time
MOST_LOCKED = 512  # sequences of all searches that run at a time: each is an open file
MOST_TASKS = 64  # that run at a time: each may hold a lock, and an alignment of ten megabytes
PART_OF_THREADS = 4  # a task uses this part of a search's threads or more: it may hold a gigabyte
REALIGNED_CELLS = 1 << 30  # of an RNA's rows times its length times theirs, in a piece: about ten seconds
Say = Callable[[str], None]
Ended = Callable[["Wanted"], None]


class Chain(NamedTuple):
    """What is searched for."""

    kind: Kind
    sequence: str


@dataclass(frozen=True)
class Source:
    """A database with the search of it."""

    database: Database
    search: Search
    identity: str


@dataclass(frozen=True)
class Wanted:
    """The rows of a chain in a database, and the key that they are kept under."""

    chain: Chain
    source: Source
    key: str


class _Group:
    """Sequences that are searched for together in a database, while that is under way."""

    def __init__(self, source: Source, locks: ExitStack) -> None:
        self.source, self.locks = source, locks
        self.start = time.perf_counter()
        self.done: list[Wanted] = []  # in the cache already
        self.lacking: list[Wanted] = []  # ours to find
        self.left: dict[int, list[Wanted]] = {}  # who lacks what of each shard
        self.found: dict[Wanted, Found] = {}  # where it is not in parts
        self.unaligned: dict[Wanted, list[Alignment | None]] = {}  # of RNA: what of its rows is aligned
        self.count = 0  # rows
        self.given_up = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be done for it."""
        return self.given_up or not (self.left or self.unaligned)

    @property
    def in_parts(self) -> bool:
        """Whether what is found in a file is stored before the whole is: RNA is still to be aligned then."""
        return self.n_file > 1 or self.source.search.recipe.kind == "rna"

    @property
    def name(self) -> str:
        """The database."""
        return self.source.database.name

    @property
    def n_file(self) -> int:
        """Files of the database."""
        return len(self.source.database.files)


@dataclass
class ShardQueue:
    """Finds rows and stores them. A queue is used by one thread."""

    tool_of: Callable[[Kind], tools.Tool]
    folder: Path  # of what tools make of databases
    cache: Cache
    settings: SearchSettings
    executor: Executor | None  # None: this machine
    threads: int  # of an item whose tool can use several
    say: Say
    check: Callable[[], None] = go_on
    begun: list[tuple[str, str]] = field(default_factory=list)  # database and sequence of searches that were run
    late: dict[tuple[Chain, str], str] = field(default_factory=dict)  # notes on searches that passed their time limit
    tasks: deque[Task] = field(default_factory=deque)  # that are not begun; others may be added at any time
    _number: int = 0

    @property
    def slots(self) -> int:
        """How many threads of pieces run at a time."""
        return self.threads if self.executor is None else self.executor.slots

    def together(self, kind: Kind, n_chain: int, n_file: int) -> int:
        """How many of the chains go into an item, searched for in so many files each.

        As many as share a reading well, but for an executor with slots that would stay empty.
        """
        if not self.tool_of(kind).together:
            return 1
        slots = max(1, self.slots // self.threads)
        if slots == 1:
            return MOST_TOGETHER
        return max(1, min(MOST_TOGETHER, n_chain * n_file // (ITEMS_PER_SLOT * slots), MOST_LOCKED // slots))

    def run(self, groups: Iterable[Sequence[Wanted]] = (), ended: Ended | None = None) -> None:
        """Find the rows of groups, each of one database, begun in their order; do the tasks that there are by then.

        Without `ended`, errors are raised, and what other processes are at is waited for. With it, nothing is waited
        for, and it is told of each one when it is stored or when nothing more will be done for it here. An empty group
        lets tasks begin that were added since the one before.

        Raises:
            SearchError: a search failed; those that are running are given up.
        """
        while elsewhere := self._pass(groups, ended):
            for one in elsewhere:
                self.say(f"waiting for another process that searches {one.source.database.name} for the same chain")
                with self.cache.locked(one.key):
                    pass
            groups = [[one] for one in elsewhere]

    def _pass(self, groups: Iterable[Sequence[Wanted]], ended: Ended | None) -> list[Wanted]:
        """Go through groups and tasks once; returns what other processes are at and is to be waited for."""
        with ExitStack() as stack:
            one = _Pass(self, ended, stack)
            for piece, future in stack.enter_context(closing(self._each(one.pieces(groups)))):
                one.take(piece, future)
            return one.elsewhere

    def _each(self, pieces: Iterator[Piece | None]) -> Generator[tuple[Piece, "Future[Any]"], None, None]:
        """Pieces as they end."""
        if self.executor is not None:
            yield from self.executor.each(run_piece, pieces)
            return
        left = False

        def check() -> None:
            if left:
                raise Stopped
            self.check()

        with InProcess(self.threads, weigh=lambda piece: piece.threads, check=self.check) as local:
            try:
                yield from local.each(partial(run_piece, check=check), pieces)
            finally:
                left = True

    def _begin(self, wanted: Sequence[Wanted], locks: ExitStack) -> tuple[_Group, list[Wanted]]:
        """Lock what is to be found; what is here by now needs nothing. Gives what is locked already, too."""
        group, elsewhere = _Group(wanted[0].source, locks), []
        for one in wanted:
            if self.cache.is_whole(one.key):
                group.done.append(one)
            elif not locks.enter_context(self.cache.locked(one.key, wait=False)):
                elsewhere.append(one)
            elif self.cache.is_whole(one.key):  # made since we looked
                group.done.append(one)
            else:
                group.lacking.append(one)
        for shard in range(group.n_file):
            kept = [one for one in group.lacking if group.in_parts and self.cache.is_whole(_part(one, shard))]
            if members := [one for one in group.lacking if one not in kept]:
                group.left[shard] = members
        if group.left:
            fetch(group.source.database, self.say)
            self.begun += [(group.name, one.chain.sequence) for one in group.lacking]
            tool = self.tool_of(group.source.search.recipe.kind)
            for told in tool.told_before(group.name, group.source.database.files, group.source.search):
                self.say(told)
            self.say(f"searching {group.name} for {count_of(len(group.lacking))}")
        return group, elsewhere

    def _item(self, group: _Group, shard: int, members: list[Wanted]) -> Item:
        self._number += 1
        tool = self.tool_of(group.source.search.recipe.kind)
        search, file = group.source.search, group.source.database.files[shard]
        minutes = self.settings.rna_minutes if search.recipe.kind == "rna" else None
        return Item(
            self._number,
            tool.name,
            str(self.folder.absolute()),
            tool.version,
            tuple(one.chain.sequence for one in members),
            str(file.absolute()),
            file.stat().st_size,
            search,
            self.threads if tool.together else 1,
            None if minutes is None else max(0.0, 60 * minutes - (time.perf_counter() - group.start)),
        )

    def _take(self, group: _Group, shard: int, future: "Future[list[Found]]") -> None:
        """Keep what was found in a shard; a search that is late ends its group, or all."""
        try:
            found = future.result()
        except tools.SearchTimeout:
            if self.settings.on_rna_timeout == "stop":
                raise
            note = f"the search of {group.name} passed its limit of {self.settings.rna_minutes:g} minutes: the RNA"
            for one in group.lacking:
                self.late[one.chain, group.name] = f"{note} alignment is made without it"
            group.given_up = True
            return
        members = group.left.pop(shard)
        if not group.in_parts:
            group.found = dict(zip(members, found, strict=True))
            return
        for one, part in zip(members, found, strict=True):
            about = {"what": "rows of a shard", "kind": one.chain.kind, "sequence": one.chain.sequence}
            about |= {"database": group.name, "shard": shard, "rows": len(part.rows)}
            self.cache.put(_part(one, shard), json.dumps([part.reported, part.rows]), about)

    def _align(self, group: _Group, end: Callable[[Wanted, int, "Future[Any]"], None]) -> None:
        """Store the alignments of a group whose searches have ended; those of RNA are tasks of their own."""
        search = group.source.search
        tool = self.tool_of(search.recipe.kind)
        for one in group.lacking:
            if group.in_parts:
                found = joined((self._kept(one, shard) for shard in range(group.n_file)), search)
            else:
                found = group.found.pop(one)
            query = one.chain.sequence
            some = _cut(found.included(search), len(query)) if search.recipe.kind == "rna" else []
            if not some:
                self._store(group, one, tool.align(query, found, search))
                continue
            group.unaligned[one] = [None] * len(some)
            for number, rows in enumerate(some):
                piece = Realignment(tool.name, str(self.folder.absolute()), tool.version, query, rows, search)
                self.tasks.append(Task(partial(_unless_given_up, group, piece), partial(end, one, number)))

    def _take_aligned(self, group: _Group, one: Wanted, number: int, future: "Future[Alignment]") -> None:
        """Keep what is aligned of an RNA's rows, and store the whole when it is there."""
        parts = group.unaligned[one]
        parts[number] = future.result()
        here = [part for part in parts if part is not None]
        if len(here) == len(parts):
            del group.unaligned[one]
            lone = alignment_of(one.chain.sequence)
            headers = (lone.headers, *(part.headers for part in here))
            rows = (lone.rows, *(part.rows for part in here))
            self._store(group, one, Alignment(sum(headers, ()), sum(rows, ())))

    def _store(self, group: _Group, one: Wanted, rows: Alignment) -> None:
        tool, spent = self.tool_of(one.chain.kind), time.perf_counter() - group.start
        about = {"what": "rows", "kind": one.chain.kind, "sequence": one.chain.sequence, "database": group.name}
        about |= {"file": group.source.database.spec, "tool": f"{tool.name} {tool.version}"}
        about |= {"rows": len(rows.rows), "seconds": round(spent, 3)}
        self.cache.put(one.key, rows.a3m(), about)
        group.count += len(rows.rows) - 1
        for shard in range(group.n_file if group.in_parts else 0):
            self.cache.drop(_part(one, shard))

    def _kept(self, one: Wanted, shard: int) -> Found:
        """What was found in a shard."""
        text = self.cache.get(_part(one, shard))
        if text is None:
            raise SearchError(f"rows just stored in {self.cache.folder} are gone: is it pruned meanwhile?")
        reported, rows = json.loads(text)
        return Found([Row(*row) for row in rows], reported)


class _Pass:
    """One way through the groups and tasks of a queue: pieces as they may be begun, and what becomes of each."""

    def __init__(self, queue: ShardQueue, ended: Ended | None, stack: ExitStack) -> None:
        self.queue, self.ended, self.stack = queue, ended, stack
        self.elsewhere: list[Wanted] = []  # what other processes are at and is to be waited for
        self._under_way: dict[int, tuple[Piece, Callable[[Future[Any]], None]]] = {}
        self._n_task = 0  # of those under way

    def pieces(self, groups: Iterable[Sequence[Wanted]]) -> Iterator[Piece | None]:
        """Tasks first, then searches; None where the next one waits for the end of one that runs."""
        searches = self._searches(groups)
        while True:
            piece = self._task() or next(searches, None)
            if piece is None and self._may_begin:
                continue
            if piece is None and not self._under_way:
                return
            yield piece

    def take(self, piece: Piece, future: "Future[Any]") -> None:
        """Take the result of a piece."""
        self._under_way.pop(id(piece))[1](future)

    @property
    def _may_begin(self) -> bool:
        """Whether a task may be begun."""
        return bool(self.queue.tasks) and self._n_task < MOST_TASKS

    def _searches(self, groups: Iterable[Sequence[Wanted]]) -> Iterator[Piece | None]:
        """Searches; None where tasks have come with a group that is empty."""
        for wanted in groups:
            if not wanted:
                if self._may_begin:
                    yield None
                continue
            group, elsewhere = self.queue._begin(wanted, self.stack.enter_context(ExitStack()))
            if self.ended is None:
                self.elsewhere += elsewhere
            else:
                for one in elsewhere:
                    self.ended(one)
            if not group.left:
                self._go_on(group, lambda group=group: self.queue._align(group, partial(self._aligned, group)))
            for shard, members in list(group.left.items()):
                if not group.given_up:
                    item = self.queue._item(group, shard, members)
                    self._under_way[id(item)] = item, partial(self._searched, group, shard)
                    yield item

    def _task(self) -> Piece | None:
        """The piece of the next task that has one."""
        tasks = self.queue.tasks
        while self._may_begin:
            share = self.queue.slots // min(len(tasks) + self._n_task, MOST_TASKS)
            threads = min(self.queue.threads, max(share, self.queue.threads // PART_OF_THREADS, 1))
            task, locks = tasks.popleft(), self.stack.enter_context(ExitStack())
            piece = task.begin(locks, threads)
            if piece is not None:
                self._n_task += 1
                self._under_way[id(piece)] = piece, partial(self._task_ended, task, locks)
                return piece
            locks.close()
        return None

    def _task_ended(self, task: Task, locks: ExitStack, future: "Future[Any]") -> None:
        self._n_task -= 1
        task.end(future)
        locks.close()

    def _searched(self, group: _Group, shard: int, future: "Future[Any]") -> None:
        def take() -> None:
            self.queue._take(group, shard, future)
            if not (group.left or group.given_up):
                self.queue._align(group, partial(self._aligned, group))

        self._go_on(group, take)

    def _aligned(self, group: _Group, one: Wanted, number: int, future: "Future[Any]") -> None:
        self._go_on(group, lambda: self.queue._take_aligned(group, one, number, future))

    def _go_on(self, group: _Group, step: Callable[[], None]) -> None:
        """Take a step for a group, and let go of it when it is over."""
        if group.given_up:
            return
        try:
            step()
        except FoldlineError:
            if self.ended is None:
                raise
            group.given_up = True
        if not group.is_over:
            return
        group.locks.close()
        if group.lacking and not group.given_up:
            spent = time.perf_counter() - group.start
            found = f"searched {group.name} for {count_of(len(group.lacking))} in {spent:.1f} s: {group.count} rows"
            self.queue.say(found)
        if self.ended is not None:
            for one in (*group.done, *group.lacking):
                self.ended(one)


def _unless_given_up(group: _Group, piece: Piece, locks: ExitStack, threads: int) -> Piece | None:
    """The begin of a task of a group."""
    return None if group.given_up else piece


def _cut(rows: list[Row], length: int) -> list[list[Row]]:
    """Rows of a query of that length in pieces that take about as long to align."""
    some: list[list[Row]] = []
    cells = REALIGNED_CELLS
    for row in rows:
        if cells >= REALIGNED_CELLS:
            some.append([])
            cells = 0
        some[-1].append(row)
        cells += length * len(row.text)
    return some


def _part(one: Wanted, shard: int) -> str:
    """The key of what is found in a shard, which is dropped when the whole is there."""
    return key_of({"what": "part", "of": one.key, "shard": shard, "shards": len(one.source.database.files)})
