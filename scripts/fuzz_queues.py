"""Random queues of jobs through an engine, each job compared with itself alone: numbers, order, events and errors.

    fuzz_queues.py [--queues N] [--seed S] [--failures] [--seconds S]

A queue has small jobs, some twice, and some that cannot be run: bad input, an unexpected fault while features are made
or in the network, one too large for the memory. --failures lets memory run out at random operations. Exit code 1 when a
job's result depends on its company.
"""

import argparse
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import torch
from fuzz_batches import SCORES, TOLERANCE, Exhausted, distances, failures, scores_apart
from upstream_layout import small_network, state

from foldline.config import EngineConfig
from foldline.engine import Engine, Prediction
from foldline.engine.plan import PAIRS_TOGETHER, Sizes, leanest
from foldline.engine.runner import SeedResult
from foldline.engine.schedule import in_order
from foldline.errors import DoesNotFit, InputError, InternalError
from foldline.execute import Event
from foldline.features.featuriser import Featuriser
from foldline.inputs import Job, jobs_from_json
from foldline.ops import linear

SETTINGS = {"samples": 2, "steps": 2, "recycles": 1, "device": "cpu", "threads": 1}
LARGE = "MKWVTFISLAARGKWVYHNDE" * 9
SEQUENCES = ("M", "GK", "MKWVTFISL", "GKWVY", "MKWVTFISLAAR", "MKWVTFISLAARMKWVTF", "GKWVYAAPLLCCDDEEFFGGHHII")
FAULTS = {"unknown": InputError, "boom": InternalError, "broken": InternalError, "large": DoesNotFit}


def a_job(rng: random.Random, number: int) -> Job:
    """A job whose name says what is wrong with it, if anything is."""
    kind = rng.choices(("good", *FAULTS), (8, 1, 1, 1, 1))[0]
    sequence = LARGE if kind == "large" else rng.choice(SEQUENCES)
    copies = 1 if kind == "large" else rng.choice((1, 1, 2))
    rows = rng.choice((0, 0, 2, 30))
    aligned = ["".join(rng.choice("ACDEFGHIK-") for _ in sequence) for _ in range(rows)]
    msa = "".join(f">r{i}\n{row}\n" for i, row in enumerate([sequence, *aligned])) if rows else ""
    protein = {"id": ["A", "B"][:copies], "sequence": sequence, "unpairedMsa": msa, "pairedMsa": "", "templates": []}
    entities: list[dict] = [{"protein": protein}]
    if kind == "unknown":
        entities.append({"ligand": {"id": "L", "ccdCodes": ["QQQQQ"]}})
    elif rng.random() < 0.5:
        ligand = rng.choice(({"ccdCodes": ["ZN"]}, {"ccdCodes": ["SO4"]}, {"smiles": "CC(=O)O"}))
        entities.append({"ligand": {"id": "L", **ligand}})
    seeds = rng.sample(range(1000), rng.choice((1, 1, 2, 3)))
    text = {"dialect": "alphafold3", "version": 1, "name": f"{kind}-{number}", "modelSeeds": seeds}
    (job,), errors = jobs_from_json(json.dumps(text | {"sequences": entities}))
    assert not errors, errors
    return job


@contextmanager
def faults() -> Iterator[None]:
    """Jobs named "boom" fail while features are made, "broken" ones where their tokens are embedded."""
    real, broken = Featuriser.__call__, set()

    def featurise(self: Featuriser, job: Job) -> object:
        if job.name.startswith("boom"):
            raise RuntimeError("a fault while features are made")
        made = real(self, job)
        if job.name.startswith("broken"):
            broken.add(id(made.made.features))
            kept.append(made)
        return made

    from foldline.engine import runner

    kept: list[object] = []
    trunk = runner.run_trunk

    def run_trunk(run: runner.Run, group: runner.Group, *rest: object) -> None:
        if any(id(lane.features) in broken for lane in group.lanes):
            raise ValueError("a fault in the network")
        trunk(run, group, *rest)  # type: ignore[arg-type]

    with patch.object(Featuriser, "__call__", featurise), patch.object(runner, "run_trunk", run_trunk):
        yield


