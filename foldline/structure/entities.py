"""What a topology is made from, in plain words: entities and the ends of declared bonds. Knows no JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class EntitySpec:
    """A polymer (`sequence`, `modifications`) or a ligand (`ccd_codes` or `smiles`) and the chain ids of its copies."""

    kind: str  # "protein" | "dna" | "rna" | "ligand"
    chain_ids: tuple[str, ...]
    sequence: str = ""
    modifications: Mapping[int, str] = field(default_factory=dict)  # 1-based position -> component code
    ccd_codes: tuple[str, ...] = ()
    smiles: str | None = None
    path: str = ""  # where the entity stands in the job, for errors: "$.sequences[0].protein"


class BondEnd(Protocol):
    """One end of a declared bond; `inputs.job.AtomRef` is one."""

    @property
    def chain_id(self) -> str:
        """Chain id as in the job."""
        ...

    @property
    def residue(self) -> int:
        """1-based residue within the chain."""
        ...

    @property
    def atom(self) -> str:
        """Atom name within the residue's component."""
        ...
