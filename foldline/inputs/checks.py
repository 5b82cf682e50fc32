"""What a job's parts may say about each other: chain ids, seeds, modifications, templates, bonds.

Each check records sentences in a `Faults` and returns the clean value. Atoms and component codes are checked where the
components are known, not here.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from foldline.inputs.faults import Faults, listed, shown
from foldline.inputs.job import AtomRef, Entity, Ligand, Modification, Text
from foldline.inputs.text import check_readable
from foldline.remote import is_url

Parts = Sequence[str | int]
Bond = tuple[AtomRef, AtomRef]
MAX_SEED = 2**32 - 1
_PATH_GUESS = 256  # AF3 looks for a file of that name when an inline text is shorter (folding_input.py)


def chain_name(number: int) -> str:
    """The id of the `number`-th chain from 0: A..Z, AA, BA, CA, ... (AF3 mmcif.int_id_to_str_id: units first)."""
    name, rest = "", number + 1
    while rest > 0:
        rest, letter = divmod(rest - 1, 26)
        name += chr(ord("A") + letter)
    return name


def is_chain_id(name: str) -> bool:
    """Whether an id is made of ASCII capitals alone."""
    return re.fullmatch("[A-Z]+", name) is not None


def check_ids(groups: Iterable[tuple[Parts, Sequence[str]]], faults: Faults) -> None:
    """Chain ids: ASCII capitals, unless that is mended, each used once. `groups`: the place of an `id` key, its ids."""
    seen: dict[str, Parts] = {}
    for parts, ids in groups:
        if not ids:
            faults.add(parts, 'no chain id: give one, for example "A"')
        for name in ids:
            if not is_chain_id(name) and "chain_ids" not in faults.repair:
                faults.add(
                    parts,
                    f"{shown(name)} is not a chain id: use the capital letters A to Z only, or set "
                    'repair = ["chain_ids"]',
                )
            elif name in seen:
                faults.add(parts, f'the chain id "{name}" is used twice: give each chain an id of its own')
            seen[name] = parts


def checked_seeds(raw: Sequence[object], parts: Parts, faults: Faults, *, texts: bool = False) -> tuple[int, ...]:
    """Seeds from 0 to 2^32 - 1, at least one, repeated ones once; `texts` accepts "123" (the server's form)."""
    if not raw:
        faults.add(parts, "no seed: give at least one whole number, for example [1]")
    seeds: list[int] = []
    for i, value in enumerate(raw):
        if texts and isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,20}\s*", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            remedy = "write it without quotes" if isinstance(value, str) else f"use 0 to {MAX_SEED}"
            faults.add((*parts, i), f"the seed {shown(value)} is not a whole number: {remedy}")
        elif not 0 <= value <= MAX_SEED:
            faults.add((*parts, i), f"the seed {shown(value)} is out of range: use 0 to {MAX_SEED}")
        else:
            seeds.append(value)
    unique = tuple(dict.fromkeys(seeds))
    if len(unique) < len(seeds):
        repeated = [s for s in unique if seeds.count(s) > 1]
        faults.note(parts, f"repeated seeds run once: {listed(repeated)}")
    return unique


def checked_modifications(
    raw: Sequence[tuple[str, int]], keys: tuple[str, str], length: int, parts: Parts, faults: Faults
) -> tuple[Modification, ...]:
    """Modifications `(component, position)`; `keys` are their names in the file, `length` that of the sequence."""
    taken: set[int] = set()
    for i, (code, position) in enumerate(raw):
        check_code(code, (*parts, i, keys[0]), faults)
        if length and not 1 <= position <= length:
            faults.add(
                (*parts, i, keys[1]),
                f"position {position} is outside the sequence: positions are counted from 1 to {length}",
            )
        elif position in taken:
            faults.add((*parts, i, keys[1]), f"position {position} is modified twice: keep one of the two")
        taken.add(position)
    return tuple(Modification(code, position) for code, position in raw)


def check_code(code: str, parts: Parts, faults: Faults) -> None:
    """A component code: a word without the server's prefix."""
    if code.startswith("CCD_"):
        faults.add(parts, f"{shown(code)} has the prefix CCD_ of the server's format: write {shown(code[4:])}")
    elif not re.fullmatch(r"[!-~]+", code):
        faults.add(parts, f"{shown(code)} is not a component code: write a code such as ATP")


def check_smiles(smiles: str, folder: Path | None, parts: Parts, faults: Faults) -> None:
    """A SMILES that is empty, or that is the name of a file; its chemistry is checked elsewhere."""
    if not smiles.strip():
        faults.add(parts, "the SMILES is empty: give one, or ccdCodes")
    elif re.search(r"\.(sdf|mol|mol2|pdb|cif|smi|xyz)$", smiles.strip(), re.IGNORECASE) or (
        Path(smiles).suffix and names_file(smiles, folder)
    ):
        faults.add(
            parts, f"{shown(smiles)} is a file name, not a SMILES: write the SMILES itself, or a userCCD component"
        )


