"""Predicted against measured peaks of every stage: counted on tensors without values, and of a process on a CPU.

    plan.py [--models v1 v2 v05 mini tiny] [--tokens 64 256 ...] [--dtypes fp32 bf16] [--device cuda|cpu]
            [--seeds 1 5] [--memory 24GB ...] [--process 64 500 [--before 0 20]]
    plan.py --random 300 [--seed 1] [--first 0] [--models ...] [--most-tokens 10000]
    plan.py --case v1 bf16 cuda TOKENS ATOMS MSA_ROWS SAMPLES SEEDS MEMORY_BYTES

One line for every model, size, precision and plan: the peak over all stages, predicted and measured, and the stage that
is farthest off. --memory adds the plans for that much memory, --process measures the resident memory of children that
run one block of every kind on a CPU, after --before jobs of other sizes. Bound: 10 % for every stage.

--random draws requests of every kind (the draw of a number depends on --seed and it alone), each with memory between
what the leanest and the richest plan need. It prints every stage that is off by more than 10 %, or too small by more
than 5 %, with the words for --case, and then the worst of every stage.
"""

import argparse
import itertools
import json
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from unittest import mock

import torch

import foldline.layers.atoms
from foldline.cli.restart import HEAP
from foldline.config import EngineConfig
from foldline.engine.memory_bench import MemoryReport, measure, measure_process
from foldline.engine.memory_model import stage_terms
from foldline.engine.plan import Plan, Process, Sizes, leanest, plan, richest, work_sizes
from foldline.errors import DoesNotFit
from foldline.models.spec import PROTENIX_MINI, PROTENIX_TINY, PROTENIX_V05, PROTENIX_V1, PROTENIX_V2
from foldline.ops import row_blocks
from foldline.ops.linear import keeps_kernels

