"""The whole network on one job, stage by stage, with everything a test compares cut to its true size."""

import numpy as np
import torch
from torch import Tensor

from foldline.confidence import confidences, reduce_errors
from foldline.models import Batch, Network
from foldline.ops import Ops, Rows, select
from foldline.sampler import Draws, sample
from foldline.tensors import Features

Arrays = dict[str, np.ndarray]
N_SAMPLE, N_STEP, N_PASS = 2, 5, 2


def bring(features: Features, draws: Draws, network: Network) -> Batch:
    """The batch of a seed."""
    return Batch.of(features, draws.ref_pos(features), "cpu", network.spec.max_msa)


@torch.inference_mode()
def trunk(
    network: Network, batch: Batch, draws: Draws, ops: Ops, n_pass: int = N_PASS
) -> tuple[Tensor, Tensor, Tensor]:
    """s_inputs, s and z after some passes."""
    s_inputs = network.trunk.embed_inputs(batch, ops)
    s, z = network.trunk.start(batch, s_inputs)
    for i in range(n_pass):
        network.trunk(batch, s_inputs, s, z, draws.msa_rows(i, len(batch.msa)), ops)
    return s_inputs, s, z


@torch.inference_mode()
def everything(
    network: Network, features: Features, draws: Draws, rows: Rows | None = None, *, keep_biases: bool = True
) -> Arrays:
    """s_inputs, s, z, contacts, one denoising step, sampled positions and confidences.

    The confidences are those of fixed positions, not of the sampled ones, so that rounding does not pass bin edges.
    """
    ops = select(rows)
    batch = bring(features, draws, network)
    n, a = features.n_token, features.n_atom
    s_inputs, s, z = trunk(network, batch, draws, ops)
    contact = network.distogram(z, ops)[:n, :n].numpy()
    fixed = network.diffusion.prepare(batch, s_inputs, s, z, keep_biases, ops)
    mask = torch.from_numpy(features.atom_mask)
    x_noisy = torch.full((N_SAMPLE, len(mask), 3), 1e3)
    generator = torch.Generator().manual_seed(9)
    x_noisy[:, :a] = 20 * torch.randn((N_SAMPLE, a, 3), generator=generator)
    step = network.diffusion(x_noisy, torch.tensor(12.0), fixed, batch.token_mask, ops)

    def denoise(x: Tensor, t_hat: Tensor) -> Tensor:
        return network.diffusion(x, t_hat, fixed, batch.token_mask, ops)

    x = sample(denoise, network.spec, draws.samples(range(N_SAMPLE)), mask, n_step=N_STEP)
    assert bool((x[:, a:] == 0).all()), "padding has left the origin"
    pair = torch.empty_like(z)
    network.confidence.embed(z, s_inputs, x_noisy[0][batch.rep_atom], pair, ops)
    single = network.confidence(s, pair, batch.token_mask, ops)
    plddt = network.confidence.atom_plddt(single, batch.atoms.to_token, batch.atom_in_token)[:a].numpy()
    sums = reduce_errors(network.confidence, pair, batch, network.spec, n, ops)
    scores = confidences(features, sums, plddt, x_noisy[0, :a].numpy(), contact, network.spec)
    return {
        "s_inputs": s_inputs[:n].numpy(),
        "s": s[:n].numpy(),
        "z": z[:n, :n].numpy(),
        "contact": contact,
        "step": step[:, :a].numpy(),
        "x": x[:, :a].numpy(),
        **{k: np.asarray(v, np.float64) for k, v in vars(scores).items()},
    }
