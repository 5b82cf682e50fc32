"""Small AlphaFold 3 jobs, whose proteins choose to have no alignment unless one is given."""

from typing import Any


def protein(sequence: str = "MKTAYIAK", ids: str | list[str] = "A", **more: Any) -> dict[str, Any]:
    return {"protein": {"id": ids, "sequence": sequence, "unpairedMsa": "", "pairedMsa": "", "templates": [], **more}}


def rna(sequence: str, ids: str = "R", **more: Any) -> dict[str, Any]:
    return {"rna": {"id": ids, "sequence": sequence, "unpairedMsa": "", **more}}


def dna(sequence: str, ids: str = "D", **more: Any) -> dict[str, Any]:
    return {"dna": {"id": ids, "sequence": sequence, **more}}


def ccd(*codes: str, ids: str | list[str] = "L") -> dict[str, Any]:
    return {"ligand": {"id": ids, "ccdCodes": list(codes)}}


def smiles(text: str, ids: str | list[str] = "L") -> dict[str, Any]:
    return {"ligand": {"id": ids, "smiles": text}}


def job(*sequences: dict[str, Any], **top: Any) -> dict[str, Any]:
    """A job of one protein, or of the given chains."""
    base = {"name": "job", "modelSeeds": [1], "dialect": "alphafold3", "version": 4}
    return base | {"sequences": list(sequences) or [protein()]} | top


def server_job(*sequences: dict[str, Any], **top: Any) -> dict[str, Any]:
    """A job of the AlphaFold Server."""
    return {"name": "job", "modelSeeds": ["7"], "sequences": list(sequences)} | top
