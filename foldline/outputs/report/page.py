"""The self-contained page of a result: its numbers as compact JSON, in a template with its scripts.

Knows what the scripts in `page/` read, not where the numbers come from. Nothing in the page is fetched from anywhere.
"""

import base64
import html
import json
import math
import zlib
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from foldline import __version__
from foldline.errors import WriteError
from foldline.outputs.layout import write_atomically
from foldline.outputs.report.confidences import PAE_STEPS, PAE_UNKNOWN, pooled
from foldline.outputs.report.record import Record, SampleArrays, read_record

MAX_CELLS = 2_400_000  # of all PAE maps of a page together
MAX_SHOWN = 20  # samples with a structure and a PAE map
MAX_SHOWN_ATOMS = 1_000_000  # of all of them together; five are always shown
_SCRIPTS = ("data", "structure", "pae", "tracks", "tables", "page")


def write_report(directory: Path) -> Path:
    """Write `<job>_report.html` into the folder of a finished job.

    Raises:
        InputError: the folder holds no whole result, or its files disagree; nothing is written.
        WriteError: the file cannot be written.
    """
    record = shown_record(directory)
    path = record.directory / f"{record.file_name}_report.html"
    page = page_of(record).encode()
    try:
        write_atomically(path, [page])
    except OSError as fault:
        raise WriteError(
            f"{path} cannot be written ({fault.strerror or fault}): check the folder's permissions and its free"
            " space, or make the report of a copy"
        ) from fault
    return path


def shown_record(directory: Path) -> Record:
    """The record of a result with as many samples and as fine PAE maps as a page holds."""
    count = 0

    def n_arrays(n_sample: int, n_atom: int) -> int:
        nonlocal count
        count = min(n_sample, MAX_SHOWN, max(5, MAX_SHOWN_ATOMS // n_atom))
        return count

    return read_record(directory, lambda pae: pooled(pae, pool_factor(len(pae), count)), n_arrays)


def pool_factor(n_token: int, n_sample: int) -> int:
    """Tokens along an edge of a cell of the PAE maps, so that all maps together have at most MAX_CELLS cells."""
    return max(1, math.ceil(math.sqrt(n_sample * n_token**2 / MAX_CELLS)))


def page_of(record: Record) -> str:
    """The page."""
    folder = files("foldline.outputs.report")
    page = folder / "page"
    licence = (folder / "3Dmol-LICENSE.txt").read_text(encoding="utf-8")
    return Template((page / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(record.name),
        style=(page / "page.css").read_text(encoding="utf-8"),
        viewer=(folder / "3Dmol-min.js").read_text(encoding="utf-8"),
        scripts="\n".join((page / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS),
        licence=html.escape(licence),
        record=script_safe(contents(record)),
    )


def script_safe(value: object) -> str:
    """JSON that cannot end a script element or open a comment, whatever strings are in it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def packed(data: bytes | np.ndarray) -> str:
    """Bytes (an array's in little-endian order), deflated, as base64."""
    if isinstance(data, np.ndarray):
        data = np.ascontiguousarray(data.astype(data.dtype.newbyteorder("<"))).tobytes()
    return base64.b64encode(zlib.compress(data, 9)).decode()


def contents(record: Record) -> dict[str, Any]:
    """What the scripts read, as plain values; large arrays are packed."""
    extent = max((float(np.abs(arrays.coordinates).max()) for arrays in record.arrays), default=1.0)
    scale = max(extent, 1.0) / 32767
    factor = -(-record.n_token // len(record.arrays[0].pae))
    return {
        "foldline": __version__,
        "name": record.name,
        "run": dict(record.run),
        "warnings": [str(text) for text in record.run.get("warnings", [])],
        "n_token": record.n_token,
        "chains": _chains(record),
        "topology": packed(json.dumps(_topology(record), separators=(",", ":")).encode()),
        "depth": packed(record.token_depth()),
        "scale": scale,
        "pae": {"size": len(record.arrays[0].pae), "pool": factor, "steps": PAE_STEPS, "unknown": PAE_UNKNOWN},
        "samples": [
            vars(scores) | (_arrays(record.arrays[number], scale) if number < len(record.arrays) else {})
            for number, scores in enumerate(record.scores)
        ],
        "strips": [_strip(record.token_plddt(number)) for number in range(len(record.arrays))],
    }


def _chains(record: Record) -> list[dict[str, Any]]:
    """Chains with the range of their tokens and what their alignment is."""
    s, chain_of_token = record.structure, record.structure.res_chain[record.token_residue]
    found = []
    for chain, (name, kind) in enumerate(zip(s.chain_id, s.chain_kind, strict=True)):
        tokens = np.flatnonzero(chain_of_token == chain)
        depth = record.depth.get(name)
        found.append(
            {
                "id": name,
                "kind": kind,
                "first": int(tokens[0]),
                "stop": int(tokens[-1]) + 1,
                "residues": int((s.res_chain == chain).sum()),
                "components": list(dict.fromkeys(n for n, c in zip(s.res_name, s.res_chain, strict=True) if c == chain))
                if kind == "ligand"
                else [],
                "rows": depth.rows if depth else 0,
                "msa": depth.note if depth else "",
            }
        )
    return found


def _topology(record: Record) -> dict[str, Any]:
    """Residues, atoms and bonds as columns; names as indices into a table."""
    s = record.structure
    names, name_of_atom = np.unique(np.array(s.atom_name), return_inverse=True)
    elements, element_of_atom = np.unique(np.array(s.element), return_inverse=True)
    return {
        "res_chain": s.res_chain.tolist(),
        "res_name": list(s.res_name),
        "res_id": s.res_id.tolist(),
        "atom_res": np.diff(s.atom_res, prepend=0).tolist(),
        "atom_token": np.diff(record.atom_token, prepend=0).tolist(),
        "names": names.tolist(),
        "atom_name": name_of_atom.tolist(),
        "elements": elements.tolist(),
        "element": element_of_atom.tolist(),
        "bonds": np.diff(s.bonds, axis=0, prepend=np.zeros((1, 3), int)).ravel().tolist(),
    }


def _arrays(arrays: SampleArrays, scale: float) -> dict[str, str]:
    """Coordinates as differences along the atoms in units of `scale`, pLDDT in hundredths, PAE by row differences."""
    places = np.rint(arrays.coordinates / scale).astype(np.int32).T
    steps = np.diff(places, axis=1, prepend=0).astype(np.int16)  # wraps round, and back when they are summed
    plddt = np.rint(arrays.atom_plddt * 100).astype(np.uint16)
    pae = np.diff(arrays.pae, axis=0, prepend=np.zeros((1, arrays.pae.shape[1]), np.uint8))
    return {
        "xyz": packed(_split(steps.ravel())),
        "plddt": packed(_split(plddt)),
        "pae": packed(pae),
        "secondary": arrays.secondary,
    }


def _split(values: np.ndarray) -> np.ndarray:
    """16-bit values as all low bytes, then all high bytes: that deflates better."""
    return values.astype("<i2" if values.dtype.kind == "i" else "<u2").view(np.uint8).reshape(-1, 2).T.copy()


def _strip(token_plddt: np.ndarray, width: int = 160) -> str:
    """Mean pLDDT in at most `width` pieces of the token axis, packed: the small bar of a sample."""
    edges = np.linspace(0, len(token_plddt), min(width, len(token_plddt)) + 1).astype(int)
    means = np.add.reduceat(token_plddt, edges[:-1]) / np.diff(edges)
    return packed(np.rint(means).astype(np.uint8))
