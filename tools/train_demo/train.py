"""Training of the trunk, which learns where tokens are, and then of the denoiser on the resting trunk.

Resumable: weights, optimiser, random state, steps and seconds are in the state file, written once a minute. Runs from
the files of prepare.py with torch and numpy alone.
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foldline.models import Batch
from foldline.sampler import Draws
from foldline.tensors import Features
from tools.train_demo import graph, losses
from tools.train_demo.model import SPEC, new_network

SIGMA = SPEC.sigma_data


@dataclass(frozen=True)
class Target:
    """One structure to memorise."""

    name: str
    features: Features
    batch: Batch
    x: Tensor  # [N_atom, 3] Å
    mask: Tensor  # bool [N_atom]: observed
    weight: Tensor  # [N_atom], of the aligned error
    anchor: Tensor  # [N_token, 3]: representative atoms, in 10 Å
    anchor_copy: Tensor  # the same with every chain at the place of the first one of its entity
    known: Tensor  # bool [N_token]: representative atom observed


def load_target(folder: Path, name: str) -> Target:
    """Read the files that prepare.py wrote."""
    features = Features.load(folder / f"{name}.features.safetensors")
    target = np.load(folder / f"{name}.target.npz")
    batch = Batch.of(features, Draws(1).ref_pos(features), "cpu", SPEC.max_msa)
    mask = torch.from_numpy(target["mask"])
    # AF3 SI eq. 4 weights nucleotides and ligands up; ligand atoms are told by the features
    weight = mask.float() * (1 + 3 * torch.from_numpy(features.is_ligand).float())
    rep, position = batch.rep_atom, batch.position
    anchor, known = torch.from_numpy(target["x"])[rep] / 10, mask[rep]
    keys = list(zip(position.entity_id.tolist(), position.residue_index.tolist(), strict=True))
    is_atom = torch.bincount(batch.atoms.to_token)[: batch.n_token] == 1
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    copy = torch.tensor([i if is_atom[i] else first[key] for i, key in enumerate(keys)])
    return Target(name, features, batch, torch.from_numpy(target["x"]), mask, weight, anchor, anchor[copy], known)


def noise_levels(n: int, generator: torch.Generator) -> Tensor:
    """Noise levels [n] in Å: lognormal around the levels at which folds form, one in six from the far end."""
    level = torch.exp(torch.randn(n, generator=generator) * 1.5 - 0.6) * SIGMA
    far = torch.exp(torch.empty(n).uniform_(math.log(60.0), math.log(4600.0), generator=generator))
    return torch.where(torch.rand(n, generator=generator) < 1 / 6, far, level).clamp(0.02, 4600.0)


def random_poses(x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Copies [n, N_atom, 3] of x, turned at random and moved by about 1 Å."""
    q = F.normalize(torch.randn(n, 4, generator=generator), dim=-1)
    w, i, j, k = q.unbind(-1)
    rows = [
        [1 - 2 * (j * j + k * k), 2 * (i * j - w * k), 2 * (i * k + w * j)],
        [2 * (i * j + w * k), 1 - 2 * (i * i + k * k), 2 * (j * k - w * i)],
        [2 * (i * k - w * j), 2 * (j * k + w * i), 1 - 2 * (i * i + j * j)],
    ]
    rotation = torch.stack([torch.stack(row, -1) for row in rows], -2)
    return x @ rotation.transpose(1, 2) + torch.randn(n, 1, 3, generator=generator)


@dataclass
class Shares:
    """What a target's draws share, kept without gradients between the visits that renew it."""

    pairs: list[Tensor] | None = None
    embedded: tuple[Tensor, Tensor, Tensor] | None = None
    made: graph.Shared | None = None
    visits: int = 0


