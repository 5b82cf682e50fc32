"""Templates of chains, from the cache or searched for: the list of the chosen ones, and one mmCIF entry for each.

A search is a piece that any machine can be given: the profile, hmmsearch, and the structures of its hits. Knows
alignments as text and the cache; which chains want templates stands in `jobs`.
"""

import datetime
import hashlib
import json
import platform
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from foldline.errors import SearchError
from foldline.execute import InProcess
from foldline.inputs.job import Template, Text
from foldline.inputs.text import read_text
from foldline.search.cache import key_of
from foldline.search.databases import Database, fetch, identity, locate, size, structure_file
from foldline.search.pieces import Check, Task, lacking, same_file, same_version
from foldline.search.recipes import TEMPLATES, Search
from foldline.search.rows import Alignment, alignment_of, read_a3m
from foldline.search.settings import MMCIF, OFF, SEQRES, SearchSettings
from foldline.search.stage import SCHEMA, Chosen, Lookup, Searcher
from foldline.search.template_aligner import REMEDY, Kalign
from foldline.search.template_hits import Dropped, Hit, hit_of, shortened, told
from foldline.search.template_protenix import PROFILE_ROWS
from foldline.search.template_protenix import choose as templates_as_protenix
from foldline.search.templates import Found, Structures, stockholm
from foldline.search.templates import choose as templates_as_alphafold3


def wants_templates(settings: SearchSettings) -> bool:
    """Whether the settings name what templates are searched in, or folders where AlphaFold 3's files are to be."""
    named = [settings.databases.get(name) for name in (SEQRES, MMCIF)]
    return OFF not in named and (bool(settings.roots) or all(named))


