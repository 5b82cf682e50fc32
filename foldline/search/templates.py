"""Template search: the profile of an alignment against pdb_seqres, structures from a folder of mmCIF files.

Each template becomes an mmCIF text of its one chain. Knows no jobs and no cache.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import gemmi
import numpy as np

from foldline.errors import InputError, SearchError
from foldline.search.databases import Database, structure_file
from foldline.search.rows import Alignment
from foldline.search.template_hits import Dropped, Hit, Kept, Structure, filtered
from foldline.structure.mmcif_in import TemplateStructure, read_template

_REVISION = "_pdbx_audit_revision_history.revision_date"
# Categories that a template's text keeps, and the item that says which rows belong to the chain or its entity.
_OF_CHAIN = {"_atom_site.": "label_asym_id", "_pdbx_poly_seq_scheme.": "asym_id", "_struct_asym.": "id"}
_OF_ENTITY = {"_entity.": "id", "_entity_poly.": "entity_id", "_entity_poly_seq.": "entity_id"}
_WHOLE = ("_entry.", "_exptl.", "_pdbx_audit_revision_history.", "_chem_comp.")
KEPT_ENTRIES = 2  # ten times the size of their files each
KEPT_CHAINS = 8
_BYTES, _GAP = "latin-1", ord("-")  # a byte for each letter
Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Found:
    """A template: one chain as mmCIF text, and which of its residues stand for which of the query (0-based)."""

    name: str
    mmcif: str
    query_indices: tuple[int, ...]
    template_indices: tuple[int, ...]


def stockholm(alignment: Alignment) -> str:
    """An alignment in Stockholm format with a column for every insertion; the query's columns are the reference.

    Names are made unique and nothing of them matters to a profile (AF3 data/parsers.py:78-121).
    """
    n_column = sum(not letter.islower() for letter in alignment.query)
    own = np.minimum(np.arange(n_column + 1), 1)  # letters of a column itself; before the first there is none
    widths = np.zeros(n_column + 1, int)
    for row in alignment.rows:
        inserted = np.bincount(_columns(_letters(row)), minlength=n_column + 1) - own
        np.maximum(widths, inserted, out=widths)
    starts = np.cumsum(widths + own) - widths - own  # of each column with what is inserted after it
    lines = ["# STOCKHOLM 1.0", ""]
    line = np.empty(int((widths + own).sum()), np.uint8)
    for number, row in enumerate(alignment.rows):
        letters = _letters(row)
        columns = _columns(letters)
        line.fill(_GAP)
        first = np.searchsorted(columns, columns)  # of the same column
        line[starts[columns] + np.arange(len(letters)) - first] = np.where(_is_lower(letters), letters - 32, letters)
        lines.append(f"r{number} {line.tobytes().decode(_BYTES)}")
    line.fill(ord("."))
    query = _letters(alignment.query)
    line[starts[1:][query[~_is_lower(query)] != _GAP]] = ord("x")
    return "\n".join([*lines, f"#=GC RF {line.tobytes().decode(_BYTES)}", "//", ""])


def _letters(row: str) -> np.ndarray:
    """The letters [N] of a row, a byte each."""
    return np.frombuffer(row.encode(_BYTES, "replace"), np.uint8)


def _columns(letters: np.ndarray) -> np.ndarray:
    """Of each letter [N], the column (from 1) that it stands in or is inserted after; 0 is before all."""
    return np.cumsum(~_is_lower(letters))


def _is_lower(letters: np.ndarray) -> np.ndarray:
    return (letters >= ord("a")) & (letters <= ord("z"))


class Structures:
    """mmCIF files of a folder, NAME.cif, here or in a store; the last few that were read are kept."""

    def __init__(self, folder: Database) -> None:
        self.folder = folder
        self.missing: list[str] = []
        self._files: dict[str, Path | None] = {}
        self._released: dict[str, datetime.date | None] = {}
        self._blocks: dict[str, gemmi.cif.Block] = {}
        self._chains: dict[tuple[str, str], tuple[str, TemplateStructure]] = {}

    @property
    def files(self) -> dict[str, Path | None]:
        """The entries that were looked for, and their files where there are any."""
        return dict(self._files)

    def released(self, pdb_id: str) -> datetime.date | None:
        """When an entry was released; None, and the entry counts as missing, where its file does not say."""
        if pdb_id not in self._released:
            block = self.block(pdb_id)
            dates = [] if block is None else [gemmi.cif.as_string(one) for one in block.find_values(_REVISION)]
            try:
                self._released[pdb_id] = datetime.date.fromisoformat(min(dates, default=""))
            except ValueError:
                self._released[pdb_id] = None
        if self._released[pdb_id] is None:
            self.missing.append(pdb_id)
        return self._released[pdb_id]

    def describe(self, hit: Hit) -> Structure | None:
        """What the filters need; None where the file or the date is missing, or the chain cannot be read."""
        released = self.released(hit.pdb_id)
        if released is None:
            return None
        try:
            chain = self.chain(hit)
        except InputError:
            self.missing.append(hit.name)
            return None
        return Structure(chain.sequence, tuple(number != "" for number in chain.residue_number.tolist()), released)

    def chain(self, hit: Hit) -> TemplateStructure:
        """The chain of a hit."""
        return self._chain(hit)[1]

    def text(self, hit: Hit) -> str:
        """The chain of a hit alone as mmCIF."""
        return self._chain(hit)[0]

    def _chain(self, hit: Hit) -> tuple[str, TemplateStructure]:
        key = (hit.pdb_id, hit.chain)
        if key not in self._chains:
            block = self.block(hit.pdb_id)
            assert block is not None
            text = chain_mmcif(block, hit.chain)
            _remember(self._chains, key, (text, read_template(text, path=f"{hit.pdb_id}.cif")), KEPT_CHAINS)
        return self._chains[key]

    def block(self, pdb_id: str) -> gemmi.cif.Block | None:
        """The data block of an entry, None where its file is missing."""
        if pdb_id not in self._blocks:
            if self._file(pdb_id) is None:
                return None
            try:
                _remember(self._blocks, pdb_id, gemmi.cif.read_string(self._text(pdb_id))[0], KEPT_ENTRIES)
            except (ValueError, RuntimeError, IndexError) as error:
                raise SearchError(f"{self._file(pdb_id)} is no mmCIF file ({error}): get it again") from error
        return self._blocks[pdb_id]

    def _file(self, pdb_id: str) -> Path | None:
        if pdb_id not in self._files:
            self._files[pdb_id] = structure_file(self.folder, pdb_id)
        return self._files[pdb_id]

    def _text(self, pdb_id: str) -> str:
        path = self._file(pdb_id)
        assert path is not None
        try:
            return path.read_text()
        except OSError as error:
            raise SearchError(f"{path} cannot be read ({error.strerror or error}): check its permissions") from error


def _remember(known: dict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Keep a value, and of those before only the last ones: an entry of the PDB may take a gigabyte of memory."""
    known[key] = value
    while len(known) > most:
        del known[next(iter(known))]


