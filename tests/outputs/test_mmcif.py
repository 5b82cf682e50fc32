"""The mmCIF file: AlphaFold 3's columns and conventions, and what gemmi, biotite and modelcif read back from it."""

import io
from collections.abc import Callable
from dataclasses import replace

import gemmi
import numpy as np
import pytest
from biotite.structure.io import pdbx
from gemmi import cif

from foldline.outputs.connections import connections
from foldline.outputs.layout import PredictedJob
from foldline.outputs.mmcif import write_model
from foldline.structure.atoms import Topology
from foldline.structure.entities import EntitySpec
from foldline.tensors.results import Samples

RandomSamples = Callable[[Topology, int, int], Samples]
ATOM_SITE = (
    "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id"
    " pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_asym_id pdbx_PDB_model_num"
)


def written(job: PredictedJob, samples: Samples, number: int = 0) -> str:
    return write_model(
        job.topology,
        samples.coordinates[number],
        samples.confidences[number].atom_plddt,
        job.components,
        name=job.name,
        provenance=job.provenance,
    )


def table(text: str, category: str) -> list[dict[str, str]]:
    """Rows of a category with plain values."""
    found = cif.read_string(text).sole_block().find_mmcif_category(f"_{category}.")
    tags = [tag.split(".")[1] for tag in found.tags]
    return [dict(zip(tags, (cif.as_string(value) or value for value in row), strict=True)) for row in found]


@pytest.fixture(scope="session")
def text(job: PredictedJob, random_samples: RandomSamples) -> str:
    return written(job, random_samples(job.topology, 1, 1))


def test_atom_lines(job: PredictedJob, text: str) -> None:
    """What line-wise clients count on: the columns in order, plain fields, contiguous numbers, our chain ids twice."""
    t = job.topology
    lines = [line for line in text.splitlines() if line.startswith(("ATOM", "HETATM"))]
    tags = [line.split(".")[1].strip() for line in text.splitlines() if line.startswith("_atom_site.")]
    assert " ".join(tags) == ATOM_SITE
    rows = [dict(zip(tags, line.split(), strict=True)) for line in lines]
    assert [row["id"] for row in rows] == [str(i) for i in range(1, t.n_atom + 1)]
    assert [row["label_asym_id"] for row in rows] == t.chain_id[t.atom_chain].tolist()
    assert all(row["auth_asym_id"] == row["label_asym_id"] for row in rows)
    assert [int(row["auth_seq_id"]) for row in rows] == t.res_id[t.atom_res].tolist()
    assert all(row["label_seq_id"] in (row["auth_seq_id"], ".") for row in rows)
    ligand = (t.chain_kind == "ligand")[t.atom_chain].tolist()
    assert [row["label_seq_id"] == "." for row in rows] == ligand
    hetero = np.array(ligand) | t.res_modified[t.atom_res]
    assert [row["group_PDB"] == "HETATM" for row in rows] == hetero.tolist()
    constant = {"label_alt_id": ".", "pdbx_PDB_ins_code": "?", "occupancy": "1.00", "pdbx_PDB_model_num": "1"}
    assert all(row[tag] == value for row in rows for tag, value in constant.items())
    assert all(len(row[f"Cartn_{axis}"].split(".")[1]) == 3 for row in rows for axis in "xyz")


def test_gemmi_reads_the_same_atoms(job: PredictedJob, text: str, random_samples: RandomSamples) -> None:
    t, samples = job.topology, random_samples(job.topology, 1, 1)
    structure = gemmi.make_structure_from_block(cif.read_string(text).sole_block())
    read = [
        (chain.name, residue.name, residue.seqid.num, atom.name, atom.element.name.upper())
        for chain in structure[0]
        for residue in chain
        for atom in residue
    ]
    residue = t.atom_res
    columns = (t.chain_id[t.atom_chain], t.res_name[residue], t.res_id[residue], t.atom_name, t.element)
    assert read == list(zip(*(column.tolist() for column in columns), strict=True))
    atoms = [site.atom for site in structure[0].all()]
    position = np.array([atom.pos.tolist() for atom in atoms])
    assert np.abs(position - samples.coordinates[0]).max() <= 0.00051
    factor = np.array([atom.b_iso for atom in atoms])
    assert np.abs(factor - samples.confidences[0].atom_plddt).max() <= 0.0051
    kinds = {sub: entity for entity in structure.entities for sub in entity.subchains}
    expected = {
        "protein": gemmi.PolymerType.PeptideL,
        "dna": gemmi.PolymerType.Dna,
        "rna": gemmi.PolymerType.Rna,
        "ligand": gemmi.PolymerType.Unknown,
    }
    for number, (chain, kind) in enumerate(zip(t.chain_id.tolist(), t.chain_kind.tolist(), strict=True)):
        assert kinds[chain].polymer_type == expected[kind]
        if kind != "ligand":
            assert kinds[chain].full_sequence == t.res_name[t.res_chain == number].tolist()


