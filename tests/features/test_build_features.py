"""Whole jobs: every array against recorded values of Protenix and, where it is installed, against Protenix itself."""

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from foldline.chem.components import Components
from foldline.chem.residues import GAP_RESTYPE, RESTYPE
from foldline.errors import InputError
from foldline.features.build import build_features
from foldline.inputs import Job, Ligand, Polymer, Template, Text, jobs_from_json, read_jobs, to_json
from foldline.tensors import Features

DATA = Path(__file__).parent / "data"
JOBS = ("mixed", "7r6r", "9gmw_2", "5sak", "7wux")


@pytest.fixture(scope="module")
def components() -> Components:
    return Components.open()


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def check(fidelity: ModuleType, job: Job, upstream: dict, components: Components) -> Features:
    conformers = fidelity.upstream_conformers(upstream)
    features = build_features(job, components=components, conformers=conformers).features
    found = fidelity.differences(features, upstream)
    assert len(found) == 28
    assert not {name: value for name, value in found.items() if not value <= fidelity.tolerance(name)}
    return features


def entities_job() -> Job:
    return read_jobs(DATA / "entities_alphafold3.json")[0]


def template_job(fidelity: ModuleType) -> Job:
    (job,) = read_jobs(DATA / "template_alphafold3.json")
    used = json.loads(str(arrays(DATA / "upstream_template.npz")["templates"]))
    template = Template(Text(path=DATA / "template.cif"), tuple(used[0]["query"]), tuple(used[0]["hit"]))
    return replace(job, entities=(replace(job.entities[0], templates=(template,)), *job.entities[1:]))


def test_every_kind_of_entity_equals_recorded_values(fidelity: ModuleType, components: Components) -> None:
    """Fourteen entities: modified residues, glycans with declared bonds, ions amid polymers, unknowns, SMILES."""
    features = check(fidelity, entities_job(), arrays(DATA / "upstream_entities.npz"), components)
    assert features.entity_id.max() == 13 and features.sym_id.max() == 1
    assert np.any(features.ref_charge != 0) and not features.has_frame.all()


def test_templates_equal_recorded_values(fidelity: ModuleType, components: Components) -> None:
    """Residues without atoms, without CB, without C, an unknown one, and one left out of the alignment's ends."""
    features = check(fidelity, template_job(fidelity), arrays(DATA / "upstream_template.npz"), components)
    beta, backbone = features.template_pseudo_beta_mask[0, :30], features.template_backbone_mask[0, :30]
    assert 0 < (~beta).sum() < 10 and (beta != backbone).any()
    assert features.template_aatype[:, -1].tolist() == [GAP_RESTYPE, 0, 0, 0]


