"""Seeds and jobs that share forward passes: each the same as alone, whatever stands beside it."""

import gc
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from live_bytes import LiveBytes
from other_jobs import assert_same_embeddings, assert_same_samples, some_jobs
from random_weights import tiny_network
from tiny_features import N_MSA, rel_rms, tiny_features

from foldline.engine.group import Group, Lane, make_batch
from foldline.engine.ladder import run_lanes
from foldline.engine.plan import Plan, Sizes, plan
from foldline.engine.runner import Results, Run, RunOptions, SeedResult, run_seed
from foldline.models import Batch, Network
from foldline.ops import select
from foldline.sampler import Draws

FEATURES = tiny_features()
OPTIONS = RunOptions(n_sample=3, n_recycle=1, n_step=4, save_embeddings=True)


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny_network()


def a_plan(network: Network, bucket: tuple[int, int] = (28, 113), seeds: int = 1, **changes: object) -> Plan:
    chosen = plan(Sizes(*bucket, N_MSA, OPTIONS.n_sample, seeds), network.spec, 1 << 40)
    return replace(chosen, **changes)  # type: ignore[arg-type]


def together(network: Network, lanes: Sequence[Lane], chosen: Plan, options: RunOptions = OPTIONS) -> list[SeedResult]:
    results, groups = Results(), []
    run = Run(network, options, on_sample=results.on_sample, on_embeddings=results.on_embeddings)
    run_lanes(run, lanes, chosen, 1 << 40, on_rung=pytest.fail, on_group=groups.append)
    assert sorted(map(id, lanes)) == sorted(id(lane) for group in groups for lane in group.lanes)
    return [results.of(lane, {}, run) for lane in lanes]


@pytest.fixture(scope="module")
def alone(network: Network) -> dict[int, SeedResult]:
    return {seed: run_seed(network, FEATURES, Draws(seed), a_plan(network), OPTIONS) for seed in (3, 4, 5, 6)}


@pytest.mark.parametrize(
    ("seed_batch", "diffusion_batch"), [(4, 12), (2, 12), (1, 12), (3, 3), (4, 1), (1, 6), (2, 7), (1, 2)]
)
def test_a_seed_is_the_same_alone_and_in_any_batch(
    network: Network, alone: dict[int, SeedResult], seed_batch: int, diffusion_batch: int
) -> None:
    chosen = a_plan(network, seeds=4, seed_batch=seed_batch, diffusion_batch=diffusion_batch)
    lanes = [Lane(FEATURES, Draws(seed)) for seed in alone]
    for result, wanted in zip(together(network, lanes, chosen), alone.values(), strict=True):
        assert_same_samples(result.samples, wanted.samples)
        assert_same_embeddings(result.embeddings, wanted.embeddings)


@pytest.mark.parametrize(("side_by_side", "seed_batch", "n_thread"), [(2, 1, 2), (4, 1, 2), (2, 2, 4), (3, 1, 8)])
def test_a_seed_is_the_same_beside_others(
    network: Network, alone: dict[int, SeedResult], side_by_side: int, seed_batch: int, n_thread: int
) -> None:
    batches = {"seed_batch": seed_batch, "diffusion_batch": 3 * seed_batch}
    chosen = a_plan(network, seeds=4, side_by_side=side_by_side, **batches)
    lanes = [Lane(FEATURES, Draws(seed)) for seed in alone]
    torch.set_num_threads(n_thread)
    try:
        found = together(network, lanes, chosen)
    finally:
        torch.set_num_threads(1)
    for result, wanted in zip(found, alone.values(), strict=True):
        assert_same_samples(result.samples, wanted.samples)
        assert_same_embeddings(result.embeddings, wanted.embeddings)


