"""All commands and their options."""

import typer

from foldline.cli.bench import bench
from foldline.cli.cache import cache
from foldline.cli.db import db
from foldline.cli.doctor import doctor
from foldline.cli.estimate import estimate
from foldline.cli.pairs import pairs
from foldline.cli.predict import predict
from foldline.cli.report import report
from foldline.cli.search import search
from foldline.cli.validate import validate
from foldline.cli.weights import weights

app = typer.Typer(
    help="Inference for AlphaFold-class structure prediction.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(predict)
app.command()(search)
app.command()(pairs)
app.command()(validate)
app.command()(estimate)
app.command()(report)
app.add_typer(weights, name="weights")
app.add_typer(cache, name="cache")
app.add_typer(db, name="db")
app.command()(doctor)
app.add_typer(bench, name="bench")


@app.callback(invoke_without_command=True)
def _foldline(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from foldline import __version__

        typer.echo(f"foldline {__version__}")
        raise typer.Exit
