"""Samples of a network in training, by Foldline's own inference; how near they are to their target."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from foldline.models import Network
from foldline.ops import select
from foldline.sampler import Draws, sample
from tools.train_demo.losses import align
from tools.train_demo.model import N_STEP, SPEC, new_network
from tools.train_demo.train import Target, load_target

Embedded = tuple[Tensor, Tensor, Tensor]


@torch.no_grad()
def embed(network: Network, target: Target) -> Embedded:
    """s_inputs, s and z of a target."""
    ops, trunk, batch = select(), network.trunk, target.batch
    s_inputs = trunk.embed_inputs(batch, ops)
    s, z = trunk.start(batch, s_inputs)
    trunk(batch, s_inputs, s, z, torch.arange(2), ops)
    return s_inputs, s, z


@torch.no_grad()
def roll_out(
    network: Network, target: Target, embedded: Embedded, *, seed: int, n_sample: int, n_step: int = N_STEP
) -> Tensor:
    """Sampled positions [n_sample, N_atom, 3] in Å."""
    ops, module = select(), network.diffusion
    fixed = module.prepare(target.batch, *embedded, True, ops)
    return sample(
        lambda x, t: module(x, t, fixed, None, ops),
        SPEC,
        Draws(seed).samples(range(n_sample)),
        torch.ones(len(target.x), dtype=torch.bool),
        n_step=n_step,
    )


def polymer_rows(target: Target) -> Tensor:
    """Observed atoms CA and C1', indices."""
    wanted = [[ord(c) - 32 for c in name.ljust(4)] for name in ("CA", "C1'")]
    chars = target.batch.atoms.ref_atom_name_chars
    found = torch.stack([(chars == torch.tensor(name)).all(1) for name in wanted]).any(0)
    ligand = torch.from_numpy(target.features.is_ligand)
    return torch.nonzero(found & ~ligand & target.mask)[:, 0]


def deviations(target: Target, x: Tensor) -> tuple[Tensor, Tensor]:
    """RMSD in Å [n_sample] of CA and C1', and of ligand atoms in that superposition (NaN where there are none)."""
    rows = polymer_rows(target)
    weight = torch.zeros(len(target.x))
    weight[rows] = 1
    squares = (align(x, target.x.expand_as(x), weight) - target.x).square().sum(-1)
    ligand = torch.from_numpy(target.features.is_ligand) & target.mask
    return squares[:, rows].mean(1).sqrt(), squares[:, ligand].mean(1).sqrt()


def main() -> None:
    """Print the deviations of samples from a state file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that prepare.py wrote")
    parser.add_argument("--state", type=Path, required=True, help="state file of train.py")
    parser.add_argument("--targets", nargs="+", required=True)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--steps", type=int, default=N_STEP)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = new_network(0)
    network.load_state_dict(torch.load(options.state, weights_only=True)["network"])
    for name in options.targets:
        target = load_target(options.data, name)
        x = roll_out(network, target, embed(network, target), seed=1, n_sample=options.samples, n_step=options.steps)
        polymer, ligand = deviations(target, x)
        print(name, [f"{p:.2f}/{q:.2f}" for p, q in zip(polymer.tolist(), ligand.tolist(), strict=True)])


if __name__ == "__main__":
    main()
