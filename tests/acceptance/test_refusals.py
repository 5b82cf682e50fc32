"""What is refused before anything runs: one sentence with the place, exit code 2, nothing written.

Of three of these cases also what `repair` makes of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_jobs import ccd, dna, job, protein, rna, server_job, smiles

Refused = Callable[..., str]
P, L, BOND = "$.sequences[0].protein", "$.sequences[0].ligand", "$.bondedAtomPairs[0]"


def bonded(*chains: dict[str, Any], a: tuple[str, int, str], b: tuple[str, int, str]) -> dict[str, Any]:
    return job(*chains, bondedAtomPairs=[[list(a), list(b)]])


def test_a01_empty_sequence(refused: Refused) -> None:
    assert f"{P}.sequence: the protein sequence is empty" in refused(job(protein("")))


def test_a02_no_chains(refused: Refused) -> None:
    assert "$.sequences: there are no chains" in refused(job() | {"sequences": []})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("C1CC", "unclosed ring"),
        ("CC(C)(C)(C)C", "atom 2 of the SMILES, C"),
        ("CCX", "position 3"),
        ("***@***", "is not a SMILES"),
        ("CC***", "unknown atoms (*) at atoms 3, 4, 5"),
    ],
)
def test_a15_invalid_smiles(refused: Refused, text: str, says: str) -> None:
    found = refused(job(smiles(text)))
    assert f"{L}.smiles" in found and says in found


@pytest.mark.parametrize("name", ["./x.mol2", "x.sdf", "ligand.PDB"])
def test_a16_a_file_in_the_place_of_a_smiles(refused: Refused, name: str) -> None:
    found = refused(job(smiles(name)))
    assert f"{L}.smiles" in found and "is a file name, not a SMILES" in found


@pytest.mark.parametrize("text", ["CCO.[Na+]", "CCS(=O)(=O)O.CN"])
def test_a17_salts_are_to_be_split(refused: Refused, text: str) -> None:
    found = refused(job(smiles(text)))
    assert f"{L}.smiles" in found and "give each a ligand of its own" in found


@pytest.mark.parametrize("code", ["ZZZZ9", "~QS", "ATPPP"])
def test_a18_unknown_codes_are_answered_with_near_ones(refused: Refused, code: str) -> None:
    found = refused(job(ccd("ATP", code)))
    assert f"{L}.ccdCodes[1]" in found and "20" in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data_X\n_chem_comp.id X\nloop_\n_chem_comp_atom.atom_id\nC1\nC2\n", "_chem_comp_atom.type_symbol"),
        ("HEM", 'no line starts with "data_"'),
        ("data_X\nloop_\n_a.b\n_a.c\n1\n", "not mmCIF"),
    ],
)
def test_a19_user_components_with_faults(refused: Refused, text: str, says: str) -> None:
    found = refused(job(ccd("X"), userCCD=text))
    assert "$.userCCD" in found and says in found


@pytest.mark.parametrize(("sequence", "place"), [("MK*T", 3), ("MK-T", 3), ("MK_T", 3), ("M KT4", 4), ("MKÄ", 3)])
def test_a22_characters_that_are_no_residues(refused: Refused, sequence: str, place: int) -> None:
    found = refused(job(protein(sequence)))
    assert f"{P}.sequence" in found and f"at position {place}" in found


@pytest.mark.parametrize(("chain", "remedy"), [(rna("GTC"), "write U"), (dna("GUC"), "write T")])
def test_a23_t_in_rna_and_u_in_dna(refused: Refused, chain: dict[str, Any], remedy: str) -> None:
    found = refused(job(chain))
    assert ".sequence" in found and "position 2" in found and remedy in found
    assert 'or set repair = ["nucleotides"]' in found


def test_a25_duplicate_chain_ids(refused: Refused) -> None:
    assert "$.sequences[1].ligand.id" in refused(job(protein(), ccd("ZN", ids="A")))


@pytest.mark.parametrize("name", ["A1", "a", "Ab", "É", "NaN", ""])
def test_a27_chain_ids_are_capitals(refused: Refused, name: str) -> None:
    found = refused(job(protein(ids=name)))
    assert f"{P}.id" in found and "capital letters" in found and 'or set repair = ["chain_ids"]' in found


@pytest.mark.parametrize(
    ("a", "path", "says"),
    [
        (("A", 2, "ND3"), f"{BOND}[0]", "ND2"),
        (("Q", 2, "ND2"), f"{BOND}[0][0]", "the chains are A, L"),
        (("A", 9, "ND2"), f"{BOND}[0][1]", "1 to 3"),
    ],
)
def test_a28_bond_ends_that_do_not_exist(refused: Refused, a: tuple[str, int, str], path: str, says: str) -> None:
    found = refused(bonded(protein("ANG"), ccd("NAG"), a=a, b=("L", 1, "C1")))
    assert path in found and says in found


def test_a29_bond_to_a_smiles_ligand(refused: Refused) -> None:
    found = refused(bonded(protein("ACG"), smiles("CCS"), a=("A", 2, "SG"), b=("L", 1, "S1")))
    assert f"{BOND}[1][0]" in found and "SMILES ligand" in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (">q\nMKTAYIAK\n>x\nMKT\n", "row 2"),
        (">q\nM-TAYIAK\n>x\nMKTAYIAK\n", "row 1"),
        (">q\nMKTAYIAR\n", "row 1"),
    ],
)
def test_a33_rows_that_do_not_fit_the_query(refused: Refused, text: str, says: str) -> None:
    found = refused(job(protein(unpairedMsa=text)))
    assert f"{P}.unpairedMsa" in found and says in found
    assert ('or set repair = ["alignments"]' in found) == (says == "row 1")


@pytest.mark.parametrize(("name", "says"), [("absent.a3m", "does not exist"), ("folder", "is a folder")])
def test_a35_alignment_that_is_not_there(refused: Refused, tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder").mkdir()
    chain = protein()
    del chain["protein"]["unpairedMsa"]
    chain["protein"]["unpairedMsaPath"] = name
    found = refused(job(chain))
    assert f"{P}.unpairedMsaPath" in found and says in found


@pytest.mark.parametrize("gone", [True, False])
def test_a35_alignment_that_a_search_found_and_a_cleaning_removed(refused: Refused, tmp_path: Path, gone: bool) -> None:
    """The paths of `<job>_data.json` are absolute: no word of folders that they would start at."""
    key = f"{0:040x}"
    path = tmp_path / "search-1" / "entries" / key[:2] / (f"{key}.zst" if gone else "x.a3m")
    found = refused(job(protein(unpairedMsa=None, unpairedMsaPath=str(path))))
    assert f"{P}.unpairedMsaPath: the file {path} " in found and "relative paths" not in found
    assert ("is gone" in found and "run the search of the job again" in found) == gone
    assert found.rstrip().endswith("does not exist: check the path") != gone


def test_a35_no_alignment_named(refused: Refused) -> None:
    found = refused(job(protein(unpairedMsa=None, pairedMsa=None)))
    assert P in found and "--msa none" in found


def test_a36_one_of_two_alignments(refused: Refused) -> None:
    found = refused(job(protein(pairedMsa=None)))
    assert P in found and '"unpairedMsa" is set and "pairedMsa" is not' in found


def test_a36_text_and_path(refused: Refused, write: Callable[..., Path]) -> None:
    write(">q\nMKTAYIAK\n", "a.a3m")
    found = refused(job(protein(unpairedMsa=">q\nMKTAYIAK\n", unpairedMsaPath="a.a3m")))
    assert P in found and 'both "unpairedMsa" and "unpairedMsaPath" are set' in found


@pytest.mark.parametrize(
    ("query", "hit", "path", "says"),
    [
        ([0, 1], [0], "", "2 queryIndices against 1"),
        ([0, 8], [0, 1], ".queryIndices[1]", "8"),
        ([0, 1], [0, 7], ".templateIndices", "7"),
    ],
)
def test_a40_template_indices(refused: Refused, query: list[int], hit: list[int], path: str, says: str) -> None:
    text = (Path(__file__).parent / "template.pdb").read_text()
    given = {"mmcif": text, "queryIndices": query, "templateIndices": hit}
    found = refused(job(protein(templates=[given])))
    assert f"{P}.templates[0]{path}" in found and says in found


@pytest.mark.parametrize(
    ("seeds", "path"),
    [([], ""), (["1190523073"], "[0]"), ([1, -1], "[1]"), ([2**32], "[0]"), ([1.5], "[0]"), ([True], "[0]")],
)
def test_a41_seeds_that_are_none(refused: Refused, seeds: list[Any], path: str) -> None:
    assert f"$.modelSeeds{path}: " in refused(job(modelSeeds=seeds))


@pytest.mark.parametrize("other", ["job", "JOB"])
def test_a43_two_jobs_with_one_folder(
    refused: Refused, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other: str
) -> None:
    """The later one is refused; that the first one then runs is the batch's business, so it stops here."""
    first = write(job(ccd("ZN")), "first.json")
    second = write(job(ccd("ZN"), name=other), "second.json")
    (tmp_path / "foldline.toml").write_text('on_error = "stop"\n')
    found = refused(None, first, second)
    assert "second.json" in found and "rename one of the two" in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"name": "x",\n}', "line 1 column 13: a comma before the closing bracket"),
        ("\ufeff{}", "byte order mark"),
        ("{}".encode("utf-16"), "UTF-16"),
        ('{"name": "x" // a\n}', "line 1 column 14: JSON has no comments"),
        ({"name": "x", "modelSeeds": [1], "sequences": [ccd("ZN")]}, 'its "dialect" and "version"'),
        (job(ccd("ZN"), version=5), "$.version"),
        (job(ccd("ZN"), dialect="alphafold4"), "$.dialect"),
        (job({"ligand": {"id": "L", "ccdCode": ["ZN"], "ccdCodes": ["ZN"]}}), 'unknown key "ccdCode": did you mean'),
    ],
)
def test_a44_json_that_is_no_job(refused: Refused, text: Any, says: str) -> None:
    assert says in refused(text)


