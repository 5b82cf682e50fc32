"""Small jobs of a queue that run beside each other on a CPU: the answers of one after another, whatever happens."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from other_jobs import assert_same_samples

from foldline.config import EngineConfig
from foldline.engine import Engine, Prediction
from foldline.engine.abreast import Beside
from foldline.engine.prepare import Prepared, Preparer
from foldline.errors import DoesNotFit, InternalError, Stopped
from foldline.execute import Event, StopRequest
from foldline.inputs import Job, jobs_from_json
from foldline.inputs.job import Text
from foldline.models import Network

SETTINGS = {"samples": 2, "steps": 2, "recycles": 0, "msa": "none", "device": "cpu", "threads": 2}
NAMES = ("GKWVY", "MKWVTFISL", "GKWVYGK", "MKWVTFISLAAR", "GKWV")
LARGE = "MKWVTFISLAAR" * 22  # more tokens than go beside others
WAIT = 60.0  # seconds; nothing here takes that long


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def an_engine(checkpoint: Path, **changes: object) -> Engine:
    return Engine(checkpoint, config=EngineConfig(**(SETTINGS | changes)))  # type: ignore[arg-type]


def a_job(sequence: str, *seeds: int) -> Job:
    text = {"dialect": "alphafold3", "version": 1, "name": sequence[:20], "modelSeeds": list(seeds) or [1]}
    (job,), errors = jobs_from_json(json.dumps(text | {"sequences": [{"protein": {"id": "A", "sequence": sequence}}]}))
    assert not errors
    return job


def small() -> list[Job]:
    return [a_job(sequence) for sequence in NAMES]


@pytest.fixture(scope="module")
def alone(checkpoint: Path) -> dict[str, Prediction]:
    return {p.job_name: p for p in an_engine(checkpoint, threads=1).predict(small())}


def same(found: Prediction, alone: dict[str, Prediction]) -> None:
    assert found.error is None
    for one, other in zip(found.samples, alone[found.job_name].samples, strict=True):
        assert_same_samples(one, other)


def beside_each_other(counts: Iterable[object]) -> bool:
    """Whether those are the numbers of jobs at a time in two threads: the last one may be left alone."""
    *first, last = counts
    return first == [2] * 4 and last in (1, 2)


class AtOnce:
    """Tells how many trunks run at the same time; with `meet`, so many wait for each other. Small ones take a time."""

    def __init__(self, network: Network, monkeypatch: pytest.MonkeyPatch, meet: int = 0, seconds: float = 0) -> None:
        self.now, self.ended, self.most, self.threads, self.lock = 0, 0, 0, [], threading.Lock()
        self.met = threading.Event()
        real = network.trunk.pairformer.forward

        def forward(s: torch.Tensor, *rest: object) -> None:
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
                self.threads.append((s.shape[-2], torch.get_num_threads()))
            if self.most >= meet:
                self.met.set()
            assert self.met.wait(WAIT)
            time.sleep(seconds if s.shape[-2] < 20 else 0)
            try:
                real(s, *rest)
            finally:
                with self.lock:
                    self.now, self.ended = self.now - 1, self.ended + 1

        monkeypatch.setattr(network.trunk.pairformer, "forward", forward)


def test_small_jobs_run_beside_each_other_each_in_its_share_of_the_threads(
    checkpoint: Path, alone: dict[str, Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, events = an_engine(checkpoint), []
    seen = AtOnce(engine.network, monkeypatch, meet=2)
    found = list(engine.predict(small(), progress=events.append))
    assert [p.job_name for p in found] == list(NAMES), "in the order given"
    for one in found:
        same(one, alone)
        assert one.plan is not None and one.plan.job_batch == 1
    assert beside_each_other(p.plan and p.plan.side_by_side for p in found)
    assert seen.most == 2 and {threads for n_token, threads in seen.threads if n_token != 4} == {1}
    assert torch.get_num_threads() == 2
    planned = [e.message for e in events if e.stage == "plan"]
    assert len(planned) == 5
    assert all("one of 2 jobs beside each other, 2 samples at once" in said for said in planned[:4])
    assert engine.throughput.jobs == 5 and 0 <= engine.throughput.idle_share < 0.9


def test_a_large_job_has_all_threads_and_is_alone(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small ones, a large one, and a last one that has nobody beside it."""
    engine = an_engine(checkpoint, samples=1, steps=1)
    seen, ended = AtOnce(engine.network, monkeypatch, seconds=0.1), []
    embed = engine.network.trunk.embed_inputs
    monkeypatch.setattr(engine.network.trunk, "embed_inputs", lambda *args: (ended.append(seen.ended), embed(*args))[1])
    jobs = [*small()[:2], a_job(LARGE), a_job("GKWV")]
    plans = [p.plan for p in engine.predict(jobs)]
    assert [p and p.side_by_side for p in plans] == [2, 2, 1, 1]
    assert seen.most == 2 and ended[2:] == [2, 3]
    assert sorted(seen.threads[:2]) == [(5, 1), (9, 1)] and seen.threads[2:] == [(264, 2), (4, 2)]