def names_file(text: str, folder: Path | None) -> bool:
    """Whether a short inline text is the name of a file that exists, in `folder` or from the current folder."""
    if not text.strip() or len(text) >= _PATH_GUESS or "\n" in text or "\0" in text:
        return False
    candidates = [Path(text)] if folder is None else [folder / text, Path(text)]
    return any(check_readable(path) is None and path.is_file() for path in candidates)


def checked_text(
    values: tuple[str | None, str | None], keys: tuple[str, str], folder: Path | None, parts: Parts, faults: Faults
) -> Text | None:
    """The `Text` of a pair of keys (text, path): None where both are absent, `Text("")` where the text is empty.

    As AF3 folding_input.py: an empty path counts as absent, an empty text beside a path gives way to it, both set are
    refused, and a short text that names a file is refused.
    """
    inline, path = values
    if inline and path:
        faults.add(parts, f'both "{keys[0]}" and "{keys[1]}" are set: keep one of the two')
        return None
    if path and is_url(path):
        faults.add((*parts, keys[1]), f"{shown(path)} is in a store: copy the file here and give its path")
        return None
    if path:
        place = Path(path) if folder is None else folder / path
        reason = check_readable(place, "check the path" if Path(path).is_absolute() else "")
        if reason is not None:
            faults.add((*parts, keys[1]), reason)
            return None
        if inline == "":
            faults.note((*parts, keys[0]), f'the empty text gives way to "{keys[1]}"')
        return Text(path=place.resolve())
    if inline is None:
        if path == "":
            faults.note((*parts, keys[1]), "an empty path counts as absent")
        return None
    if names_file(inline, folder):
        faults.add((*parts, keys[0]), f'{shown(inline)} is the name of a file: give it as "{keys[1]}"')
    return Text(inline=inline)


def check_indices(query: Sequence[int], template: Sequence[int], length: int, parts: Parts, faults: Faults) -> None:
    """Template indices (0-based): equally many, not negative, each query index once and inside the sequence."""
    if len(query) != len(template):
        faults.add(
            parts,
            f"{len(query)} queryIndices against {len(template)} templateIndices: give one template index to each",
        )
    for key, indices in (("queryIndices", query), ("templateIndices", template)):
        bad = [i for i, index in enumerate(indices) if index < 0]
        if bad:
            faults.add((*parts, key, bad[0]), f"the index {indices[bad[0]]} is negative: indices start at 0")
    over = [i for i, index in enumerate(query) if length and index >= length]
    if over:
        faults.add(
            (*parts, "queryIndices", over[0]),
            f"the index {query[over[0]]} is past the end: counted from 0, the last residue is {length - 1}",
        )
    if len(set(query)) < len(query):
        twice = [index for index in dict.fromkeys(query) if query.count(index) > 1]
        faults.add((*parts, "queryIndices"), f"repeated query indices ({listed(twice)}): name each residue once")


def checked_bonds(
    raw: Sequence[tuple[tuple[str, int, str], tuple[str, int, str]]],
    entities: Sequence[Entity],
    parts: Parts,
    faults: Faults,
) -> tuple[Bond, ...]:
    """Bonds between residues that exist, each once; a SMILES ligand has no atom names (AF3 refuses it too)."""
    by_id = {name: entity for entity in entities for name in entity.ids}
    seen: set[frozenset[tuple[str, int, str]]] = set()
    for i, bond in enumerate(raw):
        for j, (chain, residue, atom) in enumerate(bond):
            place = (*parts, i, j)
            entity = by_id.get(chain)
            if entity is None:
                faults.add((*place, 0), f"there is no chain {shown(chain)}: the chains are {listed(list(by_id))}")
                continue
            if isinstance(entity, Ligand) and entity.smiles is not None:
                faults.add(
                    (*place, 0),
                    f"chain {chain} is a SMILES ligand, whose atoms cannot be named in a bond: "
                    "give the ligand by ccdCodes or as a userCCD component",
                )
                continue
            length = len(entity.ccd_codes) if isinstance(entity, Ligand) else len(entity.sequence)
            if not 1 <= residue <= length:
                faults.add(
                    (*place, 1), f"residue {residue} is outside chain {chain}: residues are counted from 1 to {length}"
                )
            if not atom.strip():
                faults.add((*place, 2), "the atom name is empty: name the atom")
        ends = frozenset(bond)
        if len(ends) == 1:
            faults.add((*parts, i), "the bond joins an atom to itself: name two atoms")
        elif ends in seen:
            faults.add((*parts, i), "this bond is given twice: keep one of the two")
        seen.add(ends)
    return tuple((AtomRef(*a), AtomRef(*b)) for a, b in raw)
