"""`foldline search` and `foldline predict --stage search`: alignments alone, written as `<job>_data.json`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foldline.cli.display import print_error, print_note
from foldline.cli.options import ConfigFile, Inputs, Out, Ray, folder_or_url, settings_from
from foldline.config import EngineConfig
from foldline.errors import ExitCode, FoldlineError, InputError, WriteError
from foldline.remote import RemoteError, check_place, write

if TYPE_CHECKING:
    from foldline.inputs import Job
    from foldline.search.stage import Searcher

Quiet = Annotated[bool, typer.Option("--quiet", help="Print faults alone.")]


def search(inputs: Inputs, out: Out, quiet: Quiet = False, ray: Ray = None, config: ConfigFile = None) -> None:
    """Search alignments and write them with each job as <job>_data.json, which predict and AlphaFold 3 read."""
    from foldline.inputs import read_inputs

    settings = settings_from(config)
    jobs, faults, notes = read_inputs(inputs, settings.repair)
    for note in notes if not quiet else ():
        print_note(note)
    for fault in faults:
        print_error(fault)
    if not jobs:
        raise typer.Exit(ExitCode.BAD_INPUT)
    raise typer.Exit(search_stage(jobs, faults, folder_or_url(out), settings, quiet=quiet, ray=ray))


def search_stage(
    jobs: list["Job"],
    faults: list[InputError],
    out: Path | str,
    settings: EngineConfig,
    *,
    quiet: bool = False,
    family: str = "",
    ray: str | None = None,
) -> ExitCode:
    """Search for the chains of all jobs, each once, and write the jobs. Progress goes to standard error.

    All chains are searched together, so that a database is read once. A fault of a database ends the run. `faults` are
    those of jobs that could not be read, `out` a folder or the URL of one. `family` is that of the network that the
    alignments are for, where one is; `ray` the address of a cluster to search on.
    """

    def say(message: str) -> None:
        if not quiet:
            print(message, file=sys.stderr)

    try:
        if isinstance(out, str):
            check_place(out)
    except RemoteError as error:
        raise InputError(str(error), path="--out") from error
    try:
        with _searcher({**settings.search, "family": family}, settings.cache_root, say, ray) as searcher:
            done = _searched(jobs, searcher)
        for job in done:
            say(f"{job.name}: {_written(job, out)}")
            for note in job.notes:
                say(f"{job.name}: {note}")
    except InputError:
        raise
    except FoldlineError as error:
        print_error(error)
        return ExitCode.NONE_SUCCEEDED
    return ExitCode.SOME_FAILED if faults or len(done) < len(jobs) else ExitCode.OK


def _searched(jobs: list["Job"], searcher: "Searcher") -> list["Job"]:
    """Jobs with alignments; those whose sequences a server cannot search for are named and left out.

    Raises:
        FoldlineError: there is no other.
    """
    from foldline.search.colabfold import Unsearchable
    from foldline.search.jobs import chains_of, searched

    while True:
        try:
            return searched(jobs, searcher)
        except Unsearchable as error:
            asked = [{chain.sequence for chain in chains_of(job) if chain.kind == "protein"} for job in jobs]
            hit = [error.hits(sequences) for sequences in asked]
            if all(hit) or not any(hit):
                raise
            for job in compress(jobs, hit):
                print_error(error, f"{job.name}: ")
            jobs = [job for job, one in zip(jobs, hit, strict=True) if not one]


def _written(job: "Job", out: Path | str) -> Path | str:
    """Write `<job>_data.json`; where it is. In a store it holds its alignments, which lie on this machine."""
    from foldline.inputs import slug, to_json
    from foldline.search.jobs import write_job

    name = slug(job.name)
    if isinstance(out, Path):
        return write_job(job, out / name, name)
    url = f"{out}/{name}/{name}_data.json"
    try:
        write(to_json(job, inline=True).encode(), url)
    except RemoteError as error:
        raise WriteError(str(error)) from error
    return url


@contextmanager
def _searcher(
    table: dict[str, object], cache_root: Path, say: Callable[[str], None], ray: str | None
) -> Iterator["Searcher"]:
    """What searches, here or on the cluster of that address."""
    from foldline.search.settings import SearchSettings
    from foldline.search.stage import searcher_of

    if ray is None:
        yield searcher_of(table, cache_root, say)
        return
    from foldline.cluster.executor import cores_of_search, search_executor
    from foldline.cluster.session import session

    threads = SearchSettings.make(table).threads
    with session(ray) as cluster:
        executor = search_executor(cluster, say)
        yield searcher_of(table, cache_root, say, executor, cores_of_search(cluster, threads))
