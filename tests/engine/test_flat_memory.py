"""Memory does not grow with samples or seeds: not at all beyond the plan's batch, but for positions on the host.

Live tensors are counted by a dispatch mode, what Python and numpy hold by tracemalloc: to the byte, so that small jobs
show what large ones would need.
"""

import gc
import json
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from random_weights import tiny_network
from tiny_features import tiny_features

from foldline.config import EngineConfig
from foldline.engine import Engine
from foldline.engine.group import Group, Lane
from foldline.engine.ladder import run_lanes
from foldline.engine.memory_bench import LiveBytes, measure
from foldline.engine.plan import Sizes, plan, richest
from foldline.engine.runner import Run, RunOptions
from foldline.execute import Event
from foldline.inputs import jobs_from_json
from foldline.models import Network
from foldline.models.spec import PROTENIX_V1
from foldline.sampler import Draws

FEATURES = tiny_features()
XYZ = 3 * 4  # bytes of an atom's position
BATCH, SEEDS = 5, 2  # samples of a batch, seeds whose passes are shared


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny_network()


def let_go(_group: Group) -> None:
    """Nothing of a finished group is kept."""


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("sizes", [{"n_sample": 100}, {"n_seed": 50}, {"n_sample": 100, "n_seed": 50}], ids=str)
def test_one_plan_for_however_many(sizes: dict[str, int], device: str) -> None:
    """What memory holds of five samples of one seed holds any number, on a CPU beside the positions of each."""
    spec = replace(PROTENIX_V1, n_pairformer=1, n_diffusion=1, n_confidence=1, n_msa=2)
    few = Sizes(n_token=256, n_atom=2048, n_msa=32, n_sample=BATCH)
    memory = richest(few, spec, device=device).peak_bytes
    chosen = plan(replace(few, **sizes), spec, memory, device=device)
    assert chosen.peak_bytes <= memory
    if device == "cuda":
        assert measure(chosen).peak <= 1.02 * memory
    if device == "cpu":
        memory += XYZ * few.n_atom * 10 * sizes.get("n_sample", BATCH)
    more = plan(replace(few, **{name: 10 * count for name, count in sizes.items()}), spec, memory, device=device)
    assert more.peak_bytes <= memory and (more.rows, more.park_pair) == (chosen.rows, chosen.park_pair)


def tensor_peaks(network: Network, n_sample: int, n_seed: int, diffusion_batch: int, seed_batch: int) -> dict[str, int]:
    """Most bytes of live tensors in every stage, while all seeds go through the network, on a CPU."""
    sizes, peaks, live = FEATURES.sizes, {}, LiveBytes()

    def on_progress(_lanes: Sequence[Lane], stage: str, _done: int, _total: int) -> None:
        peaks[stage] = max(peaks.get(stage, 0), live.peak["cpu"])
        live.mark()

    asked = Sizes(sizes["N_token"], sizes["N_atom"], sizes["N_msa"], n_sample, n_seed)
    chosen = replace(plan(asked, network.spec, 1 << 40), diffusion_batch=diffusion_batch, seed_batch=seed_batch)
    run = Run(network, RunOptions(n_sample=n_sample, n_recycle=0, n_step=1), progress=on_progress)
    lanes = [Lane(FEATURES, Draws(seed)) for seed in range(n_seed)]
    gc.collect()
    with live:
        run_lanes(run, lanes, chosen, 1 << 40, on_rung=pytest.fail, on_group=let_go)
    return peaks


def test_tensors_of_a_hundred_samples_are_those_of_a_batch(network: Network) -> None:
    few, many = (tensor_peaks(network, count, 1, BATCH, 1) for count in (2 * BATCH, 100))
    assert set(few) == {"trunk", "diffusion", "confidence"} and min(few.values()) > 3e5
    for stage, peak in many.items():
        assert peak - few[stage] <= (100 - 2 * BATCH) * FEATURES.n_atom * XYZ, stage


def test_tensors_of_fifty_seeds_are_those_of_a_group(network: Network) -> None:
    """The second group has the peak of all that follow: it begins when the positions of the first are there."""
    few, many = (tensor_peaks(network, 2, count, 2 * SEEDS, SEEDS) for count in (2 * SEEDS, 50))
    assert all(peak <= few[stage] for stage, peak in many.items()), (few, many)


def whole_run(checkpoint: Path, out: Path, *, samples: int, seeds: int) -> tuple[int, int]:
    """Most bytes that Python and numpy held from the trunk to the last sample, and how many atoms the job has."""
    settings = {"samples": samples, "steps": 1, "recycles": 0, "msa": "none", "device": "cpu", "seed_batch": 1}
    engine = Engine(checkpoint, config=EngineConfig(threads=1, **settings))
    chain = {"protein": {"id": "A", "sequence": "MKTAYIAKQR" * 4}}
    text = {"dialect": "alphafold3", "version": 1, "name": "j", "sequences": [chain], "modelSeeds": list(range(seeds))}
    (job,), _ = jobs_from_json(json.dumps(text))

    host = 0

    def listen(event: Event) -> None:
        nonlocal host
        if event.stage == "trunk":
            before = samples * text["modelSeeds"].index(event.seed)  # type: ignore[attr-defined]
            latest = time.monotonic() + 60
            while len(list(out.rglob("j_seed-*_model.cif"))) < before:
                assert time.monotonic() < latest, "what is finished is not written"
                time.sleep(0.001)  # how late the writer is tells nothing of what a seed leaves behind
            gc.collect()  # when Python would do so depends on all that ran before in this process
            if not tracemalloc.is_tracing():
                tracemalloc.start()
        if event.stage == "write" and event.seed is not None:
            host = tracemalloc.get_traced_memory()[1]

    gc.collect()
    try:
        (done,) = engine.predict([job], out=out, progress=listen)
    finally:
        tracemalloc.stop()
    assert done.error is None and done.plan is not None and not done.plan.staged_weights
    assert len((out / "j" / "j_ranking_scores.csv").read_text().splitlines()) == 1 + samples * seeds
    return host, done.n_atom


def test_what_a_run_holds_beside_tensors_is_flat_too(checkpoint: Path, tmp_path: Path) -> None:
    """What grows beside positions is the list of what is written."""
    whole_run(checkpoint, tmp_path / "warm", samples=1, seeds=1)
    few, n_atom = whole_run(checkpoint, tmp_path / "few", samples=BATCH, seeds=3)
    assert few > 2e5
    for name, samples, seeds in (("samples", 60, 1), ("seeds", BATCH, 12)):
        many, _ = whole_run(checkpoint, tmp_path / name, samples=samples, seeds=seeds)
        assert many - few <= samples * (n_atom * XYZ + 1_000 * seeds) + 200_000, (name, many, few)