GIB = 2**30
BOUND = 0.1
TOO_SMALL = 0.05  # of random cases: what is missing in a plan ends in an out-of-memory error
UNLIMITED = 1 << 60
FIRST_OF_OTHERS, BETWEEN_OTHERS = 41, 2  # tokens of the jobs that a child runs before the one that is measured
SPECS = {
    "v1": PROTENIX_V1,
    "v2": PROTENIX_V2,
    "v05": PROTENIX_V05,
    "mini": PROTENIX_MINI,
    "tiny": PROTENIX_TINY,
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
HEAD = ("model", "tokens", "seeds", "dtype", "plan", "predicted", "measured", "off", "worst stage", "off")


def plans(args: argparse.Namespace) -> Iterator[tuple[str, str, Plan]]:
    """Model, precision and plan of every line."""
    memories = [UNLIMITED, *(EngineConfig.make(max_memory=word).max_memory or 0 for word in args.memory)]
    for model, tokens, dtype, seeds, memory in itertools.product(
        args.models, args.tokens, args.dtypes, args.seeds, memories
    ):
        sizes = Sizes(tokens, 8 * tokens, args.msa_rows, args.samples, seeds)
        try:
            chosen = plan(sizes, SPECS[model], memory, dtype=DTYPES[dtype], device=args.device)
        except DoesNotFit:
            continue
        if memory == UNLIMITED or chosen != richest(sizes, SPECS[model], dtype=DTYPES[dtype], device=args.device):
            yield model, dtype, chosen


def line(model: str, dtype: str, p: Plan, measured: dict[str, int]) -> float:
    """Print one line; the largest error of a stage."""
    off = {stage: p.stage_bytes[stage] / peak - 1 for stage, peak in measured.items()}
    worst = max(off, key=lambda stage: abs(off[stage]))
    most = max(measured.values())
    sizes = p.request.sizes
    print(
        f"{model:6}{sizes.n_token:7}{sizes.n_seed:7}  {dtype:6}{short(p):26}"
        f"{p.peak_bytes / GIB:10.3f}{most / GIB:10.3f}"
        f"{100 * (p.peak_bytes / most - 1):+7.1f} %  {worst:24}{100 * off[worst]:+7.1f} %",
        flush=True,
    )
    return abs(off[worst])


def short(p: Plan) -> str:
    """What a plan does, in letters: seeds x samples at once, then what was given up."""
    given_up = [
        "" if p.keep_biases else " bias",
        " weights" if p.staged_weights else "",
        " templ" if p.park_template else "",
        " pair" if p.park_pair else "",
    ]
    return f"{p.seed_batch}/{p.diffusion_batch}" + "".join(given_up)


@dataclass(frozen=True)
class Case:
    """A request, and the memory that its plan may use."""

    model: str
    dtype: str
    device: str
    sizes: Sizes
    memory: int

    @classmethod
    def of(cls, words: list[str]) -> "Case":
        """From the words of --case."""
        model, dtype, device, *numbers = words
        *sizes, memory = map(int, numbers)
        return cls(model, dtype, device, Sizes(*sizes), memory)

    def __str__(self) -> str:
        return " ".join(map(str, (self.model, self.dtype, self.device, *astuple(self.sizes), self.memory)))

    @classmethod
    def drawn(cls, rng: random.Random, models: list[str], most_tokens: int) -> "Case":
        """Any request: sizes evenly by their logarithms, from ligands alone to nucleic acids."""

        def evenly(low: float, high: float) -> int:
            return round(math.exp(rng.uniform(math.log(low), math.log(high))))

        model, dtype, device = rng.choice(models), rng.choice(list(DTYPES)), rng.choice(["cuda", "cpu"])
        n = evenly(64, most_tokens)
        if rng.random() < 0.25:  # just past the number of tokens up to which a block has one row more
            rows = work_sizes(n, device)
            n = min(most_tokens, max(64, rng.choice([rows.pair, rows.pair // 2, rows.point]) // evenly(1, 300) + 1))
        per_token = rng.choice([1.0, rng.uniform(1, 8), rng.uniform(7, 9), rng.uniform(19, 23)])
        n_sample, n_seed = rng.choice([1, 5, evenly(1, 100)]), rng.choice([1, 1, evenly(1, 20)])
        sizes = Sizes(n, round(per_token * n), rng.choice([1, evenly(1, 16_384)]), n_sample, n_seed)
        asked = sizes, SPECS[model]
        most = richest(*asked, dtype=DTYPES[dtype], device=device).peak_bytes
        least = leanest(*asked, dtype=DTYPES[dtype], device=device).peak_bytes
        memory = rng.choice([least, most, *[evenly(least, most)] * 6])
        return cls(model, dtype, device, sizes, max(least, memory))

    @property
    def plan(self) -> Plan:
        """The plan for the memory that there is."""
        return plan(self.sizes, SPECS[self.model], self.memory, dtype=DTYPES[self.dtype], device=self.device)


@contextmanager
def few_blocks() -> Iterator[None]:
    """Ops walk over their first two and last two blocks alone: those in between hold what the second one holds."""

    def ends(blocks: list) -> list:
        return blocks if len(blocks) < 5 else [*blocks[:2], *blocks[-2:]]

    def some_rows(*sizes: int) -> list[slice]:
        return ends(list(row_blocks(*sizes)))

    def some(*limits: int) -> list[int]:
        return ends(list(range(*limits)))

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("foldline.") and "engine" not in name and getattr(module, "row_blocks", 0) is row_blocks:
                stack.enter_context(mock.patch.object(module, "row_blocks", some_rows))
        stack.enter_context(mock.patch.object(foldline.layers.atoms, "range", some, create=True))
        yield


def compare(case: Case) -> tuple[Plan, dict[str, float]]:
    """The plan of a case, and by how much every stage of it is off on a device."""
    p = case.plan
    with few_blocks():
        counted = measure(p).stages
    less = counted_weights(p)
    predicted = {name: sum(terms.values()) for name, terms in stage_terms(case.sizes, p.request.spec, p).items()}
    return p, {name: predicted[name] / (stage.device - less.get(name, 0)) - 1 for name, stage in counted.items()}


def random_cases(args: argparse.Namespace) -> int:
    """Print what is beyond the bound, and the worst of every stage; how many stages are beyond it."""
    beyond, found, peaks = 0, {}, []
    for number in range(args.first, args.first + args.random):
        case = Case.drawn(random.Random(f"{args.seed}/{number}"), args.models, args.most_tokens)
        p, off = compare(case)
        largest = max(off, key=lambda name: p.stage_bytes[name])
        peaks.append(off[largest])
        for name, error in off.items():
            found.setdefault(name, []).append((error, str(case)))
            if error > BOUND or error < -TOO_SMALL:
                beyond += 1
                mark = ", the largest" if name == largest else ""
                print(f"{100 * error:+7.1f} %  {name}{mark}: {short(p)}  --case {case}", flush=True)
    print(f"{args.random} cases, {sum(map(len, found.values()))} stages, {beyond} beyond the bound")
    print(f"{'stage':26}{'least':>9}{'most':>9}  the case that is farthest off")
    for name, errors in found.items():
        (low, _), (high, _), (_, worst) = min(errors), max(errors), max(errors, key=lambda error: abs(error[0]))
        print(f"{name:26}{100 * low:+7.1f} %{100 * high:+7.1f} %  --case {worst}")
    print(f"{'largest stage of each':26}{100 * min(peaks):+7.1f} %{100 * max(peaks):+7.1f} %")
    return beyond


def one_case(case: Case) -> None:
    """Print every stage of a case."""
    p, off = compare(case)
    print(f"{short(p)}, {p.rows}")
    for name, terms in stage_terms(case.sizes, p.request.spec, p).items():
        words = ", ".join(f"{term} {size / 1e6:.1f}" for term, size in terms.items())
        print(f"{name:26}{100 * off[name]:+7.1f} %  MB: {words}")


def resident(model: str, tokens: int, dtype: str, before: int) -> tuple[Plan, dict[str, int]]:
    """A plan for a CPU without biases, and the peaks of the child that runs it."""
    heap = f"GLIBC_TUNABLES={HEAP}"  # as a `foldline predict` has it
    command = ["env", heap, sys.executable, __file__, "--child", model, str(tokens), dtype, str(before)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return child_plan(model, tokens, dtype, before), json.loads(done.stdout)


def child_plan(model: str, tokens: int, dtype: str, before: int) -> Plan:
    """One sample on a CPU, with all weights."""
    sizes, kept = Sizes(tokens, 8 * tokens, 500, 1), before if keeps_kernels(DTYPES[dtype]) else 0
    return plan(sizes, SPECS[model], UNLIMITED, dtype=DTYPES[dtype], device="cpu", process=Process(kept))


def child(model: str, tokens: str, dtype: str, before: str) -> None:
    """Measure this process, which has imported what a run of jobs imports."""
    import foldline.features.build
    import foldline.outputs.layout  # noqa: F401  (its libraries are a part of what is measured)

    torch.set_num_threads(1)
    for number in range(int(before)):
        measure_process(child_plan(model, FIRST_OF_OTHERS + number * BETWEEN_OTHERS, dtype, number))
    report: MemoryReport = measure_process(child_plan(model, int(tokens), dtype, int(before)))
    print(json.dumps({name: stage.device for name, stage in report.stages.items()}))


def main() -> int:
    """Print the tables; 1 when a stage is off by more than the bound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=list(SPECS))
    parser.add_argument("--tokens", nargs="*", type=int, default=[64, 256, 700, 1024, 2048, 5000, 10_000])
    parser.add_argument("--dtypes", nargs="*", default=list(DTYPES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1])
    parser.add_argument("--memory", nargs="*", default=[])
    parser.add_argument("--process", nargs="*", type=int, default=[])
    parser.add_argument("--before", nargs="*", type=int, default=[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--msa-rows", type=int, default=1024)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--most-tokens", type=int, default=10_000)
    parser.add_argument("--case", nargs=9)
    parser.add_argument("--child", nargs=4)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return 0
    if args.case:
        one_case(Case.of(args.case))
        return 0
    if args.random:
        return int(random_cases(args) > 0)
    print(f"GiB, 8 atoms per token, {args.msa_rows} alignment rows, {args.samples} samples, torch {torch.__version__}")
    print(
        f"{HEAD[0]:6}{HEAD[1]:>7}{HEAD[2]:>7}  {HEAD[3]:6}{HEAD[4]:26}{HEAD[5]:>10}{HEAD[6]:>10}{HEAD[7]:>9}  {HEAD[8]}"
    )
    worst = [0.0]
    for model, dtype, p in plans(args):
        counted = measure(p).stages
        less = counted_weights(p)
        worst.append(line(model, dtype, p, {name: stage.device - less.get(name, 0) for name, stage in counted.items()}))
    for tokens, dtype, before in itertools.product(args.process, args.dtypes, args.before):
        model = args.models[-1]
        p, measured = resident(model, tokens, dtype, before)
        worst.append(line(f"{model}*{before or ''}", dtype, p, measured))
    if args.process:
        print("* resident memory of a process on a CPU, which has run so many jobs of other sizes before")
    print(f"worst stage of all: {100 * max(worst):.1f} %, bound {100 * BOUND:.0f} %")
    return int(max(worst) > BOUND)


def counted_weights(p: Plan) -> dict[str, int]:
    """What `measure`, which holds all weights, has too many in every stage of a plan that brings them by stage."""
    from foldline.engine.memory_model import STAGES, parameter_bytes

    weights = parameter_bytes(p.request.spec, p)
    total = sum(weights.values()) if p.staged_weights else 0
    return {name: total - weights[stage] for name, stage in STAGES.items()} if total else {}


if __name__ == "__main__":
    sys.exit(main())
