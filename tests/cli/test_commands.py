"""validate, weights, doctor and bench: what they print and how they end."""

import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import foldline
from foldline.weights.registry import BUNDLED, DEMO, ENTRIES, cached_path, lookup

Command = Callable[..., Any]  # words to what was printed: code, out, err
Write = Callable[..., Path]


def test_help_and_version_load_no_torch(run: Command) -> None:
    assert run("--version").out == f"foldline {foldline.__version__}\n"
    assert run().code in (0, 2)
    code = "import sys, foldline.cli.app; assert 'torch' not in sys.modules and 'pydantic' not in sys.modules"
    place = Path(foldline.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=place)
    command = [sys.executable, "-m", "foldline", "--version"]
    done = subprocess.run(command, check=True, cwd=place, capture_output=True, text=True)
    assert done.stdout == f"foldline {foldline.__version__}\n"


def test_validate(run: Command, job: Write) -> None:
    good = job("good")
    search = job("search", protein={"unpairedMsa": None, "pairedMsa": None})
    done = run("validate", good, search)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "ok good: 8 tokens, 64 atoms, 1 chain, seeds 1",
        "ok search: 8 tokens, 64 atoms, 1 chain, seeds 1; no alignment given for A",
    ]
    assert run("validate", good, "--quiet").out == ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"protein": {"sequence": ""}}, "$.sequences[0].protein.sequence"),
        ({"sequences": [{"ligand": {"id": "L", "ccdCodes": ["ZZZZ9"]}}]}, "$.sequences[0].ligand.ccdCodes[0]"),
        ({"sequences": [{"ligand": {"id": "L", "smiles": "C1CC"}}]}, "$.sequences[0].ligand.smiles"),
        ({"protein": {"unpairedMsa": ">q\nMKTAYIAK\n>x\nMKT\n"}}, "$.sequences[0].protein.unpairedMsa"),
    ],
)
def test_validate_finds_faults(run: Command, job: Write, changes: dict[str, object], says: str) -> None:
    done = run("validate", job("good"), job("bad", **changes))
    assert done.code == 2 and done.out.startswith("ok good")
    fault, count = done.err.splitlines()
    assert fault.startswith("error: ") and says in fault and count == "faults: 1, jobs without: 1"


def test_validate_counts_faults_and_not_their_jobs(run: Command, job: Write) -> None:
    """A job may have several faults, and a fault may leave no job to count."""
    done = run("validate", job("bad", protein={"sequence": "", "id": "a"}))
    assert done.code == 2 and len(done.err.splitlines()) == 3
    assert done.err.splitlines()[-1] == "faults: 2, jobs without: 0"


def test_weights_list_and_show(run: Command, tmp_path: Path) -> None:
    (tmp_path / "foldline.toml").write_text('cache_dir = "c"\n')
    listed = run("weights", "list")
    assert listed.code == 0 and len(listed.out.splitlines()) == len(ENTRIES) + len(BUNDLED) + 1
    done = run("weights", "show", "protenix-mini")
    assert done.code == 2 and "url: https://" in done.out and "foldline weights fetch protenix-mini" in done.err
    assert run("weights", "show", "absent.pt").err == "error: absent.pt: no such checkpoint file\n"


def test_weights_of_a_file_that_is_no_checkpoint(run: Command, tmp_path: Path) -> None:
    torch.save({"model": {"a.weight": torch.ones(2)}}, tmp_path / "x.pt")
    done = run("weights", "show", "x.pt")
    assert done.code == 2 and done.err.startswith("error: ") and len(done.err.splitlines()) == 1


def test_weights_verify(run: Command, tmp_path: Path) -> None:
    (tmp_path / "foldline.toml").write_text('cache_dir = "c"\n')
    path = cached_path(lookup("protenix-tiny"), tmp_path / "c")
    path.parent.mkdir(parents=True)
    assert DEMO.bundled is not None
    shutil.copy(DEMO.bundled, path)
    done = run("weights", "verify", "protenix-tiny")
    assert (done.code, done.out.splitlines()) == (
        0,
        [
            f"{DEMO.sha256}  {path}",
            "readable: protenix, 488 tensors, 3.40 M values, all finite",
            "not compared: no hash is known of this file",
        ],
    )
    path.with_name(f"{path.name}.json").write_text(json.dumps({"sha256": DEMO.sha256}))
    done = run("weights", "verify", "protenix-tiny")
    assert done.code == 0 and done.out.endswith("\nequals the record\n")
    path.write_bytes(b"w")
    done = run("weights", "verify", "protenix-tiny")
    assert done.code == 1 and "differs from the record" in done.out
    assert run("weights", "verify", "demo").out.endswith("\nequals the registry\n")


