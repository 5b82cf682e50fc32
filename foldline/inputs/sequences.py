"""What a sequence may hold: letters per kind of polymer, and where a bad one stands. Knows letters, not residues."""

import re
from collections.abc import Sequence

from foldline.inputs.faults import Faults, listed, shown

_STANDARD = {"protein": "ACDEFGHIKLMNPQRSTVWY", "dna": "ACGTN", "rna": "ACGUN"}
_PROTEIN_OTHER = "BJOUXZ"
_AMBIGUOUS_BASES = "RYSWKMBDHVX"
_NAMES = {"protein": "protein", "dna": "DNA", "rna": "RNA"}


def checked_sequence(sequence: str, kind: str, parts: Sequence[str | int], faults: Faults) -> str:
    """The sequence in upper case without white space; ambiguous bases become N, each with a note.

    A fault is recorded for an empty sequence, U in DNA, T in RNA (unless these are mended) and any character that is no
    residue, with positions (1-based, white space not counted). AF3 folding_input.py takes any letter, others become X
    or N without a word.
    """
    bare = re.sub(r"\s+", "", sequence)
    if not bare:
        faults.add(parts, f"the {_NAMES[kind]} sequence is empty: give at least one residue, or take the chain out")
        return ""
    if bare != sequence:
        faults.note(parts, "white space in the sequence was taken out")
    letters = bare.upper() if bare.isascii() else "".join(c.upper() if c.isascii() else c for c in bare)
    if letters != bare:
        faults.note(parts, "lower-case letters in the sequence were read as upper-case")
    return _protein(letters, parts, faults) if kind == "protein" else _nucleic(letters, kind, parts, faults)


def _protein(letters: str, parts: Sequence[str | int], faults: Faults) -> str:
    _refuse(letters, _STANDARD["protein"] + _PROTEIN_OTHER, "protein", parts, faults)
    other = _positions(letters, _PROTEIN_OTHER)
    if other:
        where = "; ".join(f"{letter} at {listed(places)}" for letter, places in other.items())
        faults.note(
            parts,
            f"letters outside the twenty standard amino acids ({where}) are kept and predicted as unknown residues "
            "unless a modification names the component",
        )
    return letters


def _nucleic(letters: str, kind: str, parts: Sequence[str | int], faults: Faults) -> str:
    wrong, right, other = ("U", "T", "rna") if kind == "dna" else ("T", "U", "dna")
    places = _positions(letters, wrong).get(wrong)
    if places and "nucleotides" in faults.repair:
        faults.note(
            parts, f"{wrong} is read as {right} in {_NAMES[kind]}: {len(places)} in all, at position {listed(places)}"
        )
        letters = letters.replace(wrong, right)
    elif places:
        faults.add(
            parts,
            f"a {_NAMES[kind]} sequence cannot hold {wrong} (position {listed(places)}): "
            f'write {right}, make the chain "{other}", or set repair = ["nucleotides"]',
        )
    _refuse(letters, _STANDARD[kind] + _AMBIGUOUS_BASES + wrong, kind, parts, faults)
    ambiguous = _positions(letters, _AMBIGUOUS_BASES)
    if not ambiguous:
        return letters
    where = "; ".join(f"{letter} at {listed(places)}" for letter, places in ambiguous.items())
    faults.note(parts, f"ambiguous bases ({where}) are read as the unknown base N")
    return re.sub(f"[{_AMBIGUOUS_BASES}]", "N", letters)


def _refuse(letters: str, allowed: str, kind: str, parts: Sequence[str | int], faults: Faults) -> None:
    bad = {c: [i + 1 for i, x in enumerate(letters) if x == c] for c in sorted(set(letters) - set(allowed))}
    if not bad:
        return
    where = "; ".join(f"{shown(c)} at position {listed(places)}" for c, places in bad.items())
    more = ""
    if kind != "protein" and set(letters) <= set(_STANDARD["protein"] + _PROTEIN_OTHER):
        more = ' (if this is a protein, make the chain "protein"; a modified base is given in "modifications")'
    faults.add(parts, f"not {_NAMES[kind]} letters: {where}: take them out or write the one-letter code{more}")


def _positions(letters: str, wanted: str) -> dict[str, list[int]]:
    return {c: [i + 1 for i, x in enumerate(letters) if x == c] for c in wanted if c in letters}