def test_a_plan_counts_the_jobs_that_run_and_those_that_come_next(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs is as large as it is; what comes has as many atoms to a token as the job itself, and its own seeds."""
    engine = an_engine(checkpoint)
    AtOnce(engine.network, monkeypatch, meet=2)  # the first one waits for the second
    jobs = [a_job("GKWVY", 1, 2), a_job("MKWVTFISL"), a_job("GKW", 1, 2, 3), a_job("GKWV"), a_job("GKWVYGK"), *small()]
    first, second, third, *_ = (p.plan.request for p in engine.predict(jobs) if p.plan is not None)
    assert first.beside == (replace(first.sizes, n_token=9, n_atom=first.sizes.n_atom * 9 // 5, n_seed=1),)
    assert second.beside == (first.sizes,) and first.sizes.n_seed == 2
    assert third.beside in ((first.sizes,), (second.sizes,))


class Passes:
    """Has the first job's trunk wait before the passes told for what is given; tells the threads of its passes."""

    def __init__(self, network: Network, monkeypatch: pytest.MonkeyPatch, waits: dict[int, Callable[[], bool]]) -> None:
        self.threads: list[int] = []
        real = network.trunk.pairformer.forward

        def forward(s: torch.Tensor, *rest: object) -> None:
            if s.shape[-2] == len(NAMES[0]):
                until = time.monotonic() + WAIT
                while not waits.get(len(self.threads), lambda: True)():
                    assert time.monotonic() < until
                    time.sleep(0.001)
                self.threads.append(torch.get_num_threads())
            real(s, *rest)

        monkeypatch.setattr(network.trunk.pairformer, "forward", forward)


def is_alone() -> bool:
    """Whether one job is in the network."""
    return sum(thread.name == "foldline-abreast" for thread in threading.enumerate()) == 1


def test_the_last_one_takes_the_threads_of_those_that_have_ended(
    checkpoint: Path, alone: dict[str, Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its next pass. While another one is to come they are left to that."""
    engine, real, third = an_engine(checkpoint, recycles=3), Preparer.__call__, threading.Event()
    begun = list[str]()

    def prepare(self: Preparer, job: Job) -> Prepared:
        assert job.name != NAMES[2] or third.wait(WAIT)
        return real(self, job)

    def third_ended() -> bool:
        third.set()
        return NAMES[2] in begun and is_alone()

    def progress(event: Event) -> None:
        if event.stage == "trunk":
            begun.append(event.job)

    monkeypatch.setattr(Preparer, "__call__", prepare)
    seen = Passes(engine.network, monkeypatch, {0: lambda: NAMES[1] in begun and is_alone(), 2: third_ended})
    found = list(engine.predict(small()[:3], progress=progress))
    assert not any(p.error for p in found) and [p.plan and p.plan.side_by_side for p in found] == [2] * 3
    assert seen.threads == [1, 1, 1, 2] and torch.get_num_threads() == 2
    assert engine.throughput.idle_share < 0.9
    sizes = found[0].plan and found[0].plan.request.sizes
    assert {threads for of, _, threads in engine._kernels_beside if sizes and of.n_token == sizes.n_token} == {1, 2}
    others = list(an_engine(checkpoint, recycles=3, threads=1).predict(small()[:3]))
    for one, other in zip(found, others, strict=True):
        same(one, {other.job_name: other})


def test_one_that_cannot_be_run_is_no_longer_to_come(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is any other at the end of the list."""
    engine, ended, real = an_engine(checkpoint, recycles=1), threading.Event(), Beside.none_come

    def none_come(self: Beside) -> None:
        real(self)
        ended.set()

    monkeypatch.setattr(Beside, "none_come", none_come)
    seen = Passes(engine.network, monkeypatch, {0: ended.is_set})
    first, wrong = engine.predict([small()[0], replace(a_job("GKWV"), user_ccd=Text(inline="no components"))])
    assert first.error is None and wrong.error is not None and seen.threads[1] == 2


@pytest.mark.parametrize(
    "changes", [{"threads": 1}, {"buckets": (16,)}, {"on_error": "stop"}, {"max_memory": "of one"}, {"list": False}]
)
def test_jobs_that_run_one_after_another(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, changes: dict) -> None:
    """With one thread, where passes are shared, where the first error ends the run, where two do not fit, unlisted."""
    jobs = small()[:3]
    if unlisted := "list" in changes:
        changes = {}
    if "max_memory" in changes:
        monkeypatch.setattr("foldline.engine.engine.keeps_kernels", lambda dtype: False)
        changes = {"max_memory": an_engine(checkpoint).plan_of((9, 100), 1, 1, 1).peak_bytes}
    engine = an_engine(checkpoint, **changes)
    seen = AtOnce(engine.network, monkeypatch)
    found = list(engine.predict(iter(jobs) if unlisted else jobs))
    assert not any(p.error for p in found) and seen.most == 1
    assert all(p.plan is not None and p.plan.side_by_side == 1 for p in found)


def test_seeds_of_a_job_stay_together(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = an_engine(checkpoint)
    seen = AtOnce(engine.network, monkeypatch, meet=2)
    found = list(engine.predict([a_job("GKWVY", 1, 2, 3), a_job("MKWVTFISL", 4, 5)]))
    assert [p.error for p in found] == [None, None]
    assert [p.plan and (p.plan.side_by_side, p.plan.seed_group) for p in found] == [(2, 3), (2, 2)]
    assert seen.most == 2 and [[s.seed for s in p.samples] for p in found] == [[1, 2, 3], [4, 5]]
    alone = an_engine(checkpoint, threads=1).predict([a_job("GKWVY", 1, 2, 3)])
    for one, other in zip(found[0].samples, next(alone).samples, strict=True):
        assert_same_samples(one, other)


def is_short(found: Prediction) -> bool:
    """Whether memory ran out."""
    return any("out of memory in trunk" in said for said in found.warnings)


def test_seeds_that_are_to_run_alone_do(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = an_engine(checkpoint, seed_batch=1)
    seen = AtOnce(engine.network, monkeypatch, seconds=0.02)
    found = list(engine.predict([a_job("GKWVY", 1, 2, 3), a_job("MKWVTFISL", 4, 5)]))
    assert [p.plan and p.plan.side_by_side for p in found] == [1, 1] and seen.most == 1


def fail(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, n_token: int, times: int = 1, error: Exception | None = None
) -> None:
    """Have the trunk of jobs of so many tokens end in an error, as often as told: memory runs out, or another one."""
    left, stack = [times], engine.network.trunk.pairformer
    real: Callable[..., object] = stack.forward

    def forward(s: torch.Tensor, *rest: object) -> object:
        if s.shape[-2] == n_token and left[0]:
            left[0] -= 1
            raise error or MemoryError
        return real(s, *rest)

    monkeypatch.setattr(stack, "forward", forward)


def test_one_for_which_memory_runs_out_goes_on_alone(
    checkpoint: Path, alone: dict[str, Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all threads, when the others have ended; the next ones go beside each other again."""
    engine = an_engine(checkpoint)
    seen = AtOnce(engine.network, monkeypatch)
    fail(engine, monkeypatch, 9)
    found = list(engine.predict(small()))
    for one in found:
        same(one, alone)
    assert [p.job_name for p in found if is_short(p)] == ["MKWVTFISL"]
    threads = {n_token: count for n_token, count in seen.threads if n_token != 4}
    assert threads.pop(9) == 2 and set(threads.values()) == {1}


def test_two_for_which_memory_runs_out_go_on_one_after_the_other(
    checkpoint: Path, alone: dict[str, Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = an_engine(checkpoint)
    seen = AtOnce(engine.network, monkeypatch)
    for n_token in (5, 9):
        fail(engine, monkeypatch, n_token)
    for one in engine.predict(small()[:2]):
        same(one, alone)
        assert is_short(one)
    assert seen.most == 1 and sorted(seen.threads) == [(5, 2), (9, 2)]


@pytest.mark.parametrize(("error", "kind"), [(MemoryError(), DoesNotFit), (RuntimeError("illegal"), InternalError)])
def test_an_error_stays_with_its_job(
    checkpoint: Path, alone: dict[str, Prediction], monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type
) -> None:
    engine = an_engine(checkpoint)
    fail(engine, monkeypatch, 7, -1, error)
    found = {p.job_name: p for p in engine.predict(small())}
    assert isinstance(found.pop("GKWVYGK").error, kind)
    for one in found.values():
        same(one, alone)
    assert engine.throughput.jobs == 4


def test_a_fault_in_planning_is_an_error_of_its_job(
    checkpoint: Path, alone: dict[str, Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, real = an_engine(checkpoint), Engine.plan_of

    def plan_of(self: Engine, bucket: tuple[int, int], *rest: object) -> object:
        if bucket[0] == 7:
            raise ZeroDivisionError
        return real(self, bucket, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "plan_of", plan_of)
    found = {p.job_name: p for p in engine.predict(small())}
    assert isinstance(found.pop("GKWVYGK").error, InternalError)
    for one in found.values():
        same(one, alone)


def test_what_is_written_is_that_of_one_after_another(checkpoint: Path, tmp_path: Path) -> None:
    assert not any(p.error for p in an_engine(checkpoint).predict(small(), out=tmp_path / "a"))
    assert not any(p.error for p in an_engine(checkpoint, threads=1).predict(small(), out=tmp_path / "b"))
    names, others = (
        sorted(str(p.relative_to(tmp_path / side)) for p in (tmp_path / side).rglob("*") if p.is_file())
        for side in "ab"
    )
    assert names == others
    records = [json.loads((tmp_path / "a" / f"{name}/{name}_run.json").read_text()) for name in NAMES]
    assert beside_each_other(record["plan"]["side_by_side"] for record in records)
    assert all(p.skipped for p in an_engine(checkpoint).predict(small(), out=tmp_path / "a"))


def remove_result(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        shutil.rmtree(folder / name)


@pytest.mark.parametrize(
    ("lost", "changes", "plans"),
    [
        ([1], {}, {1: 1}),  # one is left, and has all threads
        ([1, 3], {}, {1: 2, 3: 2}),  # what lies between them is not waited for
        ([0], {"steps": 3}, {0: 2, 1: 2, 2: 2, 3: 2}),  # results of other options do not count
        ([0], {"overwrite": True}, {0: 2, 1: 2, 2: 2, 3: 2}),
    ],
)
def test_jobs_that_have_a_result_take_no_threads_of_others(
    checkpoint: Path, tmp_path: Path, lost: list[int], changes: dict, plans: dict[int, int]
) -> None:
    assert not any(p.error for p in an_engine(checkpoint).predict(small(), out=tmp_path))
    remove_result(tmp_path, [NAMES[number] for number in lost])
    found = list(an_engine(checkpoint, **changes).predict(small(), out=tmp_path))
    assert not any(p.error for p in found)
    begun = {number: p.plan.side_by_side for number, p in enumerate(found[:4]) if p.plan is not None}
    if len(lost) == 2:  # the last of them may begin when the first has ended
        assert begun.pop(3) in (1, plans.pop(3))
    assert begun == plans


def test_a_result_of_a_search_is_known_by_what_was_asked_for(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Search:
        """Finds a row for every chain."""

        def __call__(self, job: Job, progress: object) -> Job:
            rows = Text(inline=">q\nGKWVY\n")
            return replace(job, entities=tuple(replace(one, unpaired_msa=rows) for one in job.entities))

        def close(self) -> None:
            """Nothing is held."""

    monkeypatch.setattr(Engine, "_search", lambda *args: Search())
    assert not any(p.error for p in an_engine(checkpoint).predict(small(), out=tmp_path))
    remove_result(tmp_path, NAMES[:1])
    first = next(an_engine(checkpoint).predict(small(), out=tmp_path))
    assert first.plan is not None and first.plan.side_by_side == 1


def test_a_job_whose_alignment_has_changed_is_run_beside_others(checkpoint: Path, tmp_path: Path) -> None:
    """What is asked for in the same words seems to be there, and is not: it is run all the same."""
    alignment = tmp_path / "rows.a3m"
    alignment.write_text(">q\nGKWVY\n")
    first, *others = small()
    (entity,) = first.entities
    first = replace(first, entities=(replace(entity, unpaired_msa=Text(path=alignment)),))
    jobs = [*others[:1], first, *others[1:]]

    def predicted() -> list[Prediction]:
        return list(an_engine(checkpoint).predict(jobs, out=tmp_path / "out"))

    assert not any(p.error for p in predicted())
    remove_result(tmp_path / "out", [NAMES[1], NAMES[4]])
    alignment.write_text(">q\nGKWVY\n>r\nGKWVF\n")
    found = predicted()
    assert not any(p.error for p in found) and [p.skipped for p in found] == [False, False, True, True, False]
    assert [p.plan and p.plan.side_by_side for p in found[:2]] == [2, 2]


@pytest.mark.parametrize("by", ["consumer", "progress", "request"])
def test_a_run_that_is_ended_ends_all_of_them(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Whoever ends it; the same call goes on from there."""
    engine, request, begun = an_engine(checkpoint), StopRequest(), []

    def progress(event: Event) -> None:
        if event.stage == "diffusion" and event.job == NAMES[2] and by != "consumer":
            begun.append(event.job)
            if by == "progress":
                raise Stopped
            request.ask()

    made = engine.predict(small(), out=tmp_path, progress=progress, stop=request)
    done = [next(made)]
    if by == "consumer":
        made.close()
    else:
        with pytest.raises(Stopped):
            done += list(made)
        assert begun
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("foldline-abreast")]
    assert torch.get_num_threads() == 2
    whole = {path.parent.name for path in tmp_path.glob("*/*_run.json")}
    assert {p.job_name.lower() for p in done} <= {name.lower() for name in whole} and len(whole) < 5
    again = list(an_engine(checkpoint).predict(small(), out=tmp_path))
    assert not any(p.error for p in again) and sum(p.skipped for p in again) == len(whole)
    assert {path.parent.name for path in tmp_path.glob("*/*_run.json")} > whole


def test_conditioning_is_for_one_job_at_a_time(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds most, and plans count it once."""
    engine, at_it, most = an_engine(checkpoint), [], []
    seen = AtOnce(engine.network, monkeypatch, meet=2)
    real = engine.network.diffusion.prepare

    def prepare(*args: object) -> object:
        at_it.append(0)
        most.append(len(at_it))
        time.sleep(0.05)  # so that the other comes to it
        at_it.pop()
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.network.diffusion, "prepare", prepare)
    assert not any(p.error for p in engine.predict(small()))
    assert seen.most == 2 and most == [1] * 5


def test_jobs_of_other_precisions_wait_for_each_other(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are there once."""
    engine = an_engine(checkpoint, dtype="bf16")
    engine.spec = type(engine.spec)(**(vars(engine.spec) | {"fp32_diffusion_to": 8}))
    seen = AtOnce(engine.network, monkeypatch)
    found = list(engine.predict(small()))
    kinds = [p.plan and p.plan.diffusion_dtype for p in found]
    assert not any(p.error for p in found) and len(set(kinds)) == 2
    assert seen.most == 1 and [p.plan and p.plan.side_by_side for p in found] == [2] * 5
