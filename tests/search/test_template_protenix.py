"""Protenix's rules for templates: against Protenix itself, against its recorded choice, and filter by filter."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import gemmi
import hmmer_reference
import numpy as np
import pytest
import template_cases
from made_structures import entry, residues
from template_cases import QUERY, Case, homolog

from foldline.execute import InProcess
from foldline.features.templates import TemplateArrays, entity_templates
from foldline.inputs.job import Polymer, Template, Text
from foldline.search.databases import Database
from foldline.search.pyhmmer_tool import PyHmmer
from foldline.search.recipes import TEMPLATES, Search
from foldline.search.rows import Alignment
from foldline.search.template_aligner import Kalign
from foldline.search.template_hits import Dropped, Hit, hit_of, told
from foldline.search.template_protenix import Align, choose
from foldline.search.templates import Found, Structures, stockholm
from foldline.structure.mmcif_in import read_template

CUTOFF = datetime.date(2021, 9, 30)
TOLERANCE = 1e-4  # Å after centring, which upstream does over all atoms and in float32
UNIT_VECTOR_TOLERANCE = 1e-4
Arrays = Mapping[str, np.ndarray]


def hits_of(a3m: str) -> list[Hit]:
    records = [record.partition("\n") for record in a3m.split(">")[1:]]
    found = [hit_of(header.strip(), text.replace("\n", "")) for header, _, text in records]
    return [one for one in found if one is not None]


def structures_in(folder: object) -> Structures:
    return Structures(Database("mmcif", (Path(str(folder)),)))


def chosen(case: Case, align: Align) -> tuple[list[Found], list[Dropped]]:
    return choose(str(case["query"]), hits_of(str(case["a3m"])), structures_in(case["folder"]), CUTOFF, align)


def arrays_of(query: str, found: list[Found]) -> TemplateArrays:
    templates = tuple(Template(Text(one.mmcif), one.query_indices, one.template_indices) for one in found)
    return entity_templates(Polymer("protein", ("A",), query, templates=templates), "$")


def atoms_of(one: Found, length: int, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Places and mask of the atoms of a template's text, in the query's columns and upstream's order of atoms."""
    places, mask = np.zeros((length, len(names), 3)), np.zeros((length, len(names)), bool)
    columns = dict(zip(one.template_indices, one.query_indices, strict=True))
    items = ["label_seq_id", "label_atom_id", "Cartn_x", "Cartn_y", "Cartn_z"]
    for row in gemmi.cif.read_string(one.mmcif)[0].find("_atom_site.", items):
        name, place = {"SE": "SD"}.get(row[1], row[1]), int(row[0]) - 1
        if place in columns and name in names:
            places[columns[place], names.index(name)] = [float(text) for text in list(row)[2:]]
            mask[columns[place], names.index(name)] = True
    return places, mask


def check(case: Case, found: list[Found], upstream: Arrays, number: int) -> None:
    """The same templates, residues and atoms as upstream's, and the same arrays made of them."""
    query = str(case["query"])
    theirs = {name.partition(".")[2]: value for name, value in upstream.items() if name.startswith(f"{number}.")}
    assert [one.name for one in found] == theirs["names"].tolist()
    assert [list(one.query_indices) for one in found] == json.loads(str(theirs["query"]))
    assert [list(one.template_indices) for one in found] == json.loads(str(theirs["hit"]))
    start = 0
    for one, mask in zip(found, theirs["mask"], strict=True):
        places, has = atoms_of(one, len(query), upstream["atoms"].tolist())
        np.testing.assert_array_equal(has, mask)
        shift = places[has] - theirs["positions"][start : start + mask.sum()]
        assert np.ptp(shift, axis=0).max() < TOLERANCE
        start += mask.sum()
    arrays = arrays_of(query, found)
    np.testing.assert_array_equal(arrays.aatype, theirs["template_aatype"])
    np.testing.assert_array_equal(arrays.pseudo_beta_mask, theirs["template_pseudo_beta_mask"])
    np.testing.assert_array_equal(arrays.backbone_mask, theirs["template_backbone_frame_mask"])


@pytest.fixture(scope="session")
def recorded() -> Arrays:
    return template_cases.recorded()


@pytest.fixture(scope="session")
def replayed(recorded: Arrays) -> Align:
    """Kalign's answers as they were recorded."""
    known = {(one[0], one[1]): (one[2], one[3]) for one in json.loads(str(recorded["alignments"]))}
    return lambda query, sequence: known.get((query, sequence))


@pytest.fixture(scope="session")
def made_cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return template_cases.cases(tmp_path_factory.mktemp("templates"))


@pytest.fixture
def kalign() -> Kalign:
    found = Kalign.find()
    if found is None:
        pytest.skip("kalign is not on the PATH")
    return found


def test_choice_equals_the_recorded_one(made_cases: list[Case], recorded: Arrays, replayed: Align) -> None:
    for number, case in enumerate(made_cases):
        check(case, chosen(case, replayed)[0], recorded, number)


