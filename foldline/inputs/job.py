"""The first noun: a validated prediction job. Knows JSON meaning, not chemistry (codes and atoms: `chem`)."""

from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Mending:
    """What is mended in an alignment of L residues whenever it is read: its columns, if `partners` are given, or T."""

    query: str = ""  # the chain's sequence, which becomes the first row
    partners: tuple[int, ...] = ()  # of every match column of the file: its 0-based residue, rising, or -1 for none
    bases: bool = False  # T is read as U
    place: str = field(default="", compare=False)  # JSON path, for errors


@dataclass(frozen=True)
class Text:
    """A text given inline or by path; a file may be gzip, xz or zstandard. `Text("")` is the user's own "none"."""

    inline: str | None = None
    path: Path | None = None
    mending: Mending | None = None


@dataclass(frozen=True)
class Modification:
    """A modified residue: component `ccd` at 1-based `position` of the sequence."""

    ccd: str
    position: int


@dataclass(frozen=True)
class Template:
    """One structural template of a protein chain; indices are 0-based, as given (no realignment, no date filter)."""

    mmcif: Text
    query_indices: tuple[int, ...]
    template_indices: tuple[int, ...]


@dataclass(frozen=True)
class Polymer:
    """A protein, DNA or RNA entity and the chain ids of its copies.

    `unpaired_msa`, `paired_msa`, `templates`: None = to be searched, empty text or tuple = the user wants none.
    """

    kind: str  # "protein" | "dna" | "rna"
    ids: tuple[str, ...]
    sequence: str
    modifications: tuple[Modification, ...] = ()
    unpaired_msa: Text | None = None
    paired_msa: Text | None = None
    templates: tuple[Template, ...] | None = None
    description: str | None = None


@dataclass(frozen=True)
class Ligand:
    """A ligand or ion: one or several component codes (a glycan has several), or a SMILES string."""

    ids: tuple[str, ...]
    ccd_codes: tuple[str, ...] = ()
    smiles: str | None = None
    description: str | None = None
    kind: str = "ligand"


Entity = Polymer | Ligand


@dataclass(frozen=True)
class AtomRef:
    """An atom named in a bond: chain id, 1-based residue, atom name."""

    chain_id: str
    residue: int
    atom: str


@dataclass(frozen=True)
class Job:
    """One prediction job. `source` says where it was read from, `notes` what the reader changed or wants said."""

    name: str
    seeds: tuple[int, ...]
    entities: tuple[Entity, ...]
    bonds: tuple[tuple[AtomRef, AtomRef], ...] = ()
    user_ccd: Text | None = None
    description: str | None = None
    source: str = ""
    notes: tuple[str, ...] = field(default=(), compare=False)

    def with_seeds(self, seeds: tuple[int, ...]) -> "Job":
        """The same job with other seeds."""
        return replace(self, seeds=tuple(seeds))
