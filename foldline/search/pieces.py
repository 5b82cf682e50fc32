"""Pieces of the search stage, which any machine can be given: values alone, and what makes a result of them.

A piece fails where its machine lacks a file or has another version of it or of a tool, and names both. Knows neither
the cache nor where pieces run.
"""

import platform
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from foldline.errors import SearchError
from foldline.execute import InProcess, go_on
from foldline.search import tools
from foldline.search.recipes import Search
from foldline.search.rows import Alignment, Found, Row

Check = Callable[[], None]


class Piece(Protocol):
    """Some work. `str` is what it is in a few words."""

    @property
    def threads(self) -> int:
        """How many it uses."""
        ...

    def run(self, check: Check) -> Any:
        """Do it; `check` is called now and then and ends it by raising."""
        ...


class Task(NamedTuple):
    """A piece in a queue, made when it is its turn, and what becomes of its result.

    `begin` is given what is closed when the task is over, and how many threads the piece may use; it gives None where
    nothing is to be done. `end` is given the future, which is done.
    """

    begin: Callable[[ExitStack, int], Piece | None]
    end: Callable[["Future[Any]"], None]


def run_piece(piece: Piece, check: Check = go_on) -> Any:
    """What an executor runs."""
    return piece.run(check)


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
        return f"the search of {Path(self.file).name} for {count_of(len(self.queries))}"

    def run(self, check: Check) -> list[Found]:
        """See `search_item`."""
        return search_item(self, check)


def search_item(item: Item, check: Check = go_on) -> list[Found]:
    """What each query of an item finds; `check` is called now and then and ends the search by raising.

    Raises:
        SearchError: the search fails, or this machine lacks the file or has another version of it or of the tool.
    """
    tool = same_tool(item.tool, item.folder, item.version)
    file = same_file(item.file, item.size)
    search = item.search
    if item.seconds is not None:
        search = replace(search, deadline=time.monotonic() + item.seconds)
    with InProcess(2 * item.threads, item.threads, check=check) as executor:
        return tool.search(item.queries, [file], search, executor)


@dataclass(frozen=True, eq=False)
class Realignment:
    """Some of the rows that an RNA has found, to be aligned to its profile."""

    tool: str
    folder: str
    version: str
    query: str
    rows: list[Row]
    search: Search
    threads: int = 1

    def __str__(self) -> str:
        """What it is in a few words."""
        return f"the alignment of {len(self.rows)} rows of {self.search.recipe.database}"

    def run(self, check: Check) -> Alignment:
        """The aligned rows, without the query's."""
        check()
        tool = same_tool(self.tool, self.folder, self.version)
        made = tool.align(self.query, Found(self.rows, len(self.rows)), self.search)
        return Alignment(made.headers[1:], made.rows[1:])


def same_tool(name: str, folder: str, version: str) -> tools.Tool:
    """The tool on this machine.

    Raises:
        SearchError: it is not here, or in another version.
    """
    tool = tools.choose(name, Path(folder))
    same_version(tool.name, tool.version, version)
    return tool


def same_version(name: str, here: str, there: str) -> None:
    """Raise SearchError where a program of this machine is another version than that of the machine that asks."""
    if here != there:
        raise SearchError(
            f"{name} is {here} on {platform.node()} and {there} on the machine that asks: install the same"
        )


def same_file(name: str, size: int) -> Path:
    """A file of a database on this machine.

    Raises:
        SearchError: it is not here, or has another size.
    """
    try:
        here = Path(name).stat().st_size
    except OSError as error:
        raise SearchError(
            lacking(f"the database file {name}", platform.node(), error.strerror or str(error))
        ) from error
    if here != size:
        raise SearchError(
            f"the database file {name} has {here} bytes on {platform.node()}, {size} on the machine that asks: copy it"
            " again"
        )
    return Path(name)


def lacking(what: str, node: str, why: str) -> str:
    """The sentence on what a machine does not have."""
    return f"{what} cannot be read on {node} ({why}): databases must lie under the same path on every machine"


def count_of(number: int) -> str:
    """So many sequences in words."""
    return f"{number} {'sequence' if number == 1 else 'sequences'}"
