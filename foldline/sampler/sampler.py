"""The diffusion sampler (AF3 SI Alg. 18): positions from noise, all samples of a batch together."""

from collections.abc import Callable

import torch
from torch import Tensor

from foldline.models.spec import ModelSpec
from foldline.sampler.draws import SampleDraws

Denoiser = Callable[[Tensor, Tensor], Tensor]


def noise_schedule(spec: ModelSpec, n_step: int) -> Tensor:
    """Noise levels float32 [n_step + 1] in Å, from sigma_data s_max down (AF3 SI 3.7.1)."""
    c = spec.sampler
    low, high = c.s_min ** (1 / c.rho), c.s_max ** (1 / c.rho)
    steps = torch.arange(n_step + 1, dtype=torch.float32)
    t = spec.sigma_data * (high + steps * (1 / n_step) * (low - high)) ** c.rho
    if c.ends_at_zero:
        t[-1] = 0
    return t


def sample(
    denoise: Denoiser,
    spec: ModelSpec,
    draws: SampleDraws,
    atom_mask: Tensor,
    *,
    n_step: int,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Positions [N_sample, N_atom, 3] in Å, float32, of the samples that `draws` stands for.

    Args:
        denoise: (x_noisy [N_sample, N_atom, 3], t_hat []) -> denoised positions.
        spec: sampler constants.
        draws: the random draws, made on the CPU.
        atom_mask: bool [N_atom], True = keep; padding stays at the origin and does not move the centre.
        n_step: number of steps.
        on_step: called with the number of finished steps.
    """
    c, device = spec.sampler, atom_mask.device
    n_atom = len(atom_mask)
    # draws cover the true atoms, so that padding does not shift a generator's stream
    n_real = int(atom_mask.sum().item()) if atom_mask.device.type != "meta" else n_atom
    keep = atom_mask[:, None]
    levels = noise_schedule(spec, n_step)
    x = _padded(draws.x_init(n_real), n_atom).to(device) * levels[0]
    for step in range(n_step):
        t_last, t_next = levels[step], levels[step + 1]
        x = x - (x * keep).sum(-2, keepdim=True) / n_real
        x = torch.einsum("sij,saj->sai", draws.rotation(step).to(device), x) + draws.translation(step).to(device)
        gamma = c.gamma_0 if t_next > c.gamma_min else 0.0
        t_hat = t_last * (gamma + 1)
        spread = c.noise_scale * torch.sqrt(t_hat**2 - t_last**2)
        noise = _padded(draws.noise(step, n_real), n_atom).to(device)
        x_noisy = torch.where(keep, x + spread.to(device) * noise, 0.0)
        denoised = denoise(x_noisy, t_hat.to(device))
        x = x_noisy + (c.step_scale * (t_next - t_hat) / t_hat).to(device) * (x_noisy - denoised)
        x = torch.where(keep, x, 0.0)
        if on_step is not None:
            on_step(step + 1)
    return x


def _padded(x: Tensor, n_atom: int) -> Tensor:
    """Grow [S, n, 3] to [S, n_atom, 3] with zeros; padding is at the end of the atom axis."""
    return torch.nn.functional.pad(x, (0, 0, 0, n_atom - x.shape[1]))
