"""`foldline cache`: the search results of this user or folder: list, prune, export, import."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foldline.cli.options import ConfigFile, settings_from
from foldline.config import parse_bytes
from foldline.errors import InputError

if TYPE_CHECKING:
    from foldline.search.cache import Cache

cache = typer.Typer(help="List, prune, export and import search results.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(metavar="FILE", help="A tar file of cache entries.")]
ENTRY_SEQUENCE = 24


@cache.command("list")
def list_entries(config: ConfigFile = None) -> None:
    """List the entries, the one used last first."""
    entries = _cache(config).entries()
    for entry in entries:
        about = entry.about
        sequence = str(about.get("sequence", ""))
        shown = sequence if len(sequence) <= ENTRY_SEQUENCE else f"{sequence[:ENTRY_SEQUENCE]}... ({len(sequence)})"
        used = datetime.datetime.fromtimestamp(entry.used).isoformat(" ", "minutes")
        what = about.get("database") or about.get("what", "-")
        size = f"{entry.size / 1e3:10.1f} kB  {about.get('rows', '-')!s:>6} rows"
        print(f"{entry.key[:12]}  {used}  {size}  {what}  {shown}")
    print(f"{len(entries)} entries, {sum(entry.size for entry in entries) / 1e6:.1f} MB")


@cache.command()
def prune(
    unused_days: Annotated[
        float | None, typer.Option("--unused-days", min=0, help="Remove what was not used for so many days.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="20GB", help="Then remove what was used longest ago until this.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Remove old entries. Jobs written with paths into the cache lose the alignments that are removed."""
    if unused_days is None and max_size is None:
        raise InputError("nothing says what to remove: give --unused-days, --max-size or both")
    try:
        size = None if max_size is None else parse_bytes(max_size)
    except InputError as error:
        raise InputError(error.message, path="--max-size") from error
    removed = _cache(config).prune(unused_days=unused_days, max_bytes=size)
    print(f"removed {len(removed)} entries, {sum(entry.size for entry in removed) / 1e6:.1f} MB")


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