@pytest.mark.parametrize(
    ("more", "key"),
    [({"glycans": [{"residues": "NAG", "position": 2}]}, "glycans"), ({"maxTemplateDate": "2020-01-01"}, "maxTempl")],
)
def test_a45_what_only_the_server_has(refused: Refused, more: dict[str, Any], key: str) -> None:
    found = refused([server_job({"proteinChain": {"sequence": "ANG", "count": 1, **more}})])
    assert f"$[0].sequences[0].proteinChain.{key}" in found


@pytest.mark.parametrize("name", [None, "job.fasta.txt"])
def test_a46_a_folder_without_inputs(refused: Refused, tmp_path: Path, name: str | None) -> None:
    (tmp_path / "in").mkdir()
    if name is not None:
        (tmp_path / "in" / name).write_text(">A\nMKT\n")
    found = refused(None, tmp_path / "in")
    assert "no inputs" in found and (name is None or name in found)


def test_a46_ignored_files_are_named_beside_a_fault(foldline: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "bad.json").write_text("{")
    (tmp_path / "in" / "notes.txt").write_text("")
    for words in (("predict", "--out", "out", "--model", "m.pt"), ("search", "--out", "out"), ("validate",)):
        done = foldline(words[0], tmp_path / "in", *words[1:])
        said, fault = done.err.splitlines()[:2]
        assert done.code == 2 and fault.startswith("error: ")
        assert said == f"note: in the folder {tmp_path}/in these were not read: notes.txt, sub/"


