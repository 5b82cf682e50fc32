"""Embeddings on their way from the network to their file: the values, what is held meanwhile, and what goes wrong."""

import errno
import gc
import json
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from random_weights import tiny_network
from tiny_features import tiny_features

from foldline.config import EngineConfig
from foldline.engine import Engine, runner
from foldline.engine.group import Group, Lane, TrunkResult
from foldline.engine.memory_bench import LiveBytes
from foldline.engine.memory_model import writing_bytes
from foldline.engine.plan import Sizes, plan, richest
from foldline.engine.runner import Run, RunOptions, advance, run_seed
from foldline.execute import Event
from foldline.inputs import Job, jobs_from_json
from foldline.outputs.embeddings import write_npz
from foldline.outputs.layout import SampleWriter
from foldline.sampler import Draws
from foldline.tensors import EmbeddingRows

SETTINGS = {"samples": 2, "steps": 1, "recycles": 0, "msa": "none", "device": "cpu", "threads": 1}
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Engine:
    return Engine(checkpoint, config=EngineConfig(save_embeddings=True, **SETTINGS))


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pair representations come in several blocks too."""
    monkeypatch.setattr(runner, "EMBEDDED_AT_ONCE", 1 << 10)


def a_job(name: str = "pair", seeds: tuple[int, ...] = SEEDS) -> Job:
    chains = [{"protein": {"id": "A", "sequence": "MKWVTFISLQ"}}, {"ligand": {"id": "B", "ccdCodes": ["ZN"]}}]
    text = {"dialect": "alphafold3", "version": 1, "name": name, "modelSeeds": list(seeds), "sequences": chains}
    (job,), errors = jobs_from_json(json.dumps(text))
    assert not errors
    return job


def file_of(out: Path, seed: int, name: str = "pair") -> Path:
    return out / name / f"seed-{seed}_embeddings" / f"{name}_seed-{seed}_embeddings.npz"


@pytest.mark.parametrize(("samples", "seeds"), [(2, SEEDS), (1, (4,))], ids=["seeds together", "an only sample"])
def test_files_hold_what_the_network_made(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: int, seeds: tuple[int, ...]
) -> None:
    """Of seeds that share passes each its own, and before an only sample is scored in their memory."""
    real = runner._on_host
    monkeypatch.setattr(runner, "_on_host", lambda x: (time.sleep(0.01), real(x))[1])
    engine = Engine(checkpoint, config=EngineConfig(save_embeddings=True, **(SETTINGS | {"samples": samples})))
    (done,) = engine.predict([a_job(seeds=seeds)], out=tmp_path)
    assert done.error is None and done.plan is not None and done.plan.seed_group == len(seeds)
    features = engine._features()(a_job()).made.features
    for seed in seeds:
        wanted = run_seed(engine.network, features, Draws(seed), engine.plan_for(features), engine.options).embeddings
        assert wanted is not None
        with np.load(file_of(tmp_path, seed)) as found:
            assert np.allclose(found["single_embeddings"], wanted.s, rtol=2e-3, atol=1e-3)
            assert np.allclose(found["pair_embeddings"], wanted.z, rtol=2e-3, atol=1e-3)
            assert found["pair_embeddings"].shape == (11, 11, engine.spec.c_z)


@pytest.mark.parametrize("park_pair", [False, True])
@pytest.mark.parametrize("n_sample", [1, 2])
def test_no_stage_needs_more_for_them(n_sample: int, park_pair: bool, tmp_path: Path) -> None:
    """Live tensors at the fullest moment of every stage, with embeddings and without."""
    network, features = tiny_network(), tiny_features()
    sizes = features.sizes
    asked = Sizes(sizes["N_token"], sizes["N_atom"], sizes["N_msa"], n_sample)
    chosen = replace(plan(asked, network.spec, 1 << 40), park_pair=park_pair)

    def peaks(*, save: bool) -> dict[str, int]:
        found, live = {}, LiveBytes()

        def on_progress(_lanes: object, stage: str, _done: int, _total: int) -> None:
            found[stage] = max(found.get(stage, 0), live.peak["cpu"])
            live.mark()

        def on_embeddings(_lane: Lane, embeddings: EmbeddingRows) -> None:
            with (tmp_path / "x.npz").open("wb") as file:
                write_npz(file, embeddings)

        options = RunOptions(n_sample=n_sample, n_recycle=0, n_step=1, save_embeddings=save)
        gc.collect()
        with live:
            run = Run(network, options, on_embeddings=on_embeddings, progress=on_progress)
            advance(run, Group([Lane(features, Draws(1))]), chosen)
        return found

    _, plain, saved = peaks(save=False), peaks(save=False), peaks(save=True)
    assert (tmp_path / "x.npz").stat().st_size > 2 * sizes["N_token"] ** 2 * network.spec.c_z
    assert saved == plain


@pytest.mark.parametrize("rests", [False, True])
def test_the_host_holds_a_block_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rests: bool) -> None:
    """500 tokens: less than the plan gives the writer, where all would be 64 MB in float32."""
    monkeypatch.undo()
    features = tiny_features(n_residue=247)
    n, c = features.n_token, 64
    assert n == 500
    group = Group([Lane(features, Draws(1))])
    z = torch.ones(1, n, n, c, dtype=torch.bfloat16)
    group.trunk = TrunkResult(torch.zeros(1, n, 8), torch.zeros(1, n, 8), z)
    group.trunk.settle(rests=rests)

    def write(_lane: Lane, embeddings: EmbeddingRows) -> None:
        with (tmp_path / "x.npz").open("wb") as file:
            write_npz(file, embeddings)

    run = Run(tiny_network(), RunOptions(save_embeddings=True), on_embeddings=write)
    host, live = 0, LiveBytes()
    for _ in ("what is imported", "what is held"):
        live = LiveBytes()
        group.embedded.clear()
        tracemalloc.start()
        try:
            with live:
                runner._hand_embeddings(run, group)
            host = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    sizes = Sizes(n, features.n_atom, 1, n_sample=1)
    given = writing_bytes(sizes, richest(sizes, tiny_network().spec))
    assert (tmp_path / "x.npz").stat().st_size > 2 * n * n * c
    taken = host + live.peak["cpu"] - (0 if rests else z.nbytes)
    assert taken < given / 1.5 < 0.25 * 4 * n * n * c


def test_a_full_disk_ends_that_job_alone(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = SampleWriter.write_embeddings

    def write(writer: SampleWriter, seed: int, embeddings: EmbeddingRows) -> Path:
        if writer.job.name == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(writer, seed, embeddings)

    monkeypatch.setattr(SampleWriter, "write_embeddings", write)
    full, other = engine.predict([a_job("full"), a_job("other", (1,))], out=tmp_path)
    assert full.error is not None and (full.error.code, full.error.stage) == ("not_written", "write")
    assert str(full.error) == f"the result cannot be written: No space left on device ({tmp_path / 'full'})"
    assert other.error is None and file_of(tmp_path, 1, "other").is_file()


def test_memory_that_runs_out_over_them_is_the_ladders_affair(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a file of the second seed is left to nobody; the seeds are finished with a smaller plan."""
    real, calls = runner._pair_rows, []

    def rows(z: object, n: int) -> Iterator[np.ndarray]:
        calls.append(n)
        for number, block in enumerate(real(z, n)):  # type: ignore[arg-type]
            if len(calls) == 2 and number == 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield block

    remarks: list[str] = []

    def listen(event: Event) -> None:
        remarks.append(event.message)

    monkeypatch.setattr(runner, "_pair_rows", rows)
    (done,) = engine.predict([a_job()], out=tmp_path, progress=listen)
    assert done.error is None and any("out of memory in confidence" in remark for remark in remarks)
    assert all(file_of(tmp_path, seed).is_file() for seed in SEEDS) and not list(tmp_path.rglob("*.tmp"))
    assert len(calls) == 1 + len(SEEDS), "those that are there are not written again"