@pytest.mark.upstream
@pytest.mark.parametrize("name", JOBS)
def test_example_jobs_equal_upstream(
    name: str, fidelity: ModuleType, components: Components, upstream_python: Path, shared_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "upstream.npz"
    fidelity.run_upstream(upstream_python, None, shared_data / "protenix_jobs" / f"{name}.json", out)
    (job,) = read_jobs(shared_data / "af3_jobs" / f"{name}.json")
    check(fidelity, job, arrays(out), components)


@pytest.mark.upstream
def test_example_templates_equal_upstream(
    fidelity: ModuleType, components: Components, upstream_python: Path, shared_data: Path, tmp_path: Path
) -> None:
    """Two real structures, aligned by upstream with kalign."""
    inputs, out, dates = shared_data.parent / "reference" / "protenix", tmp_path / "out.npz", tmp_path / "dates.json"
    released = {entry: {"release_date": "2001-01-01"} for entry in ("102m", "1k1a")}
    dates.write_text(json.dumps(released))
    options = ("--templates", "--dates", str(dates))
    fidelity.run_upstream(upstream_python, None, inputs / "inputs" / "templ.json", out, *options)
    upstream = arrays(out)
    assert len(json.loads(str(upstream["templates"]))) == 2
    sequence = json.loads((inputs / "inputs" / "templ.json").read_text())[0]["sequences"][0]["proteinChain"]["sequence"]
    empty = Text("")
    chain = Polymer("protein", ("A",), sequence, unpaired_msa=empty, paired_msa=empty, templates=())
    job = Job("templ", (7,), (chain, Ligand(("B",), ("ATP",))))
    features = check(fidelity, fidelity.with_templates(job, upstream, shared_data / "structures"), upstream, components)
    assert features.template_backbone_mask[:2].sum() > 150


def protein(sequence: str = "MKVLGAETWR", chain: str = "A", **fields: object) -> Polymer:
    given = {"unpaired_msa": Text(""), "paired_msa": Text(""), "templates": ()} | fields
    return Polymer("protein", (chain,), sequence, **given)  # type: ignore[arg-type]


def job_of(*entities: Polymer | Ligand) -> Job:
    return Job("test", (1,), entities)


def test_no_alignment_is_refused_with_the_three_remedies(components: Components) -> None:
    job = job_of(Ligand(("L",), ("MG",)), protein(unpaired_msa=None, paired_msa=None))
    with pytest.raises(InputError) as caught:
        build_features(job, components=components)
    assert caught.value.path == "$.sequences[1].protein"
    for word in ("chain A", "databases", "unpairedMsa", "--msa none"):
        assert word in str(caught.value)


def test_rna_without_alignment_is_refused_and_dna_is_not(components: Components) -> None:
    build_features(job_of(Polymer("dna", ("A",), "ACGT")), components=components)
    with pytest.raises(InputError, match="chain A has no unpaired alignment"):
        build_features(job_of(Polymer("rna", ("A",), "ACGU")), components=components)


def test_msa_none_runs_on_the_query_and_says_so(components: Components) -> None:
    one = build_features(job_of(protein(unpaired_msa=None, paired_msa=None)), components=components, msa="none")
    assert one.features.msa.shape == (2, 10) and one.msa_depth == {"A": 1}
    assert any("--msa none" in note for note in one.notes)


SEQUENCE = ("MET", "ALA", "GLN", "GLY", "SER", "HIS", "GLN", "ILE", "ASP", "PHE")


def test_features_are_those_of_the_written_job(components: Components) -> None:
    """Equal neighbours become one entity in a job's JSON, and their features are what they were; apart they are too."""
    one, two = protein(), protein(chain="B")
    apart = job_of(one, two, Ligand(("L",), ("MG",)))
    (back,), _ = jobs_from_json(to_json(apart))
    assert len(back.entities) == 2
    first, second = (build_features(job, components=components).features for job in (apart, back))
    for name in ("entity_id", "sym_id", "asym_id", "msa"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    between = build_features(job_of(one, Ligand(("L",), ("MG",)), two), components=components).features
    assert between.entity_id[:10].tolist() == between.entity_id[11:].tolist() != [between.entity_id[10]] * 10
    assert between.sym_id.tolist() == [0] * 11 + [1] * 10


def test_an_ion_between_chains_does_not_shift_alignments(components: Components) -> None:
    deep = ">q\nMAQGSHQIDF\n>h\nMAQGTHQIDY\n"
    before = [protein(), Ligand(("I", "J"), ("MG",)), protein("MAQGSHQIDF", "B", unpaired_msa=Text(deep))]
    after = [before[0], before[2], before[1]]
    with_ion, without = (build_features(job_of(*e), components=components).features for e in (before, after))
    np.testing.assert_array_equal(with_ion.msa[:, 12:], without.msa[:, 10:20])
    np.testing.assert_array_equal(with_ion.profile[12:], without.profile[10:20])
    assert with_ion.msa[0, 12:].tolist() == [RESTYPE[x] for x in SEQUENCE]


def test_alignment_of_a_modified_chain_is_that_of_its_parent_sequence(
    fidelity: ModuleType, components: Components
) -> None:
    conformers = fidelity.upstream_conformers(arrays(DATA / "upstream_entities.npz"))
    job = read_jobs(DATA / "entities_alphafold3.json")[0]
    first = job.entities[0]
    assert isinstance(first, Polymer) and first.modifications
    text = Text(f">q\n{first.sequence}\n>h\n{'A' * len(first.sequence)}\n")
    job = replace(job, entities=(replace(first, unpaired_msa=text), *job.entities[1:]))
    features = build_features(job, components=components, conformers=conformers).features
    position = first.modifications[0].position
    tokens = np.flatnonzero((features.asym_id == 0) & (features.residue_index == position))
    assert len(tokens) > 1 and (features.msa[1, tokens] == RESTYPE["ALA"]).all()


@pytest.mark.parametrize(
    ("query", "hit", "path", "words"),
    [
        ((0, 30), (0, 1), "queryIndices[1]", "index 30 is outside the chain, which has 30 residues"),
        ((0, 1), (0, 33), "templateIndices[1]", "index 33 is outside the template, which has 33 residues"),
        ((0, 1), (0, -1), "templateIndices[1]", "index -1"),
        ((0, 1, 2), (0, 1), "", "queryIndices has 3 entries and templateIndices 2"),
        ((), (), "", "empty"),
        ((3, 3), (0, 1), "queryIndices", "query residue 3 occurs more than once"),
        ((0, 1, 2), (10, 11, 12), "", "none of the 3 template residues in templateIndices has atoms"),
    ],
)
def test_template_indices(
    query: tuple[int, ...], hit: tuple[int, ...], path: str, words: str, fidelity: ModuleType, components: Components
) -> None:
    job = template_job(fidelity)
    template = Template(Text(path=DATA / "template.cif"), query, hit)
    job = replace(job, entities=(replace(job.entities[0], templates=(template,)), *job.entities[1:]))
    with pytest.raises(InputError) as caught:
        build_features(job, components=components)
    assert words in str(caught.value)
    assert caught.value.path == "$.sequences[0].protein.templates[0]" + (f".{path}" if path else "")


def test_more_templates_than_slots_are_said_and_more_than_twenty_refused(
    fidelity: ModuleType, components: Components
) -> None:
    job = template_job(fidelity)
    first = job.entities[0]
    assert isinstance(first, Polymer) and first.templates
    six = replace(job, entities=(replace(first, templates=first.templates * 6), *job.entities[1:]))
    one = build_features(six, components=components)
    assert "templates of chain A: the first 4 of 6 are used" in one.notes
    np.testing.assert_array_equal(one.features.template_pseudo_beta[0], one.features.template_pseudo_beta[3])
    assert any("3 of 30 residues of template 1 have no atoms" in note for note in one.notes)
    many = replace(job, entities=(replace(first, templates=first.templates * 21), *job.entities[1:]))
    with pytest.raises(InputError, match="21 templates are given, 20 are accepted"):
        build_features(many, components=components)


def test_features_survive_the_disk(fidelity: ModuleType, components: Components, tmp_path: Path) -> None:
    features = build_features(template_job(fidelity), components=components).features
    features.save(tmp_path / "job.safetensors")
    loaded = Features.load(tmp_path / "job.safetensors")
    for name, value in vars(features).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)


def test_ligand_alone(components: Components) -> None:
    features = build_features(job_of(Ligand(("A",), ("ATP",))), components=components).features
    assert (features.msa == RESTYPE["UNK"]).all() and features.msa.shape == (2, 31)
    assert features.is_ligand.all() and features.has_frame.all()
