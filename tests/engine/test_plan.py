"""Plans: what is given up as memory shrinks, in which order, and what is said when nothing fits."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foldline.engine.plan import GIB, Plan, Sizes, parameter_bytes, plan, work_sizes
from foldline.errors import DoesNotFit
from foldline.models import ModelSpec, Network
from foldline.models.spec import PROTENIX_MINI, PROTENIX_V1, PROTENIX_V2

SIZES = Sizes(n_token=2000, n_atom=16_000, n_msa=4096)
PLENTY = 1 << 50


def leanness(p: Plan) -> tuple[bool, bool, int, bool]:
    """What a plan has given up; larger is leaner."""
    return p.park_pair, p.staged_weights, -p.sample_batch, not p.keep_biases


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
    assert (p.keep_biases, p.sample_batch, p.staged_weights, p.park_pair) == (True, 5, False, False)
    assert {p.trunk_dtype, p.diffusion_dtype, p.confidence_dtype} == {torch.float32}
    assert set(p.stage_bytes) == {"trunk", "diffusion", "confidence"}
    assert p.peak_bytes == max(p.stage_bytes.values()) > 4 * 368e6


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        (SIZES, torch.float32),
        (SIZES, torch.bfloat16),
        (Sizes(n_token=300, n_atom=20_000, n_msa=1), torch.float32),
        (Sizes(n_token=3000, n_atom=120_000, n_msa=1), torch.bfloat16),
    ],
    ids=str,
)
def test_order_of_concessions(sizes: Sizes, dtype: torch.dtype) -> None:
    """Biases first, then samples together, then resident weights, then z while samples are drawn."""
    found = [leanness(p) for p in rungs(sizes, dtype=dtype)]
    order = [
        (False, False, -5, False),
        (False, False, -5, True),
        (False, False, -2, True),
        (False, False, -1, True),
        (False, True, -1, True),
        (True, True, -1, True),
    ]
    assert found[0] == order[0] and len(found) >= 3
    assert found == [step for step in order if step in found], "each rung once, in order"


def test_putting_z_away_is_the_last_resort() -> None:
    """Where drawing samples takes most."""
    last = rungs(Sizes(n_token=3000, n_atom=120_000, n_msa=1), dtype=torch.bfloat16)[-1]
    assert last.park_pair and last.stage_bytes["diffusion"] == last.peak_bytes


@settings(deadline=None, max_examples=25)
@given(st.integers(50, 4000), st.integers(1, 16_384), st.sampled_from([torch.float32, torch.bfloat16]), st.data())
def test_more_memory_is_never_leaner(n: int, n_msa: int, dtype: torch.dtype, data: st.DataObject) -> None:
    sizes = Sizes(n, 8 * n, n_msa)
    richest = plan(sizes, PROTENIX_MINI, PLENTY, dtype=dtype)
    memory = sorted(data.draw(st.lists(st.integers(1, 2 * richest.peak_bytes), min_size=2, max_size=6)))
    before = None
    for available in memory:
        try:
            p = plan(sizes, PROTENIX_MINI, available, dtype=dtype)
        except DoesNotFit as error:
            assert before is None, "more memory and nothing fits any more"
            assert error.available == available < error.needed
            continue
        assert p.peak_bytes <= available
        assert before is None or leanness(p) <= leanness(before)
        before = p


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


@pytest.mark.parametrize(("n_sample", "batch"), [(1, 1), (3, 3), (5, 5), (40, 5)])
def test_samples_together(n_sample: int, batch: int) -> None:
    assert plan(replace(SIZES, n_sample=n_sample), PROTENIX_V1, PLENTY).sample_batch == batch


def test_nothing_fits() -> None:
    with pytest.raises(DoesNotFit) as error:
        plan(SIZES, PROTENIX_V1, GIB)
    text = str(error.value)
    assert text.startswith("2000 tokens need ") and "GiB where 1.0 GiB are available: " in text
    assert "--dtype bf16 or a device with more memory" in text
    assert error.value.n_token == 2000 and error.value.needed == rungs()[-1].peak_bytes
    with pytest.raises(DoesNotFit, match="available: use a device with more memory$"):
        plan(SIZES, PROTENIX_V1, GIB, dtype=torch.bfloat16)


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