def test_one_at_a_time_is_conditioned_where_several_run(
    network: Network, alone: dict[int, SeedResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan counts on it: pair conditioning and all biases are there at once for a moment, of one group."""
    prepare, inside, most = network.diffusion.prepare, [], []

    def watched(*args: object) -> object:
        inside.append(args)
        time.sleep(0.05)
        most.append(len(inside))
        try:
            return prepare(*args)  # type: ignore[arg-type]
        finally:
            inside.pop()

    monkeypatch.setattr(network.diffusion, "prepare", watched)
    chosen = a_plan(network, seeds=4, side_by_side=4, seed_batch=1, diffusion_batch=3)
    together(network, [Lane(FEATURES, Draws(seed)) for seed in alone], chosen)
    assert most == [1, 1, 1, 1]


def test_seeds_of_a_batch_differ(alone: dict[int, SeedResult]) -> None:
    a, b = alone[3], alone[4]
    assert rel_rms(a.samples.coordinates, b.samples.coordinates) > 0.1
    assert a.embeddings is not None and b.embeddings is not None
    assert (
        rel_rms(a.embeddings.z, b.embeddings.z) > 1e-3 and rel_rms(a.embeddings.s_inputs, b.embeddings.s_inputs) > 1e-4
    )


def test_draws_of_alignment_rows_differ_in_number() -> None:
    """Else the tests here would not see a count that is taken from the padded axis."""
    counts = {len(Draws(seed).msa_rows(i, N_MSA)) for seed in (3, 4, 5, 6) for i in (0, 1)}
    assert len(counts) > 4


@pytest.mark.parametrize("changes", [{}, {"keep_biases": False}], ids=str)
def test_jobs_of_one_bucket_are_the_same_as_alone(network: Network, changes: dict) -> None:
    jobs = some_jobs()
    assert len({tuple(f.sizes.values()) for f in jobs}) == len({f.n_atom for f in jobs}) == 3
    lanes = [Lane(f, Draws(seed), job) for job, f in enumerate(jobs) for seed in ((7, 8) if job == 1 else (7,))]
    chosen = a_plan(network, (32, 160), seeds=4, seed_batch=4, diffusion_batch=12, **changes)
    for lane, result in zip(lanes, together(network, lanes, chosen), strict=True):
        own = lane.features.n_token, lane.features.n_atom
        wanted = run_seed(network, lane.features, lane.draws, a_plan(network, own), OPTIONS)
        assert_same_samples(result.samples, wanted.samples)
        assert_same_embeddings(result.embeddings, wanted.embeddings)


def test_seeds_of_jobs_may_come_in_any_order(network: Network) -> None:
    """Lanes of a job that others come between; the lanes of a batch are in the order of the group."""
    jobs = some_jobs()
    lanes = [Lane(jobs[job], Draws(seed), job) for seed, job in enumerate((1, 0, 2, 1, 1, 0))]
    batch = make_batch(lanes, (1, 1), "cpu", 1000)
    assert batch.n_lane == 6 and batch.n_token == 28, "padded to the largest job where the bucket is too small"
    for i, lane in enumerate(lanes):
        assert np.array_equal(batch.lane(i).restype[: lane.features.n_token], lane.features.restype)
        own = batch.msa[batch.alignment(i), : lane.features.n_token]
        assert np.array_equal(own, lane.features.msa)
    chosen = a_plan(network, seeds=6, seed_batch=6, diffusion_batch=18)
    for lane, result in zip(lanes, together(network, lanes, chosen), strict=True):
        own_plan = a_plan(network, (lane.features.n_token, lane.features.n_atom))
        assert_same_samples(result.samples, run_seed(network, lane.features, lane.draws, own_plan, OPTIONS).samples)


def test_what_seeds_share_is_stored_once(network: Network) -> None:
    lanes = [Lane(FEATURES, Draws(seed)) for seed in range(5)]
    batch, one = (make_batch(x, (28, 113), "cpu", 1000) for x in (lanes, lanes[:1]))
    assert batch.n_lane == 5 and batch.atoms.ref_pos.shape == (5, FEATURES.n_atom, 3)
    spare = 4 * one.atoms.ref_pos.nbytes
    assert stored(batch) == stored(one) + spare


def stored(batch: Batch) -> int:
    """Bytes of all distinct storages."""
    found: dict[int, int] = {}
    todo = list(vars(batch).values())
    while todo:
        x = todo.pop()
        if isinstance(x, torch.Tensor):
            found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        elif isinstance(x, tuple | list):
            todo += x
    return sum(found.values())


def test_lanes_of_a_batch_are_views(network: Network) -> None:
    lanes = [Lane(f, Draws(1), job) for job, f in enumerate(some_jobs())]
    batch = make_batch(lanes, (32, 160), "cpu", 1000)
    assert [batch.alignment(i) for i in range(3)] == [slice(0, 70), slice(70, 79), slice(79, 119)]
    part = batch.lanes(slice(1, 3))
    assert part.n_lane == 2 and part.alignment(1) == slice(79, 119)
    assert part.restype.untyped_storage().data_ptr() == batch.restype.untyped_storage().data_ptr()
    one = batch.lane(2)
    assert one.restype.shape == (32,) and torch.equal(one.restype, batch.restype[2])
    assert [int(t.count[1]) for t in batch.templates] == [1, 3, 0]  # type: ignore[index]


def test_alignment_rows_of_padding_do_not_count(network: Network) -> None:
    """A lane with few rows beside one with many, whatever the rows of the padding hold."""
    batch, ops, rows = (
        make_batch([Lane(FEATURES, Draws(1))], (28, 113), "cpu", 1000),
        select(),
        torch.tensor([[5, 0, 9]]),
    )
    with torch.inference_mode():
        s_inputs = network.trunk.embed_inputs(batch, ops)
        found = []
        for drawn in (rows, torch.nn.functional.pad(rows, (0, 8), value=-1)):
            s, z = network.trunk.start(batch, s_inputs)
            network.trunk(batch, s_inputs, s, z, drawn, ops)
            found.append(z.numpy())
        s, z = network.trunk.start(batch, s_inputs)
        network.trunk(batch, s_inputs, s, z, torch.cat([rows, torch.tensor([[1]])], 1), ops)
    assert rel_rms(found[1], found[0]) <= 1e-6 and rel_rms(z.numpy(), found[0]) > 1e-4


def test_dropout_of_a_seed_does_not_depend_on_its_batch(network: Network) -> None:
    options = replace(OPTIONS, mc_dropout=True)
    lanes = [Lane(FEATURES, Draws(seed)) for seed in (3, 4, 5)]
    chosen = a_plan(network, seeds=3, seed_batch=2, diffusion_batch=9)
    for lane, result in zip(lanes, together(network, lanes, chosen, options), strict=True):
        wanted = run_seed(network, FEATURES, lane.draws, a_plan(network), options)
        assert_same_embeddings(result.embeddings, wanted.embeddings)
        plain = run_seed(network, FEATURES, lane.draws, a_plan(network), OPTIONS)
        assert plain.embeddings is not None and result.embeddings is not None
        assert rel_rms(plain.embeddings.z, result.embeddings.z) > 1e-3


def test_samples_are_handed_over_as_they_come(network: Network) -> None:
    seen: list[tuple[int, int]] = []
    group = Group([Lane(FEATURES, Draws(seed)) for seed in (3, 4)])
    run = Run(
        network,
        replace(OPTIONS, save_embeddings=False),
        on_sample=lambda lane, make: seen.append((lane.draws.seed, make().first)),
    )
    from foldline.engine.runner import advance

    advance(run, group, a_plan(network, seeds=2, seed_batch=2, diffusion_batch=6))
    assert seen == [(3, 0), (4, 0), (3, 1), (4, 1), (3, 2), (4, 2)]
    assert set(group.seconds) == {"trunk", "diffusion", "confidence"} and all(
        np.array(list(group.seconds.values())) > 0
    )


def live(network: Network, n_seed: int, n_sample: int, chosen: Plan) -> tuple[int, int]:
    """Largest number of live bytes of tensors while seeds run and their samples are let go, and what is left."""
    run = Run(network, RunOptions(n_sample=n_sample, n_recycle=0, n_step=1))
    lanes = [Lane(FEATURES, Draws(seed)) for seed in range(n_seed)]
    with LiveBytes() as counted:
        run_lanes(run, lanes, chosen, 1 << 40, on_rung=pytest.fail, on_group=lambda group: None)
        gc.collect()
    return counted.peak, counted.now


def test_memory_does_not_grow_with_seeds_and_samples(network: Network) -> None:
    """Beyond the plan's batches: positions wait on the host as arrays, scores are handed over one by one."""
    chosen = a_plan(network, seeds=2, seed_batch=2, diffusion_batch=4)
    chosen = replace(chosen, request=replace(chosen.request, sizes=replace(chosen.request.sizes, n_sample=2)))
    few, left = live(network, 2, 2, chosen)
    assert few > 100_000 and left == 0
    assert live(network, 6, 2, chosen)[0] <= 1.01 * few
    one_by_one = replace(chosen, diffusion_batch=1)
    fewer = live(network, 2, 2, one_by_one)[0]
    assert fewer <= few and live(network, 2, 7, one_by_one)[0] <= 1.01 * fewer
    more = live(network, 2, 2, a_plan(network, seeds=2, seed_batch=1, diffusion_batch=1))[0]
    assert more < fewer, "the count sees no difference between seeds together and apart"
