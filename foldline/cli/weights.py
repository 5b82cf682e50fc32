"""`foldline weights`: checkpoints that can be fetched, those that are here, and what is in them."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated

import typer

from foldline.cli.display import display
from foldline.cli.options import ConfigFile, settings_from
from foldline.errors import ExitCode

weights = typer.Typer(help="List, fetch, verify and show checkpoints.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME|PATH", help="A name or alias (foldline weights list), or a file.")]
Progress = Annotated[
    str, typer.Option("--progress", metavar="auto|plain|json|none", help="How a download shows itself.")
]


@weights.command("list")
def list_checkpoints(config: ConfigFile = None) -> None:
    """List the checkpoints that are known by name."""
    from foldline.weights.registry import BUNDLED, ENTRIES, cached_path

    root = settings_from(config).cache_root
    rows = [("name", "alias", "here", "licence", "what")]
    for entry in (*ENTRIES, *BUNDLED):
        path = cached_path(entry, root)
        here = f"{path.stat().st_size / 1e9:.2f} GB" if path.is_file() else "-"
        here = "bundled" if entry.bundled is not None else here
        rows.append((entry.name, ", ".join(entry.aliases) or "-", here, entry.licence, entry.summary))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@weights.command()
def fetch(name: Name, progress: Progress = "auto", config: ConfigFile = None) -> None:
    """Download a checkpoint, or go on with a download that was cut off; print where it is."""
    from foldline.weights import download
    from foldline.weights.registry import lookup

    entry = lookup(name)
    root = settings_from(config).cache_root
    with display(progress) as show:
        path = download.fetch(entry, root, progress=lambda done, total: show.fetched(entry.name, done, total))
    print(path)


@weights.command()
def verify(name: Name, config: ConfigFile = None) -> None:
    """Compare a checkpoint with its hash where one is known, and read it whole.

    Exit code 1 when it differs from the hash, 2 when it is damaged or no checkpoint; 0 when it can be read, also where
    no hash is known, which is said.
    """
    from foldline.weights import download
    from foldline.weights.check import check
    from foldline.weights.registry import checkpoint_path, known, lookup

    path = checkpoint_path(name, cache_dir=settings_from(config).cache_root)
    found = download.verify(path, entry=lookup(name) if known(name) else None)
    print(f"{found.sha256}  {path}")
    if not found.ok:
        print(f"differs from the {found.against}, which has {found.expected}: delete the file and fetch it again")
        raise typer.Exit(ExitCode.SOME_FAILED)
    held = check(path)
    print(f"readable: {held.spec.family}, {held.n_tensor} tensors, {held.n_value / 1e6:.2f} M values, all finite")
    print(f"equals the {found.against}" if found.expected else "not compared: no hash is known of this file")


@weights.command()
def show(name: Name, config: ConfigFile = None) -> None:
    """Show what is known of a checkpoint and the network that it holds."""
    from foldline.weights.download import read_record
    from foldline.weights.load import open_model
    from foldline.weights.registry import checkpoint_path, known, lookup

    if known(name):
        for field in fields(entry := lookup(name)):
            value = getattr(entry, field.name)
            print(f"{field.name}: {', '.join(value) if isinstance(value, tuple) else value or 'not stated'}")
    path: Path = checkpoint_path(name, cache_dir=settings_from(config).cache_root)
    print(f"path: {path}")
    for key, value in read_record(path).items():
        print(f"fetched {key}: {value}")
    checkpoint, spec = open_model(path)
    count = sum(_size(shape) for shape in checkpoint.shapes.values())
    print(f"tensors: {len(checkpoint.shapes)}, {count / 1e6:.2f} M values")
    for key, value in asdict(spec).items():
        print(f"spec {key}: {value}")


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