@pytest.mark.parametrize("content", [b"{}", b"PK and more", b"0123456789" * 100])
def test_weights_verify_refuses_what_is_no_checkpoint(run: Command, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    done = run("weights", "verify", "x.pt")
    digest = hashlib.sha256(content).hexdigest()
    assert done.code == 2 and done.out == f"{digest}  x.pt\n"
    assert (
        done.err.startswith(f"error: x.pt ({len(content):,} bytes, SHA-256 {digest[:16]}): ")
        and len(done.err.splitlines()) == 1
    )


def test_weights_fetch_of_what_is_here_prints_its_place(run: Command, tmp_path: Path) -> None:
    (tmp_path / "foldline.toml").write_text('cache_dir = "c"\n')
    path = cached_path(lookup("protenix-tiny"), tmp_path / "c")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert run("weights", "fetch", "protenix-tiny").out == f"{path}\n"


def test_doctor(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("doctor")
    lines = done.out.splitlines()
    assert done.code == 0 and all(line.startswith("+ ") for line in lines)
    for word in ("torch", "cpu", "triangle_attention", "component store", "checkpoints", "memory"):
        assert any(line[2:].startswith(word) for line in lines), word
    doctor = importlib.import_module("foldline.cli.doctor")
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "gemmi" else real(name))
    done = run("doctor")
    assert done.code == 1 and "gemmi not installed; pip install gemmi" in " ".join(done.out.split())


def test_doctor_tells_of_tools_and_databases(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "u.fasta").write_text(">a\nACD\n")
    (tmp_path / "p.fasta").write_text(">a\nACD")
    table = 'uniref90 = "u.fasta"\nuniprot = "p.fasta"\nmgnify = "m.fasta@2"\n'
    config = tmp_path / "c.toml"
    config.write_text(f'[search]\ntool = "hmmer"\n[search.databases]\n{table}')
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("doctor", "--config", str(config))
    lines = {line[2:].split()[0]: " ".join(line.split()) for line in done.out.splitlines()}
    assert done.code == 1
    assert lines["pyhmmer"] == f"+ pyhmmer {importlib.metadata.version('pyhmmer')}"
    assert lines["hmmer"].startswith("- hmmer not usable; jackhmmer is not on the PATH: install HMMER")
    assert lines["kalign"].startswith("+ kalign not here (needed for")
    assert lines["uniref90"] == f"+ uniref90 {tmp_path}/u.fasta, not counted yet"
    assert "p.fasta is cut off" in lines["uniprot"] and lines["uniprot"].startswith("- ")
    assert f"the database mgnify (m.fasta@2) is not in {tmp_path}" in lines["mgnify"]
    assert lines["rfam"] == "+ rfam not used"
    config.write_text("")
    lines = {
        line[2:].split()[0]: " ".join(line.split()) for line in run("doctor", "--config", str(config)).out.splitlines()
    }
    assert lines["pyhmmer"].endswith(", searches")
    assert lines["hmmer"] == '+ hmmer not here (needed for tool = "hmmer", and for nothing else)'
    assert lines["databases"].startswith("+ databases none")


def test_bench_memory(run: Command) -> None:
    done = run("bench", "memory", "--tokens", "64", "--msa-rows", "16", "--model", "protenix-tiny")
    assert done.code == 0 and "64 tokens, 512 atoms, 16 MSA rows" in done.out, done.err
    assert "pairformer " in done.out and done.out.splitlines()[-1].startswith("peak ")
    assert "no checkpoint is called" in run("bench", "memory", "--model", "x").err
    assert "need" in run("bench", "memory", "--tokens", "64", "--max-memory", "100MB").err
    assert run("bench", "memory", "--dtype", "fp16").code == 2


def test_pairs(run: Command, tmp_path: Path) -> None:
    (tmp_path / "s.fasta").write_text(">a\nACDEF\n>b\nghi\n>c\nKLMNPQRS\n")
    out = tmp_path / "screen"
    done = run("pairs", str(tmp_path / "s.fasta"), "--out", str(out), "--max-tokens", "12", "--no-homodimers")
    assert (done.code, done.out) == (0, f"2 jobs of 3 sequences in {out}, listed in pairs.csv\n")
    assert "lower-case letters in the sequence were read as upper-case" in done.err
    assert "note 1 pair with more than 12 tokens left out, listed in left_out.csv\n" in done.err
    assert run("validate", str(out), "--quiet").code == 0
    (tmp_path / "s.fasta").write_text("")
    done = run("pairs", str(tmp_path / "s.fasta"), "--out", str(out))
    assert done.code == 2 and "no FASTA record in the file" in done.err and not done.out
