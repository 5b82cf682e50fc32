"""The alignments of all chains side by side: paired rows, then unpaired ones, one column per token.

Knows the alignments of the chains and which residue a token belongs to; knows no files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foldline.chem.residues import GAP_RESTYPE, UNKNOWN_RESTYPE
from foldline.features.msa import MAX_ROWS, N_CLASS, SequenceMsa
from foldline.features.pairing import pair_rows


@dataclass(frozen=True)
class MsaArrays:
    """The network's alignment. `paired_rows` is how many of the rows come first because they are paired."""

    msa: np.ndarray  # int8 [N_msa, N_token]
    deletions: np.ndarray  # uint8 [N_msa, N_token]
    profile: np.ndarray  # float32 [N_token, 32]
    deletion_mean: np.ndarray  # float32 [N_token]
    paired_rows: int


@dataclass(frozen=True)
class _Stack:
    """The two blocks of one sequence after pairing; copies of a sequence share it."""

    paired: np.ndarray
    paired_deletions: np.ndarray
    rows: np.ndarray
    deletions: np.ndarray


def needs_pairing(kinds: Sequence[str], sequences: Sequence[str]) -> bool:
    """Whether rows are paired: with two or more different protein sequences (Protenix: msa_featurizer.py:185-190)."""
    return len({sequence for kind, sequence in zip(kinds, sequences, strict=True) if kind == "protein"}) > 1


def msa_columns(
    chains: Sequence[SequenceMsa | None], token_chain: np.ndarray, token_residue: np.ndarray, *, pairing: bool
) -> MsaArrays:
    """The network's alignment from the alignment of every chain (None = a ligand).

    `token_chain` [N_token] is the chain of a token, rising; `token_residue` [N_token] the 0-based residue within it.
    Quirks of Protenix that its weights have seen (msa_featurizer.py:183-385): where nothing is paired, the query row
    comes twice; a row that is all gap in a chain that is no protein repeats the query there; a ligand's columns are
    unknown in every row.
    """
    stacks = _stacks_of(chains, pairing)
    n_paired = max((len(stack.paired) for stack in stacks.values()), default=1)
    n_rows = max((min(len(stack.rows), MAX_ROWS - n_paired) for stack in stacks.values()), default=1)
    n_token = len(token_chain)
    msa = np.full((n_paired + n_rows, n_token), GAP_RESTYPE, np.int8)
    deletions = np.zeros((n_paired + n_rows, n_token), np.uint8)
    profile = np.zeros((n_token, N_CLASS), np.float32)
    deletion_mean = np.zeros(n_token, np.float32)
    bounds = np.searchsorted(token_chain, np.arange(len(chains) + 1))
    for chain, low, high in zip(chains, bounds[:-1], bounds[1:], strict=True):
        if chain is None:
            msa[:, low:high] = UNKNOWN_RESTYPE
            profile[low:high, UNKNOWN_RESTYPE] = 1
            continue
        stack, at = stacks[id(chain)], token_residue[low:high]
        end = min(n_paired + len(stack.rows), MAX_ROWS)
        for out, top, bottom in ((msa, stack.paired, stack.rows), (deletions, stack.paired_deletions, stack.deletions)):
            np.take(top, at, axis=1, out=out[:n_paired, low:high], mode="clip")
            np.take(bottom[: end - n_paired], at, axis=1, out=out[n_paired:end, low:high], mode="clip")
        if chain.kind != "protein":
            empty = (msa[:, low:high] == GAP_RESTYPE).all(axis=1)
            msa[empty, low:high] = msa[0, low:high]
        profile[low:high] = chain.profile[at]
        deletion_mean[low:high] = chain.deletion_mean[at]
    return MsaArrays(msa, deletions, profile, deletion_mean, n_paired)


def _stacks_of(chains: Sequence[SequenceMsa | None], pairing: bool) -> dict[int, _Stack]:
    """The stack of every distinct alignment, by its identity."""
    unique = {id(chain): chain for chain in chains if chain is not None}
    if not pairing:
        return {key: _Stack(c.paired[:1], c.paired_deletions[:1], c.rows, c.deletions) for key, c in unique.items()}
    lone = np.array([b""], object)
    selected = pair_rows([lone if chain is None else chain.species for chain in chains], limit=MAX_ROWS // 2)
    column = {id(chain): index for index, chain in enumerate(chains)}
    stacks = {key: _paired_stack(chain, selected[:, column[key]]) for key, chain in unique.items()}
    kept = np.any([(stack.paired != GAP_RESTYPE).any(axis=1) for stack in stacks.values()], axis=0)
    if kept.all():
        return stacks
    return {
        key: replace(s, paired=s.paired[kept], paired_deletions=s.paired_deletions[kept]) for key, s in stacks.items()
    }


def _paired_stack(chain: SequenceMsa, selected: np.ndarray) -> _Stack:
    """The paired rows of a chain, -1 = a gap row, and its unpaired rows without those that are paired."""
    gap = np.full((1, chain.paired.shape[1]), GAP_RESTYPE, np.int8)
    paired = np.concatenate([chain.paired, gap])[selected]
    paired_deletions = np.concatenate([chain.paired_deletions, np.zeros_like(gap, np.uint8)])[selected]
    seen = set(_row_bytes(paired))
    kept = [index for index, row in enumerate(_row_bytes(chain.rows)) if row not in seen]
    return _Stack(paired, paired_deletions, chain.rows[kept], chain.deletions[kept])


def _row_bytes(rows: np.ndarray) -> list[bytes]:
    width, text = rows.shape[1], rows.tobytes()
    return [text[start : start + width] for start in range(0, len(text), width)]