def test_kalign_answers_as_recorded(recorded: Arrays, kalign: Kalign) -> None:
    if not kalign.version.startswith("3.3"):
        pytest.skip(f"recorded with kalign 3.3.5, this is {kalign.version}")
    known = {(one[0], one[1]): (one[2], one[3]) for one in json.loads(str(recorded["alignments"]))}
    assert len(known) > 5
    assert {pair: kalign(*pair) for pair in known} == known


@pytest.mark.upstream
def test_choice_equals_upstream(made_cases: list[Case], upstream_python: Path, kalign: Kalign, tmp_path: Path) -> None:
    upstream = template_cases.upstream_on(made_cases, upstream_python, tmp_path)
    for number, case in enumerate(made_cases):
        check(case, chosen(case, kalign)[0], upstream, number)


def real_cases(shared_data: Path) -> list[Case]:
    """The example that names its rows, and homologs of the chains that have structures, searched for in pdb_seqres."""
    job = shared_data.parent / "reference" / "protenix" / "inputs" / "templ.json"
    chain = json.loads(job.read_text())[0]["sequences"][0]["proteinChain"]
    a3m = (job.parents[1] / chain["templatesPath"]).read_text()
    cases: list[Case] = [{"query": chain["sequence"], "a3m": a3m, "folder": str(shared_data / "structures")}]
    folder = shared_data / "databases"
    database = next(folder.glob("pdb_seqres*"))
    known = dict(hmmer_reference.records(database))
    for name in ("5y2e_A", "6s61_M", "6ydw_Bj", "7rye_J"):
        text = known[next(one for one in known if one.startswith(name))]
        for step, shift in ((9, 4), (4, 1), (3, 0)):
            query = "M" + "".join("A" if i % step == shift else letter for i, letter in enumerate(text))
            profile = stockholm(Alignment(("query",), (query,)))
            with InProcess(1) as executor:
                search = Search(TEMPLATES, float(len(known)))
                rows = PyHmmer().search_profile(profile, [database], search, executor)
            a3m = "".join(f">{one.header}\n{one.text}\n" for one in rows)
            cases.append({"query": query, "a3m": a3m, "folder": str(folder / "mmcif")})
    for case in cases:
        structures = structures_in(case["folder"])
        case["dates"] = {
            path.stem: str(structures.released(path.stem)) for path in Path(str(case["folder"])).glob("*.cif")
        }
    return cases


@pytest.mark.upstream
def test_real_templates_equal_upstream(
    shared_data: Path, upstream_python: Path, kalign: Kalign, fidelity: ModuleType, tmp_path: Path
) -> None:
    cases = real_cases(shared_data)
    upstream = template_cases.upstream_on(cases, upstream_python, tmp_path)
    made = 0
    for number, case in enumerate(cases):
        found, _ = chosen(case, kalign)
        check(case, found, upstream, number)
        arrays = arrays_of(str(case["query"]), found)
        named = {f"template_{name}": getattr(arrays, name) for name in ("aatype", "pseudo_beta", "pseudo_beta_mask")}
        named |= {"template_backbone": arrays.backbone, "template_backbone_mask": arrays.backbone_mask}
        pairs = fidelity.template_pairs(SimpleNamespace(**named))
        np.testing.assert_array_equal(pairs["template_distogram"], upstream[f"{number}.template_distogram"])
        vectors = upstream[f"{number}.template_unit_vector"]
        np.testing.assert_allclose(pairs["template_unit_vector"], vectors, atol=UNIT_VECTOR_TOLERANCE)
        made += len(found)
    assert made >= 10


PART = homolog(QUERY, 5)  # a homolog, no piece of the query


def gapless(query: str, sequence: str) -> tuple[str, str]:
    """An aligner that lays the sequence onto the query's start."""
    length = max(len(query), len(sequence))
    return query.ljust(length, "-"), sequence.ljust(length, "-")


def hit(name: str, text: str) -> Hit:
    length = len(text.replace("-", ""))
    return Hit(name, "A", text + "-" * (70 - len(text.replace("-", ""))), 0, length, length)


def names(folder: Path, hits: list[Hit], align: Align = gapless) -> tuple[list[str], dict[str, str]]:
    found, dropped = choose(QUERY, hits, structures_in(folder), CUTOFF, align)
    return [one.name[:4] for one in found], {one.name[:4]: one.reason for one in dropped}