@pytest.fixture
def mending(tmp_path: Path, foldline: Callable[..., Any]) -> Callable[[str], None]:
    """Sets `repair` in the settings, and takes it out again."""
    file = tmp_path / "foldline.toml"
    rest = file.read_text()

    def run(words: str) -> None:
        file.write_text(rest + f"repair = {words}\n")

    return run


def test_a23_bases_are_mended_where_that_is_asked_for(
    foldline: Callable[..., Any], write: Callable[..., Path], mending: Callable[[str], None]
) -> None:
    file = write(job(rna("GTC"), dna("GUC")))
    assert foldline("validate", file).code == 2
    mending('["nucleotides"]')
    done = foldline("validate", file)
    assert done.code == 0 and "ok job: 6 tokens" in done.out
    assert "$.sequences[0].rna.sequence: T is read as U in RNA: 1 in all, at position 2" in done.out
    assert "$.sequences[1].dna.sequence: U is read as T in DNA: 1 in all, at position 2" in done.out
    done = foldline("estimate", file, "--max-memory", "4GB", "--msa", "none")
    assert done.code == 0 and "job: 6 tokens" in done.out


def test_a33_alignments_are_mended_where_that_is_asked_for(
    foldline: Callable[..., Any], write: Callable[..., Path], mending: Callable[[str], None]
) -> None:
    write(">w\nGMKTAYIAR\n>x\nGMKTAYI--\n", "x.a3m")
    chain = protein(unpairedMsa=None, unpairedMsaPath="x.a3m")
    chain["protein"].pop("unpairedMsa")
    file = write(job(chain))
    mending('["chain_ids", "nucleotides"]')
    done = foldline("validate", file)
    assert done.code == 2 and 'or set repair = ["alignments"]' in done.err
    mending('["alignments"]')
    done = foldline("search", file, "--out", "out")
    assert done.code == 0, done.err
    assert "row 1 (w) is not the chain's own sequence, which was put before it (identity 88 %)" in done.err
    (found,) = done.json("job", "data")["sequences"]
    assert found["protein"]["unpairedMsa"] == ">query\nMKTAYIAK\n>w\ngMKTAYIAR\n>x\ngMKTAYI--\n"
    mending('"none"')
    assert foldline("validate", done.folder / "job" / "job_data.json").code == 0


