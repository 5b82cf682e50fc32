"""The diffusion sampler (AF3 SI Alg. 18): positions from noise, all samples of a batch of seeds and jobs together."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from foldline.models.batch import on_device
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
    draws: SampleDraws | Sequence[SampleDraws],
    atom_mask: Tensor,
    *,
    n_step: int,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Positions [*b, N_sample, N_atom, 3] in Å, float32, of the samples that `draws` stands for.

    Args:
        denoise: (x_noisy [*b, N_sample, N_atom, 3], t_hat []) -> denoised positions.
        spec: sampler constants.
        draws: the random draws, made on the CPU; a sequence holds those of every lane of a batch, each with the same
            number of samples, and gives positions a leading axis.
        atom_mask: bool [N_atom], or [N_lane, N_atom] where lanes differ; True = keep. Padding stays at the origin and
            does not move the centre.
        n_step: number of steps.
        on_step: called with the number of finished steps.
    """
    c, device = spec.sampler, atom_mask.device
    n_atom = atom_mask.shape[-1]
    alone = isinstance(draws, SampleDraws)
    lanes = [draws] if alone else list(draws)
    # draws cover the true atoms, so that padding does not shift a generator's stream
    counts = atom_mask.sum(-1).reshape(-1).tolist() if device.type != "meta" else [n_atom]
    counts = counts * len(lanes) if len(counts) == 1 else counts

    def drawn(draw: Callable[[SampleDraws, int], Tensor]) -> Tensor:
        """One kind of draw of all lanes, on the device."""
        parts = [draw(lane, n) for lane, n in zip(lanes, counts, strict=True)]
        return on_device(parts[0] if alone else torch.stack(parts), device)

    keep = atom_mask[..., None, :, None]
    n_real = on_device(torch.tensor(counts, dtype=torch.float32), device)
    n_real = n_real[0] if alone else n_real[:, None, None, None]
    levels = noise_schedule(spec, n_step)  # on the host: a number of a step goes along with its kernels
    x = drawn(lambda lane, n: _padded(lane.x_init(n), n_atom)) * levels[0]
    for step in range(n_step):
        t_last, t_next = levels[step], levels[step + 1]
        x = x - (x * keep).sum(-2, keepdim=True) / n_real
        rotation = drawn(lambda lane, _n, step=step: lane.rotation(step))
        translation = drawn(lambda lane, _n, step=step: lane.translation(step))
        x = torch.einsum("...sij,...saj->...sai", rotation, x) + translation
        gamma = c.gamma_0 if t_next > c.gamma_min else 0.0
        t_hat = t_last * (gamma + 1)
        spread = c.noise_scale * torch.sqrt(t_hat**2 - t_last**2)
        noise = drawn(lambda lane, n, step=step: _padded(lane.noise(step, n), n_atom))
        x_noisy = torch.where(keep, x + spread * noise, 0.0)
        denoised = denoise(x_noisy, on_device(t_hat, device))
        x = x_noisy + (c.step_scale * (t_next - t_hat) / t_hat) * (x_noisy - denoised)
        x = torch.where(keep, x, 0.0)
        if on_step is not None:
            on_step(step + 1)
    return x


def _padded(x: Tensor, n_atom: int) -> Tensor:
    """Grow [S, n, 3] to [S, n_atom, 3] with zeros; padding is at the end of the atom axis."""
    return F.pad(x, (0, 0, 0, n_atom - x.shape[1]))
