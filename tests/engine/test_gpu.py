"""The engine on a CUDA device: the CPU's answer, seeds together as alone, peaks as planned, memory that runs out.

Each test runs on a real device where there is one, and on a pretended one everywhere (`pretend_gpu`). Needs torch,
numpy and safetensors alone, so that it runs from the repository on a machine that has nothing else.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pretend_gpu import pretend_gpu
from tiny_features import rel_rms, tiny_features

from foldline.config import EngineConfig
from foldline.engine import Engine
from foldline.engine.group import Group, Lane
from foldline.engine.ladder import Rung, run_lanes
from foldline.engine.record import new_peak, peak_bytes
from foldline.engine.runner import Results, SeedResult
from foldline.sampler import Draws
from foldline.tensors import Features

SETTINGS = {"samples": 2, "steps": 4, "recycles": 1}
FEATURES = tiny_features(n_residue=20)
REAL = pytest.param(
    "real",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")],
)


@pytest.fixture(params=[REAL, "pretended"])
def is_real(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """A device to run on; whether it computes."""
    if request.param == "real":
        yield True
        return
    with pretend_gpu(monkeypatch):
        yield False


@pytest.fixture
def exact_products() -> Iterator[None]:
    """Products in float32, not TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def engine_on(checkpoint: Path, device: str, dtype: str = "fp32", **settings: object) -> Engine:
    return Engine(checkpoint, config=EngineConfig(device=device, dtype=dtype, **(SETTINGS | settings)))


def coordinates(result: SeedResult) -> np.ndarray:
    return np.asarray(result.samples.coordinates)


def let_go(_group: Group) -> None:
    """Nothing of a finished group is kept."""


def together(engine: Engine, seeds: list[int], features: Features = FEATURES) -> tuple[list[SeedResult], list[Rung]]:
    """The results of several seeds in one call, and the steps down that it took."""
    results, rungs = Results(), []
    lanes, run = [Lane(features, Draws(seed)) for seed in seeds], engine.runner(results)
    plan = engine.plan_for(features, len(seeds))
    run_lanes(run, lanes, plan, engine.memory_bytes, on_rung=rungs.append, on_group=let_go)
    return [results.of(lane, {}, run) for lane in lanes], rungs


def test_fp32_is_the_answer_of_the_cpu(checkpoint: Path, is_real: bool, exact_products: None) -> None:
    ours, _ = engine_on(checkpoint, "cuda").predict_features(FEATURES, Draws(1))
    theirs, _ = engine_on(checkpoint, "cpu").predict_features(FEATURES, Draws(1))
    assert rel_rms(coordinates(ours), coordinates(theirs)) <= 1e-4
    for mine, other in zip(ours.samples.confidences, theirs.samples.confidences, strict=True):
        assert mine.ranking_score == pytest.approx(other.ranking_score, abs=1e-3)


def test_bf16_is_finite_and_near(checkpoint: Path, is_real: bool) -> None:
    low, _ = engine_on(checkpoint, "cuda", "bf16").predict_features(FEATURES, Draws(1))
    full, _ = engine_on(checkpoint, "cuda").predict_features(FEATURES, Draws(1))
    assert rel_rms(coordinates(low), coordinates(full)) <= 0.2


def test_seeds_together_are_those_alone(checkpoint: Path, is_real: bool, exact_products: None) -> None:
    engine = engine_on(checkpoint, "cuda")
    batched, _ = together(engine, [1, 2, 3])
    for seed, result in zip([1, 2, 3], batched, strict=True):
        alone, _ = engine.predict_features(FEATURES, Draws(seed))
        assert rel_rms(coordinates(result), coordinates(alone)) <= 1e-5


def test_weights_brought_stage_by_stage_and_z_on_the_host(
    checkpoint: Path, is_real: bool, exact_products: None
) -> None:
    engine = engine_on(checkpoint, "cuda")
    plan, leaner = engine.plan_for(FEATURES), []
    while (smaller := (leaner or [plan])[-1].smaller()) is not None:
        leaner.append(smaller)
    least = leaner[-1]
    assert least.park_pair and least.park_template
    whole, _ = engine.predict_features(FEATURES, Draws(1))
    results, rungs = Results(), []
    lane, run = Lane(FEATURES, Draws(1)), engine.runner(results)
    run_lanes(run, [lane], least, engine.memory_bytes, on_rung=rungs.append, on_group=let_go)
    assert not rungs
    assert rel_rms(coordinates(results.of(lane, {}, run)), coordinates(whole)) <= 1e-5


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_allocators_peak_is_as_planned(checkpoint: Path, is_real: bool, dtype: str) -> None:
    engine = engine_on(checkpoint, "cuda", dtype)
    # 1,024 tokens where kernels have workspaces of a fixed size, so that these weigh little
    features = tiny_features(n_msa=512, n_residue=509) if is_real else FEATURES
    engine.predict_features(features, Draws(1))
    new_peak(engine.device)
    _, plan = engine.predict_features(features, Draws(1))
    assert peak_bytes(engine.device) == pytest.approx(plan.peak_bytes, rel=0.1)


def test_memory_that_runs_out_on_the_device(checkpoint: Path, is_real: bool, exact_products: None) -> None:
    """A cap of the allocator below what the plan needs: the next smaller plan, and the same answer."""
    engine = engine_on(checkpoint, "cuda", samples=5)
    features = tiny_features(n_residue=200) if is_real else FEATURES
    calm, _ = together(engine, [1, 2, 3, 4], features)
    new_peak(engine.device)
    together(engine, [1, 2, 3, 4], features)
    needed, total = peak_bytes(engine.device), torch.cuda.get_device_properties(engine.device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.75 * needed / total, engine.device)
    try:
        tight, rungs = together(engine, [1, 2, 3, 4], features)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, engine.device)
    assert rungs
    for one, other in zip(tight, calm, strict=True):
        assert rel_rms(coordinates(one), coordinates(other)) <= 1e-5


def test_many_runs_hold_no_more(checkpoint: Path, is_real: bool) -> None:
    engine = engine_on(checkpoint, "cuda", steps=1, recycles=0)
    held = []
    for seed in range(20 if is_real else 6):
        engine.predict_features(FEATURES, Draws(seed))
        held.append(torch.cuda.memory_allocated(engine.device))
    assert held[-1] == held[4], held
