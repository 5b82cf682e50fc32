"""What the records and journals of results say; one that says something else than they do counts as none.

A record is `<job>_run.json`, or a copy of it; a journal tells which samples of a job that is half done are there. Knows
no layout.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS: dict[str, type] = {
    "asked_fingerprint": str,
    "best": dict,
    "files": dict,
    "fingerprint": str,
    "kept_seeds": list,
    "plan": dict,
    "seconds": dict,
    "seedless_fingerprint": str,
    "stereocentres": dict,
}


@dataclass(frozen=True)
class WrittenSample:
    """One sample on disk."""

    seed: int
    sample: int
    ranking_score: float
    inverted: list[str] = field(default_factory=list)  # stereocentres, chain:residue:atom

    @property
    def folder(self) -> str:
        """Name of the sample's folder."""
        return f"seed-{self.seed}_sample-{self.sample}"

    @classmethod
    def told(cls, said: object) -> "WrittenSample":
        """What a journal says of it. Raises TypeError, KeyError or ValueError where that is no sample."""
        if not isinstance(said, dict):
            raise TypeError(said)
        return cls(int(said["seed"]), int(said["sample"]), float(said["ranking_score"]), list(said["inverted"]))


@dataclass(frozen=True)
class Journal:
    """What is there of a result that is half done."""

    fingerprint: str = ""
    samples: list[WrittenSample] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # bytes of their files, where they are told
    seedless: str = ""  # fingerprint of all but the seeds


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object, {} where there is none."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_record(path: Path) -> dict[str, Any]:
    """A record, {} where there is none. Those of older versions lack some of what is in it."""
    told = read_object(path)
    return told if is_record(told) else {}


def is_record(told: object) -> bool:
    """Whether JSON is what a record may say."""
    if not isinstance(told, dict) or not told:
        return False
    if any(not isinstance(told.get(name, kind()), kind) for name, kind in KINDS.items()):
        return False
    return all(isinstance(size, int) for size in told.get("files", {}).values())


def read_journal(path: Path) -> Journal:
    """A journal, an empty one where there is none."""
    return journal_of(read_object(path))


def journal_of(told: object) -> Journal:
    """What the JSON of a journal tells."""
    try:
        said: Any = told
        samples = [WrittenSample.told(each) for each in said["samples"]]
        sizes = {str(file): int(size) for file, size in said.get("files", {}).items()}  # older versions tell none
        return Journal(str(said["fingerprint"]), samples, sizes, str(said.get("seedless_fingerprint", "")))
    except (KeyError, TypeError, ValueError, AttributeError):
        return Journal()
