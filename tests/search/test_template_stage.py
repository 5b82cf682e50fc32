"""Templates of jobs: found, written so that the job's reader takes them, cached, and left out with a note."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gemmi
import pytest
from made_databases import mutated, sequence

from foldline.errors import SearchError
from foldline.execute import InProcess
from foldline.features.templates import entity_templates
from foldline.inputs import jobs_from_json, to_json
from foldline.inputs.job import Job, Polymer, Text
from foldline.search.ahead import job_search
from foldline.search.jobs import searched
from foldline.search.settings import SearchSettings
from foldline.search.stage import Searcher
from foldline.search.template_stage import TemplateSearch

QUERY = sequence("protein", 70, 11)
RELEASED = {"1aaa": "2010-01-01", "2bbb": "2015-05-05", "3ccc": "2025-01-01", "4ddd": None}


def mmcif(name: str, text: str, released: str | None) -> str:
    """Two chains, of which the second is `text` with its first three residues unresolved."""
    structure = gemmi.Structure()
    structure.name = name.upper()
    model = gemmi.Model(1)
    for chain_id, letters in (("A", "GAGAG"), ("B", text)):
        chain = gemmi.Chain(chain_id)
        for number, residue_name in enumerate(gemmi.expand_one_letter_sequence(letters, gemmi.ResidueKind.AA), 1):
            residue = gemmi.Residue()
            residue.name, residue.seqid, residue.label_seq = residue_name, gemmi.SeqId(number, " "), number
            residue.entity_type = gemmi.EntityType.Polymer
            for place, atom_name in enumerate(("N", "CA", "C")):
                atom = gemmi.Atom()
                atom.name, atom.element = atom_name, gemmi.Element(atom_name[0])
                atom.pos = gemmi.Position(3.8 * number, place, len(letters))
                residue.add_atom(atom)
            if chain_id == "A" or number > 3:
                chain.add_residue(residue)
        model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    for entity, letters in zip(structure.entities, ("GAGAG", text), strict=True):
        entity.full_sequence = gemmi.expand_one_letter_sequence(letters, gemmi.ResidueKind.AA)
    block = structure.make_mmcif_block()
    if released is not None:
        block.set_pair("_pdbx_audit_revision_history.revision_date", released)
    return block.as_string()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pdb")
    (root / "mmcif").mkdir()
    entries = {name: mutated(QUERY, "protein", 0.25, i) for i, name in enumerate(RELEASED)}
    entries["5eee"] = mutated(QUERY, "protein", 0.3, 9)  # no structure
    lines = [f">{name}_B mol:protein length:{len(text)}  Made\n{text}" for name, text in entries.items()]
    lines += [f">9zz{i}_A mol:protein length:80  Other\n{sequence('protein', 80, i)}" for i in range(8)]
    (root / "seqres.fasta").write_text("\n".join(lines) + "\n")
    for name, released in RELEASED.items():
        (root / "mmcif" / f"{name}.cif").write_text(mmcif(name, entries[name], released))
    return root


@pytest.fixture
def executor() -> Iterator[InProcess]:
    with InProcess(1) as executor:
        yield executor


def table(folder: Path, **more: object) -> dict[str, object]:
    return {"relative_to": str(folder), "databases": {"pdb_seqres": "seqres.fasta", "mmcif": "mmcif"}, **more}


def job(a3m: str = "") -> Job:
    chain = Polymer("protein", ("A", "B"), QUERY, unpaired_msa=Text(a3m), paired_msa=Text(""))
    return Job("j", (1,), (chain,))


def chosen(one: Job) -> list[str]:
    (entity,) = one.entities
    assert isinstance(entity, Polymer)
    texts = [template.mmcif for template in entity.templates or ()]
    blocks = [text.inline or "" for text in texts]
    return [gemmi.cif.read_string(block)[0].name.lower() for block in blocks]


@pytest.mark.parametrize("a3m", ["", f">q\n{QUERY}\n>h\n{QUERY[:30]}aa{QUERY[30:50]}{'-' * 20}\n"])
def test_templates_of_a_chain_with_an_alignment(folder: Path, tmp_path: Path, executor: InProcess, a3m: str) -> None:
    searcher = Searcher(SearchSettings.make(table(folder, inline=True)), tmp_path, executor)
    (found,) = searched([job(a3m)], searcher)
    assert set(chosen(found)) == {"1aaa", "2bbb"}
    assert any("without a usable structure" in note and "5eee" in note for note in found.notes)
    late = SearchSettings.make(table(folder, inline=True, max_template_date="2026-01-01"))
    assert set(chosen(searched([job(a3m)], Searcher(late, tmp_path, executor))[0])) == {"1aaa", "2bbb", "3ccc"}


def test_what_is_written_is_read_and_used(folder: Path, tmp_path: Path, executor: InProcess) -> None:
    searcher = Searcher(SearchSettings.make(table(folder)), tmp_path, executor)
    (found,) = searched([job()], searcher)
    written = json.loads(to_json(found))["sequences"][0]["protein"]["templates"]
    assert [set(one) for one in written] == [{"mmcifPath", "queryIndices", "templateIndices"}] * 2
    (back,), faults = jobs_from_json(to_json(found))
    assert not faults
    (entity,) = back.entities
    assert isinstance(entity, Polymer)
    arrays = entity_templates(entity, "$.sequences[0].protein")
    assert arrays.backbone_mask[:2].sum() > 80
    assert not arrays.backbone_mask[2:].any()
    same = sum(
        QUERY[q] == text for one in written for q, text in zip(one["queryIndices"], _letters(one, found), strict=True)
    )
    assert same > 80


def _letters(written: dict, found: Job) -> list[str]:
    from foldline.inputs import read_text
    from foldline.structure.mmcif_in import read_template

    chain = read_template(read_text(Text(path=Path(written["mmcifPath"])), "t"))
    return [chain.sequence[at] for at in written["templateIndices"]]


def test_the_second_time_nothing_is_searched(folder: Path, tmp_path: Path, executor: InProcess) -> None:
    runs = [Searcher(SearchSettings.make(table(folder)), tmp_path, executor) for _ in range(2)]
    first, second = (searched([job()], one)[0] for one in runs)
    assert first == second
    assert first.notes == second.notes
    assert [len(one.searched) for one in runs] == [1, 0]
    (entity,) = first.entities
    assert isinstance(entity, Polymer)
    assert entity.templates
    path = entity.templates[0].mmcif.path
    assert path is not None
    path.unlink()
    third = Searcher(SearchSettings.make(table(folder)), tmp_path, executor)
    assert searched([job()], third)[0] == first
    assert path.is_file()


def test_given_templates_and_an_unnamed_database_mean_no_search(
    folder: Path, tmp_path: Path, executor: InProcess
) -> None:
    none = Job("j", (1,), (Polymer("protein", ("A",), QUERY, (), Text(""), Text(""), ()),))
    searcher = Searcher(SearchSettings.make(table(folder)), tmp_path, executor)
    assert searched([none], searcher) == [none]
    unnamed = Searcher(SearchSettings.make({"databases": {"pdb_seqres": "none", "mmcif": "none"}}), tmp_path, executor)
    (found,) = searched([job()], unnamed)
    assert found.entities[0].templates == ()  # type: ignore[union-attr]
    assert not searcher.searched + unnamed.searched


def test_a_missing_folder_is_named(folder: Path, tmp_path: Path, executor: InProcess) -> None:
    wrong = {"relative_to": str(folder), "databases": {"pdb_seqres": "seqres.fasta", "mmcif": "nowhere"}}
    with pytest.raises(SearchError, match=r"the database mmcif \(nowhere\) is not in"):
        searched([job()], Searcher(SearchSettings.make(wrong), tmp_path, executor))


def test_the_engines_function(folder: Path, tmp_path: Path) -> None:
    assert job_search({}, tmp_path) is None
    search = job_search(table(folder, threads=1), tmp_path)
    assert search is not None
    stages = []
    assert len(search(job(), lambda event: stages.append(event.stage)).entities[0].templates) == 2  # type: ignore
    assert set(stages) == {"search"}


def test_remote_templates_are_those_of_the_folder(folder: Path, tmp_path: Path, executor: InProcess) -> None:
    """The entries that hits name are copied, and no others; the second run asks the store for none."""
    local = Searcher(SearchSettings.make(table(folder, inline=True)), tmp_path / "local", executor)
    names = {"pdb_seqres": f"file://{folder}/seqres.fasta", "mmcif": f"file://{folder}/mmcif"}
    runs = [
        Searcher(SearchSettings.make({"databases": names, "inline": True}), tmp_path / "remote", executor)
        for _ in range(2)
    ]
    found = [searched([job()], one)[0] for one in (local, *runs)]
    assert found[0].entities == found[1].entities == found[2].entities
    assert any(f"without a usable structure in file://{folder}/mmcif" in note for note in found[1].notes)
    copies = {path.name for path in (tmp_path / "remote").rglob("*.cif")}
    assert {"1aaa.cif", "2bbb.cif"} <= copies <= {f"{name}.cif" for name in RELEASED}
    assert not runs[1].searched


def test_rules_follow_the_family_and_the_setting(
    folder: Path, tmp_path: Path, executor: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept apart in the cache; without kalign the automatic choice says so, and the explicit one fails."""
    from foldline.search.template_aligner import Kalign

    said = []

    class Marked:
        version = "1"

        def __call__(self, query: str, template: str) -> tuple[str, str]:
            said.append(query)
            length = max(len(query), len(template))
            return query.ljust(length, "-"), template.ljust(length, "-")

    monkeypatch.setattr(Kalign, "find", classmethod(lambda cls: Marked()))
    for rules, family, by_protenix in (
        ("auto", "protenix", True),
        ("auto", "openfold3", False),
        ("auto", "", False),
        ("alphafold3", "protenix", False),
        ("protenix", "", True),
    ):
        given = SearchSettings.make(table(folder, inline=True, template_rules=rules, family=family))
        (found,) = searched([job()], Searcher(given, tmp_path / f"{rules}{family}", executor))
        assert bool(said) == by_protenix
        assert set(chosen(found)) == {"1aaa", "2bbb"}
        assert "released after 2021-09-30: 3ccc_B" in " ".join(found.notes)
        said.clear()
    shared = [Searcher(SearchSettings.make(table(folder, family=one)), tmp_path, executor) for one in ("", "protenix")]
    first, second = (searched([job()], one)[0] for one in shared)
    assert first.entities != second.entities
    assert [len(one.searched) for one in shared] == [1, 1]

    monkeypatch.setattr(Kalign, "find", classmethod(lambda cls: None))
    without = Searcher(SearchSettings.make(table(folder, family="protenix")), tmp_path, executor)
    (found,) = searched([job()], without)
    assert found.entities == first.entities
    assert not without.searched
    assert any("chosen by AlphaFold 3's rules" in note and "apt-get install kalign" in note for note in found.notes)
    asked = SearchSettings.make(table(folder, template_rules="protenix"))
    with pytest.raises(SearchError, match="need kalign, which is not on the PATH: install it"):
        searched([job()], Searcher(asked, tmp_path, executor))


