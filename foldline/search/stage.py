"""Alignments of chains: every unique chain is searched once, and only where the cache has no answer.

All chains that lack a database's rows are searched together, in one pass over it. Knows chains as kind and sequence;
what a job is stands in `jobs`.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from foldline.errors import SearchError
from foldline.execute import Executor, InProcess
from foldline.search import tools
from foldline.search.cache import Cache, key_of
from foldline.search.databases import Database, identity, locate, searches
from foldline.search.recipes import PAIRED, UNPAIRED, Kind, Recipe, Search
from foldline.search.rows import Alignment, alignment_of, merged, parse_a3m
from foldline.search.settings import SearchSettings

SCHEMA = 1
FOLDER = "search-1"  # of the cache: entries, locks, what is known of databases
Say = Callable[[str], None]


class Chain(NamedTuple):
    """What is searched for."""

    kind: Kind
    sequence: str


@dataclass(frozen=True)
class Alignments:
    """Files of a chain's alignments in the cache; RNA has no paired one."""

    unpaired: Path
    paired: Path | None
    unpaired_key: str
    notes: tuple[str, ...] = ()


def cache_in(cache_root: Path) -> Cache:
    """The cache of search results under the folder of a user's files."""
    return Cache(cache_root / FOLDER / "entries")


@contextlib.contextmanager
def searcher_of(table: Mapping[str, object], cache_root: Path, say: Say = lambda message: None) -> Iterator["Searcher"]:
    """A searcher with threads of this process; `table` is the [search] table of the configuration.

    Raises:
        InputError: a bad setting.
    """
    settings = SearchSettings.make(table)
    with InProcess(settings.threads or os.cpu_count() or 1) as executor:
        yield Searcher(settings, cache_root, executor, say)


