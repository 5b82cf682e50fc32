"""`foldline report`: a page to look at, and pictures, from the folders of finished jobs."""

from pathlib import Path
from typing import Annotated

import typer

from foldline.cli.display import print_error
from foldline.errors import ExitCode, FoldlineError

Folders = Annotated[
    list[Path], typer.Argument(metavar="DIR...", help="Folders of finished jobs: DIR/<job> of predict.")
]
Plots = Annotated[bool, typer.Option("--plots", help="Write PAE, pLDDT and MSA depth as PNG files too.")]


def report(folders: Folders, plots: Plots = False) -> None:
    """Make an HTML page of each finished job.

    A page is one file that works without a network. Prints what was written.
    """
    from foldline.outputs.report.page import write_report
    from foldline.outputs.report.plots import write_plots

    failed = 0
    for folder in folders:
        try:
            written = [write_report(folder), *(write_plots(folder) if plots else [])]
        except FoldlineError as error:
            print_error(error)
            failed += 1
            continue
        for path in written:
            print(path)
    if failed:
        raise typer.Exit(ExitCode.BAD_INPUT if failed == len(folders) else ExitCode.SOME_FAILED)
