"""A job's result does not depend on the company that it runs in: random groups, and queues where something fails."""

import json
import random
import sys
import weakref
from collections import Counter
from pathlib import Path

import pytest
from other_jobs import assert_same_samples

from foldline.config import EngineConfig
from foldline.engine import Engine, ladder
from foldline.engine.group import Group
from foldline.engine.plan import Plan
from foldline.engine.runner import Run
from foldline.errors import DoesNotFit, InternalError
from foldline.execute import Event
from foldline.inputs import Job, jobs_from_json
from foldline.sampler import Draws

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

from fuzz_batches import trial

SETTINGS = {"samples": 2, "steps": 1, "recycles": 0, "device": "cpu", "threads": 1, "buckets": (16,)}


@pytest.mark.parametrize("seed", (1, 3, 9, 15, 18, 21, 24, 25))
def test_random_groups(seed: int) -> None:
    """`scripts/fuzz_batches.py` runs as many as one likes."""
    count: Counter[str] = Counter()
    assert not trial(random.Random(seed), (), count, Counter(), fail=False)
    assert count["lanes"] >= 1


@pytest.mark.parametrize("seed", (11, 13, 15, 16, 18, 24, 25))
def test_random_groups_where_memory_runs_out(seed: int) -> None:
    count: Counter[str] = Counter()
    assert not trial(random.Random(seed), (), count, Counter(), fail=True)
    assert count["rungs"] or count["did not fit"], "memory did not run out"


def a_job(name: str, rows: int) -> Job:
    sequence = {"shallow": "MKWVTFISL", "deep": "GKWVYAA"}[name]
    aligned = [sequence, *("-" * i + sequence[i:] for i in range(1, rows))]
    msa = "".join(f">{i}\n{row}\n" for i, row in enumerate(aligned))
    protein = {"id": "A", "sequence": sequence, "unpairedMsa": msa, "pairedMsa": "", "templates": []}
    text = {"dialect": "alphafold3", "version": 1, "name": name, "modelSeeds": [1], "sequences": [{"protein": protein}]}
    (job,), errors = jobs_from_json(json.dumps(text))
    assert not errors
    return job


@pytest.fixture
def jobs() -> list[Job]:
    return [a_job("shallow", 1), a_job("deep", 7)]


def an_engine(checkpoint: Path) -> Engine:
    return Engine(checkpoint, config=EngineConfig(**SETTINGS))  # type: ignore[arg-type]


def test_a_job_too_large_for_a_plan_takes_no_other_with_it(
    checkpoint: Path, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs of a bucket, of which one has an alignment too deep for the memory."""
    real = Engine.plan_of

    def plan_of(engine: Engine, bucket: tuple[int, int], n_msa: int, *counts: int) -> Plan:
        if n_msa > 4:
            raise DoesNotFit(bucket[0], 2, 1, "use another")
        return real(engine, bucket, n_msa, *counts)

    monkeypatch.setattr(Engine, "plan_of", plan_of)
    shallow, deep = an_engine(checkpoint).predict(jobs)
    assert shallow.error is None and isinstance(deep.error, DoesNotFit)
    (alone,) = an_engine(checkpoint).predict(jobs[:1])
    assert_same_samples(shallow.samples[0], alone.samples[0])


def test_a_plan_counts_the_rows_that_its_seeds_draw(checkpoint: Path, jobs: list[Job]) -> None:
    """Of 8 alignment rows, the query twice, most seeds draw fewer in their only pass; the most of them counts."""
    deep = jobs[1]
    drawn = {seed: len(Draws(seed).msa_rows(0, 8)) for seed in range(1, 9)}
    assert len(set(drawn.values())) > 2
    for seeds in ((1,), (2, 3), (4,), (5, 6, 7, 8)):
        (found,) = an_engine(checkpoint).predict([deep.with_seeds(seeds)])
        assert found.error is None and found.plan is not None
        sizes = found.plan.request.sizes
        assert (sizes.n_msa, sizes.n_msa_drawn) == (8, max(drawn[seed] for seed in seeds))


def test_seeds_that_start_anew_are_told_once(
    checkpoint: Path, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in a shared round, after the first sample of both jobs was handed over."""
    engine = an_engine(checkpoint)
    (alone,) = engine.predict(jobs[:1])
    head, calls = engine.network.confidence, []
    real = type(head).forward

    def forward(*args: object) -> object:
        calls.append(args)
        if len(calls) == 2:
            raise ValueError("once")
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(type(head), "forward", forward)
    events: list[Event] = []
    found = list(engine.predict(jobs, progress=events.append))
    assert [one.error for one in found] == [None, None] and len(calls) == 2 + 2 * 2
    assert_same_samples(found[0].samples[0], alone.samples[0])
    for job in jobs:
        mine = [event.stage for event in events if event.job == job.name]
        assert mine.count("write") == 1 and mine.index("write") > len(mine) - 1 - mine[::-1].index("diffusion")


@pytest.mark.parametrize("error", [ValueError, MemoryError])
def test_nothing_is_left_of_a_round_that_failed(
    checkpoint: Path, jobs: list[Job], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Neither while its jobs run again alone, nor in the errors that they end in."""
    groups: list[weakref.ref[Group]] = []
    alive: list[int] = []
    real = ladder.advance

    def advance(run: Run, group: Group, chosen: Plan) -> None:
        if len(group.lanes) == 1 and chosen.job_batch == 1:
            alive.append(sum(one() is not None for one in groups))
        groups.append(weakref.ref(group))
        real(run, group, chosen)

    def forward(*_args: object) -> None:
        raise error

    engine = an_engine(checkpoint)
    monkeypatch.setattr(ladder, "advance", advance)
    monkeypatch.setattr(type(engine.network.confidence), "forward", forward)
    found = list(engine.predict(jobs))
    assert [type(one.error) for one in found] == [InternalError if error is ValueError else DoesNotFit] * 2
    assert len(groups) > 2 and alive[0] == 0, "tensors of the round were there while its jobs ran alone"
    assert not any(one() for one in groups), "an error holds them"
