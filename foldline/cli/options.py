"""The options that commands share, each with its name and its line of help; and the settings that they make."""

from pathlib import Path
from typing import Annotated

import typer

from foldline.config import CONFIG_FILE, EngineConfig
from foldline.errors import InputError
from foldline.remote import as_url

Inputs = Annotated[
    list[str], typer.Argument(metavar="INPUT...", help="AlphaFold 3 JSON or FASTA: files, folders or globs.")
]


def folder_or_url(word: str) -> Path | str:
    """The value of `--out`: a folder of this machine as a path, one of a store as its URL."""
    return as_url(word) or Path(word)


Out = Annotated[
    str,
    typer.Option(
        "--out",
        metavar="DIR|URL",
        help="Output folder, here or in a store (s3://bucket/folder); every job gets a folder of its own in it.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Checkpoint: a name (foldline weights list) or a path [default: protenix-v1]."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help=f"Settings in TOML [default: {CONFIG_FILE} where it lies].")
]
Msa = Annotated[
    str | None,
    typer.Option("--msa", metavar="auto|none", help="none: no alignments, not even given ones [default: auto]."),
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="auto|cpu|cuda:N", help="Where the network runs [default: auto].")
]
Dtype = Annotated[
    str | None, typer.Option("--dtype", metavar="auto|bf16|fp32", help="Precision of the network [default: auto].")
]

Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="auto|HOST:PORT", help="Use all machines of a Ray cluster (docs/cluster.md)."),
]


def settings_from(file: Path | None, **given: object) -> EngineConfig:
    """Settings from `--config` (or foldline.toml in this folder) and the options given over them.

    Raises:
        InputError: a bad value; it names the option or the file.
    """
    if file is None and Path(CONFIG_FILE).is_file():
        file = Path(CONFIG_FILE)
    try:
        return EngineConfig.make(file, **given)
    except InputError as error:
        raise named_as_option(error) from error


def named_as_option(error: InputError) -> InputError:
    """The same fault with `--max-memory` in the place of `max_memory` where no file is at fault."""
    if error.source or not error.path:
        return error
    return InputError(error.message, path=f"--{error.path.replace('_', '-')}")
