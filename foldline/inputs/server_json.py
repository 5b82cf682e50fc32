"""The dialect alphafoldserver: one job of the list that the AlphaFold Server imports and exports, to a `Job`.

Facts: AF3 folding_input.py `from_alphafoldserver_fold_job`. Chains get their ids in order: A..Z, AA, BA, CA, ...
"""

import hashlib
import json
import re
from typing import Any

from foldline.inputs import checks
from foldline.inputs.faults import Faults, listed, shown
from foldline.inputs.job import Entity, Job, Ligand, Polymer
from foldline.inputs.messages import unknown_key, validated
from foldline.inputs.schema import (
    SERVER_ENTITIES,
    ServerIonShape,
    ServerJobShape,
    ServerLigandShape,
    ServerNucleicShape,
    ServerProteinShape,
)
from foldline.inputs.sequences import checked_sequence

DIALECT = "alphafoldserver"
VERSION = 1
_KINDS = {"proteinChain": "protein", "rnaSequence": "rna", "dnaSequence": "dna"}
_MAX_COPIES = 10_000
_SMILES_TOO = re.compile(r"(?:Cl|Br|[BCNOPSFIbcnops]|\d)+")  # Protenix has SMILES in the place of codes
Parts = tuple[str | int, ...]


def job_from_object(raw: dict[str, Any], faults: Faults) -> Job | None:
    """A job of the dialect alphafoldserver, or None where `faults` says why.

    Seeds may be texts; a job without seeds gets `seed_of` it, which its notes name (AF3 draws one at random, so that no
    run could be gone on with). Glycans and `maxTemplateDate` are refused, as in AF3; a count of zero is refused too
    (AF3 drops the entity without a word).
    """
    count = len(faults.errors)
    shape = validated(ServerJobShape, raw, (), faults)
    if ("dialect" in raw) != ("version" in raw):
        faults.add((), f'"dialect" and "version" belong together: give both ("{DIALECT}", {VERSION}) or neither')
    elif "version" in raw and shape is not None and raw["version"] != VERSION:
        faults.add(("version",), f"version {shown(raw['version'])} of {DIALECT} is not known: use {VERSION}")
    sequences, raw_seeds = raw.get("sequences"), raw.get("modelSeeds")
    entities = _entities(sequences, faults) if isinstance(sequences, list) else []
    seeds: tuple[int, ...] = ()
    if isinstance(raw_seeds, list) and raw_seeds:
        seeds = checks.checked_seeds(raw_seeds, ("modelSeeds",), faults, texts=True)
    elif not raw_seeds:
        seeds = (seed_of(raw),)
        faults.note(
            ("modelSeeds",), f"the job has no seed: it gets {seeds[0]}, which follows from its name and sequences"
        )
    if shape is None or len(faults.errors) > count:
        return None
    return Job(name=shape.name, seeds=seeds, entities=tuple(entities), source=faults.source, notes=tuple(faults.notes))


def seed_of(raw: dict[str, Any]) -> int:
    """The seed of a job that names none: the first four bytes of the SHA-256 of its name and sequences.

    They are hashed as JSON with sorted keys and without white space, so that the same job has the same seed at every
    reading, on every machine and in every version, however its file is laid out.
    """
    content = {key: raw.get(key) for key in ("name", "sequences")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _entities(raw: list[Any], faults: Faults) -> list[Entity]:
    if not raw:
        faults.add(("sequences",), f"there are no chains: give at least one of {listed(list(SERVER_ENTITIES))}")
    result: list[Entity] = []
    number = 0
    for i, item in enumerate(raw):
        parts: Parts = ("sequences", i)
        if not isinstance(item, dict) or len(item) != 1:
            names = listed(list(SERVER_ENTITIES))
            faults.add(parts, f"{shown(item)} stands where one of {names} belongs: give exactly one of them")
            continue
        key = next(iter(item))
        if key not in SERVER_ENTITIES:
            faults.add((*parts, key), unknown_key(key, list(SERVER_ENTITIES)))
            continue
        shape = validated(SERVER_ENTITIES[key], item[key], (*parts, key), faults)
        copies = getattr(shape, "count", 1)
        if not 1 <= copies <= _MAX_COPIES:
            faults.add((*parts, key, "count"), f"the count {copies} is out of range: use 1 to {_MAX_COPIES}")
            continue
        ids = tuple(checks.chain_name(number + k) for k in range(copies))
        number += copies
        if shape is not None:
            result.append(_entity(key, shape, ids, (*parts, key), faults))
    return result


def _entity(key: str, shape: object, ids: tuple[str, ...], parts: Parts, faults: Faults) -> Entity:
    if isinstance(shape, ServerLigandShape):
        code = shape.ligand.removeprefix("CCD_")
        checks.check_code(code, (*parts, "ligand"), faults)
        if _SMILES_TOO.fullmatch(shape.ligand):
            faults.note((*parts, "ligand"), f'"{code}" is read as the component of that code, not as a SMILES')
        return Ligand(ids, (code,))
    if isinstance(shape, ServerIonShape):
        code = shape.ion.removeprefix("CCD_")
        checks.check_code(code, (*parts, "ion"), faults)
        return Ligand(ids, (code,))
    kind = _KINDS[key]
    assert isinstance(shape, ServerProteinShape | ServerNucleicShape)
    sequence = checked_sequence(shape.sequence, kind, (*parts, "sequence"), faults)
    templates = None
    if isinstance(shape, ServerProteinShape):
        named, keys = [(m.ptm_type, m.ptm_position) for m in shape.modifications or ()], ("ptmType", "ptmPosition")
        templates = () if shape.use_structure_template is False else None
        _refuse_server_only(shape, parts, faults)
    else:
        named = [(m.modification_type, m.base_position) for m in shape.modifications or ()]
        keys = ("modificationType", "basePosition")
    codes = [(code.removeprefix("CCD_"), position) for code, position in named]
    modifications = checks.checked_modifications(codes, keys, len(sequence), (*parts, "modifications"), faults)
    return Polymer(kind, ids, sequence, modifications, templates=templates)


def _refuse_server_only(shape: ServerProteinShape, parts: Parts, faults: Faults) -> None:
    if shape.glycans:
        faults.add(
            (*parts, "glycans"),
            "glycans in the server's format are not read: write the job in the dialect alphafold3, "
            "the glycan as a ligand with its ccdCodes and its bonds as bondedAtomPairs",
        )
    if shape.max_template_date is not None:
        faults.add(
            (*parts, "maxTemplateDate"),
            "a template date per chain is not read: take the key out (the template search has one date for all chains)",
        )
