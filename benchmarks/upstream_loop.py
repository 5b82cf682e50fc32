"""Run by the interpreter that has Protenix: its own runner's loop over lists of jobs, and what each round cost.

    upstream_loop.py --reference DIR --preset NAME --checkpoint FILE --began T (--round JOBS=SEED,SEED,..)...

One model, loaded by its runner from a checkpoint file, then `infer_predict` for every round, which featurises each job
again for every seed, predicts it and writes its files. A JSON line per round; the first counts from the start of the
process (T, seconds since the epoch). Left out in upstream's favour: the initial weights, which the checkpoint replaces
and which it would draw for minutes, and the dropout of its command line.
"""

import argparse
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CONSTANTS = {"confidence_head.lower_bins", "confidence_head.upper_bins"}  # not trained, and not in our checkpoints


def parsed() -> argparse.Namespace:
    """The options, paths made absolute."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", required=True, help="folder with ref_common.py")
    parser.add_argument("--preset", required=True)
    parser.add_argument("--checkpoint", required=True, help="in upstream's layout")
    parser.add_argument("--base", required=True, help="folder that the jobs' paths are relative to")
    parser.add_argument("--out", required=True, help="folder for its results")
    parser.add_argument("--began", type=float, required=True)
    parser.add_argument("--round", action="append", required=True, metavar="JOBS=SEED,..")
    for name in ("samples", "passes", "steps", "threads"):
        parser.add_argument(f"--{name}", type=int, default=1)
    args = parser.parse_args()
    for name in ("reference", "checkpoint", "out"):
        setattr(args, name, str(Path(getattr(args, name)).resolve()))
    args.rounds = [(str(Path(jobs).resolve()), seeds) for jobs, _, seeds in (r.rpartition("=") for r in args.round)]
    return args


class Clock:
    """Seconds by part of the loop, as wrapped methods are called."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def wrap(self, owner: Any, method: str, part: str) -> None:
        """Add the time of a method's calls to a part."""
        plain: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            made = plain(*args, **kwargs)
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
            self.calls[part] = self.calls.get(part, 0) + 1
            return made

        setattr(owner, method, timed)


def loaded(args: argparse.Namespace) -> tuple[Any, Any]:
    """(runner, configuration): upstream's runner with the model of a preset and the weights of the file."""
    import ref_common
    from runner.inference import InferenceRunner

    ref_common.skip_default_init()
    options = f"--model.N_cycle {args.passes} --sample_diffusion.N_step {args.steps} --use_template False"
    options += f" --sample_diffusion.N_sample {args.samples} --use_msa True --use_rna_msa True"
    configs = ref_common.build_configs(args.preset, options)
    configs.dump_dir, configs.mc_dropout_apply_rate = args.out, 0.0
    Path(args.out).mkdir(parents=True, exist_ok=True)
    link = Path(args.out) / f"{configs.model_name}.pt"
    link.symlink_to(args.checkpoint)
    configs.load_checkpoint_dir, configs.load_strict = args.out, False
    runner = InferenceRunner(configs)
    given = torch.load(args.checkpoint, mmap=True, weights_only=True)["model"]
    lacking = runner.model.state_dict().keys() - {name.removeprefix("module.") for name in given} - CONSTANTS
    if lacking:
        raise SystemExit(f"the checkpoint lacks {sorted(lacking)[:5]}")
    return runner, configs


def main() -> None:
    """Run the rounds and print what they cost."""
    args = parsed()
    torch.set_num_threads(args.threads)
    sys.path.insert(0, args.reference)
    os.chdir(args.base)
    logging.disable(logging.INFO)
    runner, configs = loaded(args)
    from protenix.data.inference.infer_dataloader import InferenceDataset
    from runner.inference import infer_predict

    clock = Clock()
    clock.wrap(InferenceDataset, "process_one", "features")
    clock.wrap(runner, "predict", "network")
    clock.wrap(runner.dumper, "dump", "write")
    began, cpu = args.began, 0.0
    for jobs, seeds in args.rounds:
        clock.seconds, clock.calls = {}, {}
        configs.input_json_path, configs.seeds = jobs, [int(seed) for seed in seeds.split(",")]
        infer_predict(runner, configs)
        wanted = len(configs.seeds) * len(json.loads(Path(jobs).read_text()))
        if clock.calls.get("write") != wanted:
            raise SystemExit(f"{clock.calls.get('write', 0)} of {wanted} predictions were written")
        used = resource.getrusage(resource.RUSAGE_SELF)
        now, spent = time.time(), used.ru_utime + used.ru_stime
        cost = {"wall": now - began, "cpu": spent - cpu, "peak": used.ru_maxrss * 1024}
        print(json.dumps(cost | {"parts": clock.seconds}), flush=True)
        Path(runner.error_dir).mkdir(exist_ok=True)
        began, cpu = time.time(), spent


if __name__ == "__main__":
    main()
