"""What a device would wait for, hold and be sent: on a pretended one, which forbids and notes more than a real one."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from other_jobs import assert_same_samples
from pretend_gpu import Gpu, OnGpu, pretend_gpu
from tiny_features import tiny_features

from foldline.config import EngineConfig
from foldline.engine import Engine
from foldline.engine.group import Lane
from foldline.engine.ladder import Rung, run_lanes
from foldline.engine.plan import Plan, plan
from foldline.engine.record import available_bytes
from foldline.engine.runner import Results
from foldline.inputs import jobs_from_json
from foldline.models.batch import on_device
from foldline.sampler import Draws

FEATURES = tiny_features()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    with pretend_gpu(monkeypatch) as device, torch.inference_mode():
        yield device


def an_engine(checkpoint: Path, **settings: object) -> Engine:
    defaults = {"device": "cuda", "dtype": "bf16", "samples": 2, "steps": 2, "recycles": 0}
    return Engine(checkpoint, config=EngineConfig(**(defaults | settings)))  # type: ignore[arg-type]


def run_with(engine: Engine, chosen: Plan, seeds: int) -> list[Rung]:
    """Take some seeds through the network with a plan; the steps down."""
    rungs: list[Rung] = []
    lanes, run = [Lane(FEATURES, Draws(seed)) for seed in range(seeds)], engine.runner(Results())
    run_lanes(run, lanes, chosen, chosen.peak_bytes, on_rung=rungs.append, on_group=lambda _group: None)
    return rungs


def test_operands_on_both_sides_are_refused(gpu: Gpu) -> None:
    here, there = torch.ones(3, device="cuda"), torch.ones(3)
    assert isinstance(here, OnGpu) and here.is_cuda
    with pytest.raises(AssertionError, match="both sides"):
        here + there
    with pytest.raises(AssertionError, match="other device"):
        here[torch.tensor([0, 1])]
    assert (here + there.sum()).sum().item() == 12  # a number of the host goes along with a kernel


def test_bytes_are_counted_until_the_last_view_is_gone(gpu: Gpu) -> None:
    x = torch.zeros(1000, device="cuda")
    assert gpu.now == 4096
    view = x[:10]
    del x
    assert gpu.now == 4096
    del view
    assert (gpu.now, gpu.peak) == (0, 4096)
    torch.cuda.set_per_process_memory_fraction(2000 / gpu.memory)
    with pytest.raises(torch.OutOfMemoryError):
        torch.zeros(1000, device="cuda")


def test_waits_are_noted(gpu: Gpu) -> None:
    x = on_device(torch.ones(4), "cuda")
    x.mul_(2.0)
    assert not gpu.waits and gpu.copied == {"in": 16, "out": 0}
    assert x.sum().item() == 8
    torch.ones(4).to("cuda", non_blocking=True)
    x[x > 1] = 0
    assert sum(gpu.waits.values()) == 3, gpu.waits


@pytest.mark.parametrize("more", [{"steps": 5}, {"recycles": 2}], ids=str)
def test_no_step_and_no_pass_waits_for_the_device(checkpoint: Path, gpu: Gpu, more: dict[str, int]) -> None:
    engine, found = an_engine(checkpoint), []
    engine.predict_features(FEATURES, Draws(1))  # weights are in place
    for settings in ({}, more):
        engine.config = replace(engine.config, **settings)
        gpu.waits.clear()
        engine.predict_features(FEATURES, Draws(1))
        found.append(dict(gpu.waits))
    assert found[0] == found[1]
    assert found[0]["a copy from the device in engine/runner.py:run_diffusion"] == 1


def test_z_goes_to_page_locked_memory_and_back(checkpoint: Path, gpu: Gpu) -> None:
    engine = an_engine(checkpoint, recycles=1)
    rich = engine.plan_for(FEATURES, 1)
    lean = rich
    while (smaller := lean.smaller()) is not None:
        lean = smaller
    assert lean.park_pair and lean.park_template
    copied = []
    for chosen in (rich, lean):
        run_with(engine, chosen, 1)  # weights are in place
        gpu.copied["out"] = 0
        assert not run_with(engine, chosen, 1)
        copied.append(gpu.copied["out"])
    z = FEATURES.n_token**2 * engine.spec.c_z * 2
    more = copied[1] - copied[0]
    assert 3 * z <= more < 3 * z + 100  # for the template step of each pass, once for the samples; and a few numbers
    assert not [wait for wait in gpu.waits if "not page-locked" in wait]
    del engine
    assert not gpu.locked or all(size < z for size in gpu.locked.values())


@pytest.mark.parametrize("case", range(4))
def test_a_plan_for_some_memory_runs_in_it(checkpoint: Path, gpu: Gpu, case: int) -> None:
    rng = random.Random(case)
    seeds = rng.choice([1, 3])
    engine = an_engine(checkpoint, dtype=rng.choice(["fp32", "bf16"]), samples=rng.choice([1, 3]))
    rich = lean = engine.plan_for(FEATURES, seeds)
    while (smaller := lean.smaller()) is not None:
        lean = smaller
    memory = int(lean.peak_bytes + rng.random() * (rich.peak_bytes - lean.peak_bytes))
    chosen = plan(rich.request.sizes, engine.spec, memory, dtype=rich.trunk_dtype, device="cuda")
    assert not run_with(engine, chosen, seeds)
    assert gpu.peak == pytest.approx(chosen.peak_bytes, rel=0.05)


def test_nothing_stays_on_the_device(checkpoint: Path, gpu: Gpu) -> None:
    engine = an_engine(checkpoint)
    result, _ = engine.predict_features(FEATURES, Draws(1))
    assert gpu.now > 0 and result.samples.coordinates.any()
    del engine
    assert gpu.now == 0


def test_a_queue_whose_jobs_share_passes(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Features made, padded, sent, predicted together and written: what the CPU gives for each job alone."""
    jobs = []
    for name, sequence in (("five", "GKWVY"), ("long", "MKWVTFISLAARMKWVT"), ("nine", "MKWVTFISL")):
        text = {"dialect": "alphafold3", "version": 1, "name": name, "modelSeeds": [1, 2]}
        jobs += jobs_from_json(json.dumps(text | {"sequences": [{"protein": {"id": "A", "sequence": sequence}}]}))[0]
    settings = {"dtype": "fp32", "msa": "none", "save_embeddings": True, "samples": 1}
    alone = {p.job_name: p for p in an_engine(checkpoint, device="cpu", **settings).predict(jobs)}
    with pretend_gpu(monkeypatch) as gpu:
        engine = an_engine(checkpoint, buckets=(12, 32), workers=0, **settings)
        for found in engine.predict(jobs, out=tmp_path):
            assert found.error is None and found.plan is not None
            assert (found.plan.job_batch, found.plan.bucket[0]) == ((1, 32) if found.job_name == "long" else (2, 12))
            assert (tmp_path / found.job_name / f"{found.job_name}_run.json").is_file()
        for found in engine.predict(jobs):
            for mine, other in zip(found.samples, alone[found.job_name].samples, strict=True):
                assert_same_samples(mine, other)
        assert not [wait for wait in gpu.waits if "to the device" in wait and "load_parameters" not in wait], gpu.waits
        memory = available_bytes(engine.device)
        assert gpu.memory * 0.94 - gpu.now < memory < gpu.memory
