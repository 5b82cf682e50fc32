"""`foldline predict`: options to settings, inputs to jobs, and the run."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foldline.cli.display import Display, display, print_note
from foldline.cli.options import (
    ConfigFile,
    Device,
    Dtype,
    Inputs,
    Model,
    Msa,
    Out,
    Ray,
    folder_or_url,
    named_as_option,
    settings_from,
)
from foldline.cli.run import Run, run
from foldline.cli.search import search_stage
from foldline.cli.signals import stop_on_signals
from foldline.config import EngineConfig, SeedChoice, parse_seeds
from foldline.errors import ExitCode, InputError, Stopped

if TYPE_CHECKING:
    from foldline.inputs import Job

Seeds = Annotated[str | None, typer.Option("--seeds", metavar="1,2,3", help="Seeds in place of those of the jobs.")]
NumSeeds = Annotated[int | None, typer.Option("--num-seeds", help="Run s, s+1, ... from the one seed s of every job.")]
SeedBatch = Annotated[
    str | None,
    typer.Option("--seed-batch", metavar="auto|N", help="Seeds that share passes: as memory allows, or at most N."),
]
Samples = Annotated[int | None, typer.Option("--samples", help="Samples per seed [default: 5].")]
Recycles = Annotated[int | None, typer.Option("--recycles", help="N runs N + 1 trunk passes [default: the model's].")]
Steps = Annotated[int | None, typer.Option("--steps", help="Steps of the sampler [default: the model's].")]
MaxMemory = Annotated[str | None, typer.Option("--max-memory", metavar="40GB", help="Device memory to stay within.")]
Buckets = Annotated[
    str | None, typer.Option("--buckets", metavar="256,512,...", help="Token counts to pad jobs to; none: no padding.")
]
OnError = Annotated[
    str | None, typer.Option("--on-error", metavar="continue|stop", help="What a failed job does to the others.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Run jobs again whose results are there.")]
Report = Annotated[bool, typer.Option("--report", help="Make an HTML page of each finished job (foldline report).")]
Stage = Annotated[
    str | None,
    typer.Option("--stage", metavar="all|search|infer", help="search: alignments alone; infer: no search at all."),
]
Progress = Annotated[str, typer.Option("--progress", metavar="auto|plain|json|none", help="How a run shows itself.")]


def predict(
    inputs: Inputs,
    out: Out,
    model: Model = None,
    seeds: Seeds = None,
    num_seeds: NumSeeds = None,
    samples: Samples = None,
    recycles: Recycles = None,
    steps: Steps = None,
    msa: Msa = None,
    device: Device = None,
    dtype: Dtype = None,
    max_memory: MaxMemory = None,
    seed_batch: SeedBatch = None,
    buckets: Buckets = None,
    on_error: OnError = None,
    overwrite: Overwrite = False,
    report: Report = False,
    stage: Stage = None,
    progress: Progress = "auto",
    ray: Ray = None,
    config: ConfigFile = None,
) -> None:
    """Predict structures and write them in AlphaFold 3's layout."""
    show = display(progress)
    settings = settings_from(
        config,
        model=model,
        samples=samples,
        recycles=recycles,
        steps=steps,
        msa=msa,
        device=device,
        dtype=dtype,
        max_memory=max_memory,
        seed_batch=seed_batch,
        buckets=buckets,
        on_error=on_error,
        overwrite=overwrite or None,
        stage=stage,
    )
    try:
        choice = SeedChoice(seeds=None if seeds is None else parse_seeds(seeds), num_seeds=num_seeds)
    except InputError as error:
        raise named_as_option(error) from error
    place = folder_or_url(out)
    if isinstance(place, Path):
        _check_folder(place)
    with stop_on_signals() as stop:
        try:
            jobs, faults = _read(inputs, choice, settings, show, tell=progress != "none")
            if settings.stage == "search":
                family = _family(settings.model)
                raise typer.Exit(search_stage(jobs, faults, place, settings, family=family, ray=ray))
            with show:
                code = run(Run(jobs, faults, place, settings, show, stop, report=report, ray=ray))
        except Stopped:
            print(f"stopped by {stop.signal.name} before anything was run", file=sys.stderr)
            code = stop.exit_code
    raise typer.Exit(code)


def _family(model: str | Path) -> str:
    """The family of a checkpoint's name; "" for a file, which may be on another machine than the search."""
    from foldline.weights.registry import known, lookup

    return lookup(str(model)).family if known(str(model)) else ""


def _check_folder(out: Path) -> None:
    """Whether the output folder can be made and written to; it is not made here.

    Raises:
        InputError: it or a part of its path is a file, or may not be written to.
    """
    place = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not place.is_dir():
        raise InputError(f"{place} is a file: name a folder", path="--out")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{place} cannot be written to: check its permissions, or name another folder", path="--out")


def _read(
    inputs: list[str], choice: SeedChoice, settings: EngineConfig, show: Display, *, tell: bool
) -> tuple[list["Job"], list[InputError]]:
    """The jobs with the seeds to run, and what is wrong with others; exits when nothing is left to run."""
    from foldline.inputs import read_inputs

    jobs, faults, notes = read_inputs(inputs, settings.repair)
    try:
        jobs = [_seeded(job, choice) for job in jobs]
    except InputError as error:
        raise named_as_option(error) from error
    for note in notes if tell else ():
        print_note(note)
    for fault in faults:
        show.unreadable(fault)
    if not jobs or (faults and settings.on_error == "stop"):
        raise typer.Exit(ExitCode.BAD_INPUT)
    return jobs, faults


def _seeded(job: "Job", choice: SeedChoice) -> "Job":
    """The job with the seeds to run; that its own are replaced is a note of the job."""
    seeds = choice.of(job.seeds, job.name)
    if choice.seeds is None or seeds == job.seeds:
        return job.with_seeds(seeds)
    shown = ", ".join(str(seed) for seed in job.seeds[:10]) + (", ..." if len(job.seeds) > 10 else "")
    return replace(job.with_seeds(seeds), notes=(*job.notes, f"--seeds replaces the job's own seeds {shown}"))
