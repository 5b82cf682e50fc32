"""Queues: seeds and small jobs together, features made once and elsewhere, errors with their job, memory kept."""

import ast
import gc
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from live_bytes import LiveBytes
from other_jobs import assert_same_samples

from foldline.config import EngineConfig
from foldline.engine import Engine, Prediction, runner
from foldline.errors import DoesNotFit, InputError, InternalError, NonFiniteOutput, WriteError
from foldline.execute import Event
from foldline.inputs import Job, jobs_from_json
from foldline.outputs.layout import SampleWriter
from foldline.tensors import Features, Samples

SETTINGS = {"samples": 2, "steps": 2, "recycles": 0, "msa": "none", "device": "cpu", "threads": 1}
SEQUENCES = {"nine": "MKWVTFISL", "five": "GKWVY", "twelve": "MKWVTFISLAAR", "long": "MKWVTFISLAARMKWVTFISLAAR"}


def an_engine(checkpoint: Path, **changes: object) -> Engine:
    return Engine(checkpoint, config=EngineConfig(**(SETTINGS | changes)))  # type: ignore[arg-type]


def a_job(name: str, seeds: tuple[int, ...] = (1,), sequence: str | None = None, **more: object) -> Job:
    protein = {"id": "A", "sequence": sequence or SEQUENCES[name.split("-")[0]], **more}
    ligand = {"ligand": {"id": "B", "ccdCodes": ["ZN"]}}
    text = {"dialect": "alphafold3", "version": 1, "name": name, "modelSeeds": list(seeds)}
    (job,), errors = jobs_from_json(json.dumps(text | {"sequences": [{"protein": protein}, ligand]}))
    assert not errors
    return job


def some(seeds: tuple[int, ...] = (1,)) -> list[Job]:
    return [a_job("nine", seeds), a_job("long", seeds), a_job("five", seeds), a_job("twelve", seeds)]


@pytest.fixture(scope="module")
def alone(checkpoint: Path) -> dict[str, Prediction]:
    engine = an_engine(checkpoint, seed_batch=1)
    return {p.job_name: p for p in engine.predict(some((1, 2, 3)))}


def same(found: Prediction, wanted: Prediction, seeds: Sequence[int]) -> None:
    assert found.error is None and [s.seed for s in found.samples] == list(seeds)
    by_seed = {s.seed: s for s in wanted.samples}
    for samples in found.samples:
        assert_same_samples(samples, by_seed[samples.seed])


def test_seeds_go_together_by_default(checkpoint: Path, alone: dict[str, Prediction]) -> None:
    for found in an_engine(checkpoint).predict(some((1, 2, 3))):
        same(found, alone[found.job_name], (1, 2, 3))
        assert found.plan is not None and found.plan.seed_group == 3
        wanted = alone[found.job_name].plan
        assert wanted is not None and wanted.seed_group == 1


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_seeds_run_beside_each_other_where_there_are_threads(checkpoint: Path, tmp_path: Path) -> None:
    """The answer is that of one after another; what the record says of their time is no more than passed."""
    job = a_job("long", (1, 2, 3), sequence=5 * SEQUENCES["long"])
    options = {"threads": 2, "save_embeddings": True}
    events: list[Event] = []
    (found,) = an_engine(checkpoint, **options).predict([job], out=tmp_path / "a", progress=events.append)
    (alone,) = an_engine(checkpoint, **options, seed_batch=1).predict([job], out=tmp_path / "b")
    assert found.error is None and found.plan is not None and alone.plan is not None
    assert (found.plan.side_by_side, found.plan.seed_group, alone.plan.side_by_side) == (2, 1, 1)
    assert found.ranking_score == pytest.approx(alone.ranking_score, abs=1e-3)
    assert found.seconds["trunk"] + found.seconds["diffusion"] + found.seconds["confidence"] < found.seconds["total"]
    one, other = (
        sorted(path.relative_to(tmp_path / where) for path in (tmp_path / where / "long").rglob("*") if path.is_file())
        for where in ("a", "b")
    )
    assert one == other and len([path for path in one if path.suffix == ".cif"]) == 7
    record = json.loads((tmp_path / "a" / "long" / "long_run.json").read_text())
    assert record["plan"]["side_by_side"] == 2 and len(record["seconds_per_seed"]) == 3
    assert any("2 seeds beside each other" in event.message for event in events)


@pytest.mark.parametrize("number", [2, 3])
def test_at_most_as_many_seeds_as_asked_for(checkpoint: Path, alone: dict[str, Prediction], number: int) -> None:
    (found,) = an_engine(checkpoint, seed_batch=number).predict([a_job("nine", (1, 2, 3))])
    assert found.plan is not None and found.plan.seed_group == number
    same(found, alone["nine"], (1, 2, 3))


