"""The queue of searches: groups of sequences in shards of databases, run by an executor and kept in the cache.

An item of the queue is values alone, so that any machine can be given it. What is found in a shard goes into the cache
when it comes: a run that dies goes on from there. Knows chains, databases and keys; not how alignments are merged.
"""

import json
import platform
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from foldline.errors import FoldlineError, SearchError
from foldline.execute import Executor, InProcess, go_on
from foldline.search import tools
from foldline.search.cache import Cache, key_of
from foldline.search.databases import Database, fetch
from foldline.search.recipes import Kind, Search
from foldline.search.rows import Found, Row, joined
from foldline.search.settings import SearchSettings

MOST_TOGETHER = 32  # sequences of an item: bounds what a search holds
ITEMS_PER_SLOT = 2  # items that there should be for each of an executor's searches that run at a time
MOST_LOCKED = 512  # sequences of all searches that run at a time: each is an open file
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


@dataclass(frozen=True)
class Item:
    """Some sequences in one file."""

    number: int
    tool: str
    folder: str  # of what the tool makes of databases
    version: str  # of the tool: another machine's must be the same
    queries: tuple[str, ...]
    file: str
    size: int  # bytes of the file
    search: Search  # without a deadline, which holds for one machine's clock
    threads: int
    seconds: float | None = None  # that it may take

    def __str__(self) -> str:
        """What it is in a few words."""
        return f"the search of {Path(self.file).name} for {_count(len(self.queries))}"


def search_item(item: Item, check: Callable[[], None] = go_on) -> list[Found]:
    """What each query of an item finds; `check` is called now and then and ends the search by raising.

    Raises:
        SearchError: the search fails, or this machine lacks the file or has another version of it or of the tool.
    """
    tool, file, here = tools.choose(item.tool, Path(item.folder)), Path(item.file), platform.node()
    if tool.version != item.version:
        raise SearchError(
            f"{tool.name} is {tool.version} on {here} and {item.version} on the machine that asks: install the same"
        )
    try:
        size = file.stat().st_size
    except OSError as error:
        raise SearchError(
            f"the database file {file} cannot be read on {here} ({error.strerror or error}): databases must lie under"
            " the same path on every machine"
        ) from error
    if size != item.size:
        raise SearchError(
            f"the database file {file} has {size} bytes on {here}, {item.size} on the machine that asks: copy it again"
        )
    search = item.search
    if item.seconds is not None:
        search = replace(search, deadline=time.monotonic() + item.seconds)
    with InProcess(item.threads, check=check) as executor:
        return tool.search(item.queries, [file], search, executor)


