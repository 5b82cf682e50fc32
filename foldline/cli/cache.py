"""`foldline cache`: what is kept for this user or folder: list, prune; search results alone: export, import."""

import datetime
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from foldline.cli.options import ConfigFile, settings_from
from foldline.config import parse_bytes
from foldline.errors import InputError

if TYPE_CHECKING:
    from foldline.outputs.workplace import Left
    from foldline.search.cache import Cache

cache = typer.Typer(
    help="List and prune search results, copies of store files, and folders of results on their way into a store.",
    no_args_is_help=True,
)
File = Annotated[Path, typer.Argument(metavar="FILE", help="A tar file of cache entries.")]
ENTRY_SEQUENCE = 24


@cache.command("list")
def list_entries(config: ConfigFile = None) -> None:
    """List what there is, the one used last first: search results, copies of store files, results for stores."""
    from foldline import remote
    from foldline.outputs.workplace import left_behind

    entries = _cache(config).entries()
    for entry in entries:
        about = entry.about
        sequence = str(about.get("sequence", ""))
        shown = sequence if len(sequence) <= ENTRY_SEQUENCE else f"{sequence[:ENTRY_SEQUENCE]}... ({len(sequence)})"
        what = about.get("database") or about.get("what", "-")
        size = f"{entry.size / 1e3:10.1f} kB  {about.get('rows', '-')!s:>6} rows"
        print(f"{entry.key[:12]}  {_time(entry.used)}  {size}  {what}  {shown}")
    print(f"{len(entries)} entries, {_megabytes(entries)}")
    copies = remote.copies(_copies(config))
    for copy in copies:
        state = "  replaced by a later one" if copy.is_replaced else ""
        print(f"copy          {_time(copy.used)}  {copy.size / 1e3:10.1f} kB  {copy.url}{state}")
    if copies:
        print(f"{_count(copies)} of store files, {_megabytes(copies)}")
    for left in left_behind(settings_from(config).work_root):
        words = ["in use"] * left.busy + [_named(what, jobs) for what, jobs in _states(left) if jobs]
        state = "; ".join(words) or "nothing that is not in the store"
        print(f"results       {_time(left.used)}  {left.size / 1e3:10.1f} kB  {left.url}: {state} ({left.folder})")


@cache.command()
def prune(
    unused_days: Annotated[
        float | None, typer.Option("--unused-days", min=0, help="Remove what was not used for so many days.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size", metavar="20GB", help="Then remove search results that were used longest ago until this."
        ),
    ] = None,
    replaced: Annotated[
        bool, typer.Option("--replaced", help="Remove copies of store files of which there is a later version here.")
    ] = False,
    results: Annotated[
        bool, typer.Option("--results", help="With --unused-days, results too that never came into their store.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Remove what is old. Jobs written with paths into the cache lose the alignments that are removed."""
    from foldline import remote
    from foldline.outputs import workplace

    if unused_days is None and max_size is None and not replaced:
        raise InputError("nothing says what to remove: give --unused-days, --max-size or --replaced")
    if results and unused_days is None:
        raise InputError("it needs --unused-days", path="--results")
    try:
        size = None if max_size is None else parse_bytes(max_size)
    except InputError as error:
        raise InputError(error.message, path="--max-size") from error
    removed = _cache(config).prune(unused_days=unused_days, max_bytes=size)
    print(f"removed {len(removed)} entries, {_megabytes(removed)}")
    oldest = None if unused_days is None else time.time() - unused_days * 86400
    doomed = (
        copy
        for copy in remote.copies(_copies(config))
        if (replaced and copy.is_replaced) or (oldest is not None and copy.used < oldest)
    )
    gone = [copy for copy in doomed if remote.drop(copy)]
    if gone:
        print(f"removed {_count(gone)} of store files, {_megabytes(gone)}")
    if unused_days is not None:
        root = settings_from(config).work_root
        for left in workplace.prune(root, unused_days, results=results):
            lost = "; ".join(_named(what, jobs) for what, jobs in _states(left) if jobs)
            print(f"removed the folder of {left.url}, {_megabytes([left])}" + (f": {lost}" if lost else ""))
        for left in workplace.left_behind(root):
            if left.whole and not left.busy and left.used < time.time() - unused_days * 86400:
                many = _named("not in the store", left.whole)
                print(f"kept {left.folder}: {many}; run the job again to put them there, or give --results")


@cache.command()
def export(file: File, config: ConfigFile = None) -> None:
    """Write all entries into a tar file, for another machine or user."""
    print(f"{_cache(config).export(file)} entries in {file}")


@cache.command("import")
def take(file: File, config: ConfigFile = None) -> None:
    """Take in the entries of a tar file that foldline cache export wrote."""
    new, here = _cache(config).take(file)
    print(f"{new} new entries, {here} were here already")


def _cache(config: Path | None) -> "Cache":
    from foldline.search.stage import cache_in

    return cache_in(settings_from(config).cache_root)


def _copies(config: Path | None) -> Path:
    """The folder of copies of store files."""
    from foldline.search.databases import COPIES
    from foldline.search.stage import FOLDER

    return settings_from(config).cache_root / FOLDER / COPIES


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


def _megabytes(things: Iterable[_Sized]) -> str:
    return f"{sum(thing.size for thing in things) / 1e6:.1f} MB"


def _count(copies: Sequence[object]) -> str:
    return "1 copy" if len(copies) == 1 else f"{len(copies)} copies"


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).isoformat(" ", "minutes")


def _states(left: "Left") -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is in a folder that is not in its store."""
    yield "not in the store", left.whole
    yield "half done", left.started


def _named(what: str, jobs: Sequence[str]) -> str:
    """Jobs in words: how many and which."""
    shown = ", ".join(jobs[:5]) + (", ..." if len(jobs) > 5 else "")
    return f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} {what} ({shown})"