def test_jobs_that_fail_are_not_in_the_jobs_per_hour(checkpoint: Path) -> None:
    engine = an_engine(checkpoint, max_memory=1 << 20)
    events: list[Event] = []
    assert all(found.error is not None for found in engine.predict(some((1,)), progress=events.append))
    assert (engine.throughput.jobs, engine.throughput.jobs_per_hour) == (0, 0.0)
    assert not [event for event in events if event.stage == "throughput"]


def test_jobs_of_a_bucket_go_together(checkpoint: Path, alone: dict[str, Prediction]) -> None:
    """Nine, five and twelve residues and an ion share a bucket of 16 tokens; the long job has one of its own."""
    events: list[Event] = []
    engine = an_engine(checkpoint, buckets=(16, 64))
    found = list(engine.predict(some((1, 2)), progress=events.append))
    assert [p.job_name for p in found] == ["nine", "five", "twelve", "long"], "by buckets, each in the order given"
    for one in found:
        same(one, alone[one.job_name], (1, 2))
    plans = [p.plan for p in found]
    assert [(p.bucket, p.job_batch) for p in plans if p] == [((16, 128), 3)] * 3 + [((64, 256), 1)]
    planned = {e.job: e.message for e in events if e.stage == "plan"}
    assert "padded to 16 tokens, 128 atoms" in planned["five"] and "3 jobs together" in planned["five"]
    assert engine.throughput.jobs == 4 and engine.throughput.jobs_per_hour > 0
    assert 0 <= engine.throughput.idle_share < 0.5 and "4 jobs" in str(engine.throughput)


def test_a_job_beyond_the_last_bucket_is_not_padded(checkpoint: Path) -> None:
    (found,) = an_engine(checkpoint, buckets=(8, 16)).predict([a_job("long")])
    assert found.error is None and found.plan is not None and found.plan.bucket == (25, found.n_atom)


def test_no_padding_on_a_cpu_unless_asked_for(checkpoint: Path) -> None:
    plans = [p.plan for p in an_engine(checkpoint).predict(some())]
    assert [p.bucket[0] for p in plans if p] == [10, 25, 6, 13] and {p.job_batch for p in plans if p} == {1}