class Training:
    """Network, optimiser and progress."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.targets = [load_target(options.data, name) for name in options.targets]
        self.network = new_network(options.seed)
        trained = [p for name, p in self.network.named_parameters() if p.requires_grad and "confidence" not in name]
        # where tokens are, read off s_inputs and s: heads of the training alone, which give every token a place early
        self.anchors = torch.nn.ModuleList([torch.nn.Linear(SPEC.c_s_inputs, 3), torch.nn.Linear(SPEC.c_s, 3)])
        trained += list(self.anchors.parameters())
        self.optimizer = torch.optim.AdamW(trained, lr=0, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
        self.trained = trained
        self.generator = torch.Generator().manual_seed(options.seed)
        self.shares = {target.name: Shares() for target in self.targets}
        self.step, self.seconds = 0, 0.0
        self.contacts, self.places = {}, {}
        self.recent: dict[str, list[tuple[float, float]]] = {target.name: [] for target in self.targets}
        if options.state.is_file():
            state = torch.load(options.state, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.anchors.load_state_dict(state["anchors"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.generator.set_state(state["generator"])
            self.step, self.seconds = state["step"], state["seconds"]
            print(f"resumed at step {self.step}, {self.seconds:.0f} s", flush=True)

    def save(self) -> None:
        """Write the state, atomically."""
        partial = self.options.state.with_suffix(".partial")
        state = {
            "network": self.network.state_dict(),
            "anchors": self.anchors.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, partial)
        partial.replace(self.options.state)

    def learning_rate(self) -> float:
        """Of each phase: warm-up, then half a cosine over its seconds."""
        place, total = self.options.place_seconds, self.options.seconds
        placing = self.seconds < place
        done, span = (self.seconds, place) if placing else (self.seconds - place, total - place)
        fade = 0.5 * (1 + math.cos(math.pi * min(1.0, done / span)))
        return self.options.rate * min(1.0, (done + 1) / 15) * (0.02 + 0.98 * fade)

    def place(self, target: Target, whole: bool) -> Tensor:
        """Losses on the trunk's results; z keeps no gradient, and is an earlier one, where not `whole`."""
        trunk, shares, loss = self.network.trunk, self.shares[target.name], torch.zeros(())
        s_inputs = graph.embed_inputs(trunk, target.batch)
        pairs = shares.pairs
        if pairs is None or whole:
            pairs = graph.pair_track(trunk, target.batch, torch.arange(2), s_inputs)
            logits = graph.distogram(self.network, pairs[-1]).float()
            loss = 0.3 * losses.distogram_loss(logits, 10 * target.anchor, target.known)
            shares.pairs = [z.detach() for z in pairs]
            self.contacts[target.name] = loss.item() / 0.3
        s = graph.single_track(trunk, s_inputs, pairs)
        rows = target.known
        errors = [
            (head(x).float() - place)[rows].square().mean()
            for head, x, place in zip(self.anchors, (s_inputs, s), (target.anchor_copy, target.anchor), strict=True)
        ]
        self.places[target.name] = [10 * (3 * error.item()) ** 0.5 for error in errors]
        return 2 * loss + 0.3 * errors[0] + errors[1]

    def loss(self, target: Target) -> Tensor:
        """Denoising loss of one visit to a target: the trunk rests, the conditioning is renewed every so often."""
        shares, n = self.shares[target.name], self.options.draws
        if shares.embedded is None:
            with torch.no_grad(), torch.autocast("cpu", enabled=False):
                shares.embedded = graph.trunk(self.network.trunk, target.batch, torch.arange(2))
        shared = shares.made
        if shared is None or shares.visits % self.options.renew_shared == 0:
            shared = graph.share(self.network.diffusion, target.batch, *shares.embedded)
            shares.made = shared.detach()
        shares.visits += 1
        level = noise_levels(n, self.generator)
        x = random_poses(target.x, n, self.generator)
        noisy = x + level[:, None, None] * torch.randn(x.shape, generator=self.generator)
        out = graph.denoise(self.network.diffusion, target.batch, noisy, level, shared)
        error = losses.aligned_error(out, x, target.weight)
        scale = (level**2 + SIGMA**2) / (level * SIGMA) ** 2
        observed = torch.nonzero(target.mask)[:, 0]
        rows = observed[torch.randperm(len(observed), generator=self.generator)[:320]]
        lddt = losses.smooth_lddt_loss(out, x, rows)
        scaled = (scale * error).mean()
        self.recent[target.name].append((scaled.item(), lddt.mean().item()))
        return 2 * scaled + lddt.mean()

    def place_loss(self, target: Target) -> Tensor:
        """Loss of one visit in the first phase."""
        shares = self.shares[target.name]
        shares.visits += 1
        self.recent[target.name].append((0.0, 0.0))
        return self.place(target, shares.visits % self.options.renew_trunk == 0)

    def heads(self, name: str) -> str:
        """The latest distogram loss and deviations in Å of the two anchor heads."""
        if name not in self.places:
            return ""
        return f"{self.contacts[name]:.2f} " + " ".join(f"{x:.1f}" for x in self.places.pop(name))

    def run(self) -> None:
        """Train until the seconds are used up."""
        started, saved, said = time.time() - self.seconds, time.time(), time.time()
        share = torch.tensor([float(x) for x in self.options.shares])
        while self.seconds < self.options.seconds:
            target = self.targets[int(torch.multinomial(share, 1, generator=self.generator))]
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.options.bf16):
                loss = self.place_loss(target) if self.seconds < self.options.place_seconds else self.loss(target)
            self.optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.trained, 5.0)
            if torch.isfinite(norm):
                self.optimizer.step()
            self.step += 1
            self.seconds = time.time() - started
            if time.time() - said > 30:
                said = time.time()
                parts = []
                for name, values in self.recent.items():
                    if values:
                        mean = np.array(values).mean(0)
                        parts.append(f"{name} {mean[0]:.3f} {1 - mean[1]:.3f} {self.heads(name)}")
                        values.clear()
                print(f"{self.step} {self.seconds:.0f}s {self.learning_rate():.1e} | " + " | ".join(parts), flush=True)
            if time.time() - saved > 60:
                saved = time.time()
                self.save()
        self.save()


def main() -> None:
    """Train and write the state."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that prepare.py wrote")
    parser.add_argument("--state", type=Path, required=True, help="state file: resumed where it is there")
    parser.add_argument("--targets", nargs="+", required=True)
    parser.add_argument("--shares", nargs="+", required=True, help="how often each target is drawn")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--renew-trunk", type=int, default=16, help="visits between passes of the pair track")
    parser.add_argument("--renew-shared", type=int, default=4, help="visits between single tracks and conditionings")
    parser.add_argument("--place-seconds", type=float, default=0, help="of --seconds, for the trunk alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    Training(options).run()


if __name__ == "__main__":
    main()
