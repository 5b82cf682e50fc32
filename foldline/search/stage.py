"""Alignments of chains: every unique chain is searched once, and only where the cache has no answer.

Chains that lack a database's rows go through one queue (`shard_queue`). Knows chains as kind and sequence and how rows
are merged; what a job is stands in `jobs`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from foldline.errors import NoSearch, SearchError
from foldline.execute import Executor, go_on
from foldline.inputs.job import Template, Text
from foldline.limits import processors
from foldline.search import tools
from foldline.search.cache import Cache, key_of
from foldline.search.colabfold import Pace, Server
from foldline.search.colabfold_stage import ServerStage
from foldline.search.databases import identity, locate, searches
from foldline.search.mmseqs_databases import locate_set
from foldline.search.pieces import Task
from foldline.search.recipes import BY_MMSEQS, COLABFOLD, COLABFOLD_PAIRED, PAIRED, UNPAIRED, Kind, Recipe, Search
from foldline.search.rows import Alignment, alignment_of, merged, parse_a3m
from foldline.search.settings import SearchSettings
from foldline.search.shard_queue import Chain, Say, ShardQueue, Source, Wanted

SCHEMA = 1
FOLDER = "search-1"  # of the cache: entries, locks, what is known of databases

Chosen = tuple[tuple[Template, ...], tuple[str, ...]]  # templates, and notes


class Lookup(NamedTuple):
    """A chain with its alignments, whose templates are looked up."""

    query: str
    unpaired: Text
    paired: Text


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


def searcher_of(
    table: Mapping[str, object],
    cache_root: Path,
    say: Say = lambda message: None,
    executor: Executor | None = None,
    threads: int | None = None,
) -> "Searcher":
    """A searcher; `table` is the [search] table of the configuration.

    Args:
        table: settings.
        cache_root: folder of a user's files.
        say: is told what is being searched.
        executor: what runs pieces of work; default: threads of this process.
        threads: of each search; default: the setting, or one per core.

    Raises:
        InputError: a bad setting.
    """
    return Searcher(SearchSettings.make(table), cache_root, executor, say, threads=threads)


@dataclass
class Searcher:
    """Searches with the settings of a run; reused for all its jobs. Thread-safe."""

    settings: SearchSettings
    cache_root: Path
    executor: Executor | None = None  # of pieces; None: threads of this process
    say: Say = lambda message: None
    searched: list[tuple[str, str]] = field(default_factory=list)  # database and sequence of searches that were run
    threads: int | None = None  # of each search; default: the setting, or one per core
    check: Callable[[], None] = go_on
    pace: Pace = Pace()  # of a server
    late: dict[tuple[Chain, str], str] = field(default_factory=dict)  # notes on searches that passed their time limit
    templates: dict[Lookup, Chosen] = field(default_factory=dict)  # of chains of earlier jobs

    def __post_init__(self) -> None:
        self.folder = self.cache_root / FOLDER
        self.cache = cache_in(self.cache_root)
        self._tools: dict[str, tools.Tool] = {}

    def tool_of(self, kind: Kind) -> tools.Tool:
        """The tool that chains of a kind are searched for with."""
        name = "auto" if kind == "rna" and self.settings.tool in tools.PROTEINS_ALONE else self.settings.tool
        if name not in self._tools:
            self._tools[name] = tools.choose(name, self.folder)
        return self._tools[name]

    def alignments(self, chains: Iterable[Chain]) -> dict[Chain, Alignments]:
        """The alignments of chains in AlphaFold 3's databases, merged as AlphaFold 3 does.

        Raises:
            SearchError: a database, a tool or the cache is at fault; it names it and the remedy.
        """
        every = list(dict.fromkeys(chains))
        unique = [chain for chain in every if not self._is_asked_for(chain)]
        plans = self._plans(unique)
        lacking = {chain for chain in unique if not plans[chain.kind].is_merged(chain, self)}
        queue = self._queue()
        queue.run(self._groups([chain for chain in unique if chain in lacking], plans, queue))
        found = {chain: self._merged(chain, plans[chain.kind], lacking=chain in lacking) for chain in unique}
        return found | self._asked_for([chain for chain in every if chain not in found])

    def known(self, chain: Chain) -> Alignments | None:
        """The alignments of a chain whose rows are in the cache; None where they are not, nothing is searched for.

        Raises:
            SearchError: a database or the cache is at fault.
        """
        if self._is_asked_for(chain):
            return None
        plan = self._plan(chain.kind)
        lacking = not plan.is_merged(chain, self)
        if lacking and not all(self.cache.has(self._key(chain, source)) for source in plan.sources.values()):
            return None
        return self._merged(chain, plan, lacking=lacking)

    def do(self, tasks: Iterable[Task]) -> None:
        """Do tasks beside each other; what a task raises ends all."""
        queue = self._queue()
        queue.tasks.extend(tasks)
        queue.run()

    def search_ahead(
        self,
        batches: Iterable[tuple[Sequence[Chain], Sequence[Task]]],
        ended: Callable[[Chain], Sequence[Task]],
    ) -> None:
        """Have the rows of chains in the cache, batch after batch in one queue; batches are drawn when they are begun.

        `ended` is called for each chain whose rows will not be searched for here any more: they are stored, their
        search failed, or another process is at it. Whoever asks for its alignments then gets them, or the error. The
        tasks that it gives, and those of the batches, are done beside the searches.

        Raises:
            SearchError: a database cannot be used at all.
        """
        seen: set[Chain] = set()
        left: dict[Chain, int] = {}
        queue = self._queue()

        def over(chain: Chain) -> None:
            queue.tasks.extend(ended(chain))

        def one_less(one: Wanted) -> None:
            left[one.chain] -= 1
            if not left[one.chain]:
                over(one.chain)

        def groups() -> Iterator[list[Wanted]]:
            for batch, tasks in batches:
                queue.tasks.extend(tasks)
                new = [chain for chain in dict.fromkeys(batch) if chain not in seen]
                seen.update(new)
                for chain in filter(self._is_asked_for, new):
                    over(chain)
                new = [chain for chain in new if not self._is_asked_for(chain)]
                plans = self._plans(new)
                lacking = [chain for chain in new if not plans[chain.kind].is_merged(chain, self)]
                wanted = self._groups(lacking, plans, queue)
                left.update(Counter(one.chain for group in wanted for one in group))
                for chain in new:
                    if chain not in left:
                        over(chain)
                yield []
                yield from wanted

        queue.run(groups(), one_less)

    def paired(self, sequences: Iterable[str]) -> dict[str, Path]:
        """Paired alignments of a job's sequences by a server that pairs them together; empty where others are used.

        Raises:
            SearchError: the server does not give them.
        """
        return self._server.paired(sequences) if self.settings.tool == "colabfold" else {}

    def _is_asked_for(self, chain: Chain) -> bool:
        """Whether a server is asked for a chain's alignments instead of a search."""
        return chain.kind == "protein" and self.settings.tool == "colabfold"

    def _asked_for(self, chains: Sequence[Chain]) -> dict[Chain, Alignments]:
        if not chains:
            return {}
        keys = self._server.unpaired(chain.sequence for chain in chains)
        found = [(chain, keys[chain.sequence]) for chain in chains]
        return {chain: Alignments(self.cache.path(key), None, key) for chain, key in found}

    @property
    def _server(self) -> ServerStage:
        pace = replace(self.pace, minutes=self.settings.server_minutes)
        return ServerStage(Server(self.settings.server, pace, self.check), self.cache, self.say, self.searched)

    def _queue(self) -> ShardQueue:
        threads = self.threads or self.settings.threads or processors()
        return ShardQueue(
            self.tool_of,
            self.folder,
            self.cache,
            self.settings,
            self.executor,
            threads,
            self.say,
            self.check,
            self.searched,
            self.late,
        )

    def _plans(self, chains: Sequence[Chain]) -> dict[Kind, "_Plan"]:
        """What is searched, for each kind of the chains."""
        kinds: list[Kind] = [chain.kind for chain in chains]
        return {kind: self._plan(kind) for kind in dict.fromkeys(kinds)}

    def _plan(self, kind: Kind) -> "_Plan":
        recipes = {"unpaired": UNPAIRED[kind], "paired": PAIRED[kind]}
        if kind == "protein" and self.settings.has_colabfold_set:
            recipes = BY_MMSEQS
        sources = {recipe: self._source(recipe) for group in recipes.values() for recipe in group}
        present = {recipe: source for recipe, source in sources.items() if source is not None}
        if not present:
            raise NoSearch(
                f"there is no database to search {kind} sequences in: name databases in [search] of foldline.toml, give"
                ' unpairedMsa ("" for none), or go without alignments (--msa none)'
            )
        missing = [recipe.database for recipe in sources if recipe not in present]
        missing += [part for source in present.values() for part in source.database.lacks]
        notes = (f"{kind} alignments were made without {', '.join(missing)}",) if missing else ()
        groups = {name: tuple(one for one in group if one in present) for name, group in recipes.items()}
        return _Plan(kind, present, groups, notes)

    def _groups(self, chains: Sequence[Chain], plans: dict[Kind, "_Plan"], queue: ShardQueue) -> list[list[Wanted]]:
        """What the queue is to find, the first chains first."""
        groups = []
        for kind, plan in plans.items():
            of_kind = [chain for chain in chains if chain.kind == kind]
            n_file = sum(len(source.database.files) for source in plan.sources.values())
            size = queue.together(kind, len(of_kind), n_file)
            for at in range(0, len(of_kind), size):
                for source in plan.sources.values():
                    some = [one for one in of_kind[at : at + size] if (one, source.database.name) not in self.late]
                    groups.append([Wanted(chain, source, self._key(chain, source)) for chain in some])
        return [group for group in groups if group]

    def _merged(self, chain: Chain, plan: "_Plan", *, lacking: bool) -> Alignments:
        """A chain's alignments, which are merged where they are not in the cache."""
        keys = {name: self._merged_key(chain, group, plan.sources) for name, group in plan.groups.items()}
        names = [recipe.database for recipe in plan.sources]
        said = tuple(self.late[chain, name] for name in names if (chain, name) in self.late)
        for name, group in plan.groups.items() if lacking else ():
            parts = [self._cached(self._key(chain, plan.sources[recipe])) for recipe in group]
            here = [part for part in parts if part is not None]
            if len(here) < len(group) and not said:
                raise SearchError(f"rows just stored in {self.cache.folder} are gone: is it pruned meanwhile?")
            keys[name] = self._store_merged(chain, name, here, keys[name], complete=len(here) == len(group))
        paired = self.cache.path(keys["paired"]) if chain.kind == "protein" else None
        return Alignments(self.cache.path(keys["unpaired"]), paired, keys["unpaired"], (*plan.notes, *said))

    def _source(self, recipe: Recipe) -> Source | None:
        if recipe in (COLABFOLD, COLABFOLD_PAIRED):
            here = locate_set(recipe, self.settings)
            return None if here is None else Source(here, Search(recipe, 1.0), identity(here, self.folder))
        database = locate(recipe.database, self.settings, self.folder)
        if database is None:
            return None
        search = searches(recipe, database, self.settings, self.folder, self.say)
        if recipe.kind == "protein" and self.settings.tool == "mmseqs":
            options = (("sensitivity", self.settings.sensitivity), ("iterations", self.settings.iterations))
            search = replace(search, options=options)
        return Source(database, search, identity(database, self.folder))

    def _key(self, chain: Chain, source: Source) -> str:
        """The key of a chain's rows in a database: everything that decides them."""
        search = source.search
        options = vars(search.recipe) | {"z": search.z, "z_given": search.z_given} | dict(search.options)
        tool = [self.tool_of(chain.kind).name, self.tool_of(chain.kind).version]
        parts = {"schema": SCHEMA, "what": "rows", "sequence": chain.sequence, "database": source.identity}
        return key_of(parts | {"tool": tool, "options": options})

    def _merged_key(self, chain: Chain, group: Sequence[Recipe], sources: Mapping[Recipe, Source]) -> str:
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

    def _cached(self, key: str) -> Alignment | None:
        text = self.cache.get(key) if self.cache.has(key) else None
        return None if text is None else parse_a3m(text)


@dataclass(frozen=True)
class _Plan:
    """What chains of a kind are searched in, and what is merged of it."""

    kind: Kind
    sources: Mapping[Recipe, Source]
    groups: Mapping[str, tuple[Recipe, ...]]  # unpaired and paired, in order of merging
    notes: tuple[str, ...]

    def is_merged(self, chain: Chain, searcher: Searcher) -> bool:
        """Whether the cache has a chain's alignments whole."""
        keys = [searcher._merged_key(chain, group, self.sources) for group in self.groups.values()]
        return all(map(searcher.cache.is_whole, keys))
