"""Plans: what is given up as memory shrinks, in which order, and what is said when nothing fits."""

import json
import re
from dataclasses import fields, replace
from itertools import groupby, pairwise
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foldline.engine.memory_model import (
    HEAPS_LEFT,
    KERNELS_OF_SIZE,
    MOST_KERNELS,
    MOST_SHARED_KERNELS,
    SHARED_KERNELS,
    parameter_bytes,
    process_terms,
)
from foldline.engine.plan import GIB, Plan, Process, Sizes, estimate, leanest, plan, richest, work_sizes
from foldline.errors import DoesNotFit
from foldline.models import ModelSpec, Network
from foldline.models.spec import PROTENIX_MINI, PROTENIX_TINY, PROTENIX_V05, PROTENIX_V1, PROTENIX_V2

SIZES = Sizes(n_token=2000, n_atom=16_000, n_msa=4096)
PLENTY = 1 << 50


def leanness(p: Plan) -> tuple[float, ...]:
    """What a plan has given up, what is given up last first; larger is leaner."""
    halvings = (work_sizes(p.bucket[0], p.request.device).point // p.rows.point).bit_length() - 1
    return (
        max(halvings, 1),
        p.park_pair,
        p.park_template,
        p.staged_weights,
        halvings > 0,
        -min(p.diffusion_batch, p.request.sizes.n_sample),
        not p.keep_biases,
        -p.diffusion_batch,
        -p.seed_batch,
        -p.side_by_side,
    )


class Asked(NamedTuple):
    """A request of any kind."""

    sizes: Sizes
    spec: ModelSpec
    dtype: torch.dtype
    device: str
    threads: int = 1

    def plan(self, memory_bytes: int) -> Plan:
        return plan(self.sizes, self.spec, memory_bytes, dtype=self.dtype, device=self.device, threads=self.threads)

    def ladder(self) -> list[Plan]:
        return ladder(richest(self.sizes, self.spec, dtype=self.dtype, device=self.device, threads=self.threads))


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    """Ligands alone to nucleic acids, one sample or seed or many, every network and device."""
    n = draw(st.integers(64, 10_000))
    n_atom = round(n * draw(st.floats(1, 23)))
    counts = draw(st.integers(1, 16_384)), draw(st.integers(1, 100)), draw(st.integers(1, 20))
    spec = draw(st.sampled_from([PROTENIX_V1, PROTENIX_V2, PROTENIX_V05, PROTENIX_MINI, PROTENIX_TINY]))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    device, threads = draw(st.sampled_from(["cpu", "cuda"])), draw(st.sampled_from([1, 2, 5, 64]))
    return Asked(Sizes(n, n_atom, *counts), spec, dtype, device, threads)


def rungs(sizes: Sizes = SIZES, spec: ModelSpec = PROTENIX_V1, dtype: torch.dtype = torch.float32) -> list[Plan]:
    """Every plan from the richest down to the last one before none fits."""
    found = [plan(sizes, spec, PLENTY, dtype=dtype)]
    while True:
        try:
            found.append(plan(sizes, spec, found[-1].peak_bytes - 1, dtype=dtype))
        except DoesNotFit:
            return found


def test_plenty_of_memory_gives_everything() -> None:
    p = plan(SIZES, PROTENIX_V1, PLENTY)
    assert (p.keep_biases, p.diffusion_batch, p.staged_weights, p.park_pair) == (True, 5, False, False)
    assert {p.trunk_dtype, p.diffusion_dtype, p.confidence_dtype} == {torch.float32}
    assert p.peak_bytes == max(p.stage_bytes.values()) > 4 * 368e6


def test_kernels_of_other_sizes_count_on_a_cpu_until_their_store_is_full() -> None:
    """On a GPU none are kept."""
    small = replace(SIZES, n_token=100, n_atom=800)
    for dtype, full in MOST_KERNELS.items():
        peaks = [
            plan(small, PROTENIX_V1, PLENTY, dtype=dtype, process=Process(n)).peak_bytes for n in (0, 1, 2, 500, 501)
        ]
        one = KERNELS_OF_SIZE[dtype]
        assert 0.85 * one < peaks[2] - peaks[1] < peaks[1] - peaks[0] < one
        assert peaks[3] - peaks[0] == pytest.approx(full, abs=2) and peaks[4] - peaks[3] < 2
    shared = [plan(small, PROTENIX_V1, PLENTY, process=Process(3, n)).peak_bytes for n in (0, 1, 500, 501)]
    least, full = shared[1] - shared[0], shared[2] - shared[0]
    assert (least, full) == (SHARED_KERNELS + HEAPS_LEFT, MOST_SHARED_KERNELS + HEAPS_LEFT) and shared[3] == shared[2]
    beside = [plan(small, PROTENIX_V1, PLENTY, process=Process(3, n), beside=(small,)).peak_bytes for n in (1, 2)]
    assert beside[1] - beside[0] == SHARED_KERNELS, "their threads have heaps of their own"
    none, many = (plan(small, PROTENIX_V1, PLENTY, device="cuda", process=Process(n, n)).stage_bytes for n in (0, 50))
    assert none == many


def test_holes_of_a_heap_with_caches_count_on_a_cpu_alone_in_every_stage() -> None:
    def stages(device: str, *, cached: bool, seeds: int = 1) -> dict[str, int]:
        sizes = replace(SIZES, n_seed=seeds)
        process = Process(cached_heap=cached)
        return plan(sizes, PROTENIX_V1, PLENTY, device=device, threads=seeds, process=process).stage_bytes

    without, holes = stages("cpu", cached=False), stages("cpu", cached=True)
    (one,) = {holes[stage] - without[stage] for stage in without}
    assert 30e6 < one < 1 << 28
    (two,) = {size - stages("cpu", cached=False, seeds=2)[k] for k, size in stages("cpu", cached=True, seeds=2).items()}
    assert two > 2 * one
    assert stages("cuda", cached=False) == stages("cuda", cached=True)
    with pytest.raises(DoesNotFit):
        plan(SIZES, PROTENIX_V1, leanest(SIZES, PROTENIX_V1).peak_bytes, process=Process(cached_heap=True))


def test_a_step_keeps_the_smaller_set_of_its_activations_while_they_come_from_the_heap() -> None:
    """Atoms' or tokens'; larger samples are blocks that go back as they are freed."""

    def kept(n_token: int, n_atom: int, n_sample: int) -> int:
        sizes = Sizes(n_token, n_atom, 1, n_sample)
        p = plan(sizes, PROTENIX_V1, PLENTY)
        beyond = replace(p, diffusion_batch=n_sample * 10**6)  # of what comes from the heap
        of_step, rows = (process_terms(sizes, PROTENIX_V1, one)["diffusion, step"] for one in (p, beyond))
        return of_step["heap"] - rows["heap"]

    assert kept(100, 800, 5) == 10 * 5 * 100 * 768 * 4
    assert kept(100, 800, 10) == 2 * kept(100, 800, 5)
    assert kept(100, 200, 5) == 13 * 5 * 200 * 128 * 4
    assert kept(1_000, 8_000, 5) == 6 * 5 * 1_000 * 768 * 4  # the hidden layer is no block of the heap
    assert kept(3_000, 20_000, 5) == kept(1_000, 20_000, 5) == 0


def ladder(p: Plan) -> list[Plan]:
    """The plan and all rungs below it."""
    found = [p]
    while (below := found[-1].smaller()) is not None:
        found.append(below)
        assert len(found) < 40, "a ladder without an end"
    return found


def test_the_ladder_goes_from_seeds_over_samples_and_rows_to_the_host() -> None:
    first = replace(plan(Sizes(64, 512, 10, n_seed=4), PROTENIX_V1, PLENTY), seed_batch=4)
    assert (first.seed_batch, first.diffusion_batch, first.seed_group) == (4, 20, 4)
    seen = ladder(first)
    changed = [
        [f.name for f in fields(a) if f.name != "stage_bytes" and getattr(a, f.name) != getattr(b, f.name)]
        for a, b in pairwise(seen)
    ]
    assert [names for names, _ in groupby(changed)] == [
        ["seed_batch"],
        ["diffusion_batch"],
        ["keep_biases"],
        ["diffusion_batch"],
        ["rows"],
        ["staged_weights"],
        ["park_template"],
        ["park_pair"],
        ["rows"],
    ]
    assert seen[-1].seed_batch == seen[-1].diffusion_batch == seen[-1].seed_group == 1
    assert [p.diffusion_batch for p in seen if p.keep_biases] == [20, 20, 20, 10, 5], "whole seeds"
    assert all(b.peak_bytes <= a.peak_bytes for a, b in pairwise(seen))


def test_a_rung_for_a_stage_makes_that_stage_smaller() -> None:
    p = plan(SIZES, PROTENIX_V1, PLENTY)
    for stage in ("trunk", "diffusion", "confidence"):
        leaner = p.smaller(stage)
        assert leaner is not None and leaner.bytes_of(stage) < p.bytes_of(stage)
    diffusion, trunk = p.smaller("diffusion"), p.smaller("trunk")
    assert diffusion is not None and not diffusion.keep_biases and diffusion.rows == p.rows
    assert trunk is not None and trunk.rows != p.rows
    least = ladder(p)[-1]
    assert least.smaller() is None and least.smaller("trunk") is None


def test_nothing_is_given_up_that_did_not_have_to_be() -> None:
    """Where only the trunk is too large, diffusion keeps its biases and batches, and the other way round."""
    sizes = Sizes(n_token=600, n_atom=1200, n_msa=16_384)
    rich = plan(sizes, PROTENIX_MINI, PLENTY, device="cuda")
    assert rich.bytes_of("trunk") == rich.peak_bytes > rich.bytes_of("diffusion")
    lean = plan(sizes, PROTENIX_MINI, rich.peak_bytes - 1, device="cuda")
    assert lean.keep_biases and lean.diffusion_batch == rich.diffusion_batch and lean.rows != rich.rows
    rich = plan(SIZES, PROTENIX_V1, PLENTY)
    assert rich.bytes_of("diffusion") == rich.peak_bytes
    lean = plan(SIZES, PROTENIX_V1, rich.peak_bytes - 1)
    assert not lean.keep_biases and replace(lean, keep_biases=True, stage_bytes={}) == replace(rich, stage_bytes={})


@pytest.mark.parametrize(
    "change", ["rows", "staged_weights", "park_template", "park_pair", "diffusion_batch", "keep_biases"]
)
def test_every_concession_of_a_tight_plan_is_needed(change: str) -> None:
    sizes = Sizes(10_000, 80_000, 1024)
    rich = plan(sizes, PROTENIX_V1, PLENTY, dtype=torch.bfloat16, device="cuda")
    for gib in (120, 90, 70, 60, 52):
        p = plan(sizes, PROTENIX_V1, gib * GIB, dtype=torch.bfloat16, device="cuda")
        if getattr(p, change) != getattr(rich, change):
            assert estimate(replace(p, **{change: getattr(rich, change)})).peak_bytes > gib * GIB, gib


@settings(deadline=None, max_examples=40)
@given(asked(), st.data())
def test_more_memory_is_never_leaner(job: Asked, data: st.DataObject) -> None:
    """In the order in which things are given up; and nothing that a plan may have goes beyond its memory."""
    rungs = job.ladder()
    fractions = data.draw(st.lists(st.floats(0, 1), min_size=2, max_size=4))
    least, most = rungs[-1].peak_bytes, rungs[0].peak_bytes
    before = None
    for available in sorted([least, *(int(least + (most - least) * part**3) for part in fractions)]):
        p = job.plan(available)
        assert p.peak_bytes <= available
        assert before is None or leanness(p) <= leanness(before)
        assert p.seeds_at_once == 1 or not (p.park_pair or p.park_template), "only one seed alone can rest"
        assert p.side_by_side == 1 or not p.staged_weights, "groups beside each other are in different stages"
        before = p


@settings(deadline=None, max_examples=40)
@given(asked(), st.floats(0, 1))
def test_what_is_given_up_last_is_given_up_only_where_all_before_would_not_do(job: Asked, part: float) -> None:
    rungs = job.ladder()
    least, most = rungs[-1].peak_bytes, rungs[0].peak_bytes
    available = int(least + (most - least) * part**3)
    p = job.plan(available)
    half = next((each.rows for each in rungs if each.rows != rungs[0].rows), p.rows)
    before = replace(
        p,
        side_by_side=1,
        seed_batch=1,
        diffusion_batch=1,
        keep_biases=False,
        rows=min(p.rows, half, key=lambda rows: rows.point),
    )
    if p.staged_weights:
        assert estimate(replace(before, staged_weights=False)).peak_bytes > available
    before = replace(before, staged_weights=True)
    if p.park_template:
        assert estimate(replace(before, park_template=False)).peak_bytes > available
    before = replace(before, park_template=rungs[-1].park_template)
    if p.park_pair:
        assert estimate(replace(before, park_pair=False)).peak_bytes > available


@settings(deadline=None, max_examples=40)
@given(asked())
def test_every_ladder_ends_and_no_rung_needs_more(job: Asked) -> None:
    """But for 2 %: on a CPU the heap keeps what is small enough, and mini's biases are no larger than their z."""
    rungs = job.ladder()
    for before, after in pairwise(rungs):
        for stage in ("trunk", "diffusion", "confidence"):
            assert after.bytes_of(stage) <= 1.02 * before.bytes_of(stage), stage
    assert rungs[-1].peak_bytes <= min(p.peak_bytes for p in rungs)


@settings(deadline=None, max_examples=40)
@given(asked(), st.floats(0, 1))
def test_what_is_named_where_nothing_fits_is_enough(job: Asked, part: float) -> None:
    available = int(part * (job.ladder()[-1].peak_bytes - 1))
    with pytest.raises(DoesNotFit) as error:
        job.plan(available)
    assert error.value.available == available < error.value.needed
    text = str(error.value)
    size = re.search(r"at least (.*) GiB", text)
    assert size is not None and job.plan(int(float(size[1]) * GIB)).peak_bytes <= float(size[1]) * GIB
    low = job._replace(dtype=torch.bfloat16)
    if "--dtype bf16" in text:
        assert low.plan(available).peak_bytes <= available
    else:
        with pytest.raises(DoesNotFit):
            low.plan(available)


def test_seeds_go_together_again_only_where_z_stays() -> None:
    """A plan that lets z rest is for one seed alone, though more would fit: without z on the device."""
    job = Asked(Sizes(594, 4838, 1, 5, 3), PROTENIX_V05, torch.float32, "cuda")
    p = job.plan(1_503_229_457)
    assert p.park_pair and p.seed_group == 1
    together = estimate(replace(p, seed_batch=2))
    assert together.peak_bytes <= 1_503_229_457, "it does not hold z of two seeds"


def test_as_much_is_taken_back_as_fits() -> None:
    """Not all samples or none: as many as there is room for where the trunk alone is too large."""
    job = Asked(Sizes(300, 6900, 16_384, 100), PROTENIX_MINI, torch.float32, "cuda")
    rich = job.plan(PLENTY)
    passed = {p.diffusion_batch for p in job.ladder() if p.rows != rich.rows}
    assert passed == {1}, "the ladder has given up all samples but one before it comes to the trunk"
    available = job.ladder()[-1].bytes_of("trunk")
    p = job.plan(available)
    more = estimate(replace(p, diffusion_batch=2 * p.diffusion_batch))
    assert p.rows != rich.rows and 1 < p.diffusion_batch < rich.diffusion_batch and more.peak_bytes > available


def test_an_estimate_grows_with_every_size() -> None:
    base = plan(SIZES, PROTENIX_V1, PLENTY)
    for change in ({"n_token": 2100}, {"n_atom": 17_000}, {"n_msa": 8192}):
        larger = plan(replace(SIZES, **change), PROTENIX_V1, PLENTY)
        assert any(larger.stage_bytes[k] > base.stage_bytes[k] for k in base.stage_bytes), change
        assert all(larger.stage_bytes[k] >= base.stage_bytes[k] for k in base.stage_bytes), change
    assert plan(replace(SIZES, n_msa=30_000), PROTENIX_V1, PLENTY).stage_bytes == (
        plan(replace(SIZES, n_msa=16_384), PROTENIX_V1, PLENTY).stage_bytes
    ), "rows beyond those that are read cost nothing"
    assert plan(SIZES, PROTENIX_V2, PLENTY).peak_bytes > base.peak_bytes


def test_a_plan_counts_the_rows_that_are_drawn() -> None:
    """All of them are on the device as bytes, some become m."""
    every = plan(SIZES, PROTENIX_V1, PLENTY).stage_bytes
    for rows, same in ((SIZES.n_msa, True), (9 * SIZES.n_msa, True), (100, False)):
        drawn = plan(replace(SIZES, n_msa_drawn=rows), PROTENIX_V1, PLENTY).stage_bytes
        assert {k for k in every if drawn[k] != every[k]} == (set() if same else {"MSA module"})
        assert same or drawn["MSA module"] < every["MSA module"]
    few = plan(replace(SIZES, n_msa=100), PROTENIX_V1, PLENTY).stage_bytes
    left = 2 * SIZES.n_token * (SIZES.n_msa - 100)
    assert drawn["MSA module"] == few["MSA module"] + left


@pytest.mark.parametrize(("n_sample", "batch"), [(1, 1), (3, 3), (5, 5), (40, 5)])
def test_samples_together(n_sample: int, batch: int) -> None:
    assert plan(replace(SIZES, n_sample=n_sample), PROTENIX_V1, PLENTY).diffusion_batch == batch


def test_nothing_fits() -> None:
    with pytest.raises(DoesNotFit) as error:
        plan(SIZES, PROTENIX_V1, GIB)
    text = str(error.value)
    assert text.startswith("2000 tokens need ") and "GiB where 1.0 GiB are available: " in text
    found = re.fullmatch(r".*: use a machine with at least (.*) GiB of memory", text)
    assert found is not None, "bf16 would not fit either"
    full = float(found[1]) * GIB
    low = leanest(SIZES, PROTENIX_V1, dtype=torch.bfloat16).peak_bytes
    with pytest.raises(DoesNotFit, match=r": use a machine with at least [0-9.]+ GiB of memory$"):
        plan(SIZES, PROTENIX_V1, low - 1)
    with pytest.raises(DoesNotFit) as enough:
        plan(SIZES, PROTENIX_V1, low)
    found = re.search(r": use --dtype bf16, which needs (.*) GiB, or a machine with at least ", str(enough.value))
    assert found is not None and low <= float(found[1]) * GIB < full
    assert plan(SIZES, PROTENIX_V1, int(full)).peak_bytes <= full < 1.05 * error.value.needed
    assert plan(SIZES, PROTENIX_V1, low, dtype=torch.bfloat16).peak_bytes <= low < full
    assert error.value.n_token == 2000 and error.value.needed == rungs()[-1].peak_bytes
    with pytest.raises(DoesNotFit, match=r"available: use a device with at least 4\.\d GiB$"):
        plan(SIZES, PROTENIX_V1, GIB, dtype=torch.bfloat16, device="cuda")


@pytest.mark.parametrize(
    ("spec", "n_token", "kinds"),
    [
        (PROTENIX_V1, 2560, "bff"),
        (PROTENIX_V1, 2561, "bfb"),
        (PROTENIX_V1, 3840, "bfb"),
        (PROTENIX_V1, 3841, "bbb"),
        (PROTENIX_V2, 100, "bfb"),
    ],
)
def test_precision_follows_the_family(spec: ModelSpec, n_token: int, kinds: str) -> None:
    p = plan(Sizes(n_token, 8 * n_token, 100), spec, PLENTY, dtype=torch.bfloat16)
    found = (p.trunk_dtype, p.diffusion_dtype, p.confidence_dtype)
    assert "".join("b" if d == torch.bfloat16 else "f" for d in found) == kinds
    assert p.dtype_of("trunk.input_encoder.q.weight") == torch.float32
    assert p.dtype_of("trunk.pairformer.blocks.0.pair.tri_mul_in.ab.weight") == torch.bfloat16
    assert p.dtype_of("distogram.linear.weight") == torch.bfloat16
    assert p.dtype_of("diffusion.encoder.q.weight") == p.diffusion_dtype
    assert p.dtype_of("confidence.pae.weight") == p.confidence_dtype
    full = plan(Sizes(n_token, 8 * n_token, 100), spec, PLENTY)
    assert {full.dtype_of(name) for name in ("trunk.z", "diffusion.z", "confidence.z")} == {torch.float32}


def test_weights_are_counted_in_their_precision() -> None:
    with torch.device("meta"):
        total = sum(p.numel() for p in Network(PROTENIX_V1).parameters())
    full = plan(SIZES, PROTENIX_V1, PLENTY)
    assert sum(parameter_bytes(PROTENIX_V1, full).values()) == 4 * total
    low = parameter_bytes(PROTENIX_V1, plan(SIZES, PROTENIX_V1, PLENTY, dtype=torch.bfloat16))
    assert low["trunk"] < 0.51 * parameter_bytes(PROTENIX_V1, full)["trunk"]
    assert low["diffusion"] == parameter_bytes(PROTENIX_V1, full)["diffusion"]


def test_rows_hold_at_least_a_few_rows_of_the_pair() -> None:
    for device in ("cpu", "cuda"):
        for n in (10, 1000, 10_000):
            assert work_sizes(n, device).pair >= 32 * n
    assert work_sizes(500, "cuda").pair > work_sizes(500, "cpu").pair


def test_a_record_is_plain() -> None:
    record = plan(SIZES, PROTENIX_V1, PLENTY, dtype=torch.bfloat16).record()
    assert json.loads(json.dumps(record)) == record
    assert record["trunk_dtype"] == "bfloat16" and record["peak_bytes"] == max(record["stage_bytes"].values())


def test_what_the_host_of_an_accelerator_holds() -> None:
    """z where it rests, positions of all samples of the group, and what is being written; on a CPU the plan has it."""
    sizes = Sizes(10_000, 80_000, 1024, 100)
    p = plan(sizes, PROTENIX_V1, 60 * GIB, dtype=torch.bfloat16, device="cuda")
    rich = plan(sizes, PROTENIX_V1, PLENTY, dtype=torch.bfloat16, device="cuda")
    assert p.park_pair and p.host_bytes - rich.host_bytes == 10_000**2 * 128 * 2
    drawn = rich.host_bytes - replace(rich, request=replace(rich.request, sizes=replace(sizes, n_sample=5))).host_bytes
    assert drawn == 95 * 80_000 * 12
    peaks = [plan(replace(SIZES, n_sample=n), PROTENIX_V1, PLENTY).bytes_of("trunk") for n in (5, 100)]
    assert peaks[1] - peaks[0] == 95 * 16_000 * 12