class _Group:
    """Sequences that are searched for together in a database, while that is under way."""

    def __init__(self, source: Source, locks: ExitStack) -> None:
        self.source, self.locks = source, locks
        self.start = time.perf_counter()
        self.done: list[Wanted] = []  # in the cache already
        self.lacking: list[Wanted] = []  # ours to find
        self.left: dict[int, list[Wanted]] = {}  # who lacks what of each shard
        self.found: dict[Wanted, Found] = {}  # in a database of one file
        self.given_up = False

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
    _number: int = 0

    def together(self, kind: Kind, n_chain: int, n_file: int) -> int:
        """How many of the chains go into an item, searched for in so many files each.

        As many as share a reading well, but for an executor with slots that would stay empty.
        """
        if not self.tool_of(kind).together:
            return 1
        slots = 1 if self.executor is None else max(1, self.executor.slots // self.threads)
        if slots == 1:
            return MOST_TOGETHER
        return max(1, min(MOST_TOGETHER, n_chain * n_file // (ITEMS_PER_SLOT * slots), MOST_LOCKED // slots))

    def run(self, groups: Iterable[Sequence[Wanted]], ended: Ended | None = None) -> None:
        """Find the rows of groups, each of one database, begun in their order.

        Without `ended`, errors are raised, and what other processes are at is waited for. With it, nothing is waited
        for, and it is told of each one when it is stored or when nothing more will be done for it here.

        Raises:
            SearchError: a search failed; those that are running are given up.
        """
        while elsewhere := self._pass(groups, ended):
            for one in elsewhere:
                if ended is not None:
                    ended(one)
                    continue
                self.say(f"waiting for another process that searches {one.source.database.name} for the same chain")
                with self.cache.locked(one.key):
                    pass
            groups = [[one] for one in elsewhere if ended is None]

    def _pass(self, groups: Iterable[Sequence[Wanted]], ended: Ended | None) -> list[Wanted]:
        """Go through groups once; returns those that other processes are at."""
        elsewhere: list[Wanted] = []
        begun: dict[int, tuple[_Group, int]] = {}

        def finish(group: _Group) -> None:
            self._finish(group)
            if ended is not None:
                for one in (*group.done, *group.lacking):
                    ended(one)

        with ExitStack() as stack:

            def items() -> Iterator[Item]:
                for wanted in groups:
                    group = self._begin(wanted, elsewhere, stack.enter_context(ExitStack()))
                    if not group.left:
                        finish(group)
                    for shard, members in list(group.left.items()):
                        if not group.given_up:
                            item = self._item(group, shard, members)
                            begun[item.number] = group, shard
                            yield item

            for item, future in stack.enter_context(closing(self._each(items()))):
                group, shard = begun.pop(item.number)
                if group.given_up:
                    continue
                try:
                    self._take(group, shard, future)
                except FoldlineError:
                    if ended is None:
                        raise
                    group.given_up = True
                if group.given_up or not group.left:
                    finish(group)
        return elsewhere

    def _each(self, items: Iterator[Item]) -> Generator[tuple[Item, "Future[list[Found]]"], None, None]:
        """Items as they end; here, several run at a time where each is one thread."""
        if self.executor is not None:
            yield from self.executor.each(search_item, items)
            return
        with InProcess(0 if self.tool_of("rna").together else self.threads, check=self.check) as local:
            yield from local.each(partial(search_item, check=self.check), items)

    def _begin(self, wanted: Sequence[Wanted], elsewhere: list[Wanted], locks: ExitStack) -> _Group:
        """Lock what is to be found; what is here by now needs nothing, and what is locked is for later."""
        group = _Group(wanted[0].source, locks)
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
            members = [one for one in group.lacking if group.n_file == 1 or not self.cache.is_whole(_part(one, shard))]
            if members:
                group.left[shard] = members
        if group.left:
            fetch(group.source.database, self.say)
            self.begun += [(group.name, one.chain.sequence) for one in group.lacking]
            tool = self.tool_of(group.source.search.recipe.kind)
            for told in tool.told_before(group.name, group.source.database.files, group.source.search):
                self.say(told)
            self.say(f"searching {group.name} for {_count(len(group.lacking))}")
        return group

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
        if group.n_file == 1:
            group.found = dict(zip(members, found, strict=True))
            return
        for one, part in zip(members, found, strict=True):
            about = {"what": "rows of a shard", "kind": one.chain.kind, "sequence": one.chain.sequence}
            about |= {"database": group.name, "shard": shard, "rows": len(part.rows)}
            self.cache.put(_part(one, shard), json.dumps([part.reported, part.rows]), about)

    def _finish(self, group: _Group) -> None:
        """Store the rows of a group whose searches have ended, and let go of it."""
        spent, search, count = time.perf_counter() - group.start, group.source.search, 0
        tool = self.tool_of(search.recipe.kind)
        for one in group.lacking if not group.given_up else ():
            parts = (self._kept(one, shard) for shard in range(group.n_file))
            whole = group.found[one] if group.n_file == 1 else joined(parts, search)
            rows = tool.align(one.chain.sequence, whole, search)
            about = {"what": "rows", "kind": one.chain.kind, "sequence": one.chain.sequence, "database": group.name}
            about |= {"file": group.source.database.spec, "tool": f"{tool.name} {tool.version}"}
            about |= {"rows": len(rows.rows), "seconds": round(spent, 3)}
            self.cache.put(one.key, rows.a3m(), about)
            count += len(rows.rows) - 1
            for shard in range(group.n_file if group.n_file > 1 else 0):
                self.cache.drop(_part(one, shard))
        group.found.clear()
        group.locks.close()
        if group.lacking and not group.given_up:
            self.say(f"searched {group.name} for {_count(len(group.lacking))} in {spent:.1f} s: {count} rows")

    def _kept(self, one: Wanted, shard: int) -> Found:
        """What was found in a shard."""
        text = self.cache.get(_part(one, shard))
        if text is None:
            raise SearchError(f"rows just stored in {self.cache.folder} are gone: is it pruned meanwhile?")
        reported, rows = json.loads(text)
        return Found([Row(*row) for row in rows], reported)


def _part(one: Wanted, shard: int) -> str:
    """The key of what is found in a shard, which is dropped when the whole is there."""
    return key_of({"what": "part", "of": one.key, "shard": shard, "shards": len(one.source.database.files)})


def _count(number: int) -> str:
    return f"{number} {'sequence' if number == 1 else 'sequences'}"
