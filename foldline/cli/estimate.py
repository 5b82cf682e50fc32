"""`foldline estimate`: sizes of jobs and what they would need, on this device and on others. Loads no weights."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foldline.cli.display import print_error, print_note
from foldline.cli.options import ConfigFile, Dtype, Inputs, Model, Msa, named_as_option, settings_from
from foldline.cli.predict import Buckets, NumSeeds, Samples, SeedBatch, Seeds
from foldline.config import EngineConfig, SeedChoice, parse_seeds
from foldline.errors import ExitCode, FoldlineError, InputError

if TYPE_CHECKING:
    from foldline.engine.estimate import Estimate, JobSizes, Place
    from foldline.engine.plan import Plan

GIB = 2**30
Device = Annotated[
    str | None, typer.Option("--device", metavar="auto|cpu|cuda:N", help="The device that comes before the named ones.")
]
MaxMemory = Annotated[
    str | None, typer.Option("--max-memory", metavar="40GB", help="Estimate for this much memory alone.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON list.")]


def estimate(
    inputs: Inputs,
    model: Model = None,
    seeds: Seeds = None,
    num_seeds: NumSeeds = None,
    samples: Samples = None,
    msa: Msa = None,
    device: Device = None,
    dtype: Dtype = None,
    max_memory: MaxMemory = None,
    seed_batch: SeedBatch = None,
    buckets: Buckets = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Tell what jobs would need, here and elsewhere.

    Sizes, plans and peak memory, on this device and on GPUs of other sizes. Needs no checkpoint. Exit code 1 when some
    jobs fit on none of the devices, 3 when none fits.
    """
    from foldline.chem.components import Components
    from foldline.engine.estimate import estimate_on, job_sizes, spec_of
    from foldline.inputs import read_inputs

    given = {"model": model, "samples": samples, "msa": msa, "device": device, "dtype": dtype}
    settings = settings_from(config, **given, max_memory=max_memory, seed_batch=seed_batch, buckets=buckets)
    jobs, faults, notes = read_inputs(inputs, settings.repair)
    try:
        choice = SeedChoice(seeds=None if seeds is None else parse_seeds(seeds), num_seeds=num_seeds)
        jobs = [job.with_seeds(choice.of(job.seeds, job.name)) for job in jobs]
    except InputError as error:
        raise named_as_option(error) from error
    for note in notes:
        print_note(note)
    for fault in faults:
        print_error(fault)
    spec, places = spec_of(settings.model, settings.cache_dir), _places(settings)
    components, records, failed, homeless = Components.open(settings.cache_root), [], len(faults), 0
    for job in jobs:
        try:
            sizes = job_sizes(job, components, settings.msa)
        except FoldlineError as error:
            print_error(error, f"job {job.name}: ")
            failed += 1
            continue
        sharing = replace(sizes, n_seed=min(sizes.n_seed, settings.seed_batch or sizes.n_seed))
        found = [estimate_on(place, sharing, settings.samples, spec) for place in places]
        homeless += all(one.plan is None for one in found)
        if as_json:
            records.append(_record(sizes, settings, found))
        else:
            _show(sizes, settings, found)
    if as_json:
        print(json.dumps(records, indent=1))
    if failed:
        raise typer.Exit(ExitCode.BAD_INPUT)
    if homeless:
        raise typer.Exit(ExitCode.NONE_SUCCEEDED if homeless == len(jobs) else ExitCode.SOME_FAILED)


