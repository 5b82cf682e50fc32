"""The engine from a checkpoint file to files of a prediction: alone, batched, interrupted, refused."""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_features import rel_rms, tiny_features

from foldline.config import EngineConfig
from foldline.engine import Engine, Prediction
from foldline.engine.group import Group, Lane
from foldline.engine.memory_model import Sizes
from foldline.errors import DoesNotFit, InputError, Stopped, WeightsError, WriteError
from foldline.execute import Event
from foldline.inputs import Job, jobs_from_json
from foldline.sampler import Draws, Tape

SETTINGS = {"samples": 2, "steps": 2, "recycles": 0, "msa": "none", "device": "cpu", "threads": 1, "seed_batch": 1}
FEATURES = tiny_features()


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Engine:
    return Engine(checkpoint, config=EngineConfig(**SETTINGS))


def a_job(name: str = "pair", seeds: tuple[int, ...] = (1, 2), msa: str | None = None) -> Job:
    alignments = {} if msa is None else {"unpairedMsa": msa, "pairedMsa": msa}
    text = {
        "dialect": "alphafold3",
        "version": 1,
        "name": name,
        "modelSeeds": list(seeds),
        "sequences": [
            {"protein": {"id": "A", "sequence": "MKWVTFISL", **alignments}},
            {"ligand": {"id": "B", "ccdCodes": ["ZN"]}},
        ],
    }
    (job,), errors = jobs_from_json(json.dumps(text))
    assert not errors
    return job


def only(predictions: Iterator[Prediction]) -> Prediction:
    (prediction,) = predictions
    return prediction


def files(folder: Path) -> dict[str, bytes]:
    """Everything of a result but the record of the run, which holds times."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {k: v for k, v in found.items() if not k.endswith("_run.json")}


@pytest.fixture(scope="module")
def straight(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result made in one go."""
    out = tmp_path_factory.mktemp("straight")
    prediction = only(engine.predict([a_job()], out=out))
    assert prediction.error is None and prediction.directory == out / "pair"
    return out


def test_a_result_is_complete(straight: Path) -> None:
    names = set(files(straight / "pair"))
    assert {"pair_model.cif", "pair_confidences.json", "pair_data.json", "pair_ranking_scores.csv"} <= names
    for seed in (1, 2):
        for sample in (0, 1):
            assert f"seed-{seed}_sample-{sample}/pair_seed-{seed}_sample-{sample}_model.cif" in names
    record = json.loads((straight / "pair" / "pair_run.json").read_text())
    assert (record["trunk_passes"], record["steps"], record["samples"]) == (1, 2, 2)
    assert record["plan"]["trunk_dtype"] == "float32" and record["n_token"] == 10
    assert [x["seed"] for x in record["seconds_per_seed"]] == [1, 2]


def test_samples_are_kept_where_nothing_is_written(engine: Engine) -> None:
    prediction = only(engine.predict([a_job()]))
    assert prediction.directory is None and [s.seed for s in prediction.samples] == [1, 2]
    scores = [c.ranking_score for s in prediction.samples for c in s.confidences]
    assert prediction.ranking_score == max(scores)
    again = only(engine.predict([a_job(seeds=(2,))])).samples[0]
    assert np.array_equal(again.coordinates, prediction.samples[1].coordinates), "a seed depends on the one before"


class Stop(Stopped):
    """Ends a run at some event."""


def stop_at(wanted: Callable[[Event], bool]) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        if wanted(event):
            raise Stop

    return listen


INTERRUPTIONS: dict[str, Callable[[Event], bool]] = {
    "in the trunk of the second seed": lambda e: e.stage == "trunk" and e.seed == 2,
    "before the second seed is written": lambda e: e.stage == "write" and e.seed == 2,
    "in the first seed": lambda e: e.stage == "diffusion" and e.seed == 1,
}


@pytest.mark.parametrize("where", INTERRUPTIONS)
def test_an_interrupted_run_ends_as_a_straight_one(engine: Engine, straight: Path, tmp_path: Path, where: str) -> None:
    with pytest.raises(Stop):
        list(engine.predict([a_job()], out=tmp_path, progress=stop_at(INTERRUPTIONS[where])))
    assert not (tmp_path / "pair" / "pair_run.json").exists()
    seeds: list[int | None] = []
    resumed = only(engine.predict([a_job()], out=tmp_path, progress=lambda e: seeds.append(e.seed)))
    assert resumed.error is None and not resumed.skipped
    if "second" in where:
        assert 1 not in seeds and 2 in seeds, "what was finished was made again"
    assert files(tmp_path / "pair") == files(straight / "pair")


