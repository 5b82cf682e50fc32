"""How many sequences of the alignments cover each residue of a chain. Knows a job, not the network.

Rows are counted as the network reads them: paired and unpaired alignment together, each row once, insertions left out.
"""

from dataclasses import dataclass

import numpy as np

from foldline.errors import InputError
from foldline.features.a3m import A3mSource, Distinct, read_rows
from foldline.features.msa import SHORTEST
from foldline.inputs import Job, Polymer, Text

NONE_ASKED = "query only: run without alignments (--msa none)"
NONE_GIVEN = "query only: the job gives an empty alignment"
NO_KIND = "query only: no alignments are used for DNA"
TOO_SHORT = f"query only: chains under {SHORTEST} residues have no alignment"


@dataclass(frozen=True)
class Depth:
    """The alignment of one chain of L residues, its own sequence included."""

    columns: np.ndarray  # int [L], rows with a residue there
    rows: int
    note: str = ""  # why it is the chain's own sequence alone


def depths(job: Job, msa: str) -> dict[str, Depth]:
    """Depth by chain id for every polymer; `msa` is the run's setting, "auto" or "none".

    Raises:
        InputError: an alignment of the job cannot be read.
    """
    found = {}
    for entity in job.entities:
        if isinstance(entity, Polymer):
            depth = _depth(entity, msa)
            found |= dict.fromkeys(entity.ids, depth)
    return found


def _depth(entity: Polymer, msa: str) -> Depth:
    length = len(entity.sequence)
    given = [text for text in (entity.paired_msa, entity.unpaired_msa) if text is not None]
    note = NONE_ASKED if msa == "none" else NO_KIND if entity.kind == "dna" else ""
    note = note or (TOO_SHORT if length < SHORTEST else "")
    columns, count = np.zeros(length, np.int64), 0
    distinct = Distinct()
    for text in [] if note else given:
        for matches in _rows(entity, text):
            fresh = distinct.new(matches)
            letters = np.frombuffer(b"".join(matches[i] for i in fresh), np.uint8).reshape(len(fresh), length)
            columns += (letters != ord("-")).sum(axis=0)
            count += len(fresh)
    if count > 1:
        return Depth(columns, count)
    return Depth(np.ones(length, np.int64), 1, note or (NONE_GIVEN if given else NONE_ASKED))


def _rows(entity: Polymer, text: Text) -> list[list[bytes]]:
    source = A3mSource(text, f"the alignment of chain {entity.ids[0]}", entity.kind, entity.sequence)
    try:
        return [block.matches for block in read_rows(source)]
    except InputError as error:
        raise InputError(f"{error.message}: run foldline predict again", source=error.source) from error
