"""`foldline pairs`: the jobs of a screen, one file per pair."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from foldline.cli.options import local_folder
from foldline.cli.summary import count_of

First = Annotated[Path, typer.Argument(metavar="A.FASTA", help="Proteins, one record each; a complex has : in it.")]
Second = Annotated[
    Path | None, typer.Argument(metavar="[B.FASTA]", help="What to pair them with [default: with each other].")
]
Out = Annotated[
    Path, typer.Option("--out", callback=local_folder, help="Folder of the jobs, an input of predict and search.")
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
    written = write_screen(screen, out, max_tokens=max_tokens)
    jobs, sequences = count_of(written.jobs, "job"), count_of(len(screen.members), "sequence")
    print(f"{jobs} of {sequences} in {out}, listed in {LISTED}")
    if written.left_out:
        many = count_of(written.left_out, "pair")
        print(f"note {many} with more than {max_tokens} tokens left out, listed in {LEFT_OUT}", file=sys.stderr)
