"""`foldline db`: the databases that foldline.toml names: list them, check them, split one into shards."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from foldline.cli.options import ConfigFile, settings_from
from foldline.errors import ExitCode, SearchError

db = typer.Typer(help="List, check and shard sequence databases.", no_args_is_help=True)
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Databases [default: all].")]


@db.command("list")
def list_databases(config: ConfigFile = None) -> None:
    """List the databases, where they are, and the sizes that are known."""
    _show(config, None, count=False)


@db.command()
def check(names: Names = None, config: ConfigFile = None) -> None:
    """Read databases whole and count them; sizes are remembered. Exit code 1 when one cannot be used."""
    _show(config, names, count=True)


@db.command()
def shard(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A database in FASTA format.")],
    count: Annotated[int, typer.Argument(metavar="N", help="How many shards.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the shards [default: the file's].")] = None,
) -> None:
    """Split a database into N shards with AlphaFold 3's names."""
    from foldline.search.sharding import shard as split

    paths = split(file, count, out)
    print(f"{len(paths)} shards: name them {paths[0].parent / file.name}@{count}")


def _show(config: Path | None, names: list[str] | None, *, count: bool) -> None:
    from foldline.errors import InputError
    from foldline.search.databases import describe
    from foldline.search.mmseqs_databases import describe_set
    from foldline.search.settings import COLABFOLD_SET, DATABASES, SearchSettings
    from foldline.search.stage import FOLDER

    for name in names or ():
        if name not in DATABASES:
            raise InputError(f"{name!r} is not known: give {', '.join(DATABASES)}", path="NAME")

    def say(message: str) -> None:
        print(message, file=sys.stderr)

    settings = settings_from(config)
    table = SearchSettings.make(settings.search)
    folder, bad = settings.cache_root / FOLDER, 0
    for name in names or DATABASES:
        try:
            if name == COLABFOLD_SET:
                line = describe_set(table)
            else:
                line = describe(name, table, folder, count=count, say=say)
            print(f"+ {name.ljust(11)}  {line}")
        except SearchError as error:
            bad += 1
            print(f"- {name.ljust(11)}  {error}")
    if bad:
        raise typer.Exit(ExitCode.SOME_FAILED)
