"""`foldline bench`: published figures, measured again."""

from typing import Annotated

import typer

from foldline.cli.options import settings_from
from foldline.errors import InputError

bench = typer.Typer(help="Measure published figures again.", no_args_is_help=True)
GIB, UNLIMITED = 2**30, 1 << 60
ATOMS_PER_TOKEN = 8  # of a protein


@bench.callback()
def _bench() -> None:
    """Measure published figures again."""


@bench.command()
def memory(
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens of the job.")] = 10_000,
    atoms: Annotated[
        int | None, typer.Option("--atoms", min=1, help=f"Atoms of the job [default: {ATOMS_PER_TOKEN} per token].")
    ] = None,
    msa_rows: Annotated[int, typer.Option("--msa-rows", min=1, help="Rows of the alignment.")] = 1_024,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples per seed.")] = 5,
    dtype: Annotated[str, typer.Option("--dtype", metavar="bf16|fp32", help="Precision of the network.")] = "bf16",
    model: Annotated[str, typer.Option("--model", help="Checkpoint: a name, not fetched, or a path.")] = "protenix-v1",
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", metavar="40GB", help="Memory that the plan stays within.")
    ] = None,
) -> None:
    """Count peak memory per stage, on fake tensors.

    No accelerator and no memory of that size is needed.
    """
    import torch

    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32}
    if dtype not in dtypes:
        raise InputError(f"'{dtype}' is not possible here: give bf16 or fp32", path="--dtype")
    memory_bytes = settings_from(None, max_memory=max_memory).max_memory or UNLIMITED
    from foldline.engine.estimate import spec_of
    from foldline.engine.memory_bench import measure
    from foldline.engine.plan import Sizes, plan

    atoms = atoms or ATOMS_PER_TOKEN * tokens
    sizes = Sizes(tokens, atoms, msa_rows, samples)
    chosen = plan(sizes, spec_of(model), memory_bytes, dtype=dtypes[dtype], device="cuda")
    report = measure(chosen)
    print(f"{model}: {tokens} tokens, {atoms} atoms, {msa_rows} MSA rows, {samples} samples, {dtype}")
    print(f"all weights are counted in every stage: {report.weights / GIB:.3f} GiB")
    rows = [("stage", "device GiB", "predicted GiB", "host GiB")]
    for s in report.stages.values():
        predicted = chosen.stage_bytes[s.stage]
        rows.append((s.stage, f"{s.device / GIB:.3f}", f"{predicted / GIB:.3f}", f"{s.host / GIB:.3f}"))
    for name, *columns in rows:
        print("  ".join([name.ljust(max(len(row[0]) for row in rows)), *(word.rjust(13) for word in columns)]))
    print(f"peak {report.peak / GIB:.3f} GiB, predicted {chosen.peak_bytes / GIB:.3f} GiB")