def test_a_finished_job_is_skipped_until_something_changes(
    engine: Engine, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(straight, tmp_path, dirs_exist_ok=True)
    assert only(engine.predict([a_job()], out=tmp_path)).skipped
    assert not only(engine.predict([a_job(seeds=(5,))], out=tmp_path)).skipped
    monkeypatch.setattr(engine, "config", EngineConfig(**(SETTINGS | {"steps": 1})))
    assert not only(engine.predict([a_job(seeds=(5,))], out=tmp_path)).skipped
    assert only(engine.predict([a_job(seeds=(5,))], out=tmp_path)).skipped
    monkeypatch.setattr(engine, "config", EngineConfig(**(SETTINGS | {"steps": 1, "overwrite": True})))
    assert not only(engine.predict([a_job(seeds=(5,))], out=tmp_path)).skipped


def test_one_bad_job_does_not_hurt_the_others(engine: Engine) -> None:
    """With nothing to search with, a chain without alignments is an error; an empty alignment is a choice."""
    strict = Engine(engine.path, config=EngineConfig(**(SETTINGS | {"msa": "auto"})))
    found = list(strict.predict([a_job("good", msa=""), a_job("bad"), a_job("other", msa="")]))
    assert [p.job_name for p in found] == ["good", "bad", "other"]
    assert [p.error is None for p in found] == [True, False, True]
    assert isinstance(found[1].error, InputError) and "--msa none" in str(found[1].error)
    assert np.array_equal(found[0].samples[1].coordinates, found[2].samples[1].coordinates)


def test_draws_replay_one_seed(engine: Engine) -> None:
    prediction = only(engine.predict([a_job(seeds=(1, 2))], draws=Tape(1)))
    assert isinstance(prediction.error, InputError) and "one seed" in str(prediction.error)
    replayed = only(engine.predict([a_job(seeds=(9,))], draws=Tape(1))).samples[0]
    drawn = only(engine.predict([a_job(seeds=(1,))])).samples[0]
    assert np.array_equal(replayed.coordinates, drawn.coordinates)


@pytest.fixture(scope="module")
def from_features(engine: Engine) -> np.ndarray:
    result, chosen = engine.predict_features(FEATURES, Draws(3))
    assert not chosen.staged_weights and chosen.diffusion_batch == 2
    return result.samples.coordinates


def test_weights_brought_stage_by_stage_give_the_same(checkpoint: Path, from_features: np.ndarray) -> None:
    """With the least memory that is enough: among other things, one stage's weights at a time."""
    full = Engine(checkpoint, config=EngineConfig(**SETTINGS))
    least = full.plan_for(FEATURES)
    while True:
        try:
            config = EngineConfig(**(SETTINGS | {"max_memory": least.peak_bytes - 1}))
            least = Engine(checkpoint, config=config).plan_for(FEATURES)
        except DoesNotFit as error:
            assert "at least" in str(error)
            break
    assert least.staged_weights
    lean = Engine(checkpoint, config=EngineConfig(**(SETTINGS | {"max_memory": least.peak_bytes})))
    for _ in range(2):  # the second run has to bring the first stage back
        result, chosen = lean.predict_features(FEATURES, Draws(3))
        assert chosen.staged_weights and rel_rms(result.samples.coordinates, from_features) <= 1e-5
    network = lean.network
    assert network is not None and network.trunk.s_init.weight.is_meta
    assert not network.confidence.pae.weight.is_meta


@pytest.mark.parametrize("keeps", [True, False])
def test_plans_count_the_kernels_of_what_ran_before(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    """There is a set for every size, number of seeds that go together, and number of threads."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr("foldline.engine.engine.keeps_kernels", lambda dtype: keeps)
    machine = Engine(checkpoint, config=EngineConfig(**SETTINGS))
    before, lane = [], Lane(FEATURES, Draws(1))
    for n_token, n_lane, n_abreast in ((10, 1, 1), (10, 1, 1), (11, 1, 2), (11, 1, 1), (10, 2, 1), (12, 1, 1)):
        machine.plan_of((99, 800), 5, 1)  # is not run
        chosen = machine.plan_of((n_token, 80), 5, n_lane * n_abreast)
        machine.has_run(chosen, Group([lane] * n_lane, n_abreast=n_abreast))
        before.append(chosen.request.process.kernel_sets)
    assert before == ([0, 0, 1, 1, 2, 4] if keeps else [0] * 6)
    others = (Sizes(13, 80, 5),) * 8
    beside = machine.plan_of((13, 80), 5, 1, beside=others)
    assert beside.request.process.sets_beside == (1 if keeps else 0), "of the job that comes beside it"
    for _ in range(2):
        machine.has_run(beside, Group([lane]))
    assert machine.plan_of((13, 80), 5, 1, beside=others).request == beside.request, "those are its own"
    for comes, sets in ((beside.request.sizes, 1), (replace(beside.request.sizes, n_token=15), 2)):
        process = machine.plan_of((14, 80), 5, 1, beside=(comes,)).request.process
        assert process.sets_beside == (sets if keeps else 0), "of one that runs there is a set already"
    machine.has_run(machine.plan_of((14, 80), 5, 1, beside=others), Group([lane]))
    later = machine.plan_of((99, 800), 5, 1).request.process
    assert (later.kernel_sets, later.sets_beside) == ((5, 2) if keeps else (0, 0))


def test_plans_count_what_their_own_engine_has_run(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foldline.engine.engine.keeps_kernels", lambda dtype: True)
    machine = Engine(checkpoint, config=EngineConfig(**SETTINGS))
    machine.predict_features(FEATURES, Draws(1))
    assert machine.plan_for(FEATURES).request.process.kernel_sets == 0
    assert machine.plan_of((99, 800), 5, 1).request.process.kernel_sets == 1


@pytest.mark.parametrize("caches", [True, False])
def test_plans_count_the_holes_that_the_heap_of_a_program_has(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caches: bool
) -> None:
    monkeypatch.setattr("foldline.engine.engine.has_caches", lambda: caches)
    chosen = Engine(checkpoint, config=EngineConfig(**SETTINGS)).plan_of((10, 80), 5, 1)
    assert chosen.request.process.cached_heap is caches


def test_a_job_that_does_not_fit_is_a_prediction_with_an_error(checkpoint: Path) -> None:
    small = Engine(checkpoint, config=EngineConfig(**(SETTINGS | {"max_memory": 1 << 20})))
    prediction = only(small.predict([a_job()]))
    assert isinstance(prediction.error, DoesNotFit) and "10 tokens need" in str(prediction.error)


def test_buckets_do_not_change_the_result(engine: Engine, checkpoint: Path) -> None:
    padded = Engine(checkpoint, config=EngineConfig(**(SETTINGS | {"buckets": (16, 64)})))
    a = only(padded.predict([a_job(seeds=(4,))])).samples[0]
    b = only(engine.predict([a_job(seeds=(4,))])).samples[0]
    assert a.coordinates.shape == b.coordinates.shape and rel_rms(a.coordinates, b.coordinates) <= 1e-5
    assert rel_rms(a.confidences[0].pae, b.confidences[0].pae) <= 1e-4


def test_precision_of_the_trunk(checkpoint: Path, from_features: np.ndarray) -> None:
    low = Engine(checkpoint, config=EngineConfig(**(SETTINGS | {"dtype": "bf16"})))
    result, chosen = low.predict_features(FEATURES, Draws(3))
    assert chosen.trunk_dtype == torch.bfloat16 and low.network is not None
    kinds = {p.dtype for p in low.network.trunk.pairformer.parameters()}
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in low.network.diffusion.parameters()} == {torch.float32}
    assert rel_rms(result.samples.coordinates, from_features) < 0.1


def test_models_and_devices_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such checkpoint file"):
        Engine(tmp_path / "nothing.pt")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="there is no device cuda:1"):
            Engine(tmp_path / "nothing.pt", config=EngineConfig(device="cuda:1"))


def test_the_hash_of_the_checkpoint_is_recorded(engine: Engine, checkpoint: Path, straight: Path) -> None:
    record = json.loads((straight / "pair" / "pair_run.json").read_text())
    assert record["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_a_full_disk_ends_one_job_only(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foldline.outputs import layout

    real = layout.write_atomically

    def full_for_the_first(path: Path, pieces: Iterable[bytes]) -> None:
        if "first" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, pieces)

    monkeypatch.setattr(layout, "write_atomically", full_for_the_first)
    jobs = [a_job("first", seeds=(1,)), a_job("second", seeds=(1,))]
    first, second = engine.predict(jobs, out=tmp_path)
    assert isinstance(first.error, WriteError)
    assert "No space left on device" in str(first.error)
    assert second.error is None
    assert (tmp_path / "second" / "second_run.json").is_file()
