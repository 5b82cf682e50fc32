"""One seed on one device: the same result however its samples are batched, padded, planned or resumed."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_weights import tiny_network
from tiny_features import N_MSA, rel_rms, tiny_features, with_garbage

from foldline.engine.plan import Plan, Sizes, plan
from foldline.engine.runner import RunOptions, SeedResult, run_seed
from foldline.models import Network
from foldline.ops import Rows
from foldline.sampler import Draws, SampleDraws, Tape
from foldline.tensors import Features

FEATURES = tiny_features()
N, N_ATOM = FEATURES.n_token, FEATURES.n_atom
OPTIONS = RunOptions(n_sample=5, n_recycle=1, n_step=4)


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny_network()


def a_plan(network: Network, **changes: object) -> Plan:
    chosen = plan(Sizes(N, N_ATOM, N_MSA), network.spec, 1 << 40)
    return replace(chosen, **changes)  # type: ignore[arg-type]


def run(
    network: Network,
    features: Features = FEATURES,
    draws: Draws | None = None,
    options: RunOptions = OPTIONS,
    **changes: object,
) -> SeedResult:
    return run_seed(network, features, draws or Draws(3), a_plan(network, **changes), options)


@pytest.fixture(scope="module")
def plain(network: Network) -> SeedResult:
    return run(network)


def assert_same(found: SeedResult, wanted: SeedResult, tolerance: float, scores: float | None = None) -> None:
    a, b = found.samples, wanted.samples
    assert rel_rms(a.coordinates, b.coordinates) <= tolerance
    assert rel_rms(a.contact_probs, b.contact_probs) <= tolerance
    assert len(a.confidences) == len(b.confidences)
    for x, y in zip(a.confidences, b.confidences, strict=True):
        for name, value in vars(y).items():
            limit = tolerance if scores is None else scores
            assert np.allclose(getattr(x, name), value, rtol=limit, atol=limit, equal_nan=True), name


def test_shapes_and_counts(plain: SeedResult) -> None:
    samples = plain.samples
    assert samples.seed == 3 and samples.coordinates.shape == (5, N_ATOM, 3)
    assert samples.contact_probs.shape == (N, N) and len(samples.confidences) == 5
    assert samples.confidences[0].pae.shape == (N, N) and samples.confidences[0].atom_plddt.shape == (N_ATOM,)
    assert set(plain.seconds) == {"trunk", "diffusion", "confidence"}
    assert (plain.trunk_passes, plain.steps, plain.embeddings) == (2, 4, None)
    assert np.isfinite(samples.coordinates).all() and samples.coordinates.std() > 1
    assert rel_rms(samples.coordinates[0], samples.coordinates[1]) > 0.1, "samples are alike"


def test_a_second_run_is_equal_to_the_bit(network: Network, plain: SeedResult) -> None:
    run(network, draws=Draws(8))  # a run of another seed in between leaves nothing behind
    assert_same(run(network), plain, 0.0)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batches_of_samples(network: Network, plain: SeedResult, batch: int) -> None:
    assert_same(run(network, diffusion_batch=batch), plain, 1e-5, 1e-4)


def test_a_sample_does_not_depend_on_how_many_follow(network: Network, plain: SeedResult) -> None:
    """The last sample writes into the trunk's own pair: it must be scored as it would be in the middle."""
    fewer = run(network, options=replace(OPTIONS, n_sample=2))
    part = replace(plain.samples, coordinates=plain.samples.coordinates[:2], confidences=plain.samples.confidences[:2])
    assert_same(fewer, replace(plain, samples=part), 1e-5, 1e-4)


class Reversed(Draws):
    """The draws of five samples in reverse order."""

    def samples(self, samples: Sequence[int]) -> SampleDraws:
        return SampleDraws(self.seed, [4 - i for i in samples])


def test_a_sample_does_not_depend_on_those_before(network: Network, plain: SeedResult) -> None:
    back = run(network, draws=Reversed(3)).samples
    turned = replace(back, coordinates=back.coordinates[::-1].copy(), confidences=back.confidences[::-1])
    assert_same(replace(plain, samples=turned), plain, 1e-5, 1e-4)


@pytest.mark.parametrize(
    "changes",
    [{"keep_biases": False}, {"rows": Rows(64, 33, 90)}, {"park_pair": True}, {"park_template": True}],
    ids=str,
)
def test_plans_do_not_change_the_result(network: Network, plain: SeedResult, changes: dict) -> None:
    assert_same(run(network, **changes), plain, 1e-5, 1e-4)


def test_padding_does_not_change_the_result(network: Network, plain: SeedResult) -> None:
    features = with_garbage(FEATURES, N_token=36, N_atom=192, N_msa=80, N_bond=20)
    options = replace(OPTIONS, save_embeddings=True)
    padded, unpadded = run(network, features, options=options), run(network, options=options)
    assert_same(padded, plain, 1e-5, 1e-4)
    assert padded.embeddings is not None and unpadded.embeddings is not None
    for name in ("s_inputs", "s", "z"):
        found, wanted = getattr(padded.embeddings, name), getattr(unpadded.embeddings, name)
        assert found.dtype == np.float32 and rel_rms(found, wanted) <= 1e-5
    assert unpadded.embeddings.z.shape == (N, N, network.spec.c_z)