@pytest.mark.parametrize("workers", [0, 2])
def test_features_of_a_job_are_made_once_for_all_its_seeds(
    checkpoint: Path, alone: dict[str, Prediction], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """In this process and in children, where `build_features` of this process is not called at all."""
    from foldline.features import featuriser

    real, made = featuriser.build_features, []
    monkeypatch.setattr(featuriser, "build_features", lambda job, **more: (made.append(job.name), real(job, **more))[1])
    for found in an_engine(checkpoint, workers=workers).predict(some((1, 2, 3))):
        same(found, alone[found.job_name], (1, 2, 3))
    assert made == ([] if workers else ["nine", "long", "five", "twelve"])


def test_features_are_not_copied_for_seeds(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foldline.engine import queue

    lanes: list = []
    real = queue.run_lanes
    monkeypatch.setattr(
        queue, "run_lanes", lambda run, some, *rest, **more: (lanes.extend(some), real(run, some, *rest, **more))
    )
    list(an_engine(checkpoint).predict([a_job("nine", (1, 2, 3))]))
    assert len(lanes) == 3 and len({id(lane.features) for lane in lanes}) == 1


def test_nobody_copies_deeply() -> None:
    """In the rooms that features pass through."""
    package = Path(__file__).resolve().parents[2] / "foldline"
    rooms = ("tensors", "features", "models", "sampler", "confidence", "engine", "outputs")
    for path in [path for room in rooms for path in (package / room).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "attr", None) or getattr(node, "name", None)
            assert name != "deepcopy", f"{path.name} copies deeply"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("buckets", [(), (16, 64)])
def test_errors_stay_with_their_job(
    checkpoint: Path, alone: dict[str, Prediction], workers: int, buckets: tuple[int, ...]
) -> None:
    """In features: a chain without alignments; an error keeps its fields on its way from a child."""
    engine = an_engine(checkpoint, msa="auto", workers=workers, buckets=buckets)
    given = {"unpairedMsa": "", "pairedMsa": ""}
    jobs = [a_job("nine", **given), a_job("five-bad"), a_job("twelve", **given), a_job("five", **given)]
    found = {p.job_name: p for p in engine.predict(jobs)}
    bad = found.pop("five-bad").error
    assert isinstance(bad, InputError) and bad.path == "$.sequences[0].protein" and bad.stage == "features"
    for name, one in found.items():
        same(one, alone[name], (1,))


class Broken:
    """Stands in for a method, and calls something at a call of its choice, counted from 1."""

    def __init__(self, real: object, call: int, what: object) -> None:
        self.real, self.call, self.what, self.calls = real, call, what, 0

    def __call__(self, *args: object, **more: object) -> object:
        self.calls += 1
        if self.calls == self.call:
            return self.what(self.real, *args, **more)  # type: ignore[operator]
        return self.real(*args, **more)  # type: ignore[operator]


def raising(error: Exception) -> object:
    def what(*_args: object, **_more: object) -> object:
        raise error

    return what


def test_a_fault_in_the_network_costs_no_other_job(
    checkpoint: Path, alone: dict[str, Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three jobs together fail; each alone, two get through and the third is at fault."""
    engine = an_engine(checkpoint, buckets=(16, 64))
    stack = engine.network.trunk.pairformer
    faulty = Broken(stack.forward, 1, raising(RuntimeError("illegal")))
    monkeypatch.setattr(stack, "forward", lambda *args: again(*args))
    again = Broken(faulty, 3, raising(RuntimeError("illegal too")))
    found = {p.job_name: p for p in engine.predict([job for job in some() if job.name != "long"])}
    errors = {name: p.error for name, p in found.items() if p.error}
    assert list(errors) == ["five"] and isinstance(errors["five"], InternalError)
    for name in ("nine", "twelve"):
        same(found[name], alone[name], (1,))


@pytest.mark.parametrize("out", [False, True])
def test_output_that_is_not_finite_is_an_error_of_its_job(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: bool
) -> None:
    engine = an_engine(checkpoint)
    head = engine.network.confidence
    spoilt = Broken(head.atom_plddt, 1, lambda real, *args: real(*args) * float("nan"))
    monkeypatch.setattr(head, "atom_plddt", spoilt)
    first, second = engine.predict([a_job("nine", (1, 2)), a_job("five")], out=tmp_path if out else None)
    assert isinstance(first.error, NonFiniteOutput) and first.error.stage == "confidence" and second.error is None
    assert not out or not (tmp_path / "nine" / "nine_run.json").exists()


@pytest.mark.parametrize(("fault", "stage"), [("confidences", "confidence"), ("writer", "write")])
def test_an_error_beside_the_network_carries_its_stage(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, stage: str
) -> None:
    """Scores are finished and files are written in one thread; their faults are told apart."""
    engine = an_engine(checkpoint)
    if fault == "writer":
        monkeypatch.setattr(SampleWriter, "write", raising(RuntimeError("no ink")))
    else:
        monkeypatch.setattr(runner, "confidences", raising(RuntimeError("no score")))
    (found,) = engine.predict([a_job("five")], out=tmp_path)
    assert isinstance(found.error, InternalError) and found.error.stage == stage


def test_a_job_that_failed_is_not_taken_further(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = an_engine(checkpoint, seed_batch=1)
    head = engine.network.confidence
    monkeypatch.setattr(head, "atom_plddt", lambda *args: torch.full((500,), float("nan")))
    trunks: list[int] = []
    events = lambda e: trunks.append(e.seed) if e.stage == "trunk" else None  # noqa: E731
    (found,) = engine.predict([a_job("nine", tuple(range(1, 9)))], progress=events)
    assert isinstance(found.error, NonFiniteOutput) and len(trunks) <= 3, "seeds of a failed job were run"


def test_memory_that_runs_out_is_told(
    checkpoint: Path, alone: dict[str, Prediction], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, events = an_engine(checkpoint), []
    short = Broken(engine.network.diffusion.prepare, 1, raising(torch.OutOfMemoryError("CUDA out of memory.")))
    monkeypatch.setattr(engine.network.diffusion, "prepare", short)
    (found,) = engine.predict([a_job("nine", (1, 2, 3))], out=tmp_path, progress=events.append)
    record = json.loads((tmp_path / "nine" / "nine_run.json").read_text())
    (rung,) = record["out_of_memory"]
    assert rung["stage"] == "diffusion" and rung["trunk_kept"] and rung["seeds"] == [1, 2, 3]
    assert found.plan is not None and record["plan"]["seed_batch"] == found.plan.seed_batch
    said = [e.message for e in events if e.message.startswith("out of memory in diffusion")]
    assert len(said) == 1 and said[0] in record["warnings"] and said[0] in found.warnings
    assert [x["seed"] for x in record["seconds_per_seed"]] == [1, 2, 3]
    assert all(set(x) == {"seed", "trunk", "diffusion", "confidence"} for x in record["seconds_per_seed"])


def test_a_job_for_which_nothing_fits_ends_and_the_next_one_runs(
    checkpoint: Path, alone: dict[str, Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = an_engine(checkpoint)
    stack = engine.network.trunk.pairformer
    real = stack.forward

    def forward(s: torch.Tensor, *rest: object) -> None:
        if s.shape[-2] > 20:
            raise MemoryError
        real(s, *rest)

    monkeypatch.setattr(stack, "forward", forward)
    found = {p.job_name: p for p in engine.predict(some())}
    error = found.pop("long").error
    assert isinstance(error, DoesNotFit) and error.stage == "trunk" and "25 tokens need" in str(error)
    for name, one in found.items():
        same(one, alone[name], (1,))


def test_jobs_of_a_bucket_for_which_memory_runs_out(
    checkpoint: Path, alone: dict[str, Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = an_engine(checkpoint, buckets=(16, 64))
    short = Broken(engine.network.confidence.forward, 2, raising(MemoryError()))
    monkeypatch.setattr(engine.network.confidence, "forward", short)
    found = list(engine.predict(some((1, 2))))
    for one in found:
        same(one, alone[one.job_name], (1, 2))
    assert any("out of memory in confidence" in note for p in found for note in p.warnings)


def test_what_is_written_is_the_same_together_and_alone(checkpoint: Path, tmp_path: Path) -> None:
    """Every number of every file, to rounding; and results stand where a job is run again in another batch."""
    together = list(an_engine(checkpoint, buckets=(16, 64), workers=1).predict(some((1, 2)), out=tmp_path / "a"))
    alone = list(an_engine(checkpoint, seed_batch=1).predict(some((1, 2)), out=tmp_path / "b"))
    assert not any(p.error for p in (*together, *alone))
    names = {str(p.relative_to(tmp_path / "b")) for p in (tmp_path / "b").rglob("*") if p.is_file()}
    assert names == {str(p.relative_to(tmp_path / "a")) for p in (tmp_path / "a").rglob("*") if p.is_file()}
    for name in sorted(n for n in names if n.endswith("summary_confidences.json")):
        a, b = (json.loads((tmp_path / side / name).read_text()) for side in "ab")
        assert a["ranking_score"] == pytest.approx(b["ranking_score"], abs=2e-2), name
    assert all(p.skipped for p in an_engine(checkpoint).predict(some((1, 2)), out=tmp_path / "a"))


def test_a_stopped_consumer_stops_the_queue(checkpoint: Path, tmp_path: Path) -> None:
    drawn: list[str] = []

    def jobs() -> Iterator[Job]:
        for number in range(50):
            drawn.append(f"five-{number}")
            yield a_job(drawn[-1])

    predictions = an_engine(checkpoint, on_error="stop").predict(jobs(), out=tmp_path)
    first = next(predictions)
    predictions.close()
    assert first.error is None and len(drawn) <= 3
    assert sorted(p.name for p in tmp_path.glob("five-*")) == ["five-0"]


def test_a_result_that_cannot_be_written_ends_one_job_of_a_round(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "five").write_text("a file where a folder should be")
    found = {p.job_name: p.error for p in an_engine(checkpoint, buckets=(16, 64)).predict(some(), out=tmp_path)}
    assert isinstance(found.pop("five"), WriteError) and set(found.values()) == {None}


def peaks(checkpoint: Path, jobs: list[Job], **changes: object) -> tuple[int, int]:
    """Largest number of live bytes of tensors in a run of jobs, and what is left after it."""
    engine = an_engine(checkpoint, **changes)
    for _ in engine.predict([a_job("nine", (99,))]):
        pass  # weights are there now
    gc.collect()
    with LiveBytes() as live:
        for prediction in engine.predict(jobs):
            assert prediction.error is None
            del prediction
        gc.collect()
    return live.peak, live.now


def test_memory_does_not_grow_with_seeds_samples_or_jobs(checkpoint: Path) -> None:
    """Beyond the plan's batch: positions wait on the host as arrays, scores are handed over one by one."""
    few, left = peaks(checkpoint, [a_job("five", (1,))], seed_batch=1)
    many, also = peaks(checkpoint, [a_job("five", (1, 2, 3)), a_job("five-again", (1, 2))], seed_batch=1)
    assert many <= few * 1.02 and left <= 1024 and also <= 1024


def living() -> int:
    """Features and samples that are in memory."""
    gc.collect()
    return sum(type(one) in (Features, Samples) for one in gc.get_objects())


def test_a_queue_holds_few_jobs_at_a_time(checkpoint: Path, tmp_path: Path) -> None:
    """The one that runs, the one that is being written, and those made ahead; nothing of the others is left."""
    engine, held, before = an_engine(checkpoint, samples=1), [], living()
    for prediction in engine.predict((a_job(f"five-{i}") for i in range(9)), out=tmp_path):
        assert prediction.error is None
        held.append(living() - before)
    assert len(held) == 9 and max(held) <= 4 and held[-1] <= 1


def test_a_small_job_after_a_large_one_needs_no_more_than_alone(checkpoint: Path) -> None:
    alone, _ = peaks(checkpoint, [a_job("five")])
    engine = an_engine(checkpoint)
    list(engine.predict([a_job("long", (1, 2))]))
    gc.collect()
    with LiveBytes() as live:
        list(engine.predict([a_job("five")]))
    assert live.peak <= alone * 1.02
