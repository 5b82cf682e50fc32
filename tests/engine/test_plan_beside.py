"""Plans of groups and jobs that run beside each other on a CPU: how many, and what they hold together."""

from dataclasses import replace

import pytest
import torch

from foldline.engine.memory_model import CONDITIONING, STAGES, Sizes, parameter_bytes, stage_terms
from foldline.engine.plan import estimate, plan
from foldline.models.spec import PROTENIX_MINI, PROTENIX_V1

PLENTY = 1 << 60


@pytest.mark.parametrize(
    ("threads", "n_token", "n_seed", "side_by_side", "seed_group"),
    [
        (1, 245, 5, 1, 3),
        (2, 245, 5, 2, 1),
        (3, 100, 9, 3, 1),
        (2, 60, 5, 2, 2),
        (2, 60, 9, 2, 4),
        (16, 245, 5, 5, 1),
        (16, 300, 1, 1, 1),
    ],
)
def test_seeds_run_beside_each_other_as_far_as_there_are_threads(
    threads: int, n_token: int, n_seed: int, side_by_side: int, seed_group: int
) -> None:
    """Groups are no larger than lets every thread have one."""
    sizes = Sizes(n_token, 8 * n_token, 64, n_seed=n_seed)
    p = plan(sizes, PROTENIX_V1, PLENTY, threads=threads)
    assert (p.side_by_side, p.seed_group, p.seeds_at_once) == (side_by_side, seed_group, side_by_side * seed_group)
    assert plan(sizes, PROTENIX_V1, PLENTY, device="cuda", threads=threads).side_by_side == 1


def test_seeds_that_fit_along_one_axis_are_not_taken_apart() -> None:
    p = plan(Sizes(50, 400, 64, n_seed=5), PROTENIX_V1, PLENTY, threads=4)
    assert (p.side_by_side, p.seed_batch, p.seed_group) == (1, 5, 5)


@pytest.mark.parametrize(
    ("device", "threads", "n_token", "n_seed", "jobs", "side_by_side", "own_groups", "seed_group"),
    [
        ("cpu", 4, 100, 1, 9, 4, 1, 1),
        ("cpu", 4, 100, 1, 3, 3, 1, 1),
        ("cpu", 4, 256, 1, 9, 4, 1, 1),
        ("cpu", 4, 257, 1, 9, 1, 1, 1),
        ("cpu", 4, 50, 5, 9, 4, 1, 5),
        ("cpu", 4, 100, 5, 9, 4, 4, 1),
        ("cpu", 4, 100, 1, 1, 1, 1, 1),
        ("cuda", 4, 100, 1, 9, 1, 1, 1),
    ],
)
def test_small_jobs_run_beside_each_other_as_far_as_there_are_threads(
    device: str, threads: int, n_token: int, n_seed: int, jobs: int, side_by_side: int, own_groups: int, seed_group: int
) -> None:
    """With all their seeds in one group each; the plan of one counts the others' memory. Else seeds go so."""
    sizes = Sizes(n_token, 8 * n_token, 64, n_seed=n_seed)
    others = (sizes,) * (jobs - 1)
    p = plan(sizes, PROTENIX_V1, PLENTY, device=device, threads=threads, beside=others)
    assert (p.side_by_side, p.own_groups, p.seed_group) == (side_by_side, own_groups, seed_group)
    assert bool(p.request.beside) == (own_groups < side_by_side)
    if side_by_side > 1:
        fewer = plan(sizes, PROTENIX_V1, p.peak_bytes - 1, threads=threads, beside=others)
        assert fewer.side_by_side == side_by_side // 2 and fewer.seed_group == seed_group


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_plan_of_a_job_counts_those_that_are_beside_it(dtype: torch.dtype) -> None:
    """The largest ones, each as large as it is; like jobs count as seeds beside each other do."""
    small, large = (Sizes(n, 8 * n, 64) for n in (60, 240))

    def stages(sizes: Sizes, *beside: Sizes, threads: int = 2) -> dict[str, int]:
        return plan(sizes, PROTENIX_V1, PLENTY, dtype=dtype, threads=threads, beside=beside).stage_bytes

    own, mixed, like = stages(large), stages(large, small), stages(large, large)
    for name in own:
        assert own[name] < mixed[name] < like[name]
    assert stages(small, large, small) == stages(small, large) == stages(small, small, large)
    assert stages(small, large)["pairformer"] == pytest.approx(mixed["pairformer"], rel=0.01), "the sum of both"
    assert stages(large, small, small, small, threads=3) == stages(large, small, small, threads=3)
    seeds = plan(replace(large, n_seed=2), PROTENIX_V1, PLENTY, dtype=dtype, threads=2)
    assert seeds.side_by_side == 2 and seeds.stage_bytes == pytest.approx(like, rel=1e-3)


def test_every_group_beside_others_has_its_own_memory_and_all_share_the_weights() -> None:
    sizes = Sizes(300, 2400, 256, n_seed=6)
    three = plan(sizes, PROTENIX_V1, PLENTY, threads=3)
    one, two = (estimate(replace(three, side_by_side=n)).stage_bytes for n in (1, 2))
    weights = sum(parameter_bytes(PROTENIX_V1, three).values())
    assert three.side_by_side == 3
    for stage, size in three.stage_bytes.items():
        assert size - two[stage] == pytest.approx(two[stage] - one[stage], rel=0.01)
        assert 300**2 * 128 * 4 < size - two[stage] < one[stage] - weights
    assert plan(sizes, PROTENIX_V1, max(two.values()), threads=3).side_by_side == 1, "it is halved"


def test_groups_beside_one_that_is_conditioned_are_in_their_fullest_stage() -> None:
    two = plan(Sizes(900, 6900, 1, 1, n_seed=2), PROTENIX_MINI, PLENTY, threads=2)
    one, (cond, *others) = replace(two, side_by_side=1), sorted(STAGES, key=lambda name: name != CONDITIONING)
    alone, both = (stage_terms(p.request.sizes, PROTENIX_MINI, p) for p in (one, two))
    beside = {name: sum(both[name].values()) - sum(alone[name].values()) for name in both}
    assert two.side_by_side == 2 and beside[cond] == max(beside[name] for name in others if name in beside)
    assert sum(alone[cond].values()) > max(sum(terms.values()) for name, terms in alone.items() if name != cond)