@dataclass(frozen=True)
class _Rules:
    """Whose rules choose the templates; `kalign` is there for Protenix's and for no other."""

    kalign: Kalign | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the rules depend on beside the settings."""
        return "alphafold3" if self.kalign is None else f"protenix, kalign {self.kalign.version}"

    def alignment(self, query: str, unpaired: Text, paired: Text) -> Alignment:
        """The rows that the profile is made of: AlphaFold 3 takes the unpaired ones, Protenix the paired ones first."""
        what = "the alignment for the template search"
        texts = (
            [read_text(unpaired, what)] if self.kalign is None else [read_text(one, what) for one in (paired, unpaired)]
        )
        one = read_a3m("\n".join(texts), what)
        if not one.rows:
            return alignment_of(query)
        rows = None if self.kalign is None else PROFILE_ROWS
        return Alignment(one.headers[:rows], one.rows[:rows])

    def choose(
        self, query: str, hits: Sequence[Hit], structures: Structures, cutoff: datetime.date
    ) -> tuple[list[Found], list[Dropped]]:
        """The templates, and the hits that were looked at in vain."""
        if self.kalign is None:
            return templates_as_alphafold3(query, hits, structures, cutoff)
        return templates_as_protenix(query, hits, structures, cutoff, self.kalign)


@dataclass(frozen=True, eq=False)
class TemplateItem:
    """The template search of a chain."""

    query: str
    alignment: Alignment  # of the profile
    version: str  # of pyhmmer: another machine's must be the same, as must that of kalign
    kalign: str | None  # None: AlphaFold 3's rules
    files: tuple[tuple[str, int], ...]  # of pdb_seqres, with their bytes
    structures: Database
    search: Search
    cutoff: datetime.date
    threads: int

    def __str__(self) -> str:
        """What it is in a few words."""
        return f"the template search for a chain of {len(self.query)} residues"

    def run(self, check: Check) -> "TemplateResult":
        """The templates; `check` is called now and then and ends the search by raising.

        Raises:
            SearchError: the search fails, or this machine lacks a database or has another version of it or of a tool.
        """
        from foldline.search.pyhmmer_tool import SHORTEST, PyHmmer

        tool, rules = PyHmmer(), self._rules()
        same_version(tool.name, tool.version, self.version)
        files = [same_file(name, bytes_) for name, bytes_ in self.files]
        folder = self.structures.files[0]
        if not (self.structures.origins or folder.is_dir()):
            raise SearchError(lacking(f"the folder of structures {folder}", platform.node(), "no such folder"))
        rows = []
        if len(self.query) >= SHORTEST["protein"]:
            with InProcess(2 * self.threads, self.threads, check=check) as executor:
                rows = tool.search_profile(stockholm(self.alignment), files, self.search, executor)
        check()
        hits = [hit for row in rows if (hit := hit_of(row.header, row.text)) is not None]
        structures = Structures(self.structures)
        found, dropped = rules.choose(self.query, hits, structures, self.cutoff)
        sizes = {name: _bytes_of(path) for name, path in structures.files.items()}
        return TemplateResult(found, dropped, len(rows), len(hits), structures.missing, sizes, platform.node())

    def _rules(self) -> _Rules:
        if self.kalign is None:
            return _Rules()
        here = Kalign.find()
        if here is None:
            raise SearchError(f"kalign is not on the PATH of {platform.node()}: {REMEDY}")
        same_version("kalign", here.version, self.kalign)
        return _Rules(here)


@dataclass(frozen=True)
class TemplateResult:
    """What a template search gives."""

    found: list[Found]
    dropped: list[Dropped]
    n_row: int
    n_hit: int  # rows that are named like those of the PDB
    missing: list[str]  # hits without a usable structure
    sizes: dict[str, int | None]  # bytes of the structures that were looked for, None: there is no such file
    node: str


def _bytes_of(path: Path | None) -> int | None:
    return None if path is None else path.stat().st_size


def templates(wanted: Iterable[Lookup], searcher: Searcher) -> dict[Lookup, Chosen]:
    """At most four templates of each protein chain with these alignments, and notes.

    Raises:
        SearchError: a database, the folder of structures, kalign or the cache is at fault.
        InputError: an alignment has rows of different length.
    """
    unique = list(dict.fromkeys(wanted))
    left = [one for one in unique if not _is_there(searcher.templates.get(one))]
    while left:
        searches = [TemplateSearch(one, searcher) for one in left]
        searcher.do([search.task for search in searches])
        left = []
        for search in searches:
            if search.elsewhere is not None:
                searcher.say(f"waiting for another process that searches {SEQRES} for the same chain")
                with searcher.cache.locked(search.elsewhere):
                    left.append(search.lookup)
    return {one: searcher.templates[one] for one in unique}


def _is_there(known: Chosen | None) -> bool:
    """Whether templates that were found before are still in the cache."""
    return known is not None and all(one.mmcif.path is None or one.mmcif.path.is_file() for one in known[0])


class TemplateSearch:
    """The lookup of a chain's templates as a task of a queue; they are among the searcher's when it is over."""

    def __init__(self, lookup: Lookup, searcher: Searcher) -> None:
        self.lookup, self.searcher = lookup, searcher
        self.elsewhere: str | None = None  # the key, where another process is at it
        self._key = ""
        self._notes: tuple[str, ...] = ()

    @property
    def task(self) -> Task:
        """The task."""
        return Task(self.begin, self.end)

    def begin(self, locks: ExitStack, threads: int) -> TemplateItem | None:
        """The search; None where the templates are known, there are none to look for, or another process is at it.

        Raises:
            SearchError, InputError: see `templates`.
        """
        searcher, (query, unpaired, paired) = self.searcher, self.lookup
        database, folder = (locate(name, searcher.settings, searcher.folder) for name in (SEQRES, MMCIF))
        if database is None or folder is None:
            searcher.templates[self.lookup] = (), ()
            return None
        rules = _rules(searcher.settings)
        alignment = rules.alignment(query, unpaired, paired)
        self._notes = rules.notes
        self._key = _key(query, alignment, database, folder, searcher, rules.name)
        if self._known():
            return None
        if not locks.enter_context(searcher.cache.locked(self._key, wait=False)):
            self.elsewhere = self._key
            return None
        if self._known():  # made since we looked
            return None
        searcher.say(f"searching {SEQRES} for templates")
        searcher.searched.append((SEQRES, query))
        return _item(query, alignment, database, folder, searcher, rules, threads)

    def end(self, future: "Future[TemplateResult]") -> None:
        """Store what was chosen: structures first, the list last.

        Raises:
            SearchError: the search has failed, or another machine has other structures.
        """
        searcher, made = self.searcher, future.result()
        folder = locate(MMCIF, searcher.settings, searcher.folder)
        assert folder is not None
        if searcher.executor is not None and not folder.origins:
            _check_structures(made, folder)
        entries = []
        for one in made.found:
            mmcif = key_of({"schema": SCHEMA, "what": "structure", "text": one.mmcif})
            searcher.cache.put(mmcif, one.mmcif, {"what": f"template {one.name}"})
            entries.append([one.name, mmcif, one.query_indices, one.template_indices])
        odd = made.n_row - made.n_hit
        notes = [f"{odd} rows of {SEQRES} are not named like those of the PDB"] * (odd > 0)
        if made.missing:
            missing = shortened(made.missing)
            notes.append(f"template hits without a usable structure in {folder.spec} were left out: {missing}")
        notes += told(made.dropped)
        about = {"what": "templates", "kind": "protein", "sequence": self.lookup.query, "rows": len(made.found)}
        searcher.cache.put(self._key, json.dumps({"found": entries, "notes": notes}), about)
        if not self._known():
            raise SearchError(f"the templates just stored in {searcher.cache.folder} are gone: is it pruned meanwhile?")

    def _known(self) -> bool:
        """Whether the cache has them, which the searcher then has too."""
        known = _known(self.searcher, self._key)
        if known is not None:
            self.searcher.templates[self.lookup] = known[0], (*known[1], *self._notes)
        return known is not None


def _check_structures(made: TemplateResult, folder: Database) -> None:
    """Raise SearchError where a machine has seen other files than there are here."""
    for name, there in made.sizes.items():
        path = folder.files[0] / f"{name}.cif"
        here = _bytes_of(structure_file(folder, name))
        if there is None and here is not None:
            raise SearchError(lacking(f"the structure {path}", made.node, "No such file or directory"))
        if there != here:
            raise SearchError(
                f"the structure {path} has {there} bytes on {made.node}, {here or 0} on the machine that asks: copy it"
                " again"
            )


def _rules(settings: SearchSettings) -> _Rules:
    """The rules of the settings. Without kalign the automatic choice is AlphaFold 3's, with a note.

    Raises:
        SearchError: Protenix's are asked for and kalign is not here.
    """
    if settings.rules == "alphafold3":
        return _Rules()
    kalign = Kalign.find()
    if kalign is not None:
        return _Rules(kalign)
    missing = f"Protenix's rules for templates need kalign, which is not on the PATH: {REMEDY}"
    if settings.template_rules == "protenix":
        raise SearchError(missing)
    return _Rules(notes=(f"templates are chosen by AlphaFold 3's rules. {missing}",))


def _key(query: str, alignment: Alignment, database: Database, folder: Database, searcher: Searcher, rules: str) -> str:
    """Everything that decides the templates; of the folder of structures, its place and the time of its last change.

    A store tells no such time.
    """
    from foldline.search.pyhmmer_tool import PyHmmer

    parts = {
        "schema": SCHEMA,
        "what": "templates",
        "rules": rules,
        "sequence": query,
        "alignment": hashlib.sha256("\n".join(alignment.rows).encode()).hexdigest(),
        "database": identity(database, searcher.folder, searcher.say),
        "structures": _stamp(folder),
        "tool": PyHmmer().version,
        "options": vars(TEMPLATES) | {"z": searcher.settings.z.get(SEQRES)},
        "date": searcher.settings.max_template_date.isoformat(),
    }
    return key_of(parts)


def _stamp(folder: Database) -> list[object]:
    path = folder.files[0]
    return [folder.spec, ""] if folder.origins else [str(path.absolute()), path.stat().st_mtime_ns]


def _item(
    query: str,
    alignment: Alignment,
    database: Database,
    folder: Database,
    searcher: Searcher,
    rules: _Rules,
    threads: int,
) -> TemplateItem:
    """The search of what is not known."""
    from foldline.search.pyhmmer_tool import PyHmmer

    given = searcher.settings.z.get(SEQRES)
    fetch(database, searcher.say)
    z = size(database, "protein", searcher.folder) if given is None else float(given)
    return TemplateItem(
        query,
        alignment,
        PyHmmer().version,
        None if rules.kalign is None else rules.kalign.version,
        tuple((str(path.absolute()), path.stat().st_size) for path in database.files),
        replace(folder, files=tuple(path.absolute() for path in folder.files)),
        Search(TEMPLATES, z, z_given=given is not None, sharded=database.sharded),
        searcher.settings.max_template_date,
        threads,
    )


def _known(searcher: Searcher, key: str) -> tuple[tuple[Template, ...], tuple[str, ...]] | None:
    """The templates of an entry, None where it or one of its structures is missing or damaged."""
    cache = searcher.cache
    text = cache.get(key) if cache.has(key) else None
    if text is None:
        return None
    stored = json.loads(text)
    found = []
    for _, mmcif, query_indices, template_indices in stored["found"]:
        if not cache.has(mmcif) or (structure := cache.get(mmcif)) is None:
            return None
        place = Text(inline=structure) if searcher.settings.inline else Text(path=cache.path(mmcif).absolute())
        found.append(Template(place, tuple(query_indices), tuple(template_indices)))
    return tuple(found), tuple(stored["notes"])