@pytest.mark.filterwarnings(
    "ignore:Attribute 'auth_:UserWarning"
)  # AlphaFold 3's columns lack auth_comp_id, auth_atom_id
def test_biotite_reads_the_same_atoms_and_bonds(job: PredictedJob, text: str, random_samples: RandomSamples) -> None:
    t, samples = job.topology, random_samples(job.topology, 1, 1)
    file = pdbx.CIFFile.read(io.StringIO(text))
    atoms = pdbx.get_structure(file, model=1, include_bonds=True, extra_fields=["b_factor", "atom_id"])
    assert atoms.chain_id.tolist() == t.chain_id[t.atom_chain].tolist()
    assert atoms.atom_name.tolist() == t.atom_name.tolist()
    assert atoms.res_name.tolist() == t.res_name[t.atom_res].tolist()
    assert atoms.element.tolist() == t.element.tolist()
    assert np.abs(atoms.coord - samples.coordinates[0]).max() <= 0.00051
    read = {tuple(sorted(pair)) for pair in atoms.bonds.as_array()[:, :2].tolist()}
    assert read == {tuple(sorted(pair)) for pair in t.bond_atoms.tolist()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_modelcif_reads_model_and_scores(job: PredictedJob, text: str, random_samples: RandomSamples) -> None:
    reader = pytest.importorskip("modelcif.reader")
    t, samples = job.topology, random_samples(job.topology, 1, 1)
    (system,) = reader.read(io.StringIO(text))
    model = system.model_groups[0][0]
    assert [asym.id for asym in system.asym_units] == t.chain_id.tolist()
    assert [software.name for software in system.software] == ["Foldline"]
    atoms = list(model.get_atoms())
    assert [atom.atom_id for atom in atoms] == t.atom_name.tolist()
    assert np.abs(np.array([(a.x, a.y, a.z) for a in atoms]) - samples.coordinates[0]).max() <= 0.00051
    values = [metric.value for metric in model.qa_metrics]
    plddt = samples.confidences[0].atom_plddt.astype(np.float64)
    mean = np.bincount(t.atom_res, weights=plddt) / np.bincount(t.atom_res)
    assert values == pytest.approx([*mean.tolist(), plddt.mean()], abs=0.0051)  # modelcif puts the global one last


def test_local_scores_name_every_residue_and_component(job: PredictedJob, text: str) -> None:
    t = job.topology
    rows = table(text, "ma_qa_metric_local")
    polymer = (t.chain_kind[t.res_chain] != "ligand").tolist()
    assert [row["label_comp_id"] for row in rows] == t.res_name.tolist()
    assert [row["label_asym_id"] for row in rows] == t.chain_id[t.res_chain].tolist()
    numbers = [str(i) if inside else "." for i, inside in zip(t.res_id.tolist(), polymer, strict=True)]
    assert [row["label_seq_id"] for row in rows] == numbers
    assert {row["metric_id"] for row in rows} == {"2"}


def test_components_and_links(jobs: dict[str, PredictedJob], random_samples: RandomSamples) -> None:
    job = jobs["protein_ligand_ion"]
    text = written(job, random_samples(job.topology, 1, 1))
    listed = {row["id"]: row for row in table(text, "chem_comp")}
    assert list(listed) == sorted(set(job.topology.res_name.tolist()))
    assert listed["ATP"]["type"] == "NON-POLYMER" and listed["SEP"]["mon_nstd_flag"] == "n"
    assert listed["ATP"]["formula"] == "C10 H16 N5 O13 P3" and listed["ATP"]["formula_weight"].startswith("507.18")
    assert (
        listed["NAG"]["name"] == "2-acetamido-2-deoxy-beta-D-glucopyranose" and listed["LIG_F"]["type"] == "NON-POLYMER"
    )
    bonds = {(row["comp_id"], row["atom_id_1"], row["atom_id_2"]): row for row in table(text, "chem_comp_bond")}
    assert bonds["ATP", "PG", "O1G"]["value_order"] == "DOUB"
    assert bonds["TYR", "CG", "CD1"]["pdbx_aromatic_flag"] == "Y"
    assert sum(1 for name, *_ in bonds if name == "LIG_F") == 9 and not any(name in ("ZN", "CA") for name, *_ in bonds)
    links = [
        (row["conn_type_id"], row["ptnr1_label_comp_id"], row["ptnr2_label_comp_id"])
        for row in table(text, "struct_conn")
    ]
    assert links == [("covale", "ASN", "NAG"), ("covale", "NAG", "NAG")]
    elements = {row["label_atom_id"]: row["type_symbol"] for row in table(text, "atom_site")[-2:]}
    assert elements == {"ZN": "ZN", "CA": "CA"}
    entities = {row["id"]: row["type"] for row in table(text, "entity")}
    assert list(entities.values()) == ["polymer"] * 2 + ["non-polymer", "branched"] + ["non-polymer"] * 3
    sequence = table(text, "entity_poly")[0]
    assert sequence["pdbx_seq_one_letter_code"] == "MKTAY(SEP)CHWGTYKEMKTAYICK"
    assert sequence["pdbx_seq_one_letter_code_can"] == "MKTAYSCHWGTYKEMKTAYICK"


def test_kinds_of_links(assembled: Callable[..., Topology], job_of: Callable, random_samples: RandomSamples) -> None:
    """A disulfide, a metal, two rings closed through backbone atoms, and no row for the backbone itself."""
    topology = assembled([EntitySpec("protein", ("A",), "CACAH"), EntitySpec("ligand", ("Z",), ccd_codes=("ZN",))])
    atom = {(int(r), str(n)): i for i, (r, n) in enumerate(zip(topology.atom_res, topology.atom_name, strict=True))}
    extra = [(atom[0, "SG"], atom[2, "SG"]), (atom[5, "ZN"], atom[4, "NE2"])]
    extra += [(atom[4, "C"], atom[0, "N"]), (atom[0, "C"], atom[3, "N"])]
    topology = replace(
        topology,
        bond_atoms=np.concatenate([topology.bond_atoms, np.array(extra, np.int32)]),
        bond_order=np.concatenate([topology.bond_order, np.ones(4, np.int8)]),
        bond_declared=np.concatenate([topology.bond_declared, np.ones(4, bool)]),
    )
    samples = random_samples(topology, 1, 1)
    text = written(job_of(topology, "links"), samples)
    rows = table(text, "struct_conn")
    assert [row["id"] for row in rows] == ["disulf1", "metalc1", "covale1", "covale2"]
    distance = np.linalg.norm(samples.coordinates[0][extra[0][0]] - samples.coordinates[0][extra[0][1]])
    assert float(rows[0]["pdbx_dist_value"]) == pytest.approx(float(distance), abs=0.0006)
    assert {row["id"] for row in table(text, "struct_conn_type")} == {"covale", "disulf", "metalc"}
    assert rows[1]["ptnr1_label_seq_id"] == "." and rows[1]["ptnr1_auth_seq_id"] == "1"
    assert len(connections(topology)) == 4


@pytest.mark.parametrize(
    "entity",
    [
        EntitySpec("ligand", ("A",), ccd_codes=("ZN",)),
        EntitySpec("ligand", ("A",), smiles="CCO"),
        EntitySpec("protein", ("A",), "X"),
        EntitySpec("rna", ("A",), "N"),
    ],
)
@pytest.mark.filterwarnings("ignore:Attribute 'auth_:UserWarning")
def test_smallest_jobs(
    entity: EntitySpec, assembled: Callable[..., Topology], job_of: Callable, random_samples: RandomSamples
) -> None:
    """One entity of one residue, all of them HETATM: an ion has a single atom and no sequence table."""
    topology = assembled([entity])
    text = written(job_of(topology, "small"), random_samples(topology, 1, 1))
    assert sum(line.startswith("HETATM ") for line in text.splitlines()) == topology.n_atom
    assert not any(line.startswith("ATOM") for line in text.splitlines())
    structure = gemmi.make_structure_from_block(cif.read_string(text).sole_block())
    assert structure[0].count_atom_sites() == topology.n_atom
    atoms = pdbx.get_structure(pdbx.CIFFile.read(io.StringIO(text)), model=1)
    assert atoms.element.tolist() == topology.element.tolist()
    assert ("_entity_poly." in text) == (entity.kind != "ligand")


def test_many_chains(assembled: Callable[..., Topology], job_of: Callable, random_samples: RandomSamples) -> None:
    """120 chains with ids of one and two letters in one entity, and 120 ligand names in theirs."""
    ids = [first + second for first in ("", *"ABCDE") for second in "ABCDEFGHIJKLMNOPQRST"]
    topology = assembled(
        [EntitySpec("protein", tuple(ids[:119]), "GA"), EntitySpec("ligand", ("HA",), ccd_codes=("CA",))]
    )
    text = written(job_of(topology, "many"), random_samples(topology, 1, 1))
    structure = gemmi.make_structure_from_block(cif.read_string(text).sole_block())
    assert [chain.name for chain in structure[0]] == [*ids[:119], "HA"]
    assert len(table(text, "entity")) == 2 and len(table(text, "struct_asym")) == 120
    assert table(text, "entity_poly")[0]["pdbx_strand_id"].split(",") == ids[:119]


def test_same_result_gives_the_same_bytes(job: PredictedJob, text: str, random_samples: RandomSamples) -> None:
    assert written(job, random_samples(job.topology, 1, 1)) == text
    assert written(job, random_samples(job.topology, 2, 1)) != text


def test_undeclared_backbone_is_no_link(jobs: dict[str, PredictedJob]) -> None:
    assert len(connections(jobs["protein_nucleic"].topology)) == 0


def test_long_sequence_is_wrapped(
    assembled: Callable[..., Topology], job_of: Callable, random_samples: RandomSamples
) -> None:
    topology = assembled([EntitySpec("protein", ("A",), "MKTAYIAKQR" * 30)])
    text = written(job_of(topology, "long"), random_samples(topology, 1, 1))
    value = cif.read_string(text).sole_block().find_value("_entity_poly.pdbx_seq_one_letter_code")
    assert "".join(cif.as_string(value).split()) == "MKTAYIAKQR" * 30
    assert max(map(len, text.splitlines())) < 200
