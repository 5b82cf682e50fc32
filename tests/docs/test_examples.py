"""Every example runs: validated, predicted with a small random network, and its structure read back by gemmi."""

import filecmp
import json
import re
import tomllib
from dataclasses import MISSING, fields
from typing import Any

import gemmi
import pytest
from pages import ROOT

from foldline.config import EngineConfig
from foldline.inputs import Ligand, Polymer, read_jobs, schema, slug
from foldline.search.settings import SearchSettings

EXAMPLES = ROOT / "examples"
SMALL = ("--model", "protenix-v1", "--samples", "1", "--steps", "2", "--recycles", "0")
LEARNT = ("myoglobin.json", "demo_")  # targets of the demo checkpoint, larger than what is predicted here
JOBS = sorted(
    path.name for path in EXAMPLES.glob("*") if path.suffix in (".json", ".fasta") and not path.name.startswith(LEARNT)
)


def chains_of(structure: gemmi.Structure) -> dict[str, list[str]]:
    return {chain.name: [residue.name for residue in chain] for chain in structure[0]}


@pytest.mark.parametrize("name", JOBS)
def test_an_example_is_predicted(desk: Any, name: str) -> None:
    jobs = read_jobs(EXAMPLES / name)
    searched = any(
        isinstance(e, Polymer) and e.kind != "dna" and e.unpaired_msa is None for j in jobs for e in j.entities
    )
    more = ("--config", "examples/search.toml") if name == "searched.json" else ("--msa", "none") if searched else ()
    done = desk.run("predict", f"examples/{name}", "--out", "out", *SMALL, *more)
    assert done.code == 0, done.err
    for job in jobs:
        folder, at = desk.folder / "out" / slug(job.name), slug(job.name)
        structure = gemmi.read_structure(str(folder / f"{at}_model.cif"))
        found = chains_of(structure)
        assert sorted(found) == sorted(chain for entity in job.entities for chain in entity.ids)
        for entity in job.entities:
            for chain in entity.ids:
                if isinstance(entity, Polymer):
                    assert len(found[chain]) == len(entity.sequence)
                    for change in entity.modifications:
                        assert found[chain][change.position - 1] == change.ccd
                elif entity.smiles is None:
                    assert found[chain] == list(entity.ccd_codes)
        bonded = [
            c for c in structure.connections if c.type in (gemmi.ConnectionType.Covale, gemmi.ConnectionType.Disulf)
        ]
        assert len(bonded) >= len(job.bonds)
        record = json.loads((folder / f"{at}_run.json").read_text())
        assert record["n_token"] == len(json.loads((folder / f"{at}_confidences.json").read_text())["token_chain_ids"])
        assert record["n_token"] <= 80, "an example is small"


def test_the_demo_targets_are_valid(desk: Any) -> None:
    names = [f"examples/{path.name}" for path in EXAMPLES.glob("*.json") if path.name.startswith(LEARNT)]
    if not names:
        pytest.skip("there are none")
    done = desk.run("validate", *names)
    assert done.code == 0, done.err


def used_keys(value: Any, found: set[str]) -> set[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if inner not in (None, [], ""):
                found.add(key)
            used_keys(inner, found)
    elif isinstance(value, list):
        for inner in value:
            used_keys(inner, found)
    return found


def aliases(shape: Any) -> set[str]:
    return {field.alias or name for name, field in shape.model_fields.items()}


def test_every_field_of_the_format_is_in_an_example() -> None:
    """But for texts given inline and `description`: those are shown in the documentation alone."""
    used: set[str] = set()
    for name in JOBS:
        if name.endswith(".json"):
            used_keys(json.loads((EXAMPLES / name).read_text()), used)
    shapes = [schema.JobShape, schema.TemplateShape, *schema.ENTITIES.values()]
    wanted = set().union(*(aliases(shape) for shape in shapes))
    assert wanted - used == {"mmcif", "unpairedMsa", "pairedMsa", "description"}
    server = set().union(*(aliases(shape) for shape in (schema.ServerJobShape, *schema.SERVER_ENTITIES.values())))
    assert server - used <= {"glycans", "maxTemplateDate", "useStructureTemplate", "description"}


def test_every_example_is_in_the_table() -> None:
    table = (EXAMPLES / "README.md").read_text()
    named = set(re.findall(r"`([\w/.]+)`", table))
    here = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*") if path.is_file()} - {"README.md"}
    here = {name for name in here if "__pycache__" not in name}
    assert not {name for name in here if name not in named and f"{name.split('/')[0]}/" not in named}
    assert not {name for name in named if name.endswith((".json", ".py", ".fasta", ".toml", ".cif"))} - here


def test_made_files_are_those_of_the_script(desk: Any) -> None:
    desk.script("examples/make_files.py", str(desk.folder / "made"))
    made = [path.relative_to(desk.folder / "made") for path in (desk.folder / "made").rglob("*") if path.is_file()]
    assert len(made) == 8
    for path in made:
        assert filecmp.cmp(desk.folder / "made" / path, EXAMPLES / path, shallow=False), path


def test_the_alignments_are_read_and_paired(desk: Any) -> None:
    done = desk.run("predict", "examples/msa_by_path.json", "examples/rna_msa.json", "--out", "out", *SMALL)
    assert done.code == 0, done.err
    for name, rows in (("msa_by_path", 13), ("rna_msa", 14)):
        record = json.loads((desk.folder / "out" / name / f"{name}_run.json").read_text())
        assert record["n_msa"] == rows, "the query (twice where nothing is paired) and twelve homologs, each once"
    scores = (desk.folder / "out" / "msa_by_path" / "msa_by_path_ranking_scores.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in scores[1:]] == ["1", "2"]


def test_python(desk: Any) -> None:
    done = desk.script("examples/in_python.py", "protenix-mini", "examples/protein.json", "examples/ion.json")
    assert len(re.findall(r"seed 1, sample [01]: score -?[\d.]+, pTM", done.out)) == 4


def test_the_settings_file_shows_every_setting_with_its_default() -> None:
    text = (EXAMPLES / "settings.toml").read_text()
    active = tomllib.loads(text)
    shown = tomllib.loads(re.sub(r"(?m)^# (?=\w+ = |\[)", "", text))
    assert set(shown) == {field.name for field in fields(EngineConfig)}
    assert set(shown["search"]) == {field.name for field in fields(SearchSettings)}
    SearchSettings.make(shown["search"])
    assert EngineConfig.make(EXAMPLES / "settings.toml") == EngineConfig()
    for field in fields(EngineConfig):
        if field.name in active:
            assert field.default is not MISSING and active[field.name] == field.default


def test_ligands_of_the_examples() -> None:
    kinds = {kind for name in JOBS for job in read_jobs(EXAMPLES / name) for kind in map(kind_of, job.entities)}
    assert kinds == {"protein", "dna", "rna", "codes", "smiles"}


def kind_of(entity: Polymer | Ligand) -> str:
    return entity.kind if isinstance(entity, Polymer) else "codes" if entity.ccd_codes else "smiles"
