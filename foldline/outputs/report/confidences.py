"""The full confidences of a sample, read back. Knows the file of `outputs.confidences`, not what a score means.

The two matrices are cut out of the text and the PAE is read row by row: 5,120 tokens (250 MB) need little memory.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foldline.errors import InputError
from foldline.inputs.messages import parse_json
from foldline.outputs.report.folder import read_bytes

PAE_STEPS = 8  # steps of the quantised PAE per Å
PAE_TOP = 254  # the largest value, 31.75 Å and above
PAE_UNKNOWN = 255
_END = re.compile(rb"\]\s*\]")
_BETWEEN = re.compile(rb"\]\s*,\s*")


@dataclass(frozen=True)
class FullConfidences:
    """Per atom and per token of one sample."""

    atom_plddt: np.ndarray  # float32 [N_atom], 0-100
    atom_chain: tuple[str, ...]
    pae: np.ndarray  # uint8 [N_token, N_token], eighths of Å, PAE_UNKNOWN where undefined; row = frame
    token_chain: tuple[str, ...]
    token_res: tuple[int, ...]


def read_confidences(path: Path) -> FullConfidences:
    """Read `<job>_..._confidences.json`.

    Raises:
        InputError: keys or the PAE are missing, or sizes do not agree; it names the file.
    """
    text = read_bytes(path)
    text, _ = _cut(text, b"contact_probs")
    text, matrix = _cut(text, b"pae")
    rest = parse_json(text, str(path))
    keys = ("atom_plddts", "atom_chain_ids", "token_chain_ids", "token_res_ids")
    missing = [key for key in keys if not isinstance(rest, dict) or not isinstance(rest.get(key), list)]
    if missing or not isinstance(rest, dict):
        raise _bad(path, f"{', '.join(missing)} missing")
    if matrix is None:
        raise InputError('has no PAE (key "pae"), which a report shows: run foldline predict again', source=str(path))
    try:
        plddt = np.array(rest["atom_plddts"], np.float32)
        full = FullConfidences(
            plddt,
            tuple(map(str, rest["atom_chain_ids"])),
            _matrix(matrix),
            tuple(map(str, rest["token_chain_ids"])),
            tuple(map(int, rest["token_res_ids"])),
        )
    except (ValueError, TypeError) as fault:
        raise _bad(path, str(fault)) from fault
    n_token = len(full.token_chain)
    if plddt.ndim != 1 or not np.isfinite(plddt).all():
        raise _bad(path, "a pLDDT is no number")
    if full.pae.shape != (n_token, n_token) or len(full.token_res) != n_token or len(full.atom_chain) != len(plddt):
        rows, columns = full.pae.shape
        raise InputError(
            f"disagrees with itself: a PAE of {rows} x {columns} for {n_token} tokens, {len(plddt)} values of pLDDT for"
            f" {len(full.atom_chain)} atoms; run foldline predict again",
            source=str(path),
        )
    return full


def quantised(pae: np.ndarray) -> np.ndarray:
    """PAE in Å as uint8 eighths of Å; what is above 31.75 becomes that, NaN becomes PAE_UNKNOWN."""
    known = np.isfinite(pae)
    steps = np.rint(np.where(known, pae, 0) * PAE_STEPS).clip(0, PAE_TOP)
    return np.where(known, steps, PAE_UNKNOWN).astype(np.uint8)


def pooled(pae: np.ndarray, factor: int) -> np.ndarray:
    """Means over squares of `factor` x `factor` tokens of a quantised PAE, at the far edges over what is there."""
    if factor == 1:
        return pae
    known = pae != PAE_UNKNOWN
    total, count = np.where(known, pae, 0).astype(np.float64), known.astype(np.float64)
    starts = np.arange(0, len(pae), factor)
    for axis in (0, 1):
        total, count = np.add.reduceat(total, starts, axis=axis), np.add.reduceat(count, starts, axis=axis)
    means = np.rint(total / np.maximum(count, 1))
    return np.where(count > 0, means, PAE_UNKNOWN).astype(np.uint8)


def _cut(text: bytes, key: bytes) -> tuple[bytes, bytes | None]:
    """The text with null in place of the matrix of `key`, and the matrix without its outer brackets, or None."""
    found = re.search(rb'"' + key + rb'"\s*:\s*\[(?=\s*\[)', text)
    end = None if found is None else _END.search(text, found.end())
    if found is None or end is None:
        return text, None
    return text[: found.end() - 1] + b"null" + text[end.end() :], text[found.end() : end.start()]


def _matrix(text: bytes) -> np.ndarray:
    """Quantised rows. Raises ValueError where the text is no matrix of numbers and nulls."""
    rows = [quantised(np.array(json.loads(row + b"]"), np.float32)) for row in _BETWEEN.split(text)]
    if len({row.shape for row in rows}) != 1 or rows[0].ndim != 1:
        raise ValueError("rows of the PAE differ in length")
    return np.stack(rows)


def _bad(path: Path, why: str) -> InputError:
    return InputError(f"is not a file of full confidences ({why}): run foldline predict again", source=str(path))
