"""What is told of a run: the plan in a line, the record of a job, memory of device and process. Decides nothing."""

import os
import resource
from collections.abc import Mapping

import torch

from foldline.engine.plan import Plan
from foldline.engine.runner import Run
from foldline.limits import memory_limit, processors
from foldline.tensors import Features


def describe(features: Features, chosen: Plan) -> str:
    """The plan in one line."""
    kinds = {str(dtype).removeprefix("torch.") for dtype in chosen.precisions}
    n_sample = chosen.request.sizes.n_sample
    together, abreast = chosen.seed_group, chosen.own_groups
    extras = [
        f"padded to {chosen.bucket[0]} tokens, {chosen.bucket[1]} atoms" if chosen.bucket[0] > features.n_token else "",
        "biases kept" if chosen.keep_biases else "biases made at each step",
        "weights by stage" if chosen.staged_weights else "weights resident",
        "z put away during the template step" if chosen.park_template else "",
        "z put away while sampling" if chosen.park_pair else "",
        f"{chosen.job_batch} jobs together" if chosen.job_batch > 1 else "",
        f"{together} seeds together" if together > 1 and chosen.job_batch == 1 else "",
        f"{abreast} {'such groups' if together > 1 else 'seeds'} beside each other" if abreast > 1 else "",
        f"one of {chosen.side_by_side} jobs beside each other" if chosen.side_by_side > abreast else "",
        f"{abreast * min(chosen.diffusion_batch, n_sample * together)} samples at once",
    ]
    size = f"{features.n_token} tokens, {features.n_atom} atoms, {'/'.join(sorted(kinds))}"
    return f"{size}, {', '.join(filter(None, extras))}, about {chosen.peak_bytes / 2**30:.1f} GiB"


def run_record(identity: Mapping[str, object], run: Run, features: Features, chosen: Plan) -> dict[str, object]:
    """What `<job>_run.json` says of sizes, options and plan; `identity` tells of version, device and checkpoint."""
    options = run.options
    return {
        **identity,
        "n_token": features.n_token,
        "n_atom": features.n_atom,
        "n_msa": int(features.msa_mask.sum()),
        "trunk_passes": run.passes,
        "steps": run.steps,
        "samples": options.n_sample,
        "mc_dropout": options.mc_dropout,
        "plan": chosen.record(),
    }


def available_bytes(device: torch.device) -> int:
    """Memory that a plan may use: 95 % of what is free on an accelerator; on a CPU nine tenths of what there is.

    That is the machine's, or what a container or a batch system allows the process. The rest is for what no plan
    counts: kernels that are loaded when they are first called, and libraries' workspaces.
    """
    if device.type == "cuda":
        return (torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)) * 19 // 20
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, memory_limit() or machine) * 9 // 10


def available_threads(asked: int | None) -> int:
    """Threads of the CPU that compute: as many as asked for, else torch's choice within what the process may use."""
    return asked or min(torch.get_num_threads(), processors())


def peak_bytes(device: torch.device) -> int:
    """Peak memory: allocated on an accelerator since the last `new_peak`, resident on a CPU since the process began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def new_peak(device: torch.device) -> None:
    """Measure the peak of an accelerator from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