def test_a27_a_mended_job_runs_and_its_record_reads_back(
    predicted: Callable[..., Any], foldline: Callable[..., Any], checkpoint: Path, mending: Callable[[str], None]
) -> None:
    """With ids, bases and an alignment to mend; what is written is a job without faults, whose result this is."""
    chain = protein("ACGTAYIAK", ids=["a", "A1"], unpairedMsa=">w\nACGTAYIAR\n>x\nACGTAYI--\n")
    chains = (chain, rna("GTC", ids="NaN"), ccd("ZN", ids="B"))
    mending('["chain_ids", "nucleotides", "alignments"]')
    done = predicted(bonded(*chains, a=("a", 2, "SG"), b=("A1", 2, "SG")))
    notes = done.json("job", "run")["warnings"]
    assert sum('were changed: "a" -> A, "A1" -> C, "NaN" -> D' in note for note in notes) == 1
    assert sum("T is read as U" in note for note in notes) == 1
    assert sum("is not the chain's own sequence, which was put before it" in note for note in notes) == 1
    data = done.json("job", "data")
    assert [next(iter(item.values()))["id"] for item in data["sequences"]] == [["A", "C"], "D", "B"]
    assert [[end[0] for end in bond] for bond in data["bondedAtomPairs"]] == [["A", "C"]]
    assert data["sequences"][1]["rna"]["sequence"] == "GUC"
    assert list(dict.fromkeys(done.json("job", "confidences")["atom_chain_ids"])) == ["A", "C", "D", "B"]
    model = done.folder / "job" / "job_model.cif"
    before = (model.stat().st_mtime_ns, done.json("job", "run")["fingerprint"])
    mending("[]")
    again = foldline("predict", done.folder / "job" / "job_data.json", "--out", "out", "--model", checkpoint)
    assert again.code == 0, again.err
    assert (model.stat().st_mtime_ns, again.json("job", "run")["fingerprint"]) == before
