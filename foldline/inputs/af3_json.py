"""The dialect alphafold3, versions 1 to 4: one object of a JSON file to a `Job`, and a `Job` back to AF3's own text.

Facts: AF3 folding_input.py. Codes and atoms are not checked here.
"""

import itertools
import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from foldline.inputs import checks
from foldline.inputs.faults import Faults, listed, shown
from foldline.inputs.job import Entity, Job, Ligand, Polymer, Template, Text
from foldline.inputs.messages import unknown_key, validated
from foldline.inputs.repair import with_good_ids, with_own_alignments
from foldline.inputs.schema import (
    ENTITIES,
    VERSION,
    VERSIONS,
    DnaShape,
    JobShape,
    LigandShape,
    ProteinShape,
    RnaShape,
    TemplateShape,
)
from foldline.inputs.sequences import checked_sequence
from foldline.inputs.text import open_text

DIALECT = "alphafold3"
_SINCE = {"unpairedMsaPath": 2, "pairedMsaPath": 2, "mmcifPath": 2, "userCCDPath": 3, "description": 4}
_BLOCK_CHARS = 1 << 20
Parts = tuple[str | int, ...]
_Put = Callable[[str, Text | None], dict[str, str | None]]  # a key and its text to what the JSON says


def job_from_object(raw: dict[str, Any], faults: Faults, folder: Path | None) -> Job | None:
    """A job of the dialect alphafold3, or None where `faults` says why; paths are relative to `folder`.

    `dialect` and `version` must be there, as in AF3. Keys of a later version are read, as in AF3, and noted.
    """
    count = len(faults.errors)
    missing = [key for key in ("dialect", "version") if key not in raw]
    if missing:
        keys = " and ".join(f'"{key}"' for key in missing)
        faults.add((), f'the job does not say its {keys}: add "dialect": "{DIALECT}", "version": {VERSION}')
        raw = {"dialect": DIALECT, "version": VERSION, **raw}
    shape = validated(JobShape, raw, (), faults)
    if raw["version"] not in VERSIONS and shape is not None:
        faults.add(("version",), f"version {shown(raw['version'])} is not known: use one of {listed(VERSIONS)}")
    sequences, seeds = raw.get("sequences"), raw.get("modelSeeds")
    entities = _entities(sequences, faults, folder) if isinstance(sequences, list) else []
    rng_seeds = checks.checked_seeds(seeds, ("modelSeeds",), faults) if isinstance(seeds, list) else ()
    if shape is None:
        return None
    user_ccd = _user_ccd(shape, faults, folder)
    bonds = ()
    present = [entity for entity in entities if entity is not None]
    if len(present) == len(entities):
        bonds = checks.checked_bonds(shape.bonded_atom_pairs or (), present, ("bondedAtomPairs",), faults)
    if len(faults.errors) > count:
        return None
    _note_versions(raw, shape.version, faults)
    named, bonds = with_good_ids(present, bonds, ("sequences",), faults)
    return Job(
        name=shape.name,
        seeds=rng_seeds,
        entities=named,
        bonds=bonds,
        user_ccd=user_ccd,
        source=faults.source,
        notes=tuple(faults.notes),
    )


def _entities(raw: list[Any], faults: Faults, folder: Path | None) -> list[Entity | None]:
    if not raw:
        faults.add(("sequences",), "there are no chains: give at least one protein, dna, rna or ligand")
    result: list[Entity | None] = []
    groups: list[tuple[Parts, tuple[str, ...]]] = []
    for i, item in enumerate(raw):
        parts: Parts = ("sequences", i)
        known = isinstance(item, dict) and [key for key in item if key in ENTITIES]
        if isinstance(item, dict):
            for key in item:
                if key not in ENTITIES:
                    faults.add((*parts, key), unknown_key(key, list(ENTITIES)))
        if not known or len(known) > 1:
            if not isinstance(item, dict) or len(item) != 1:
                faults.add(
                    parts,
                    f"{shown(item)} stands where one of {listed(list(ENTITIES))} belongs: give exactly one of them",
                )
            result.append(None)
            continue
        kind = known[0]
        shape = validated(ENTITIES[kind], item[kind], (*parts, kind), faults)
        entity = None if shape is None else _entity(kind, shape, (*parts, kind), faults, folder)
        if entity is not None:
            groups.append(((*parts, kind, "id"), entity.ids))
        result.append(entity)
    checks.check_ids(groups, faults)
    return result


