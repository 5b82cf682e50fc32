"""What a checkpoint of Foldline's own says of itself: settings that shapes do not tell, structures it has memorised.

It is one JSON text in a safetensors file's metadata. Knows no tensors; files of other publishers have no card.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from foldline.errors import WeightsError
from foldline.models.spec import ModelSpec

if TYPE_CHECKING:
    from foldline.inputs import Entity, Job

KEY = "foldline"


@dataclass(frozen=True)
class Card:
    """The card of a checkpoint; an empty one for files that have none."""

    n_recycle: int | None = None
    n_step: int | None = None
    memorised: Mapping[str, list[str]] | None = None  # by name of a structure: its entities, as `entity_key` puts them

    def complete(self, spec: ModelSpec) -> ModelSpec:
        """The spec with the settings of the card."""
        if self.n_recycle is not None:
            spec = replace(spec, n_recycle=self.n_recycle)
        if self.n_step is not None:
            spec = replace(spec, sampler=replace(spec.sampler, n_step=self.n_step))
        return spec

    def notes(self, job: "Job") -> tuple[str, ...]:
        """What has to be said of any answer of this checkpoint to a job; nothing for one that predicts."""
        if self.memorised is None:
            return ()
        count = f"{len(self.memorised)} structures ({', '.join(self.memorised)})"
        claim = f"this demo checkpoint has memorised {count} and can predict nothing else"
        entities = job_keys(job)
        known = next((name for name, keys in self.memorised.items() if sorted(keys) == entities), None)
        if known is None:
            return (f"{claim}: this job is none of them, and its answer means nothing",)
        return (f"{claim}: this job is {known}, recalled and not predicted",)


def read_card(metadata: Mapping[str, str], source: str) -> Card:
    """The card in a file's metadata.

    Raises:
        WeightsError: it is there and cannot be read.
    """
    text = metadata.get(KEY)
    if text is None:
        return Card()
    try:
        return Card(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{source}: its metadata cannot be read ({error}); is it from a newer Foldline?") from error


def write_card(card: Card) -> dict[str, str]:
    """The metadata that `read_card` reads."""
    content: dict[str, Any] = {"n_recycle": card.n_recycle, "n_step": card.n_step, "memorised": card.memorised}
    return {KEY: json.dumps(content)}


def job_keys(job: "Job") -> list[str]:
    """The entities of a job, one text per copy, sorted: equal for jobs that ask for the same molecules."""
    return sorted(entity_key(entity) for entity in job.entities for _ in entity.ids)


def entity_key(entity: "Entity") -> str:
    """What one copy of an entity is, whatever it is called: `protein:MVLS`, `dna:AGT@3=5IU`, `ligand:HEM`."""
    sequence = getattr(entity, "sequence", None)
    if sequence is None:
        return f"{entity.kind}:{getattr(entity, 'smiles', None) or '-'.join(getattr(entity, 'ccd_codes', ()))}"
    changes = sorted((one.position, one.ccd) for one in getattr(entity, "modifications", ()))
    return "".join([f"{entity.kind}:{sequence}", *(f"@{position}={code}" for position, code in changes)])
