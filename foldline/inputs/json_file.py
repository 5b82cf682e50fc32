"""A JSON file to jobs: one job or a list of them, each of either dialect, told by `dialect` or by its keys."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foldline.errors import InputError
from foldline.inputs import af3_json, server_json
from foldline.inputs.faults import Faults, shown
from foldline.inputs.foreign import refuse_foreign
from foldline.inputs.job import Job
from foldline.inputs.messages import parse_json


def jobs_from_json(
    data: bytes | str, *, source: str = "", folder: Path | None = None, repair: Sequence[str] = ()
) -> tuple[list[Job], list[InputError]]:
    """The jobs of a JSON text and the faults of those that cannot be read; a bad job of a list does not hurt others.

    `source` names the text in errors; `folder` is where relative paths start (None: the current folder); `repair` has
    what is mended (`config.REPAIRS`).
    """
    try:
        value = parse_json(data, source)
    except InputError as fault:
        return [], [fault]
    several = isinstance(value, list)
    items = value if isinstance(value, list) else [value]
    if not items:
        return [], [InputError("the list of jobs is empty: write a job into it", path="$", source=source)]
    jobs: list[Job] = []
    errors: list[InputError] = []
    for i, item in enumerate(items):
        faults = Faults(source, f"$[{i}]" if several else "$", repair=repair)
        job = _job(item, faults, folder, several)
        if job is not None:
            jobs.append(job)
        errors += faults.errors
    return jobs, errors


def _job(raw: object, faults: Faults, folder: Path | None, in_list: bool) -> Job | None:
    if not isinstance(raw, dict):
        faults.add(
            (), f"{shown(raw)} stands where a job belongs: a job is an object with name, sequences and modelSeeds"
        )
        return None
    dialect = raw.get("dialect")
    if dialect != af3_json.DIALECT and refuse_foreign(raw, faults):
        return None
    if dialect is None:
        dialect = server_json.DIALECT if _server_keys(raw) or in_list and not _af3_keys(raw) else af3_json.DIALECT
    if dialect == af3_json.DIALECT:
        return af3_json.job_from_object(raw, faults, folder)
    if dialect == server_json.DIALECT:
        return server_json.job_from_object(raw, faults)
    known = f'"{af3_json.DIALECT}" or "{server_json.DIALECT}"'
    faults.add(("dialect",), f"the dialect {shown(dialect)} is not known: use {known}")
    return None


def _chains(raw: dict[str, Any]) -> list[dict[str, Any]]:
    sequences = raw.get("sequences")
    return [item for item in sequences if isinstance(item, dict)] if isinstance(sequences, list) else []


def _server_keys(raw: dict[str, Any]) -> bool:
    """Whether a chain is in the server's form; `{"ligand": {"ligand": code}}` tells where the outer key does not."""
    chains = _chains(raw)
    if any(key in item for item in chains for key in ("proteinChain", "dnaSequence", "rnaSequence", "ion")):
        return True
    return any(isinstance(item.get("ligand"), dict) and "ligand" in item["ligand"] for item in chains)


def _af3_keys(raw: dict[str, Any]) -> bool:
    return "bondedAtomPairs" in raw or any(key in item for item in _chains(raw) for key in ("protein", "dna", "rna"))
