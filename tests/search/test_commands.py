"""foldline search, db and cache from the command line, and predict --stage search."""

import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import BinaryIO

import pytest
from made_databases import write

from foldline.cli import main
from foldline.inputs import read_jobs
from foldline.search import files, sharding


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queries: dict[str, list[str]]) -> Path:
    """A folder with settings, two databases and a job of two equal chains; commands run in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "u.fasta", "protein", queries["protein"], homologs=3, others=9)
    write(tmp_path / "data" / "p.fasta", "protein", queries["protein"], homologs=5, others=9)
    (tmp_path / "foldline.toml").write_text(
        'cache_dir = "cache"\n[search]\nthreads = 1\nroots = ["data"]\n[search.databases]\n'
        'uniref90 = "u.fasta"\nuniprot = "p.fasta"\nsmall_bfd = "none"\nmgnify = "none"\nrfam = "none"\n'
        'rnacentral = "none"\nnt_rna = "none"\npdb_seqres = "none"\nmmcif = "none"\n'
    )
    protein = {"protein": {"id": ["A", "B"], "sequence": queries["protein"][0]}}
    job = {"dialect": "alphafold3", "version": 2, "name": "pair", "modelSeeds": [1], "sequences": [protein]}
    (tmp_path / "job.json").write_text(json.dumps(job))
    return tmp_path


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


@pytest.mark.parametrize("words", [("search",), ("predict", "--stage", "search")])
def test_search_writes_a_job_that_needs_no_search(
    place: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*words, "job.json", "--out", "out") == 0
    said = capsys.readouterr().err
    assert "searching uniref90 for 1 sequence\n" in said
    assert "protein alignments were made without small_bfd, mgnify" in said
    written = json.loads((place / "out/pair/pair_data.json").read_text())["sequences"][0]["protein"]
    assert Path(written["unpairedMsaPath"]).is_file()
    assert written["templates"] == []
    jobs, faults = read_jobs([str(place / "out/pair/pair_data.json")], on_error="collect")
    assert len(jobs) == 1
    assert not faults
    shutil.rmtree(place / "data")
    (place / "data").mkdir()
    assert command(*words, "out/pair/pair_data.json", "--out", "again") == 0
    again = json.loads((place / "again/pair/pair_data.json").read_text())["sequences"][0]["protein"]
    assert again == written


@pytest.mark.parametrize("words", [("search",), ("predict", "--stage", "search")])
def test_what_cannot_be_searched_in_is_one_sentence_and_nothing_is_run(
    place: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "data" / "u.fasta").write_bytes(b"no FASTA")
    assert command(*words, "job.json", "--out", "out") == 2
    assert capsys.readouterr().err.count("u.fasta is no FASTA") == 1
    (place / "data" / "u.fasta").unlink()
    assert command(*words, "job.json", "--out", "out") == 2
    assert "the database uniref90 (u.fasta) is not in" in capsys.readouterr().err
    (place / "foldline.toml").write_text('cache_dir = "cache"\n')
    assert command(*words, "job.json", "--out", "out") == 2
    assert "there is no database to search protein sequences in" in capsys.readouterr().err
    assert not (place / "out").exists()


def test_cache_commands(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("search", "job.json", "--out", "out", "--quiet")
    assert command("cache", "list") == 0
    assert "4 entries" in capsys.readouterr().out
    assert command("cache", "export", "all.tar") == 0
    assert command("cache", "prune") == 2
    assert command("cache", "prune", "--max-size", "big") == 2
    assert "--max-size" in capsys.readouterr().err
    assert command("cache", "prune", "--max-size", "0") == 0
    assert "removed 4 entries" in capsys.readouterr().out
    assert command("cache", "import", "all.tar") == 0
    assert command("cache", "import", "all.tar") == 0
    assert "4 new entries, 0 were here already\n0 new entries, 4 were here already" in capsys.readouterr().out
    assert command("search", "job.json", "--out", "out") == 0
    assert "searching" not in capsys.readouterr().err


def test_db_commands(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("db", "list") == 0
    assert "uniref90     " in (listed := capsys.readouterr().out)
    assert listed.count("not counted yet") == 2
    assert command("db", "check", "uniref90", "uniprot") == 0
    assert capsys.readouterr().out.count("sequences") == 2
    assert command("db", "shard", "data/u.fasta", "3") == 0
    assert "data/u.fasta@3" in capsys.readouterr().out
    (place / "data" / "u.fasta").write_text(">a\nACD")
    assert command("db", "check") == 1
    assert "- uniref90     the database file" in capsys.readouterr().out
    assert command("db", "check", "uniref") == 2
    assert "'uniref' is not known: give uniref90" in capsys.readouterr().err


def test_bad_settings(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "foldline.toml").write_text('[search]\nroot = "x"\n')
    assert command("search", "job.json", "--out", "out") == 2
    assert "search.root: unknown; did you mean roots?" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever in a search the disk is full: nothing half-written stays, and what was stored is used."""
    real, left = os.fdopen, [0]

    def limited(number: int, mode: str) -> BinaryIO:
        left[0] -= 1
        if left[0] >= 0:
            return real(number, mode)
        os.close(number)
        raise OSError(28, "No space left on device")

    codes = []
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fdopen", limited)
        for room in range(0, 40, 3):
            left[0] = room
            codes.append(command("search", "job.json", "--out", "out"))
            said = capsys.readouterr().err
            if codes[-1]:
                assert "(No space left on device): free space there, or choose another folder with cache_dir" in said
                assert not list(place.rglob(".*.part")) and not (place / "out" / "pair" / "pair_data.json").exists()
    assert codes[0] == 3 and codes[-1] == 0
    assert command("search", "job.json", "--out", "other") == 0
    assert "searching" not in capsys.readouterr().err


def test_a_full_disk_leaves_no_shards_and_no_export(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    command("search", "job.json", "--out", "out", "--quiet")
    before = sorted(place.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(sharding, "_append", full)
        patch.setattr(tarfile.TarFile, "addfile", full)
        assert command("db", "shard", "data/u.fasta", "3") == 2
        assert "the shards of u.fasta cannot be written to data (No space left" in capsys.readouterr().err
        assert command("cache", "export", "all.tar") == 2
        assert "all.tar cannot be written (No space left on device): free space there" in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before
