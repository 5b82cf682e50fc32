"""Whose rules choose templates, from the command line: the model's family in predict, AlphaFold 3's in search."""

import json
from pathlib import Path

import pytest
from made_structures import entry, residues
from template_cases import QUERY, homolog

from foldline.cli import main
from foldline.search.template_aligner import Kalign


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings, a database of one entry with a selenomethionine, and a job with an alignment."""
    monkeypatch.chdir(tmp_path)
    text = homolog(QUERY, 5)[:20] + "m" + homolog(QUERY, 5)[21:]
    (tmp_path / "mmcif").mkdir()
    (tmp_path / "mmcif" / "1abc.cif").write_text(entry("1abc", residues(text, 1), "2000-01-01"))
    (tmp_path / "seqres.fasta").write_text(f">1abc_A mol:protein length:70  Made\n{text.replace('m', 'M')}\n")
    (tmp_path / "foldline.toml").write_text(
        'cache_dir = "cache"\n[search]\nthreads = 1\ninline = true\n[search.databases]\n'
        'pdb_seqres = "seqres.fasta"\nmmcif = "mmcif"\n'
    )
    protein = {"protein": {"id": "A", "sequence": QUERY, "unpairedMsa": "", "pairedMsa": ""}}
    job = {"dialect": "alphafold3", "version": 2, "name": "one", "modelSeeds": [1], "sequences": [protein]}
    (tmp_path / "job.json").write_text(json.dumps(job))
    return tmp_path


PREDICT = ("predict", "--stage", "search", "--model")


@pytest.mark.parametrize(
    ("words", "setting", "by_protenix"),
    [
        (("search",), "", False),
        (("search",), 'template_rules = "protenix"', True),
        ((*PREDICT, "protenix-mini"), "", True),
        ((*PREDICT, "protenix-mini"), 'template_rules = "alphafold3"', False),
        ((*PREDICT, "elsewhere.pt"), "", False),
    ],
)
def test_rules_of_a_command(place: Path, words: tuple[str, ...], setting: str, by_protenix: bool) -> None:
    if by_protenix and Kalign.find() is None:
        pytest.skip("kalign is not on the PATH")
    settings = place / "foldline.toml"
    settings.write_text(settings.read_text().replace("threads = 1\n", f"threads = 1\n{setting}\n"))
    with pytest.raises(SystemExit) as ended:
        main([*words, "job.json", "--out", "out"])
    assert not ended.value.code
    (template,) = json.loads((place / "out/one/one_data.json").read_text())["sequences"][0]["protein"]["templates"]
    assert ("MSE" not in template["mmcif"]) == by_protenix
    assert len(template["queryIndices"]) > 60


def test_an_unknown_rule_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = place / "foldline.toml"
    settings.write_text(settings.read_text().replace("threads = 1\n", 'template_rules = "mine"\n'))
    with pytest.raises(SystemExit) as ended:
        main(["search", "job.json", "--out", "out"])
    assert ended.value.code == 2
    assert "search.template_rules: 'mine' is not possible here: give auto, alphafold3 or protenix" in " ".join(
        capsys.readouterr().err.split()
    )
