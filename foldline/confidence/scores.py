"""pTM, ipTM and the other scores of one sample, from error probabilities summed over each chain as they stream.

A pTM-like score needs, for every row, the distribution of errors summed over the tokens of a chain; so [N_token,
N_chain, n_bin] is kept and the 64-bin logits of the pair never are. One table serves every normalisation length.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foldline.confidence.clash import has_clash
from foldline.layers.heads import ConfidenceHead, bin_centers
from foldline.models.batch import Batch
from foldline.models.spec import ModelSpec
from foldline.ops import Ops
from foldline.tensors import Confidences, Features

EPS = 1e-8


@dataclass(frozen=True)
class ErrorSums:
    """What the error heads of one sample leave behind, on the host."""

    pae: np.ndarray  # float32 [N_token, N_token], Å
    pde: np.ndarray  # float32 [N_token, N_token], Å
    chain_bins: np.ndarray  # float32 [N_token, N_chain, n_bin]: PAE probabilities summed over the columns of a chain


def reduce_errors(head: ConfidenceHead, z: Tensor, batch: Batch, spec: ModelSpec, n_token: int, ops: Ops) -> ErrorSums:
    """Stream the PAE and PDE heads over z [N_token, N_token, c_z] after the stack; padding is left out.

    Args:
        head: confidence head.
        z: pair representation of the sample.
        batch: the job.
        spec: bins.
        n_token: true number of tokens; padding is at the end.
        ops: work sizes.
    """
    centers = bin_centers(0.0, spec.pae_max, spec.n_pae, z.device)
    asym = batch.position.asym_id[:n_token].long()
    n_chain = int(asym.max().item()) + 1
    member = torch.nn.functional.one_hot(asym, n_chain).float().t()
    pae = np.empty((n_token, n_token), np.float32)
    pde = np.empty((n_token, n_token), np.float32)
    chain_bins = np.empty((n_token, n_chain, spec.n_pae), np.float32)
    for block in head.error_rows(z, ops):
        stop = min(block.rows.stop, n_token)
        if stop <= block.rows.start:
            break
        rows, count = slice(block.rows.start, stop), stop - block.rows.start
        p = block.pae[:count, :n_token]
        pae[rows] = (p @ centers).cpu().numpy()
        pde[rows] = (block.pde[:count, :n_token] @ centers).cpu().numpy()
        chain_bins[rows] = torch.matmul(member, p).cpu().numpy()
    return ErrorSums(pae, pde, chain_bins)


def confidences(
    features: Features,
    sums: ErrorSums,
    atom_plddt: np.ndarray,
    x: np.ndarray,
    contact_probs: np.ndarray,
    spec: ModelSpec,
) -> Confidences:
    """All scores of one sample, with the definitions of Protenix (protenix/model/sample_confidence.py:46-223).

    Undefined scores are NaN: ipTM of a single chain, pTM of a chain without frames. The diagonal of chain_pair_iptm is
    the chain's pTM, as AlphaFold 3 writes it.

    Args:
        features: the job; padding is ignored.
        sums: reduced error heads.
        atom_plddt: [N_atom], 0 to 1.
        x: positions [N_atom, 3], Å.
        contact_probs: [N_token, N_token].
        spec: bins.
    """
    n_token, n_atom = features.n_token, features.n_atom
    asym = features.asym_id[:n_token]
    frame = features.has_frame[:n_token]
    chains = [np.flatnonzero(asym == c) for c in range(int(asym.max()) + 1)]
    tm = _TmScores(sums.chain_bins, chains, frame, spec)
    n_chain = len(chains)
    pair = np.full((n_chain, n_chain), np.nan, np.float32)
    for a in range(n_chain):
        pair[a, a] = tm.ptm([a])
        for b in range(a + 1, n_chain):
            pair[a, b] = pair[b, a] = tm.iptm([a, b])
    ptm, iptm = tm.ptm(list(range(n_chain))), tm.iptm(list(range(n_chain)))
    chain_plddt = _mean_by(atom_plddt, asym[features.atom_to_token[:n_atom]], n_chain)
    polymer = ~features.is_ligand[:n_atom]
    clash = has_clash(x, asym[features.atom_to_token[:n_atom]], polymer)
    score = 0.8 * np.nan_to_num(iptm) + 0.2 * np.nan_to_num(ptm) - 100.0 * clash
    return Confidences(
        atom_plddt=100 * atom_plddt.astype(np.float32),
        pae=sums.pae,
        pde=sums.pde,
        plddt=100 * float(atom_plddt.mean()),
        ptm=float(ptm),
        iptm=float(iptm),
        gpde=float((sums.pde * contact_probs).sum(dtype=np.float64) / contact_probs.sum(dtype=np.float64)),
        chain_ptm=np.diagonal(pair).copy(),
        chain_iptm=_chain_iptm(pair, [bool(frame[c].any()) for c in chains]),
        chain_pair_iptm=pair,
        chain_pair_pae_min=np.array([[sums.pae[np.ix_(a, b)].min() for b in chains] for a in chains], np.float32),
        chain_plddt=100 * chain_plddt,
        has_clash=clash,
        ranking_score=float(score),
    )


class _TmScores:
    """pTM and ipTM of any set of chains from chain-wise sums of error probabilities."""

    def __init__(self, chain_bins: np.ndarray, chains: list[np.ndarray], frame: np.ndarray, spec: ModelSpec) -> None:
        self.chain_bins, self.chains, self.frame = chain_bins, chains, frame
        self.centers = bin_centers(0.0, spec.pae_max, spec.n_pae).numpy().astype(np.float64)

    def _weights(self, n: int) -> np.ndarray:
        """Value of an error of each bin for `n` tokens (TM-score normalisation)."""
        d0 = 1.24 * (max(n, 19) - 15) ** (1 / 3) - 1.8
        return 1 / (1 + (self.centers / d0) ** 2)

    def ptm(self, which: list[int]) -> float:
        """Best framed row's mean over all tokens of the chains; NaN without frames."""
        n = sum(len(self.chains[c]) for c in which)
        rows = np.concatenate([self.chains[c] for c in which])
        rows = rows[self.frame[rows]]
        if not len(rows):
            return float("nan")
        total = self.chain_bins[np.ix_(rows, np.array(which))].sum(1, dtype=np.float64)
        return float((total @ self._weights(n)).max() / n)

    def iptm(self, which: list[int]) -> float:
        """Best framed row's mean over the tokens of the other chains; NaN for one chain or without frames."""
        n = sum(len(self.chains[c]) for c in which)
        weights, best = self._weights(n), []
        for c in which:
            rows = self.chains[c][self.frame[self.chains[c]]]
            others = [o for o in which if o != c]
            if len(rows) and others:
                total = self.chain_bins[np.ix_(rows, np.array(others))].sum(1, dtype=np.float64)
                best.append((total @ weights).max() / (EPS + n - len(self.chains[c])))
        return float(max(best)) if best else float("nan")


def _chain_iptm(pair: np.ndarray, framed: list[bool]) -> np.ndarray:
    """Mean ipTM over the ordered pairs (i, j) that hold the chain and whose first chain has frames; NaN without any."""
    n = len(framed)
    out = np.full(n, np.nan, np.float32)
    for c in range(n):
        values = [pair[i, j] for i in range(n) for j in range(n) if c in (i, j) and i != j and framed[i]]
        if values:
            out[c] = np.mean(values)
    return out


def _mean_by(values: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    """Mean of `values` in each of `n` groups, float32 [n]."""
    return (np.bincount(group, values, n) / np.bincount(group, minlength=n)).astype(np.float32)
