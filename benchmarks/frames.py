"""Frames by predicted positions and the clash check at 42,000 atoms: peak memory, seconds, equality with brute force.

    python benchmarks/frames.py [--atoms 42000] [--samples 5] [--write benchmarks/results/frames.txt]

Every case runs in a process of its own. "live" counts the bytes of tensors (a dispatch mode) or of numpy arrays
(tracemalloc) that the call itself held; "resident" is how far the process grew. Bound: 200 MB above the positions.
Brute force, as upstream has it, holds three float arrays of N_atom x N_atom: 42,000 atoms are 21 GB.
"""

import argparse
import math
import multiprocessing
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from foldline.confidence.clash import clash_counts, has_clash
from foldline.confidence.frames import has_frame, nearest_two
from foldline.engine.memory_bench import LiveBytes

BOUND = 200e6
Case = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # positions, chains, tokens of atoms, standard


def complex_of(kind: str, n: int, samples: int) -> Case:
    """Positions at the density of a protein, chains, tokens, and which tokens have a frame of their own."""
    rng = np.random.default_rng(0)
    atom_in = np.arange(n)
    if kind == "proteins and ligands":  # 8 chains of residues of 8 atoms, the last fortieth single atoms of 30 each
        polymer = n - n // 40
        chain = np.where(atom_in < polymer, atom_in * 8 // polymer, 8 + (atom_in - polymer) // 30)
        token = np.where(atom_in < polymer, atom_in // 8, polymer // 8 + atom_in - polymer)
    elif kind == "8 chains of single atoms":
        chain, token = atom_in * 8 // n, atom_in
    else:
        chain, token = np.zeros(n, int) if kind == "one chain of single atoms" else atom_in * 2 // n, atom_in
    size = np.bincount(token)
    x = rng.uniform(0, (n / 0.05) ** (1 / 3), (samples, n, 3))
    if kind == "all atoms at one place":
        x[:] = 0
    standard = torch.from_numpy(size > 1)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(chain), torch.from_numpy(token), standard


def resident(name: str) -> int:
    """VmRSS or VmHWM of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise LookupError(name)


def measured(call: Callable[[], object]) -> tuple[float, int]:
    """Seconds, and bytes by which the process grew at its peak."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident
    before, start = resident("VmRSS"), time.perf_counter()
    call()
    return time.perf_counter() - start, max(0, resident("VmHWM") - before)


def frames_case(kind: str, n: int, samples: int) -> tuple[str, float, int, int]:
    """One row: what, seconds, live bytes, resident bytes."""
    torch.set_num_threads(1)
    x, chain, token, standard = complex_of(kind, n, samples)
    mask = torch.ones(n, dtype=torch.bool)
    has_frame(x[:, :50], chain[:50], mask[:50], token[:50], standard)  # loads what a first call loads
    seconds, grown = measured(lambda: has_frame(x, chain, mask, token, standard))
    with LiveBytes() as live:
        has_frame(x[:1], chain, mask, token, standard)
    return f"frames, {kind}, {samples} samples", seconds, live.peak.get("cpu", 0), grown


def clash_case(kind: str, n: int, _samples: int) -> tuple[str, float, int, int]:
    """One row for the clash check of one sample."""
    positions, chain, _, _ = complex_of(kind, n, 1)
    x, chains, polymer = positions[0].numpy(), chain.numpy(), np.ones(n, bool)
    has_clash(x[:50], chains[:50], polymer[:50])
    seconds, grown = measured(lambda: has_clash(x, chains, polymer))
    tracemalloc.start()
    has_clash(x, chains, polymer)
    live = tracemalloc.get_traced_memory()[1]
    return f"clashes, {kind}, 1 sample", seconds, live, grown


def equal_to_brute_force() -> tuple[int, int]:
    """Cases compared and cases that differ, for neighbours and for clash counts: scattered, clumped, on a lattice."""
    different = count = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 400))
        x = rng.normal(0, 8, (n, 3))
        if seed % 4 == 1:
            x = x[rng.integers(0, n, n)] + rng.normal(0, 1e-3, (n, 3))
        elif seed % 4 == 2:
            x = np.round(x / 2) * 1.1
        elif seed % 4 == 3 and seed % 8 == 3:
            x[:] = 0
        chain, mask = rng.integers(0, 1 + seed % 9, n), rng.random(n) < 0.9
        positions = x.astype(np.float32)
        whole, chains, masks = torch.from_numpy(positions), torch.from_numpy(chain), torch.from_numpy(mask)
        d = torch.sum(1e-8 + (whole[:, None] - whole) ** 2, -1) ** 0.5  # as upstream writes it
        good = masks & masks[:, None] & (chains == chains[:, None]) & ~torch.eye(n, dtype=torch.bool)
        padded = torch.cat([torch.where(good, d, math.inf), torch.full((n, 2), math.inf)], 1)
        order = padded.argsort(dim=1, stable=True)[:, :2]
        wanted = torch.where(padded.gather(1, order).isfinite(), order, -1)[masks]
        found = nearest_two(whole, chains, masks, masks.nonzero()[:, 0])
        near = np.triu(np.square(positions[:, None] - positions).sum(-1) < np.float32(1.1) ** 2, 1)
        pairs: dict[tuple[int, int], int] = {}
        for i, j in zip(*np.nonzero(near & (chain != chain[:, None])), strict=True):
            key = (min(int(chain[i]), int(chain[j])), max(int(chain[i]), int(chain[j])))
            pairs[key] = pairs.get(key, 0) + 1
        different += not torch.equal(found, wanted) or clash_counts(positions, chain) != pairs
        count += 1
    return count, different


def main() -> int:
    """Print the table; 1 when a case passes the bound or differs from brute force."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, default=42_000)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    cases = [
        (frames_case, "proteins and ligands", args.samples),
        (frames_case, "8 chains of single atoms", args.samples),
        (frames_case, "one chain of single atoms", 1),
        (frames_case, "all atoms at one place", 1),
        (clash_case, "proteins and ligands", 1),
        (clash_case, "8 chains of single atoms", 1),
        (clash_case, "one chain of single atoms", 1),
        (clash_case, "all atoms at one place", 1),
    ]
    lines = [f"{args.atoms} atoms, one thread of a CPU; MB above the positions (bound: {BOUND / 1e6:.0f})", ""]
    lines.append(f"{'case':<52} {'seconds':>9} {'live MB':>9} {'resident MB':>12}")
    worst = 0
    for case, kind, samples in cases:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            what, seconds, live, grown = pool.apply(case, (kind, args.atoms, samples))
        lines.append(f"{what:<52} {seconds:9.3f} {live / 1e6:9.1f} {grown / 1e6:12.1f}")
        worst = max(worst, live, grown)
    count, different = equal_to_brute_force()
    lines += ["", f"equal to brute force: {count - different} of {count} cases of up to 400 atoms"]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if args.write:
        args.write.parent.mkdir(parents=True, exist_ok=True)
        args.write.write_text(text)
    return int(worst > BOUND or different > 0)


if __name__ == "__main__":
    raise SystemExit(main())
