"""`foldline report`: a page to look at, and pictures, from the folders of finished jobs."""

from pathlib import Path
from typing import Annotated

import typer

from foldline.cli.display import print_error
from foldline.cli.options import folder_or_url
from foldline.errors import ExitCode, FoldlineError

Folders = Annotated[
    list[str], typer.Argument(metavar="DIR...", help="Folders of finished jobs, here or in a store: DIR/<job>.")
]
Plots = Annotated[bool, typer.Option("--plots", help="Write PAE, pLDDT and MSA depth as PNG files too.")]


def report(folders: Folders, plots: Plots = False) -> None:
    """Make an HTML page of each finished job.

    A page is one file that works without a network. Prints what was written.
    """
    from foldline.outputs.report.in_store import made_in_store
    from foldline.outputs.report.page import write_report
    from foldline.outputs.report.plots import write_plots

    def make(folder: Path) -> list[Path]:
        return [write_report(folder), *(write_plots(folder) if plots else [])]

    failed = 0
    for place in map(folder_or_url, folders):
        try:
            written = make(place) if isinstance(place, Path) else made_in_store(place, make)
        except FoldlineError as error:
            print_error(error)
            failed += 1
            continue
        for path in written:
            print(path)
    if failed:
        raise typer.Exit(ExitCode.BAD_INPUT if failed == len(folders) else ExitCode.SOME_FAILED)
