"""Training of the confidence head on samples of the finished network, good and bad; then the checkpoint is written.

Trunk and diffusion module stay as they are. Samples come from the sampler itself, from shorter and longer ones, and
from single steps that start at a noised truth, so that errors of all sizes occur.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from foldline.models import Network
from tools.train_demo import graph, losses
from tools.train_demo.model import SPEC, new_network, save_checkpoint
from tools.train_demo.rollout import Embedded, deviations, embed, roll_out
from tools.train_demo.train import Target, load_target, random_poses

OTHER_STEPS = (2, 5, 8)  # samples of other qualities than the sampler's own
# the last projections, whose logits have far to go
FAST = ("confidence.pae.weight", "confidence.pde.weight", "confidence.plddt", "confidence.resolved")


@dataclass(frozen=True)
class Lesson:
    """One sample of a target and what the head should say about it."""

    x: Tensor  # [N_atom, 3] Å
    plddt: Tensor  # int64 [N_atom], bins
    pae: Tensor  # int64 [N_token, N_token], bins
    pde: Tensor  # int64 [N_token, N_token], bins


def token_frames(target: Target) -> tuple[Tensor, Tensor]:
    """Atoms of every token's frame [N_token, 3] and which of them can be judged, bool [N_token] (AF3 SI 4.3.2).

    Backbone atoms for residues; for a token of one atom, that atom between its two nearest in the conformer.
    """
    batch, n = target.batch, target.batch.n_token
    atoms = batch.atoms
    frames = torch.zeros(n, 3, dtype=torch.long)
    usable = torch.from_numpy(target.features.has_frame).clone()
    names = ["".join(chr(32 + c) for c in row).strip() for row in atoms.ref_atom_name_chars.tolist()]
    for token in range(n):
        own = torch.nonzero(atoms.to_token == token)[:, 0].tolist()
        if len(own) > 1:
            place = {names[i]: i for i in own}
            wanted = ("N", "CA", "C") if "CA" in place else ("C1'", "C3'", "C4'")
            frames[token] = torch.tensor([place[name] for name in wanted])
        else:
            same = torch.nonzero(atoms.ref_space_uid == atoms.ref_space_uid[own[0]])[:, 0]
            distance = (atoms.ref_pos[same] - atoms.ref_pos[own[0]]).norm(dim=-1)
            near = same[distance.argsort()[1:3]]
            if len(near) == 2:
                frames[token] = torch.stack([near[0], torch.tensor(own[0]), near[1]])
            else:
                usable[token] = False
    return frames, usable & target.mask[frames].all(1)


@torch.no_grad()
def samples_of(network: Network, target: Target, embedded: Embedded, seed: int, count: int) -> list[Tensor]:
    """Samples [N_atom, 3] of many qualities."""
    made = list(roll_out(network, target, embedded, seed=seed, n_sample=count))
    for n_step in OTHER_STEPS:
        made += roll_out(network, target, embedded, seed=seed + n_step, n_sample=max(1, count // 3), n_step=n_step)
    generator = torch.Generator().manual_seed(seed)
    shared = graph.share(network.diffusion, target.batch, *embedded)
    level = torch.exp(torch.linspace(math.log(2.0), math.log(400.0), count))
    x = random_poses(target.x, count, generator)
    noisy = x + level[:, None, None] * torch.randn(x.shape, generator=generator)
    made += graph.denoise(network.diffusion, target.batch, noisy, level, shared)
    return made


def lesson(target: Target, frames: Tensor, x: Tensor) -> Lesson:
    """Bins of the true errors of a sample."""
    rep = target.batch.rep_atom
    plddt = losses.true_plddt(x, target.x, target.mask, rep)
    pae = losses.frame_errors(x, target.x, frames, rep)
    pde = (torch.cdist(x[rep], x[rep]) - torch.cdist(target.x[rep], target.x[rep])).abs()
    return Lesson(
        x,
        losses.binned(plddt, 1.0, SPEC.n_plddt),
        losses.binned(pae, SPEC.pae_max, SPEC.n_pae),
        losses.binned(pde, SPEC.pae_max, SPEC.n_pae),
    )


def loss_of(head: graph.Errors, taught: Lesson, target: Target, usable: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropies of pLDDT and of PAE and PDE; what was not observed says nothing (AF3 SI 4.3)."""
    plddt = F.cross_entropy(head.plddt[target.mask], taught.plddt[target.mask])
    resolved = F.cross_entropy(head.resolved, target.mask.long())
    pae = F.cross_entropy(
        head.pae[usable][:, target.known].flatten(0, 1), taught.pae[usable][:, target.known].flatten()
    )
    pairs = target.known[:, None] & target.known[None]
    pde = F.cross_entropy(head.pde[pairs], taught.pde[pairs])
    return plddt + 0.1 * resolved, pae + 0.3 * pde


def train(network: Network, targets: list[Target], options: argparse.Namespace) -> None:
    """Train the head for the seconds given."""
    lessons: list[tuple[int, Lesson]] = []
    embedded = [embed(network, target) for target in targets]
    frames = [token_frames(target) for target in targets]
    for i, target in enumerate(targets):
        made = samples_of(network, target, embedded[i], options.seed + 100 * i, options.samples)
        lessons += [(i, lesson(target, frames[i][0], x)) for x in made]
        polymer = deviations(target, torch.stack(made[: options.samples]))[0]
        print(target.name, f"{len(made)} samples, full ones:", [f"{x:.2f}" for x in polymer.tolist()], flush=True)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad and name.startswith("confidence")}
    groups = [
        {"params": [p for name, p in trained.items() if (name in FAST) == fast], "times": 5.0 if fast else 1.0}
        for fast in (False, True)
    ]
    optimizer = torch.optim.AdamW(groups, lr=0, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    generator = torch.Generator().manual_seed(options.seed)
    start, said, step, recent = time.time(), time.time(), 0, []
    while (spent := time.time() - start) < options.seconds:
        rate = (
            options.rate * min(1.0, (step + 1) / 20) * (0.02 + 0.49 * (1 + math.cos(math.pi * spent / options.seconds)))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate * group["times"]
        i, taught = lessons[int(torch.randint(len(lessons), (), generator=generator))]
        with torch.autocast("cpu", torch.bfloat16):
            head = graph.confidence(network.confidence, targets[i].batch, embedded[i], taught.x)
        plddt, errors = loss_of(head, taught, targets[i], frames[i][1])
        optimizer.zero_grad()
        (plddt + errors).backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 5.0)
        optimizer.step()
        recent.append((plddt.item(), errors.item()))
        step += 1
        if time.time() - said > 20:
            said = time.time()
            mean = torch.tensor(recent).mean(0).tolist()
            print(f"{step} {spent:.0f}s plddt {mean[0]:.3f} pae and pde {mean[1]:.3f}", flush=True)
            recent.clear()


def main() -> None:
    """Train the confidence head and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that prepare.py wrote")
    parser.add_argument("--state", type=Path, required=True, help="state file of train.py")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint")
    parser.add_argument("--targets", nargs="+", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--samples", type=int, default=12, help="full samples per target; others come on top")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = new_network(options.seed)
    state = torch.load(options.state, weights_only=True)["network"]
    # what the checkpoint will hold is what the head is taught with
    known = {name: value.bfloat16().float() for name, value in state.items() if not name.startswith("confidence")}
    network.load_state_dict(network.state_dict() | known)
    train(network, [load_target(options.data, name) for name in options.targets], options)
    memorised = {name: json.loads((options.data / f"{name}.entities.json").read_text()) for name in options.targets}
    save_checkpoint(network, options.out, torch.bfloat16, memorised)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