@dataclass
class Fuzzer:
    """A checkpoint, and every job alone as it was once found."""

    checkpoint: Path
    alone: dict[str, Prediction] = field(default_factory=dict)
    count: Counter[str] = field(default_factory=Counter)
    worst: Counter[str] = field(default_factory=Counter)

    def engine(self, **changes: object) -> Engine:
        """An engine with the settings that all share, but for `changes`."""
        return Engine(self.checkpoint, config=EngineConfig(**(SETTINGS | changes)))  # type: ignore[arg-type]

    def trial(self, rng: random.Random, *, fail: bool) -> list[str]:
        """One queue; what is wrong with it."""
        jobs = [a_job(rng, number) for number in range(rng.randint(1, 8))]
        if rng.random() < 0.3:
            jobs.append(rng.choice(jobs))
        changes: dict[str, object] = {"buckets": rng.choice(((), (8, 16, 64), (32,), (16, 32)))}
        changes |= {"ahead": rng.choice((0, 1, 3)), "seed_batch": rng.choice((None, None, 1, 2))}
        changes |= {"threads": rng.choice((1, 1, 2, 3))}
        engine = self.engine(**changes, max_memory=self.limit(max(changes["buckets"], default=0)))  # type: ignore[call-overload]
        events: list[Event] = []
        memory = Exhausted(failures(rng, 4.9)) if fail else None
        pairs = patch.dict(PAIRS_TOGETHER, cpu=rng.choice((128**2, 400)))  # seeds together, or beside each other
        with pairs, faults(), nullcontext() if memory is None else memory.everywhere():
            found = list(engine.predict(jobs, progress=events.append))
        self.count["jobs"] += len(jobs)
        said = []
        order = [job.name for job in in_order(jobs, engine.buckets)]
        if [one.job_name for one in found] != order:
            said.append(f"order {[one.job_name for one in found]}, wanted {order}")
        by_name = {job.name: job for job in jobs}
        raised = memory.raised if memory is not None else 0
        for one in found:
            said += self.checked(by_name[one.job_name], one, raised)
        twice = Counter(order)
        for name, job in by_name.items():
            ends = [e.seed for e in events if e.job == name and e.stage == "write"]
            if name.startswith("good") and not raised and sorted(ends) != sorted(job.seeds * twice[name]):  # type: ignore[type-var]
                said.append(f"{name}: seeds {ends} told as written, {job.seeds} wanted")
        self.count["failures"] += raised
        if said:
            said.append(f"{changes} {[(j.name, j.seeds) for j in jobs]}")
        return said

    def limit(self, bucket: int) -> int:
        """Memory that all but large jobs fit in."""
        spec, n = self.engine().spec, max(64, bucket)
        small = leanest(Sizes(n, 10 * n, 64, 2, 1), spec).peak_bytes
        large = leanest(Sizes(len(LARGE), 7 * len(LARGE), 1, 2, 1), spec).peak_bytes
        assert small < large, "the large job is no larger than the buckets"
        return large - 1

    def checked(self, job: Job, found: Prediction, raised: int) -> list[str]:
        """What is wrong with one job's end."""
        kind = job.name.split("-")[0]
        if kind in FAULTS:
            wrong = not isinstance(found.error, FAULTS[kind]) and not (raised and isinstance(found.error, DoesNotFit))
            return [f"{job.name}: {found.error!r}"] if wrong else []
        if found.error is not None:
            self.count["did not fit"] += 1
            return [] if raised and isinstance(found.error, DoesNotFit) else [f"{job.name}: {found.error!r}"]
        key = f"{job.entities}{job.seeds}"
        if key not in self.alone:
            (self.alone[key],) = self.engine(seed_batch=1, buckets=(), ahead=0).predict([job])
        wanted, said = self.alone[key], []
        if [s.seed for s in found.samples] != list(job.seeds):
            return [f"{job.name}: seeds {[s.seed for s in found.samples]}"]
        for mine, theirs in zip(found.samples, wanted.samples, strict=True):
            a, b = SeedResult(mine), SeedResult(theirs)
            for name, value in (distances(a, b) | {"scores": scores_apart(a, b)}).items():
                self.worst[name] = max(self.worst[name], value)  # type: ignore[assignment]
                if value > (TOLERANCE if name == "coordinates" else SCORES):
                    said.append(f"{job.name} {mine.seed} {name} {value:.2g}")
        return said


def main() -> None:
    """Run queues, print what is wrong, a count and the worst distances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queues", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the first queue; the next queue has the next")
    parser.add_argument("--failures", action="store_true", help="let memory run out")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    given = parser.parse_args()
    torch.set_num_threads(1)
    linear._ONEDNN = False  # it takes its time, and memory, for every new shape
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.pt"
        torch.save({"model": state(small_network(), "module.")}, path)
        fuzzer = Fuzzer(path)
        for seed in range(given.seed, given.seed + given.queues):
            if time.perf_counter() - start > given.seconds:
                break
            try:
                said = fuzzer.trial(random.Random(seed), fail=given.failures)
            except Exception:  # noqa: BLE001 - told, and the next queue runs
                said = [traceback.format_exc()]
            fuzzer.count["queues"] += 1
            fuzzer.count["queues that differ"] += bool(said)
            if said:
                sys.stdout.write(f"queue {seed}: {'; '.join(said)}\n")
                sys.stdout.flush()
    sys.stdout.write(", ".join(f"{number:,} {what}" for what, number in fuzzer.count.items()) + "\n")
    sys.stdout.write("worst: " + ", ".join(f"{what} {value:.2g}" for what, value in fuzzer.worst.items()) + "\n")
    raise SystemExit(1 if fuzzer.count["queues that differ"] else 0)


if __name__ == "__main__":
    main()