def _places(settings: EngineConfig) -> "list[Place]":
    """The device of the settings, then the named ones; with `--max-memory` one device of that size alone."""
    import torch

    from foldline.engine.engine import _device
    from foldline.engine.estimate import Place, named_places
    from foldline.engine.record import available_bytes, available_threads
    from foldline.engine.schedule import BUCKETS

    if settings.max_memory is not None and settings.device.startswith("cuda"):
        device = torch.device("cuda")  # may be one that is not here
    else:
        device = _device(settings.device)
    memory = settings.max_memory or available_bytes(device)
    low = settings.dtype == "bf16" or (settings.dtype == "auto" and device.type == "cuda")
    buckets = settings.buckets
    if buckets is None:
        buckets = () if device.type == "cpu" else BUCKETS
    name, kind = f"{device.type}, {memory / GIB:.1f} GiB", torch.bfloat16 if low else torch.float32
    own = Place(name, device.type, memory, kind, buckets, available_threads(settings.threads))
    return [own] if settings.max_memory is not None else [own, *named_places(settings.dtype, settings.buckets)]


def _show(sizes: "JobSizes", settings: EngineConfig, found: "Sequence[Estimate]") -> None:
    """The job in a line, and a table with a column for every device."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    counts = f"{sizes.n_token} tokens, {sizes.n_atom} atoms, {sizes.n_msa} alignment rows"
    print(f"{sizes.name}: {counts}, {sizes.n_seed} x {settings.samples} samples, {settings.model}")
    if sizes.without_alignment:
        print(f"no alignment is given for {', '.join(sizes.without_alignment)}: counted with the query alone")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for one in found:
        table.add_column(one.place.name, justify="right")
    columns = [_column(one) for one in found]
    for name in dict.fromkeys(key for column in columns for key in column):
        table.add_row(name, *(column.get(name, "") for column in columns))
    console = Console(width=max(80, 30 + 22 * len(found)), highlight=False)
    console.print(table)
    for one in found:
        if one.error is not None:
            print(f"{one.place.name}: {one.error}")


def _column(one: "Estimate") -> dict[str, str]:
    """What the table says of one device."""
    column = {} if one.plan is None else _plan_words(one.plan)
    column["peak, GiB"] = "does not fit" if one.plan is None else f"{one.plan.peak_bytes / GIB:.2f}"
    return column | {"largest job that fits, tokens": str(one.largest) if one.largest else "none"}


def _plan_words(plan: "Plan") -> dict[str, str]:
    kinds = (plan.trunk_dtype, plan.diffusion_dtype, plan.confidence_dtype)
    names = ["bf16" if kind.itemsize == 2 else "fp32" for kind in kinds]
    resting = [name for name, rests in (("templates", plan.park_template), ("sampling", plan.park_pair)) if rests]
    words = {
        "bucket, tokens x atoms": f"{plan.bucket[0]} x {plan.bucket[1]}",
        "precision": names[0] if len(set(names)) == 1 else "/".join(names),
        "seeds at once": str(plan.seeds_at_once),
        "samples at once": str(plan.side_by_side * plan.diffusion_batch),
        "attention biases": "kept" if plan.keep_biases else "made at each step",
        "weights": "by stage" if plan.staged_weights else "resident",
        "z on the host": ", ".join(resting) or "never",
        "row blocks, pairs": str(plan.rows.pair),
    }
    if plan.request.device != "cpu":
        words["on the host, GiB"] = f"{plan.host_bytes / GIB:.2f}"
    return words | {f"{stage}, GiB": f"{size / GIB:.2f}" for stage, size in plan.stage_bytes.items()}


def _record(sizes: "JobSizes", settings: EngineConfig, found: "Sequence[Estimate]") -> dict[str, Any]:
    """The same as plain values, in bytes."""
    devices = [
        {
            "device": one.place.name,
            "memory_bytes": one.place.memory_bytes,
            "plan": None if one.plan is None else one.plan.record(),
            "error": None if one.error is None else {"code": one.error.code, "message": str(one.error)},
            "largest_tokens": one.largest,
        }
        for one in found
    ]
    return {
        "job": sizes.name,
        "model": settings.model,
        "n_token": sizes.n_token,
        "n_atom": sizes.n_atom,
        "n_msa": sizes.n_msa,
        "without_alignment": list(sizes.without_alignment),
        "seeds": sizes.n_seed,
        "samples": settings.samples,
        "devices": devices,
    }
