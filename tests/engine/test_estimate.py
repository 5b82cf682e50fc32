"""Estimates: specs by name, sizes of jobs without conformers, plans for other devices, the largest job that fits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from upstream_layout import small_network, state

from foldline.engine.estimate import SPECS, JobSizes, Place, estimate_on, named_places, spec_of
from foldline.engine.plan import GIB, Sizes, plan
from foldline.errors import DoesNotFit, WeightsError
from foldline.models.spec import PROTENIX_MINI, PROTENIX_V1, PROTENIX_V2
from foldline.weights.registry import ENTRIES

JOB = JobSizes("job", n_token=1000, n_atom=8000, n_msa=2000, n_seed=1)
SMALL = Place("small", "cuda", 8 * GIB, torch.bfloat16, (256, 512, 1024))


def test_every_published_checkpoint_has_a_spec() -> None:
    assert set(SPECS) == {entry.name for entry in ENTRIES}
    assert spec_of("protenix-v2") is PROTENIX_V2 and spec_of("protenix-v1") is PROTENIX_V1
    with pytest.raises(WeightsError, match="did you mean"):
        spec_of("protenix-v3")
    with pytest.raises(WeightsError, match="no such checkpoint file"):
        spec_of("nowhere/model.pt")


def test_the_spec_of_a_file_is_read_off_it(tmp_path: Path) -> None:
    network = small_network()
    torch.save({"model": state(network, "module.")}, tmp_path / "small.pt")
    assert spec_of(str(tmp_path / "small.pt")) == network.spec != PROTENIX_MINI


def test_a_job_is_padded_to_the_buckets_of_the_device() -> None:
    assert JOB.padded(SMALL, 5) == Sizes(1024, 8192, 2000, 5, 1)
    assert JOB.padded(replace(SMALL, buckets=()), 5) == Sizes(1000, 8000, 2000, 5, 1)
    assert JOB.padded(SMALL, 5, n_token=2000) == Sizes(2000, 16_000, 2000, 5, 1)


def test_the_plan_is_that_of_a_run() -> None:
    found = estimate_on(SMALL, JOB, 5, PROTENIX_V1)
    assert found.error is None
    assert found.plan == plan(Sizes(1024, 8192, 2000), PROTENIX_V1, 8 * GIB, dtype=torch.bfloat16, device="cuda")


@pytest.mark.parametrize("place", [SMALL, replace(SMALL, buckets=()), replace(SMALL, kind="cpu")], ids=str)
def test_the_largest_job_fits_and_no_larger_one(place: Place) -> None:
    largest = estimate_on(place, JOB, 5, PROTENIX_V1).largest
    assert largest > JOB.n_token
    for n, fits in ((largest, True), (largest + 1, False)):
        found = estimate_on(place, replace(JOB, n_token=n, n_atom=8 * n), 5, PROTENIX_V1)
        assert (found.plan is not None) is fits and found.largest == largest


def test_nothing_fits() -> None:
    found = estimate_on(replace(SMALL, memory_bytes=10**8), JOB, 5, PROTENIX_V1)
    assert (found.plan, found.largest) == (None, 0) and isinstance(found.error, DoesNotFit)


def test_larger_devices_hold_larger_jobs() -> None:
    largest = [estimate_on(place, JOB, 5, PROTENIX_V1).largest for place in named_places("auto", None)]
    assert largest == sorted(largest) and largest[0] > 4000 and largest[2] > 10_000
    full = [estimate_on(place, JOB, 5, PROTENIX_V1).largest for place in named_places("fp32", None)]
    assert all(a < b for a, b in zip(full, largest, strict=True))