def choose(
    query: str, hits: Sequence[Hit], structures: Structures, cutoff: datetime.date
) -> tuple[list[Found], list[Dropped]]:
    """At most four of the hits as templates, chosen as AlphaFold 3 does, and the hits that were looked at in vain."""
    dropped: list[Dropped] = []
    kept = filtered(query, hits, structures.describe, cutoff, dropped.append)
    return [_found(one, structures) for one in kept], dropped


def _found(kept: Kept, structures: Structures) -> Found:
    pairs = sorted(kept.mapping.items())
    return Found(
        kept.hit.name, structures.text(kept.hit), tuple(query for query, _ in pairs), tuple(at for _, at in pairs)
    )


def chain_mmcif(block: gemmi.cif.Block, author_chain: str) -> str:
    """The polymer chain of that author's name alone, with its sequence and the dates, as mmCIF text.

    Raises:
        InputError: there is none.
    """
    table = block.find("_atom_site.", ["label_asym_id", "label_entity_id"])
    names, numbers = (block.find_values(f"_atom_site.{item}") for item in ("auth_asym_id", "label_seq_id"))
    written = (author_chain, f"'{author_chain}'", f'"{author_chain}"')
    polymer = (i for i, name in enumerate(names) if name in written and numbers[i] not in ".?")
    at = next(polymer, None) if len(table) == len(names) == len(numbers) else None
    if at is None:
        raise InputError(f"the structure has no chain {author_chain!r}", path=f"{block.name}.cif")
    label, entity = table[at][0], table[at][1]
    document = gemmi.cif.Document()
    made = document.add_new_block(block.name)
    for category in _WHOLE:
        _copy(block, made, category, "", "")
    for category, item in _OF_ENTITY.items():
        _copy(block, made, category, item, entity)
    for category, item in _OF_CHAIN.items():
        _copy(block, made, category, item, label)
    return document.as_string()


def _copy(block: gemmi.cif.Block, made: gemmi.cif.Block, category: str, item: str, value: str) -> None:
    """The rows of a category whose item has a value, or all; of several models the first."""
    table = block.find_mmcif_category(category)
    if not len(table):
        return
    tags = [tag.removeprefix(category) for tag in table.tags]
    kept: Iterable[int] = range(len(table))
    if item in tags:
        column = block.find_values(category + item)
        kept = [row for row in kept if column[row] == value]
    if category == "_atom_site." and "pdbx_PDB_model_num" in tags:
        models = block.find_values("_atom_site.pdbx_PDB_model_num")
        kept = [row for row in kept if models[row] == models[0]]
    loop = made.init_loop(category, tags)
    for row in kept:
        loop.add_row(list(table[row]))