def test_filters_one_by_one(tmp_path: Path) -> None:
    def put(name: str, text: str, released: str | None = "2021-09-30") -> None:
        (tmp_path / f"{name}.cif").write_text(entry(name, residues(text, 1), released))

    put("good", PART)
    assert names(tmp_path, [hit("good", PART)]) == (["good"], {})
    put("late", PART, "2021-10-01")
    assert names(tmp_path, [hit("late", PART)]) == ([], {"late": "released after 2021-09-30"})
    put("none", PART, None)
    structures = structures_in(tmp_path)
    assert choose(QUERY, [hit("none", PART), hit("away", PART)], structures, CUTOFF, gapless) == ([], [])
    assert structures.missing == ["none", "away"]
    for length, passes in ((66, True), (67, False)):
        found = names(tmp_path, [hit("good", QUERY[:length])])
        assert found == ((["good"], {}) if passes else ([], {"good": "a piece of the chain itself"}))
    for columns, passes in ((7, False), (8, True)):
        found = names(tmp_path, [hit("good", PART[:columns] + PART[columns:30].lower())])
        assert found == ((["good"], {}) if passes else ([], {"good": "no more than 10% of the chain covered"}))
    for length, passes in ((9, False), (10, True)):
        found = names(tmp_path, [hit("good", PART[:length])])
        assert found == ((["good"], {}) if passes else ([], {"good": "under 10 residues"}))
    nucleic = replace(hit("good", PART), protein=False)
    assert names(tmp_path, [nucleic, hit("good", PART)]) == (["good"], {"good": "no protein"})
    other = replace(hit("good", PART), chain="B")
    assert names(tmp_path, [other]) == ([], {"good": "no protein chain B"})
    assert names(tmp_path, [hit("good", PART)], lambda query, sequence: None) == (
        [],
        {"good": "kalign cannot align it"},
    )


def test_filters_of_atoms(tmp_path: Path) -> None:
    def put(name: str, atoms: int, away: float) -> None:
        chain = residues(PART, 1)
        for at, one in enumerate(chain):
            moved = [(*atom[:4], (atom[4][0] + away * (at > 30), *atom[4][1:])) for atom in one.atoms]
            one.atoms = moved if atoms == 0 else moved[:atoms] if at == 20 else []
        (tmp_path / f"{name}.cif").write_text(entry(name, chain, "2000-01-01"))

    put("four", 4, 0)
    put("five", 5, 0)
    put("near", 0, 140)
    put("away", 0, 160)
    assert names(tmp_path, [hit("four", PART)])[1] == {"four": "under 5 atoms where the chain is aligned"}
    assert names(tmp_path, [hit("five", PART)])[0] == ["five"]
    assert names(tmp_path, [hit("near", PART)])[0] == ["near"]
    assert names(tmp_path, [hit("away", PART)])[1] == {"away": "a break of more than 150 Å in the backbone"}
    nowhere = names(tmp_path, [hit("near", PART)], lambda query, other: (query + "-" * 70, "-" * 70 + other))
    assert nowhere[1] == {"near": "under 5 atoms where the chain is aligned"}


def test_equal_pieces_and_equal_images_count_once_and_four_at_most(tmp_path: Path) -> None:
    texts = {f"{i}abc": homolog(QUERY, 4 + i) for i in range(6)}
    for name, text in (texts | {"same": texts["0abc"]}).items():
        (tmp_path / f"{name}.cif").write_text(entry(name, residues(text, 1), "2000-01-01"))
    hits = [hit(name, text) for name, text in texts.items()]
    piece, image = replace(hits[0], pdb_id="same"), replace(hit("same", texts["0abc"][:60]), pdb_id="same")
    found, dropped = names(tmp_path, [hits[0], piece, *hits[1:]])
    assert (found, dropped) == (["0abc", "1abc", "2abc", "3abc"], {"same": "the same piece as a hit before"})
    found, dropped = names(tmp_path, [hits[0], image, *hits[1:]])
    assert (found, dropped) == (["0abc", "1abc", "2abc", "3abc"], {"same": "the same residues as a template before"})


def test_twenty_candidates_at_most(tmp_path: Path) -> None:
    (tmp_path / "good.cif").write_text(entry("good", residues(PART, 1), "2000-01-01"))
    hits = [replace(hit("good", PART[i:]), chain="B") for i in range(20)]
    last = hit("good", PART[21:])
    assert names(tmp_path, [*hits[1:], last])[0] == ["good"]
    assert names(tmp_path, [*hits, last]) == ([], {"good": "after the first 20 candidates"})
    assert names(tmp_path, [*hits[1:], hits[5], last])[0] == ["good"]  # what was seen before is no candidate


def test_what_was_dropped_is_told() -> None:
    many = [Dropped(f"{i}xyz_A", "under 10 residues") for i in range(11)] + [Dropped("1abc_B", "late")]
    first, second = told(many)
    assert first.startswith("template hits left out, under 10 residues: 0xyz_A, 1xyz_A,")
    assert first.endswith("7xyz_A and 3 more")
    assert second == "template hits left out, late: 1abc_B"


def test_an_entry_with_two_residues_at_one_place(tmp_path: Path) -> None:
    """One letter per place, the later one, whose atoms are taken; upstream counts both and shifts what follows."""
    chain = residues(PART, 1)
    text = entry("both", chain, "2000-01-01")
    row = f"2 10 {chain[9].code} n\n"
    assert row in text
    (tmp_path / "both.cif").write_text(text.replace(row, row + "2 10 HIS n\n"))
    (found,), _ = choose(QUERY, [hit("both", PART)], structures_in(tmp_path), CUTOFF, gapless)
    read = read_template(found.mmcif)
    assert read.sequence == PART[:9] + "H" + PART[10:]
    assert (read.positions == read_template(text, "A").positions).all()
