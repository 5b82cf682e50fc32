"""Structural templates of protein chains: template residues put at the places of the query that they were given for.

No alignment, no date filter: indices are used as given. The network makes the pair features from these arrays. Knows
template chains as arrays; how a structure file is read is `structure`'s job.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foldline.chem.residues import GAP_RESTYPE, MSA_RESTYPE, RESTYPE
from foldline.errors import InputError
from foldline.inputs.job import Polymer, Template
from foldline.inputs.text import read_text
from foldline.structure.mmcif_in import BACKBONE, TemplateStructure, read_template

N_SLOT = 4
MAX_GIVEN = 20
_N, _CA, _C, _CB = (BACKBONE.index(name) for name in ("N", "CA", "C", "CB"))
SHORTEST = 5  # residues; shorter chains get no template (Protenix: template_featurizer.py:158)


@dataclass(frozen=True)
class TemplateArrays:
    """The slots of one sequence [N_SLOT, L], or of all tokens [N_SLOT, N_token]."""

    aatype: np.ndarray  # int8
    pseudo_beta: np.ndarray  # float32 [..., 3] Å
    pseudo_beta_mask: np.ndarray  # bool
    backbone: np.ndarray  # float32 [..., 3 (N, CA, C), 3] Å
    backbone_mask: np.ndarray  # bool
    notes: tuple[str, ...] = ()


def empty_templates(length: int) -> TemplateArrays:
    """No template: the first slot is all gap, the others class 0, as Protenix pads (template_featurizer.py:183-196)."""
    aatype = np.zeros((N_SLOT, length), np.int8)
    aatype[0] = GAP_RESTYPE
    shape = (N_SLOT, length)
    return TemplateArrays(
        aatype=aatype,
        pseudo_beta=np.zeros((*shape, 3), np.float32),
        pseudo_beta_mask=np.zeros(shape, bool),
        backbone=np.zeros((*shape, 3, 3), np.float32),
        backbone_mask=np.zeros(shape, bool),
    )


def entity_templates(entity: Polymer, path: str) -> TemplateArrays:
    """The template slots of a polymer; `path` is the JSON path of the entity.

    The first four templates are used. An unused slot is class 0 and masked.

    Raises:
        InputError: more than 20 templates, indices that do not pair up or lie outside either sequence, or a template
            without atoms at the residues it is given for.
    """
    arrays = empty_templates(len(entity.sequence))
    given = entity.templates or ()
    what = f"templates of chain {entity.ids[0]}"
    if not given:
        return arrays
    if len(given) > MAX_GIVEN:
        raise InputError(
            f"{len(given)} templates are given, {MAX_GIVEN} are accepted: keep the best", path=f"{path}.templates"
        )
    if entity.kind != "protein" or len(entity.sequence) < SHORTEST:
        return _with_notes(arrays, [f"{what}: not used, the chain is no protein of at least {SHORTEST} residues"])
    notes = []
    if len(given) > N_SLOT:
        notes.append(f"{what}: the first {N_SLOT} of {len(given)} are used")
    for slot, template in enumerate(given[:N_SLOT]):
        at = f"{path}.templates[{slot}]"
        name = f"template {slot + 1} of chain {entity.ids[0]}"
        chain = read_template(read_text(template.mmcif, name), path=f"{at}.mmcif")
        notes += [f"{name}: {note}" for note in chain.notes]
        query, hit = _checked_indices(template, len(entity.sequence), len(chain.sequence), at)
        missing = _fill(arrays, slot, chain, query, hit)
        if missing == len(hit):
            raise InputError(f"none of the {len(hit)} template residues in templateIndices has atoms", path=at)
        if missing:
            notes.append(
                f"{what}: {missing} of {len(hit)} residues of template {slot + 1} have no atoms and are masked"
            )
    return _with_notes(arrays, notes)


def template_columns(
    chains: Sequence[TemplateArrays], token_chain: np.ndarray, token_residue: np.ndarray
) -> TemplateArrays:
    """The slots of all chains side by side, one column per token; a ligand's entry has one empty residue."""
    lengths = np.array([chain.aatype.shape[1] for chain in chains], np.int64)
    starts = np.cumsum(lengths) - lengths
    at = starts[token_chain] + np.minimum(token_residue, lengths[token_chain] - 1)

    def beside(name: str) -> np.ndarray:
        return np.concatenate([getattr(chain, name) for chain in chains], axis=1)[:, at]

    return TemplateArrays(
        aatype=beside("aatype"),
        pseudo_beta=beside("pseudo_beta"),
        pseudo_beta_mask=beside("pseudo_beta_mask"),
        backbone=beside("backbone"),
        backbone_mask=beside("backbone_mask"),
    )


def _with_notes(arrays: TemplateArrays, notes: list[str]) -> TemplateArrays:
    return replace(arrays, notes=tuple(notes))


def _checked_indices(template: Template, n_query: int, n_template: int, path: str) -> tuple[np.ndarray, np.ndarray]:
    query, hit = np.array(template.query_indices, np.int64), np.array(template.template_indices, np.int64)
    if len(query) != len(hit):
        raise InputError(
            f"queryIndices has {len(query)} entries and templateIndices {len(hit)}: one each per residue", path=path
        )
    if not len(query):
        raise InputError("queryIndices is empty: a template says which residues it covers", path=path)
    for name, indices, length, whole in (
        ("queryIndices", query, n_query, "the chain"),
        ("templateIndices", hit, n_template, "the template"),
    ):
        wrong = np.flatnonzero((indices < 0) | (indices >= length))
        if wrong.size:
            at = int(wrong[0])
            raise InputError(
                f"index {indices[at]} is outside {whole}, which has {length} residues (0-based)",
                path=f"{path}.{name}[{at}]",
            )
    repeated = np.flatnonzero(np.bincount(query) > 1)
    if repeated.size:
        raise InputError(f"query residue {repeated[0]} occurs more than once", path=f"{path}.queryIndices")
    return query, hit


def _fill(arrays: TemplateArrays, slot: int, chain: TemplateStructure, query: np.ndarray, hit: np.ndarray) -> int:
    """Write one template into its slot; returns how many of its residues have no atoms at all.

    An unknown residue has its N for every atom, as in Protenix (constants.py:1246-1321: its index tables are all zero).
    Positions are centred, as only distances and directions are read.
    """
    classes = MSA_RESTYPE["protein"][np.frombuffer(chain.sequence.encode(), np.uint8)][hit]
    arrays.aatype[slot] = GAP_RESTYPE
    arrays.aatype[slot, query] = classes
    position, mask = chain.positions[hit], chain.mask[hit]
    if mask.any():
        position = np.where(mask[..., None], position - chain.positions[chain.mask].mean(axis=0), 0)
    unknown, glycine = classes == RESTYPE["UNK"], classes == RESTYPE["GLY"]
    beta = np.where(unknown, _N, np.where(glycine, _CA, _CB))
    atoms = np.where(unknown[:, None], _N, np.array([_N, _CA, _C]))
    rows = np.arange(len(hit))
    arrays.pseudo_beta[slot, query] = position[rows, beta]
    arrays.pseudo_beta_mask[slot, query] = mask[rows, beta]
    arrays.backbone[slot, query] = position[rows[:, None], atoms]
    arrays.backbone_mask[slot, query] = mask[rows[:, None], atoms].all(axis=1)
    return int((~mask.any(axis=1)).sum())
