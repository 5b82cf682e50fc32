"""Protenix's rules for template hits: which are candidates, how each is aligned again, and which become templates.

Protenix: data/template/template_utils.py:257-346 (filters), 547-589 (alignment), 591-648 (atoms), 885-954 (order and
number). Knows hits and structures; not how either is found, and no program that aligns.
"""

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence

from foldline.search.template_aligner import mapping_of
from foldline.search.template_chain import TemplateChain, UnusableChainError, chain_text, read_chain
from foldline.search.template_hits import MAX_HITS, MAX_SUBSEQUENCE, MIN_ALIGNED, MIN_LENGTH, Dropped, Hit
from foldline.search.templates import Found, Structures
from foldline.structure.mmcif_in import BACKBONE

PROFILE_ROWS = 300  # of the alignment, that of pairing first (runner/template_search.py:133-146)
MAX_CANDIDATES = 20  # hits that are aligned at most (data/inference/infer_dataloader.py:113)
MIN_ATOMS = 5
MAX_STEP = 150.0  # Å from one CA to the next
Align = Callable[[str, str], tuple[str, str] | None]
Drop = Callable[[Dropped], None]


def choose(
    query: str, hits: Sequence[Hit], structures: Structures, cutoff: datetime.date, align: Align
) -> tuple[list[Found], list[Dropped]]:
    """The templates of a query: at most four of the first twenty candidates; and the hits that were looked at in vain.

    hmmsearch gives no probabilities, so that the candidates stay in its order. `align` puts gaps into the query and a
    chain's whole sequence.
    """
    found: list[Found] = []
    dropped: list[Dropped] = []
    images: set[str] = set()
    for hit in candidates(query, hits, structures, cutoff, dropped.append):
        try:
            one, image = _template(query, hit, structures, align)
        except UnusableChainError as error:
            dropped.append(Dropped(hit.name, str(error)))
            continue
        if image in images:
            dropped.append(Dropped(hit.name, "the same residues as a template before"))
            continue
        images.add(image)
        found.append(one)
        if len(found) == MAX_HITS:
            break
    return found, dropped


def candidates(
    query: str, hits: Iterable[Hit], structures: Structures, cutoff: datetime.date, drop: Drop
) -> Iterator[Hit]:
    """The first twenty hits that pass the filters and whose pieces differ; a hit without structure counts as unknown.

    Structures are opened as far as candidates are asked for.
    """
    seen: set[str] = set()
    for hit in hits:
        if len(seen) == MAX_CANDIDATES:
            drop(Dropped(hit.name, f"after the first {MAX_CANDIDATES} candidates"))
            continue
        reason = _refusal(query, hit) or ("the same piece as a hit before" if hit.residues in seen else "")
        if not reason:
            released = structures.released(hit.pdb_id)
            if released is None:
                continue
            reason = f"released after {cutoff}" if released > cutoff else ""
        if reason:
            drop(Dropped(hit.name, reason))
            continue
        seen.add(hit.residues)
        yield hit


def _refusal(query: str, hit: Hit) -> str:
    """Why the alignment of a hit makes it no candidate, "" where it does not (template_utils.py:274-297).

    What the database does not call a protein is none (template_parser.py:618).
    """
    if not hit.protein:
        return "no protein"
    columns = sum(letter.isupper() for letter in hit.text)
    if columns / len(query) <= MIN_ALIGNED:
        return f"no more than {MIN_ALIGNED:.0%} of the chain covered"
    if len(hit.residues) / len(query) > MAX_SUBSEQUENCE and hit.residues in query:
        return "a piece of the chain itself"
    return f"under {MIN_LENGTH} residues" if len(hit.residues) < MIN_LENGTH else ""


def _template(query: str, hit: Hit, structures: Structures, align: Align) -> tuple[Found, str]:
    """The template of a hit, and its residues in the query's places.

    Raises:
        UnusableChainError: the hit can be no template; it says why.
    """
    block = structures.block(hit.pdb_id)
    assert block is not None
    chain = read_chain(block, hit.chain)
    rows = align(query, chain.sequence)
    if rows is None:
        raise UnusableChainError("kalign cannot align it")
    mapping = mapping_of(*rows)
    _check_atoms(chain, mapping)
    image = "".join(chain.sequence[mapping[i]] if i in mapping else "-" for i in range(len(query)))
    return Found(hit.name, chain_text(block, chain), tuple(mapping), tuple(mapping.values())), image


def _check_atoms(chain: TemplateChain, mapping: dict[int, int]) -> None:
    places = set(mapping.values())
    counts = chain.atom_counts()
    if sum(int(counts[place]) for place in places) < MIN_ATOMS:
        raise UnusableChainError(f"under {MIN_ATOMS} atoms where the chain is aligned")
    if not any(atom.name == "CA" for atom in chain.atoms) or not any(
        atom.place in places and atom.name in BACKBONE for atom in chain.atoms
    ):
        raise UnusableChainError("no backbone where the chain is aligned")
    if chain.backbone_step() > MAX_STEP:
        raise UnusableChainError(f"a break of more than {MAX_STEP:g} Å in the backbone")
