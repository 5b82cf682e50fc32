"""Templates of a chain, from the cache or searched for: the list of the chosen ones, and one mmCIF entry for each.

Knows alignments as text and the cache; which chains want templates stands in `jobs`.
"""

import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from foldline.errors import SearchError
from foldline.inputs.job import Template, Text
from foldline.inputs.text import read_text
from foldline.search.cache import key_of
from foldline.search.databases import Database, fetch, identity, locate, size
from foldline.search.recipes import TEMPLATES, Search
from foldline.search.rows import Alignment, alignment_of, read_a3m
from foldline.search.settings import MMCIF, OFF, SEQRES, SearchSettings
from foldline.search.stage import SCHEMA, Searcher
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


def templates(
    query: str, unpaired: Text, paired: Text, searcher: Searcher
) -> tuple[tuple[Template, ...], tuple[str, ...]]:
    """At most four templates of a protein chain with these alignments, and notes.

    Raises:
        SearchError: a database, the folder of structures, kalign or the cache is at fault.
        InputError: an alignment has rows of different length.
    """
    database, folder = (locate(name, searcher.settings, searcher.folder) for name in (SEQRES, MMCIF))
    if database is None or folder is None:
        return (), ()
    rules = _rules(searcher.settings)
    alignment = rules.alignment(query, unpaired, paired)
    key = _key(query, alignment, database, folder, searcher, rules.name)
    with searcher.cache.locked(key):
        known = _known(searcher, key)
        if known is None:
            _search(query, alignment, database, folder, key, searcher, rules)
            known = _known(searcher, key)
    if known is None:
        raise SearchError(f"the templates just stored in {searcher.cache.folder} are gone: is it pruned meanwhile?")
    found, notes = known
    return found, (*notes, *rules.notes)


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


def _search(
    query: str, alignment: Alignment, database: Database, folder: Database, key: str, searcher: Searcher, rules: _Rules
) -> None:
    """Search, choose, and store the chosen ones: structures first, the list last."""
    from foldline.search.pyhmmer_tool import SHORTEST, PyHmmer

    searcher.say(f"searching {SEQRES} for templates")
    searcher.searched.append((SEQRES, query))
    given = searcher.settings.z.get(SEQRES)
    fetch(database, searcher.say)
    z = size(database, "protein", searcher.folder) if given is None else float(given)
    search = Search(TEMPLATES, z, z_given=given is not None, sharded=database.sharded)
    rows = []
    if len(query) >= SHORTEST["protein"]:
        rows = PyHmmer().search_profile(stockholm(alignment), database.files, search, searcher.executor)
    hits = [hit for row in rows if (hit := hit_of(row.header, row.text)) is not None]
    structures = Structures(folder)
    found, dropped = rules.choose(query, hits, structures, searcher.settings.max_template_date)
    entries = []
    for one in found:
        mmcif = key_of({"schema": SCHEMA, "what": "structure", "text": one.mmcif})
        searcher.cache.put(mmcif, one.mmcif, {"what": f"template {one.name}"})
        entries.append([one.name, mmcif, one.query_indices, one.template_indices])
    notes = [f"{len(rows) - len(hits)} rows of {SEQRES} are not named like those of the PDB"] * (len(rows) > len(hits))
    if structures.missing:
        missing = shortened(structures.missing)
        notes.append(f"template hits without a usable structure in {folder.spec} were left out: {missing}")
    notes += told(dropped)
    about = {"what": "templates", "kind": "protein", "sequence": query, "rows": len(found)}
    searcher.cache.put(key, json.dumps({"found": entries, "notes": notes}), about)


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