def _entity(kind: str, shape: object, parts: Parts, faults: Faults, folder: Path | None) -> Entity:
    if isinstance(shape, LigandShape):
        return _ligand(shape, parts, faults, folder)
    assert isinstance(shape, ProteinShape | RnaShape | DnaShape)
    count, places = len(faults.errors), ((*parts, "unpairedMsa"), (*parts, "pairedMsa"))
    sequence = checked_sequence(shape.sequence, kind, (*parts, "sequence"), faults)
    if isinstance(shape, ProteinShape):
        named, keys = [(m.ptm_type, m.ptm_position) for m in shape.modifications or ()], ("ptmType", "ptmPosition")
    else:
        named = [(m.modification_type, m.base_position) for m in shape.modifications or ()]
        keys = ("modificationType", "basePosition")
    polymer = Polymer(
        kind=kind,
        ids=tuple(shape.id),
        sequence=sequence,
        modifications=checks.checked_modifications(named, keys, len(sequence), (*parts, "modifications"), faults),
        description=shape.description,
    )
    if isinstance(shape, DnaShape):
        return polymer
    unpaired = (shape.unpaired_msa, shape.unpaired_msa_path)
    text = checks.checked_text(unpaired, ("unpairedMsa", "unpairedMsaPath"), folder, parts, faults)
    polymer = replace(polymer, unpaired_msa=text)
    if isinstance(shape, RnaShape):
        return polymer if len(faults.errors) > count else with_own_alignments(polymer, places, faults)
    paired = (shape.paired_msa, shape.paired_msa_path)
    text = checks.checked_text(paired, ("pairedMsa", "pairedMsaPath"), folder, parts, faults)
    given = {
        "unpairedMsa": unpaired[0] is not None or bool(unpaired[1]),
        "pairedMsa": paired[0] is not None or bool(paired[1]),
    }
    if given["unpairedMsa"] != given["pairedMsa"]:
        there, absent = sorted(given, key=lambda key: not given[key])
        faults.add(
            parts,
            f'"{there}" is set and "{absent}" is not: set both or neither ("{absent}": "" means that there is none)',
        )
    templates = None
    if shape.templates is not None:
        templates = tuple(
            _template(item, len(sequence), (*parts, "templates", i), faults, folder)
            for i, item in enumerate(shape.templates)
        )
    polymer = replace(polymer, paired_msa=text, templates=templates)
    return polymer if len(faults.errors) > count else with_own_alignments(polymer, places, faults)


def _template(shape: TemplateShape, length: int, parts: Parts, faults: Faults, folder: Path | None) -> Template:
    text = checks.checked_text((shape.mmcif, shape.mmcif_path), ("mmcif", "mmcifPath"), folder, parts, faults)
    if not shape.mmcif and not shape.mmcif_path:
        faults.add(parts, 'the template has no structure: give "mmcif" or "mmcifPath"')
    indices = shape.template_indices or []
    checks.check_indices(shape.query_indices, indices, length, parts, faults)
    return Template(text or Text(""), tuple(shape.query_indices), tuple(indices))


def _ligand(shape: LigandShape, parts: Parts, faults: Faults, folder: Path | None) -> Ligand:
    if shape.ccd_codes is not None and shape.smiles is not None:
        faults.add(parts, 'both "ccdCodes" and "smiles" are set: keep one of the two')
    elif shape.ccd_codes is None and shape.smiles is None:
        faults.add(parts, 'the ligand is not named: give "ccdCodes" or "smiles"')
    elif shape.smiles is not None:
        checks.check_smiles(shape.smiles, folder, (*parts, "smiles"), faults)
    if shape.ccd_codes is not None and not shape.ccd_codes:
        faults.add((*parts, "ccdCodes"), 'the list is empty: give at least one code, for example ["ATP"]')
    for i, code in enumerate(shape.ccd_codes or ()):
        checks.check_code(code, (*parts, "ccdCodes", i), faults)
    smiles = None if shape.smiles is None else shape.smiles.strip()
    return Ligand(tuple(shape.id), tuple(shape.ccd_codes or ()), smiles, shape.description)


def _user_ccd(shape: JobShape, faults: Faults, folder: Path | None) -> Text | None:
    """The user's components. A file name in `userCCD` is read as a path, escaped line breaks as such, both noted."""
    inline, path = shape.user_ccd, shape.user_ccd_path
    if inline and not path and checks.names_file(inline, folder):
        faults.note(("userCCD",), 'the name of a file, read as "userCCDPath"')
        inline, path = None, inline
    if inline and not inline.strip().count("\n") and "\\n" in inline:
        faults.note(("userCCD",), "escaped line breaks (\\n) were read as line breaks")
        inline = inline.replace("\\r\\n", "\n").replace("\\n", "\n")
    text = checks.checked_text((inline, path), ("userCCD", "userCCDPath"), folder, (), faults)
    if text is not None and text.inline is not None and not re.search(r"^\ufeff?data_", text.inline, re.MULTILINE):
        faults.add(
            ("userCCD",),
            'no line starts with "data_": give components as mmCIF text, or the file as "userCCDPath"',
        )
    return text


