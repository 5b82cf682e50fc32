"""Jobs of other programs in JSON, told by keys that no job here has, and the sentence that refuses each.

Knows their marks and what AlphaFold 3 calls the same; their jobs are not read.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from foldline.inputs.faults import Faults, listed

Parts = tuple[str | int, ...]
_SHARED = {  # entities that Protenix shares with the AlphaFold Server, and what AlphaFold 3 has in their place
    "proteinChain": '"protein" for "proteinChain"',
    "dnaSequence": '"dna" for "dnaSequence"',
    "rnaSequence": '"rna" for "rnaSequence"',
    "ligand": '"ccdCodes" or "smiles" for the inner "ligand"',
    "ion": 'a "ligand" with "ccdCodes" for "ion"',
}
_FOLDER = '"unpairedMsaPath" (its non_pairing.a3m) and "pairedMsaPath" (its pairing.a3m) for the folder in "msa"'
_ALIGNMENTS = '"unpairedMsa" or "unpairedMsaPath" kept, for a protein with "pairedMsa" or "pairedMsaPath" ("" for none)'
_MARKS = {  # keys that only Protenix has, those that matter most first
    "msa": _FOLDER,
    "precomputed_msa_dir": _FOLDER,
    "unpairedMsaPath": _ALIGNMENTS,
    "unpairedMsa": _ALIGNMENTS,
    "pairedMsaPath": _ALIGNMENTS,
    "pairedMsa": _ALIGNMENTS,
    "templatesPath": '"templates" for "templatesPath"',
    "covalent_bonds": '"bondedAtomPairs" for "covalent_bonds"',
    "constraint": '"constraint" left out (there is nothing like it here)',
    "id": "",
}
_SMILES = re.compile(r"(?!CCD_).*[()\[\]=#@+/\\]")
_CODES = re.compile(r"CCD_[A-Za-z0-9]+(_[A-Za-z0-9]+)+")


def refuse_foreign(raw: dict[str, Any], faults: Faults) -> bool:
    """Whether the job is another program's; `faults` then has one sentence with what to write instead."""
    if isinstance(raw.get("queries"), dict) and "sequences" not in raw:
        faults.add(
            ("queries",),
            "this is a query set of OpenFold3, which is not read: write each query as a job of the dialect alphafold3, "
            'with its chains as "sequences" and the seeds as "modelSeeds"',
        )
        return True
    entities = list(_entities(raw))
    marks = sorted(_marks(raw, entities), key=lambda mark: list(_MARKS).index(mark[1]) if mark[1] in _MARKS else 0)
    if not marks:
        return False
    ids = any(key == "id" for _, key in marks)
    instead = [_MARKS[key] for _, key in marks if _MARKS.get(key)]
    instead += [_SHARED[key] for _, key, _ in entities]
    instead.append('"id" kept and "count" left out' if ids else 'as many ids in "id" for "count"')
    faults.add(
        marks[0][0],
        "this is a Protenix job, which is not read: write it in the dialect alphafold3 (docs/input.md has the keys), "
        f"with {listed(list(dict.fromkeys(instead)))}",
    )
    return True


def _entities(raw: dict[str, Any]) -> list[tuple[Parts, str, dict[str, Any]]]:
    """The entities in the form that Protenix shares with the AlphaFold Server: place, key, content."""
    sequences = raw.get("sequences")
    items: list[Any] = sequences if isinstance(sequences, list) else []
    found: list[tuple[Parts, str, dict[str, Any]]] = []
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            continue
        for key, content in item.items():
            inner = key not in ("ligand", "ion") or isinstance(content, dict) and key in content
            if key in _SHARED and isinstance(content, dict) and inner:  # {"ligand": {"ccdCodes": ...}} is not
                found.append((("sequences", i, key), key, content))
    return found


def _marks(raw: dict[str, Any], entities: Sequence[tuple[Parts, str, dict[str, Any]]]) -> Iterator[tuple[Parts, str]]:
    """Where the job has what only Protenix knows, and the key that tells."""
    for parts, key, content in entities:
        for name in content:
            if name in _MARKS:
                yield (*parts, name), name
        value = content.get("ligand")
        if isinstance(value, str) and (value.startswith("FILE_") or _SMILES.match(value) or _CODES.fullmatch(value)):
            yield (*parts, "ligand"), key
    if entities:
        for name in ("covalent_bonds", "constraint"):
            if name in raw:
                yield (name,), name
