"""Noise levels and the sampler's steps (AF3 SI Alg. 18) against a sampler written out for one sample."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_weights import draw, tiny_spec
from torch import Tensor

from foldline.models.spec import PROTENIX_MINI, PROTENIX_V1, ModelSpec, SamplerSpec
from foldline.sampler import Draws, noise_schedule, sample

N = 21
TARGET = 10 * draw("target", N, 3)


def test_noise_levels_run_from_2560_to_0() -> None:
    levels = noise_schedule(PROTENIX_V1, 200)
    assert levels.shape == (201,) and levels.dtype == torch.float32
    assert float(levels[0]) == pytest.approx(2560, rel=1e-6) and float(levels[-1]) == 0
    assert (levels.diff() < 0).all()
    exact = [16 * (160 ** (1 / 7) + i / 200 * (4e-4 ** (1 / 7) - 160 ** (1 / 7))) ** 7 for i in range(200)]
    assert np.allclose(levels[:-1].numpy(), exact, rtol=1e-5)


def test_noise_levels_of_five_steps() -> None:
    """Those of the mini and tiny networks, by hand: 16 (a + i/5 (b - a))^7 with a = 160^(1/7), b = 0.0004^(1/7)."""
    found = noise_schedule(PROTENIX_MINI, 5).numpy()
    assert np.allclose(found, [2560, 704.56, 144.69, 18.65, 1.017, 0], rtol=5e-4)


def test_noise_is_added_back_in_160_of_200_steps() -> None:
    assert int((noise_schedule(PROTENIX_V1, 200)[1:] > PROTENIX_V1.sampler.gamma_min).sum()) == 160


def test_the_last_level_can_stay_above_zero() -> None:
    spec = replace(PROTENIX_V1, sampler=SamplerSpec(ends_at_zero=False))
    assert float(noise_schedule(spec, 200)[-1]) == pytest.approx(16 * 4e-4, rel=1e-3)


def towards_target(x: Tensor, t_hat: Tensor) -> Tensor:
    """A denoiser whose answer depends on the position and on the noise level."""
    return TARGET[: x.shape[-2]] + 0.1 * torch.tanh(x / (1 + t_hat))


def by_hand(spec: ModelSpec, draws: Draws, number: int, n_step: int) -> tuple[np.ndarray, list[float]]:
    """One sample in double precision, and the noise levels that the denoiser was called with."""
    c, source = spec.sampler, draws.samples([number])
    t = noise_schedule(spec, n_step).double()
    x = source.x_init(N)[0].double() * t[0]
    called = []
    for i in range(n_step):
        rotation, translation = source.rotation(i)[0].double(), source.translation(i)[0].double()
        x = (x - x.mean(0)) @ rotation.T + translation
        gamma = c.gamma_0 if t[i + 1] > c.gamma_min else 0
        t_hat = t[i] * (1 + gamma)
        noise = source.noise(i, N)[0].double()
        noisy = x + c.noise_scale * (t_hat**2 - t[i] ** 2) ** 0.5 * noise
        called.append(float(t_hat / t[i]))
        delta = (noisy - towards_target(noisy.float(), t_hat.float()).double()) / t_hat
        x = noisy + c.step_scale * (t[i + 1] - t_hat) * delta
    return x.numpy(), called


@pytest.mark.parametrize(("spec", "n_step"), [(PROTENIX_V1, 20), (PROTENIX_MINI, 5), (tiny_spec(), 3)])
def test_steps(spec: ModelSpec, n_step: int) -> None:
    draws, seen = Draws(5), []

    def denoise(x: Tensor, t_hat: Tensor) -> Tensor:
        seen.append(float(t_hat))
        return towards_target(x, t_hat)

    found = sample(denoise, spec, draws.samples(range(3)), torch.ones(N, dtype=torch.bool), n_step=n_step).numpy()
    levels = noise_schedule(spec, n_step)[:-1].tolist()
    for i in range(3):
        wanted, ratios = by_hand(spec, draws, i, n_step)
        assert np.sqrt(np.square(found[i] - wanted).mean()) < 1e-3
        assert np.allclose(np.array(seen) / levels, ratios, rtol=1e-5)
    if spec.sampler.gamma_0:
        assert {round(x, 4) for x in ratios} == {1.0, 1.8}, "both branches of gamma"


@pytest.mark.parametrize("n_padded", [22, 64])
def test_padding_stays_at_the_origin_and_changes_nothing(n_padded: int) -> None:
    def denoise(x: Tensor, t_hat: Tensor) -> Tensor:
        out = torch.full_like(x, 1e4)  # whatever the network says about padding
        assert (x[:, N:] == 0).all()
        out[:, :N] = towards_target(x[:, :N], t_hat)
        return out

    mask = torch.arange(n_padded) < N
    plain = sample(towards_target, PROTENIX_V1, Draws(5).samples([0, 1]), mask[:N], n_step=10)
    padded = sample(denoise, PROTENIX_V1, Draws(5).samples([0, 1]), mask, n_step=10)
    assert torch.allclose(padded[:, :N], plain, atol=1e-4) and (padded[:, N:] == 0).all()


def test_a_sample_does_not_depend_on_those_beside_it() -> None:
    mask = torch.ones(N, dtype=torch.bool)
    together = sample(towards_target, PROTENIX_V1, Draws(5).samples(range(4)), mask, n_step=10)
    for i in (0, 3):
        alone = sample(towards_target, PROTENIX_V1, Draws(5).samples([i]), mask, n_step=10)
        assert torch.allclose(alone[0], together[i], atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1.0)


def test_steps_are_reported() -> None:
    seen: list[int] = []
    mask = torch.ones(N, dtype=torch.bool)
    sample(towards_target, PROTENIX_V1, Draws(5).samples([0]), mask, n_step=4, on_step=seen.append)
    assert seen == [1, 2, 3, 4]