@dataclass
class Searcher:
    """Searches with the settings of a run; reused for all its jobs. Thread-safe."""

    settings: SearchSettings
    cache_root: Path
    executor: Executor
    say: Say = lambda message: None
    searched: list[tuple[str, str]] = field(default_factory=list)  # database and sequence of searches that were run

    def __post_init__(self) -> None:
        self.folder = self.cache_root / FOLDER
        self.cache = cache_in(self.cache_root)
        self._tool: tools.Tool | None = None

    @property
    def tool(self) -> tools.Tool:
        """The search tool of the settings."""
        if self._tool is None:
            self._tool = tools.choose(self.settings.tool)
        return self._tool

    def alignments(self, chains: Iterable[Chain]) -> dict[Chain, Alignments]:
        """The alignments of chains in AlphaFold 3's databases, merged as AlphaFold 3 does.

        Raises:
            SearchError: a database, a tool or the cache is at fault; it names it and the remedy.
        """
        unique = list(dict.fromkeys(chains))
        found: dict[Chain, Alignments] = {}
        for kind in ("protein", "rna"):
            of_kind = [chain for chain in unique if chain.kind == kind]
            if of_kind:
                found |= self._of_kind(kind, of_kind)
        return found

    def _of_kind(self, kind: Kind, chains: Sequence[Chain]) -> dict[Chain, Alignments]:
        sources = {recipe: self._source(recipe) for recipe in (*UNPAIRED[kind], *PAIRED[kind])}
        present = {recipe: source for recipe, source in sources.items() if source is not None}
        if not present:
            raise SearchError(
                f"there is no database to search {kind} sequences in: name databases in [search] of foldline.toml, give"
                " unpairedMsa, or go without alignments (--msa none)"
            )
        missing = [recipe.database for recipe in sources if recipe not in present]
        notes = [f"{kind} alignments were made without {', '.join(missing)}"] if missing else []
        groups = {
            "unpaired": tuple(recipe for recipe in UNPAIRED[kind] if recipe in present),
            "paired": tuple(recipe for recipe in PAIRED[kind] if recipe in present),
        }
        wanted = {
            chain: {name: self._merged_key(chain, group, present) for name, group in groups.items()} for chain in chains
        }
        lacking = [chain for chain in chains if not all(self._is_whole(key) for key in wanted[chain].values())]
        late: dict[Chain, list[str]] = {}
        parts: dict[tuple[Recipe, Chain], Alignment] = {}
        if lacking:
            for recipe, source in present.items():
                for chain, one in self._database(lacking, source, late).items():
                    parts[recipe, chain] = one
        result = {}
        for chain in chains:
            keys = wanted[chain]
            if chain in lacking:
                for name, group in groups.items():
                    here = [parts[recipe, chain] for recipe in group if (recipe, chain) in parts]
                    keys[name] = self._store_merged(chain, name, here, keys[name], complete=len(here) == len(group))
            paired = self.cache.path(keys["paired"]) if kind == "protein" else None
            said = (*notes, *late.get(chain, ()))
            result[chain] = Alignments(self.cache.path(keys["unpaired"]), paired, keys["unpaired"], said)
        return result

    def _source(self, recipe: Recipe) -> "_Source | None":
        database = locate(recipe.database, self.settings)
        if database is None:
            return None
        search = searches(recipe, database, self.settings, self.folder)
        return _Source(database, search, identity(database, self.folder))

    def _key(self, chain: Chain, source: "_Source") -> str:
        """The key of a chain's rows in a database: everything that decides them."""
        search = source.search
        options = vars(search.recipe) | {"z": search.z, "z_given": search.z_given}
        tool = [self.tool.name, self.tool.version]
        parts = {"schema": SCHEMA, "what": "rows", "sequence": chain.sequence, "database": source.identity}
        return key_of(parts | {"tool": tool, "options": options})

    def _merged_key(self, chain: Chain, group: Sequence[Recipe], sources: dict[Recipe, "_Source"]) -> str:
        parts = [self._key(chain, sources[recipe]) for recipe in group]
        return key_of({"schema": SCHEMA, "what": "merged", "sequence": chain.sequence, "of": parts})

    def _store_merged(self, chain: Chain, name: str, parts: list[Alignment], key: str, *, complete: bool) -> str:
        """Merge and store; what lacks a database because of its time limit is kept under the key of its content."""
        whole = merged(parts, deduplicate=name == "unpaired") if parts else alignment_of(chain.sequence)
        text = whole.a3m()
        if not complete:
            key = key_of({"schema": SCHEMA, "what": "incomplete", "text": text})
        about = {"what": f"{name} alignment", "kind": chain.kind, "sequence": chain.sequence, "rows": len(whole.rows)}
        self.cache.put(key, text, about)
        return key

    def _database(
        self, chains: Sequence[Chain], source: "_Source", late: dict[Chain, list[str]]
    ) -> dict[Chain, Alignment]:
        """The rows of chains in a database, from the cache or searched together; two processes never do the same."""
        keys = {chain: self._key(chain, source) for chain in chains}
        found = {chain: one for chain in chains if (one := self._cached(keys[chain])) is not None}
        elsewhere = []
        mine: dict[Chain, str] = {}
        with _Locks(self.cache) as locks:
            for chain in chains:
                if chain not in found:
                    if not locks.take(keys[chain]):
                        elsewhere.append(chain)
                    elif (one := self._cached(keys[chain])) is not None:  # made since we looked
                        found[chain] = one
                    else:
                        mine[chain] = keys[chain]
            if mine:
                found |= self._search(mine, source, late)
        for chain in elsewhere:
            self.say(f"waiting for another process that searches {source.database.name} for the same chain")
            with self.cache.locked(keys[chain]):
                one = self._cached(keys[chain])
                found |= self._search({chain: keys[chain]}, source, late) if one is None else {chain: one}
        return found

    def _is_whole(self, key: str) -> bool:
        """Whether an entry is here and undamaged: its path is what the job gets."""
        return self.cache.has(key) and self.cache.get(key) is not None

    def _cached(self, key: str) -> Alignment | None:
        text = self.cache.get(key) if self.cache.has(key) else None
        return None if text is None else parse_a3m(text)

    def _search(
        self, keys: dict[Chain, str], source: "_Source", late: dict[Chain, list[str]]
    ) -> dict[Chain, Alignment]:
        chains, search, name = list(keys), source.search, source.database.name
        limit = self.settings.rna_minutes if search.recipe.kind == "rna" else None
        if limit is not None:
            search = replace(search, deadline=time.monotonic() + 60 * limit)
        count = f"{len(chains)} {'sequence' if len(chains) == 1 else 'sequences'}"
        self.say(f"searching {name} for {count}")
        start = time.perf_counter()
        queries = [chain.sequence for chain in chains]
        self.searched += [(name, query) for query in queries]
        try:
            found = self.tool.search(queries, source.database.files, search, self.executor)
        except tools.SearchTimeout:
            if self.settings.on_rna_timeout == "stop":
                raise
            for chain in chains:
                late.setdefault(chain, []).append(
                    f"the search of {name} passed its limit of {limit:g} minutes: the RNA alignment is made without it"
                )
            return {}
        spent = time.perf_counter() - start
        result = {}
        for chain, one in zip(chains, found, strict=True):
            result[chain] = self.tool.align(chain.sequence, one, search)
            about = {"what": "rows", "kind": chain.kind, "sequence": chain.sequence, "database": name}
            about |= {"file": source.database.spec, "tool": f"{self.tool.name} {self.tool.version}"}
            about |= {"rows": len(result[chain].rows), "seconds": round(spent, 3)}
            self.cache.put(keys[chain], result[chain].a3m(), about)
        self.say(
            f"searched {name} for {count} in {spent:.1f} s: {sum(len(one.rows) - 1 for one in result.values())} rows"
        )
        return result


@dataclass(frozen=True)
class _Source:
    """A database with the search of it."""

    database: Database
    search: Search
    identity: str


class _Locks:
    """Locks of keys, all released at the end of the block."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._stack = contextlib.ExitStack()

    def take(self, key: str) -> bool:
        """Whether the lock was free and is now held."""
        return self._stack.enter_context(self._cache.locked(key, wait=False))

    def __enter__(self) -> "_Locks":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
