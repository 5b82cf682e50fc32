"""`foldline bench`: published figures, measured again."""

from typing import TYPE_CHECKING, Annotated

import typer

from foldline.errors import InputError

if TYPE_CHECKING:
    from foldline.models import ModelSpec

bench = typer.Typer(help="Measure published figures again.", no_args_is_help=True)
GIB = 2**30


@bench.callback()
def _bench() -> None:
    """Measure published figures again."""


@bench.command()
def memory(
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens of the job.")] = 10_000,
    atoms: Annotated[int, typer.Option("--atoms", min=1, help="Atoms of the job.")] = 80_000,
    msa_rows: Annotated[int, typer.Option("--msa-rows", min=1, help="Rows of the alignment.")] = 1_024,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples per seed.")] = 5,
    dtype: Annotated[str, typer.Option("--dtype", metavar="bf16|fp32", help="Precision of the network.")] = "bf16",
    model: Annotated[
        str, typer.Option("--model", help="Short name of a model; weights are not needed.")
    ] = "protenix-v1",
) -> None:
    """Peak live bytes per device and stage, on fake tensors: no accelerator and no memory of that size is needed."""
    import torch

    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32}
    if dtype not in dtypes:
        raise InputError(f"'{dtype}' is not possible here: give bf16 or fp32", path="--dtype")
    spec = _spec(model)
    from foldline.engine.memory_bench import measure
    from foldline.engine.plan import Sizes

    report = measure(spec, Sizes(tokens, atoms, msa_rows, samples), dtypes[dtype])
    print(f"{model}: {tokens} tokens, {atoms} atoms, {msa_rows} MSA rows, {samples} samples, {report.dtype}")
    rows = [("stage", "device GiB", "host GiB", "held at start GiB")]
    rows += [(s.stage, *(f"{size / GIB:.3f}" for size in (s.device, s.host, s.held))) for s in report.stages]
    for name, *sizes in rows:
        print("  ".join([name.ljust(max(len(row[0]) for row in rows)), *(size.rjust(17) for size in sizes)]))
    print(f"peak {report.peak / GIB:.3f} GiB, of which weights {report.weights / GIB:.3f} GiB")


def _spec(name: str) -> "ModelSpec":
    from foldline.models import spec

    known = {
        "protenix-v2": spec.PROTENIX_V2,
        "protenix-v1": spec.PROTENIX_V1,
        "protenix-v0.5": spec.PROTENIX_V05,
        "protenix-mini": spec.PROTENIX_MINI,
        "protenix-tiny": spec.PROTENIX_TINY,
    }
    if name not in known:
        raise InputError(f"'{name}' is not known here: give {', '.join(known)}", path="--model")
    return known[name]