def _note_versions(raw: object, version: int, faults: Faults) -> None:
    """AF3 reads later keys in files of any version; so do we, and say so once per key."""
    late = sorted({key for key in _all_keys(raw) if _SINCE.get(key, 1) > version})
    for key in late:
        faults.note(
            (), f'the key "{key}" belongs to version {_SINCE[key]}, the file says {version}: it is read all the same'
        )


def _all_keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(_all_keys(item) for item in value.values() if isinstance(item, dict | list)))
    if isinstance(value, list):
        return set().union(*(_all_keys(item) for item in value if isinstance(item, dict | list)))
    return set()


def to_json(job: Job, *, inline: bool = False) -> str:
    """The job as AlphaFold 3 writes it: version 4, its order of keys, indent 2, index arrays on one line.

    Neighbouring entities that differ in their ids only become one with a list of ids (AF3 merges neighbours only, which
    keeps the order of chains). Texts given by path stay paths, absolute; `inline` reads them in, as AF3 does. What is
    mended as it is read is mended with `inline` alone: `settled` makes such texts the job's own.
    `Job.description`, `source` and `notes` have no place in the format and are not written.

    Raises:
        InputError: A path cannot be read (with `inline`).
    """
    return "".join(json_pieces(job, inline=inline))


def json_pieces(job: Job, *, inline: bool = False) -> Iterator[str]:
    """What `to_json` gives, in pieces: of a file that is read in, a block at a time is held.

    Raises:
        InputError: as `to_json`, when the piece is asked for.
    """
    put = _Later() if inline else _by_path
    sequences = []
    for _, group in itertools.groupby(job.entities, key=lambda entity: replace(entity, ids=())):
        same = list(group)
        ids = [name for entity in same for name in entity.ids]
        sequences.append(_entity_object(same[0], ids[0] if len(ids) == 1 else ids, put))
    bonds = [[[end.chain_id, end.residue, end.atom] for end in bond] for bond in job.bonds]
    content = {
        "dialect": DIALECT,
        "version": VERSION,
        "name": job.name,
        "sequences": sequences,
        "modelSeeds": list(job.seeds),
        "bondedAtomPairs": bonds or None,
        **put("userCCD", job.user_ccd),
    }
    text = re.sub(
        r'("(?:query|template)Indices": \[)\s+([\d,\s]+?)\s+\]',
        lambda match: match[1] + re.sub(r"\s+", " ", match[2]) + "]",
        json.dumps(content, indent=2),
    )
    return put.filled(text) if isinstance(put, _Later) else iter([text])


def _by_path(key: str, text: Text | None) -> dict[str, str | None]:
    if text is not None and text.path is not None:
        return {f"{key}Path": str(text.path.absolute())}
    return {key: None if text is None else text.inline}


class _Later:
    """Puts a mark where the text of a file belongs, and the text in place of the mark when all else is written."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(16)
        self._texts: list[tuple[str, Text]] = []

    def __call__(self, key: str, text: Text | None) -> dict[str, str | None]:
        if text is None or (text.path is None and text.mending is None):
            return _by_path(key, text)
        self._texts.append((key, text))
        return {key: f"{self._mark}:{len(self._texts) - 1}:"}

    def filled(self, text: str) -> Iterator[str]:
        for part in re.split(rf"({self._mark}:\d+:)", text):
            if not part.startswith(self._mark):
                yield part
                continue
            what, given = self._texts[int(part.split(":")[1])]
            with open_text(given, what) as stream:
                while block := stream.read(_BLOCK_CHARS):
                    yield json.dumps(block)[1:-1]


def _entity_object(entity: Entity, ids: str | list[str], put: _Put) -> dict[str, Any]:
    content: dict[str, Any] = {"id": ids}
    if isinstance(entity, Ligand):
        if entity.smiles is None:
            content["ccdCodes"] = list(entity.ccd_codes)
        else:
            content["smiles"] = entity.smiles
    else:
        code, position = (
            ("ptmType", "ptmPosition") if entity.kind == "protein" else ("modificationType", "basePosition")
        )
        content["sequence"] = entity.sequence
        content["modifications"] = [{code: m.ccd, position: m.position} for m in entity.modifications]
        if entity.kind != "dna":
            content |= put("unpairedMsa", entity.unpaired_msa)
        if entity.kind == "protein":
            content |= put("pairedMsa", entity.paired_msa)
            content["templates"] = (
                None if entity.templates is None else [_template_object(t, put) for t in entity.templates]
            )
    if entity.description is not None:
        content["description"] = entity.description
    return {entity.kind: content}


def _template_object(template: Template, put: _Put) -> dict[str, Any]:
    return {
        **put("mmcif", template.mmcif),
        "queryIndices": list(template.query_indices),
        "templateIndices": list(template.template_indices),
    }