def test_protenix_takes_the_profile_from_the_paired_rows_first(
    folder: Path, tmp_path: Path, executor: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foldline.search import template_stage
    from foldline.search.rows import Alignment

    profiles: list[Alignment] = []
    stockholm = template_stage.stockholm
    monkeypatch.setattr(template_stage, "stockholm", lambda one: profiles.append(one) or stockholm(one))
    many = "".join(f">p{i}\n{mutated(QUERY, 'protein', 0.1, i)[:70].ljust(70, '-')}\n" for i in range(299))
    chain = Polymer(
        "protein", ("A",), QUERY, unpaired_msa=Text(f">u\n{QUERY}\n"), paired_msa=Text(f">q\n{QUERY}\n{many}")
    )
    for rules in ("alphafold3", "protenix"):
        settings = SearchSettings.make(table(folder, template_rules=rules))
        if rules == "protenix" and not template_stage.Kalign.find():
            pytest.skip("kalign is not on the PATH")
        searched([Job("j", (1,), (chain,))], Searcher(settings, tmp_path, executor))
    assert profiles[0].headers == ("u",)
    assert (len(profiles[1].headers), profiles[1].headers[0], profiles[1].headers[-1]) == (300, "q", "p298")


def test_a_chain_of_many_jobs_is_looked_up_once(
    folder: Path, tmp_path: Path, executor: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    real = TemplateSearch.begin
    monkeypatch.setattr(
        TemplateSearch, "begin", lambda self, *rest: looked.append(self.lookup.query) or real(self, *rest)
    )
    searcher = Searcher(SearchSettings.make(table(folder)), tmp_path, executor)
    first, second = searched([job(), replace(job(), name="k")], searcher)
    third = searched([job()], replace(searcher))[0]
    assert looked == [QUERY]
    assert first.entities == second.entities == third.entities
    (entity,) = first.entities
    assert isinstance(entity, Polymer) and entity.templates
    (tmp_path / "search-1" / "entries").rename(tmp_path / "gone")
    assert searched([job()], searcher)[0].entities == first.entities
    assert looked == [QUERY, QUERY], "pruned meanwhile"
