"""Peak resident memory of a whole CPU prediction, loading included, each precision in a process of its own.

    python benchmarks/host_memory.py JOB CHECKPOINT [--dtype fp32 bf16] [--passes 1] [--steps 2] [--samples 1]
                                     [--blocks N]

`--blocks N` runs the first N blocks of the pairformer, with the weights of all of them loaded: blocks are alike, so
that the peak is that of a few of them, and the trunk takes minutes in place of an hour.

Bounds for 7wux (1,218 tokens, 1,302 alignment rows) with the base v1 network: 4.5 GB in fp32, 2.8 GB in bf16.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foldline.layers.pairformer import PairformerStack


def child(args: argparse.Namespace) -> None:
    """Predict from a features file and print the peak of this process."""
    from foldline.config import EngineConfig
    from foldline.engine import Engine
    from foldline.sampler import Draws
    from foldline.tensors import Features

    start = time.perf_counter()
    config = EngineConfig(
        device="cpu",
        dtype=args.child,
        recycles=args.passes - 1,
        steps=args.steps,
        samples=args.samples,
        max_memory=args.max_memory,
        threads=args.threads,
    )
    engine = Engine(args.checkpoint, config=config)
    if args.blocks is not None:
        shorten(engine.network.trunk.pairformer, args.blocks)
    result, plan = engine.predict_features(Features.load(Path(args.job)), Draws(1), lambda event: report(event, start))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    score = result.samples.confidences[0].ranking_score
    print(
        f"{args.child:>5}  peak RSS {peak / 1e9:5.2f} GB   planned {plan.peak_bytes / 1e9:5.2f} GB   "
        f"seconds {result.seconds}   ranking score {score:.4f}",
        flush=True,
    )


def shorten(stack: "PairformerStack", n_block: int) -> None:
    """Let a stack run its first blocks and keep the weights of all."""
    blocks = list(stack.blocks)[:n_block]

    def forward(*inputs: object) -> None:
        for block in blocks:
            block(*inputs)

    stack.forward = forward
    print(f"       {n_block} of the {len(stack.blocks)} blocks of the pairformer run", flush=True)


def report(event: object, start: float) -> None:
    """Peak so far, at every event."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    stage, step = getattr(event, "stage", ""), getattr(event, "step", 0)
    print(f"       {time.perf_counter() - start:8.1f} s  {stage} {step}: peak so far {peak / 1e9:.2f} GB", flush=True)


def main() -> None:
    """Featurise once, then one child process per precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job")
    parser.add_argument("checkpoint")
    parser.add_argument("--dtype", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--blocks", type=int, help="blocks of the pairformer to run; default: all")
    parser.add_argument("--max-memory", type=int, help="bytes; default: the bound of the precision")
    parser.add_argument("--child")
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    from foldline.chem.components import Components
    from foldline.features.build import build_features
    from foldline.inputs import read_jobs

    made = build_features(read_jobs(args.job)[0], components=Components.open())
    bounds = {"fp32": 4.5e9, "bf16": 2.8e9}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.safetensors"
        made.features.save(path)
        print(dict(made.features.sizes), flush=True)
        for dtype in args.dtype:
            command = [sys.executable, __file__, str(path), args.checkpoint, "--child", dtype]
            for name in ("passes", "steps", "samples", "threads", "blocks"):
                if getattr(args, name) is not None:
                    command += [f"--{name}", str(getattr(args, name))]
            command += ["--max-memory", str(int(args.max_memory or bounds[dtype]))]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
