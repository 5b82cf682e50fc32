"""`foldline pairs`: the jobs of a screen, one file per pair."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foldline import remote
from foldline.cli.options import folder_or_url
from foldline.cli.summary import count_of
from foldline.errors import InputError, WriteError

if TYPE_CHECKING:
    from foldline.inputs.pairs import Screen, Written

First = Annotated[Path, typer.Argument(metavar="A.FASTA", help="Proteins, one record each; a complex has : in it.")]
Second = Annotated[
    Path | None, typer.Argument(metavar="[B.FASTA]", help="What to pair them with [default: with each other].")
]
Out = Annotated[
    str,
    typer.Option(
        "--out", metavar="DIR|URL", help="Folder of the jobs, here or in a store, an input of predict and search."
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=2, help="Leave out pairs with more residues than this.")
]
NoHomodimers = Annotated[bool, typer.Option("--no-homodimers", help="No sequence with itself.")]


def pairs(
    first: First, out: Out, second: Second = None, max_tokens: MaxTokens = None, no_homodimers: NoHomodimers = False
) -> None:
    """Write the jobs of a screen: each unordered pair once, of one file or of two."""
    from foldline.inputs.pairs import LEFT_OUT, LISTED, read_screen, write_screen

    screen = read_screen(first, second, homodimers=not no_homodimers)
    for note in screen.notes:
        print(f"note {note}", file=sys.stderr)
    place = folder_or_url(out)
    if isinstance(place, Path):
        written = write_screen(screen, place, max_tokens=max_tokens)
    else:
        written = _into_store(screen, place, max_tokens)
    jobs, sequences = count_of(written.jobs, "job"), count_of(len(screen.members), "sequence")
    print(f"{jobs} of {sequences} in {place}, listed in {LISTED}")
    if written.left_out:
        many = count_of(written.left_out, "pair")
        print(f"note {many} with more than {max_tokens} tokens left out, listed in {LEFT_OUT}", file=sys.stderr)


def _into_store(screen: "Screen", url: str, max_tokens: int | None) -> "Written":
    """Write a screen into a store, its lists last.

    Raises:
        InputError: jobs of something else lie there.
        WriteError: the store does not take it.
    """
    from foldline.inputs.faults import listed
    from foldline.inputs.pairs import LEFT_OUT, write_screen

    with tempfile.TemporaryDirectory() as scratch:
        written = write_screen(screen, Path(scratch), max_tokens=max_tokens)
        files = sorted(Path(scratch).iterdir(), key=lambda path: (path.suffix == ".csv", path.name))
        try:
            others = set(remote.names(url, "*.json")) - {path.name for path in files}
            if others:
                raise InputError(
                    f"{url} has jobs that are not of this screen ({listed(sorted(others), 3)}), and a run of the folder"
                    " would take them: name another folder, or remove them",
                    path="--out",
                )
            remote.remove(f"{url}/{LEFT_OUT}")
            for path in files:
                remote.write(path, f"{url}/{path.name}")
        except remote.RemoteError as error:
            raise WriteError(str(error)) from error
    return written
