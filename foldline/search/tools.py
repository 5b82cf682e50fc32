"""The protocol of search tools and the choice among those that are here. Knows no databases' places and no cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from foldline.errors import NoSearch, SearchError
from foldline.execute import Executor
from foldline.search.recipes import Search
from foldline.search.rows import Alignment, Found

PROTEINS_ALONE = ("mmseqs", "colabfold")  # RNA is then searched for as by "auto"


class Tool(Protocol):
    """A program or library that searches sequence databases. `name` and `version` become part of the cache's keys.

    `together` says that several queries in one search cost less than one by one, and that a search of one file uses all
    slots of its executor; otherwise queries and shards are searched one by one beside each other.
    """

    name: str
    version: str
    together: bool

    def told_before(self, database: str, files: Sequence[Path], search: Search) -> Sequence[str]:
        """What is worth telling before a search of a database, such as that an index is made first."""
        return ()

    def search(self, queries: Sequence[str], shards: Sequence[Path], search: Search, executor: Executor) -> list[Found]:
        """What each query finds in a database, given as one file or as its shards.

        Any subset of the shards may be searched elsewhere: `rows.joined` makes one result of the parts.

        Raises:
            SearchError: a file cannot be read as FASTA, the tool fails, or the deadline passes (`SearchTimeout`).
        """
        ...

    def align(self, query: str, found: Found, search: Search) -> Alignment:
        """The alignment of what a query found in the whole database, within the recipe's limit."""
        ...


class SearchTimeout(SearchError):
    """A search gave up at its time limit."""

    code = "search_timeout"

    def __init__(self, where: str) -> None:
        super().__init__(f"the search of {where} passed its time limit: raise rna_minutes in [search], or go without")


def choose(name: str, folder: Path | None = None) -> Tool:
    """The tool of that name; "auto" is pyhmmer, or the HMMER programs where it is not installed.

    `folder` is where mmseqs keeps what it makes of databases.

    Raises:
        SearchError: it is not here.
    """
    from foldline.search.binaries import Hmmer

    if name == "mmseqs":
        from foldline.search.mmseqs import MMseqs

        assert folder is not None
        return MMseqs.find(folder)
    if name == "hmmer":
        return Hmmer.find()
    try:
        from foldline.search.pyhmmer_tool import PyHmmer
    except ImportError as error:
        if name == "auto" and Hmmer.is_here():
            return Hmmer.find()
        raise NoSearch("pyhmmer is not installed: pip install pyhmmer, or install HMMER") from error
    return PyHmmer()
