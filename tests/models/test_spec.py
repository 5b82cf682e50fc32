"""Presets: sizes published for every Protenix checkpoint."""

import dataclasses

import pytest
import torch

from foldline.models import ModelSpec, Network
from foldline.models.spec import PROTENIX_MINI, PROTENIX_TINY, PROTENIX_V05, PROTENIX_V1, PROTENIX_V2

# millions of parameters, as Protenix documents them, and how many of them are not the network's
PUBLISHED = {
    "v2": (PROTENIX_V2, 464.44),
    "v1": (PROTENIX_V1, 368.48),
    "v0.5": (PROTENIX_V05, 368.09),
    "mini": (PROTENIX_MINI, 134.06),
    "tiny": (PROTENIX_TINY, 109.50),
}
# What a checkpoint without template blocks still holds of the embedder around them: projections and norms.
LEFT_OF_TEMPLATES = 128 * 64 + 108 * 64 + 64 * 128 + 2 * 128 + 2 * 64


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_those_published(name: str) -> None:
    spec, millions = PUBLISHED[name]
    with torch.device("meta"):
        network = Network(spec)
    count = sum(p.numel() for p in network.parameters())
    count += 0 if spec.n_template else LEFT_OF_TEMPLATES
    assert count / 1e6 == pytest.approx(millions, abs=0.0075)


def test_presets_differ_as_documented() -> None:
    assert (PROTENIX_V2.c_z, PROTENIX_V2.c_m, PROTENIX_V1.c_z, PROTENIX_V1.c_m) == (256, 128, 128, 64)
    assert [s.n_recycle + 1 for s in (PROTENIX_V2, PROTENIX_V1, PROTENIX_V05)] == [10, 10, 10]
    assert [s.n_recycle + 1 for s in (PROTENIX_MINI, PROTENIX_TINY)] == [4, 4]
    for spec in (PROTENIX_V2, PROTENIX_V1, PROTENIX_V05):
        assert (spec.sampler.n_step, spec.sampler.gamma_0, spec.sampler.step_scale) == (200, 0.8, 1.5)
    for spec in (PROTENIX_MINI, PROTENIX_TINY):
        assert (spec.sampler.n_step, spec.sampler.gamma_0, spec.sampler.step_scale) == (5, 0.0, 1.0)
    assert [s.n_template for s in (PROTENIX_V2, PROTENIX_V1, PROTENIX_V05, PROTENIX_MINI)] == [2, 2, 0, 0]


def test_a_spec_is_frozen_and_comparable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROTENIX_V1.c_z = 7  # type: ignore[misc]
    assert ModelSpec() == PROTENIX_V1 and hash(ModelSpec()) == hash(PROTENIX_V1)