@pytest.mark.parametrize("n_sample", [1, 3])
def test_embeddings_are_saved_where_z_was_put_away(network: Network, n_sample: int) -> None:
    options = replace(OPTIONS, save_embeddings=True, n_sample=n_sample)
    parked, kept = run(network, options=options, park_pair=True), run(network, options=options)
    assert parked.embeddings is not None and kept.embeddings is not None
    assert np.array_equal(parked.embeddings.z, kept.embeddings.z)
    assert_same(parked, kept, 0.0)


def test_saving_embeddings_happens_before_they_are_overwritten(network: Network) -> None:
    many = run(network, options=replace(OPTIONS, save_embeddings=True))
    one = run(network, options=replace(OPTIONS, save_embeddings=True, n_sample=1))
    assert many.embeddings is not None and one.embeddings is not None
    assert np.array_equal(many.embeddings.z, one.embeddings.z)


def test_a_tape_replays_a_seed(network: Network, plain: SeedResult) -> None:
    source, n_step = Draws(3).samples(range(5)), 4
    arrays = {"ref_pos": Draws(3).ref_pos(FEATURES), "x_init": source.x_init(N_ATOM).numpy()}
    arrays |= {f"msa_rows_{i}": Draws(3).msa_rows(i, N_MSA).numpy() for i in range(2)}
    arrays["rotation"] = np.stack([source.rotation(i).numpy() for i in range(n_step)])
    arrays["translation"] = np.stack([source.translation(i).numpy() for i in range(n_step)])
    arrays["noise"] = np.stack([source.noise(i, N_ATOM).numpy() for i in range(n_step)])
    assert_same(run(network, draws=Tape(99, arrays)), plain, 0.0)
    padded = with_garbage(FEATURES, N_token=36, N_atom=192)
    assert_same(run(network, padded, Tape(99, arrays), diffusion_batch=2), plain, 1e-5, 1e-4)


def test_seeds_differ(network: Network, plain: SeedResult) -> None:
    other = run(network, draws=Draws(4))
    assert rel_rms(other.samples.contact_probs, plain.samples.contact_probs) > 1e-4
    assert rel_rms(other.samples.coordinates, plain.samples.coordinates) > 0.1


def test_dropout_is_an_option(network: Network, plain: SeedResult) -> None:
    options = replace(OPTIONS, mc_dropout=True)
    dropped = run(network, options=options)
    assert rel_rms(dropped.samples.contact_probs, plain.samples.contact_probs) > 1e-4
    padded = run(network, with_garbage(FEATURES, N_token=33), options=options)
    assert rel_rms(padded.samples.contact_probs, dropped.samples.contact_probs) <= 1e-5


def test_numbers_come_from_the_spec_where_none_are_given() -> None:
    network = tiny_network(n_recycle=2, sampler=replace(tiny_network().spec.sampler, n_step=3))
    result = run(network, options=RunOptions(n_sample=1))
    assert (result.trunk_passes, result.steps) == (3, 3)
    assert run(network, options=RunOptions(n_sample=1, n_recycle=0, n_step=1)).trunk_passes == 1


def test_progress_and_stages(network: Network) -> None:
    events: list[tuple[str, int, int]] = []
    stages: list[str] = []
    run_seed(
        network,
        FEATURES,
        Draws(3),
        a_plan(network, diffusion_batch=2),
        replace(OPTIONS, n_sample=3),
        progress=lambda *event: events.append(event),
        weights=stages.append,
    )
    assert stages == ["trunk", "diffusion", "confidence"]
    assert [e for e in events if e[0] == "trunk"] == [("trunk", i, 2) for i in (0, 1, 2)]
    steps = [e[1:] for e in events if e[0] == "diffusion"]
    assert steps == [(0, 12), (2, 12), (4, 12), (6, 12), (8, 12), (9, 12), (10, 12), (11, 12), (12, 12)]
    assert [e for e in events if e[0] == "confidence"] == [("confidence", i, 3) for i in (0, 1, 2, 3)]


def cast(network: Network, chosen: Plan) -> Network:
    for name, parameter in list(network.named_parameters()):
        parameter.data = parameter.data.to(chosen.dtype_of(name))
    return network


@pytest.mark.parametrize("confidence_to", [0, 10_000])
@pytest.mark.parametrize("diffusion_to", [0, 10_000])
def test_low_precision(plain: SeedResult, diffusion_to: int, confidence_to: int) -> None:
    """Every mixture of a bf16 trunk with bf16 or fp32 for what follows runs, and is close."""
    spec = {"fp32_diffusion_to": diffusion_to, "fp32_confidence_to": confidence_to}
    network = tiny_network(**spec)
    chosen = plan(Sizes(N, N_ATOM, N_MSA), network.spec, 1 << 40, dtype=torch.bfloat16)
    result = run_seed(cast(network, chosen), FEATURES, Draws(3), chosen, OPTIONS)
    assert rel_rms(result.samples.contact_probs, plain.samples.contact_probs) < 0.05
    assert rel_rms(result.samples.coordinates, plain.samples.coordinates) < 0.2
    for x, y in zip(result.samples.confidences, plain.samples.confidences, strict=True):
        assert rel_rms(x.pae, y.pae) < 0.1 and rel_rms(x.atom_plddt, y.atom_plddt) < 0.1
