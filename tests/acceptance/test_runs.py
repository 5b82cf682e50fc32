"""Runs of many jobs: what one bad, large or broken job does to the others, and what a second run makes of the first."""

import hashlib
import json
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_jobs import ccd, dna, job, protein, smiles
from upstream_layout import SMALL, small_network, state

from foldline.confidence import has_clash
from foldline.engine.memory_bench import ProcessBytes
from foldline.engine.plan import Process, Sizes, plan, richest
from foldline.heap import has_caches
from foldline.models.spec import PROTENIX_V1
from foldline.ops import linear
from foldline.outputs.claims import Claim, Claims

Command = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
ION = ccd("ZN")
ENANTIOMERS = {"left": "C[C@@H](O)[C@H](N)C(=O)O", "right": "C[C@H](O)[C@@H](N)C(=O)O"}


def no_nan(folder: Path) -> bool:
    """Whether no file has a number that JSON lacks."""
    texts = [path.read_text() for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".cif", ".csv")]
    return not any(word in text for text in texts for word in ("NaN", "nan", "Infinity", " inf"))


def test_a47_one_bad_job_among_a_hundred(outcome: Command) -> None:
    jobs = [job(ION, name=f"j{number}") for number in range(99)]
    jobs.insert(41, job(ccd("ZN", "NOSUCH"), name="bad"))
    done = outcome(jobs, "--progress", "plain")
    assert done.code == 1 and done.err.splitlines()[-1].startswith("99 done, 1 failed")
    assert len(done.lines("results.jsonl")) == 99 and len(done.jobs) == 99
    (failed,) = done.lines("failed.jsonl")
    assert (failed["job"], failed["code"], failed["stage"]) == ("bad", "bad_input", "features")
    assert "NOSUCH" in failed["message"] and failed["path"] == "$.sequences[0].ligand.ccdCodes[1]"
    assert [one["name"] for one in json.loads((done.folder / "failed_jobs.json").read_text())] == ["bad"]


def test_a47_stop_ends_at_the_first(outcome: Command) -> None:
    names = ["a", "b", "c"]
    jobs = [job(ccd("NOSUCH") if name == "b" else ION, name=name) for name in names]
    done = outcome(jobs, "--on-error", "stop", "--progress", "plain")
    assert done.code == 1 and "1 done, 1 failed, 1 not run" in done.err and done.jobs == ["a"]


def test_a48_memory_that_runs_out_in_the_middle(outcome: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever plan is tried for the big job, the device has too little: the others do not notice."""
    from foldline.engine import runner

    real = runner.sample

    def too_much(*given: Any, **named: Any) -> torch.Tensor:
        x = real(*given, **named)
        if x.shape[-2] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x

    jobs = [job(ION, name="first"), job(protein("MKTAYIAK"), name="big"), job(ION, name="last")]
    monkeypatch.setattr(runner, "sample", too_much)
    done = outcome(jobs)
    assert done.code == 1 and "Traceback" not in done.err
    assert sorted(line["job"] for line in done.lines("results.jsonl")) == ["first", "last"]
    (failed,) = done.lines("failed.jsonl")
    assert (failed["job"], failed["code"], failed["stage"]) == ("big", "does_not_fit", "diffusion")
    monkeypatch.setattr(runner, "sample", real)
    again = outcome(json.loads((done.folder / "failed_jobs.json").read_text()))
    assert again.code == 0 and again.jobs == ["big", "first", "last"]
    assert again.lines("failed.jsonl") == [] and not (again.folder / "failed_jobs.json").exists()


def test_a50_a_second_run_does_nothing_again(outcome: Command) -> None:
    jobs = [job(ION, name="one"), job(ccd("MG"), name="two")]
    first = outcome(jobs)
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.is_file()}
    second = outcome(jobs, "--progress", "plain")
    assert second.code == 0 and second.err.count("done before") >= 2
    assert {path: path.stat().st_mtime_ns for path in second.folder.rglob("*") if path.is_file()} == stamps
    assert len(second.lines("results.jsonl")) == 2


def test_a51_a_changed_job_is_predicted_anew(outcome: Command) -> None:
    outcome(job(ION))
    done = outcome(job(ccd("MG")), "--progress", "plain")
    assert "done before" not in done.err and done.json("job", "data")["sequences"][0]["ligand"]["ccdCodes"] == ["MG"]
    (line,) = done.lines("results.jsonl")
    assert line["fingerprint"] == done.json("job", "run")["fingerprint"]
    assert "done before" not in outcome(job(ccd("MG")), "--steps", "3", "--progress", "plain").err
    assert "done before" in outcome(job(ccd("MG")), "--steps", "3", "--progress", "plain").err


def test_a52_a_job_of_another_process_is_left_to_it(outcome: Command, tmp_path: Path) -> None:
    """The job that is held comes last, when it is free; what its holder did not do is done."""
    (tmp_path / "out").mkdir()
    with Claims(tmp_path / "out") as other:
        assert other.take("b", "of another job") is Claim.MINE

        def let_go() -> None:
            while not (tmp_path / "out" / "c" / "c_run.json").exists():
                time.sleep(0.05)
            other.give_back("b")

        holder = threading.Thread(target=let_go)
        holder.start()
        done = outcome([job(ION, name=name) for name in "abc"], "--progress", "plain")
        holder.join()
    assert done.code == 0 and done.jobs == ["a", "b", "c"]
    assert "b: wait: left to another process that is at it" in done.err
    assert [line["job"] for line in done.lines("results.jsonl")] == ["a", "c", "b"]


LIMITED = """
    import resource, sys
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    sys.path.insert(0, {root!r})
    from foldline.cli import main
    main({words!r})
"""


def test_a53_a_disk_that_is_full_for_one_job(
    write: Callable[..., Path], foldline: Command, checkpoint: Path, tmp_path: Path
) -> None:
    """No file may be larger than 20 kB: the structure of the job in the middle is."""
    jobs = [job(ION, name="first"), job(protein("MKTAYIAKQR" * 4), name="big"), job(ION, name="last")]
    words = ["predict", str(write(jobs)), "--out", "out", "--model", str(checkpoint)]
    code = "\n".join(line.strip() for line in LIMITED.format(root=str(ROOT), words=words).splitlines())
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (told,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert told == "error: job big: the result cannot be written: File too large (out/big)"
    (failed,) = (json.loads(line) for line in (tmp_path / "out" / "failed.jsonl").read_text().splitlines())
    assert (failed["job"], failed["code"], failed["stage"]) == ("big", "not_written", "write")
    assert (tmp_path / "out" / "last" / "last_run.json").is_file()
    assert not list((tmp_path / "out").rglob("*.tmp")), "half a file is left"
    assert foldline("predict", *words[1:]).code == 0, "with room again, the rest is done"


def test_a53_a_place_that_is_taken_by_a_file(outcome: Command, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").write_text("mine")
    done = outcome([job(ION, name=name) for name in "abc"])
    assert done.code == 1 and done.jobs == ["a", "c"] and (tmp_path / "out" / "b").read_text() == "mine"
    assert [line["code"] for line in done.lines("failed.jsonl")] == ["not_written"]


def test_a53_no_network_is_needed(outcome: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("HOME", raising=False)
    assert outcome(job(protein("MKT"), ION)).code == 0


@pytest.mark.parametrize("part", ["trunk", "diffusion", "pae"])
def test_a54_a_network_that_gives_nan(outcome: Command, tmp_path: Path, part: str) -> None:
    names = {"trunk": "pairformer_stack", "diffusion": "diffusion_module", "pae": "pae"}
    weights = state(small_network(), "module.")
    chosen = [name for name, value in weights.items() if names[part] in name and value.ndim == 2]
    weights[chosen[-1]] = torch.full_like(weights[chosen[-1]], float("nan"))
    model = tmp_path / "nan.pt"
    torch.save({"model": weights}, model)
    done = outcome([job(ION, name="one"), job(protein("MKT"), name="two")], model=model)
    assert done.code == 3 and "Traceback" not in done.err
    assert {line["code"] for line in done.lines("failed.jsonl")} == {"non_finite_output"}
    assert len(done.lines("failed.jsonl")) == 2 and done.lines("results.jsonl") == []
    assert all("error: job" in line and "not finite" in line for line in done.err.splitlines() if "error" in line)
    assert no_nan(done.folder) and not list(done.folder.rglob("*_model.cif"))


def test_a54_one_job_whose_positions_are_not_numbers(outcome: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from foldline.engine import runner

    real = runner.sample

    def broken(*given: Any, **named: Any) -> torch.Tensor:
        x = real(*given, **named)
        return x * float("nan") if x.shape[-2] > 20 else x

    monkeypatch.setattr(runner, "sample", broken)
    done = outcome([job(ION, name="fine"), job(protein("MKTAYIAK"), name="broken"), job(ccd("MG"), name="other")])
    assert done.code == 1 and no_nan(done.folder)
    assert [line["job"] for line in done.lines("failed.jsonl")] == ["broken"]
    assert sorted(line["job"] for line in done.lines("results.jsonl")) == ["fine", "other"]


@pytest.mark.parametrize(
    "ligands", [[ccd("MG")], [ccd("OXY")], [ccd("CO2")], [ccd("NO", ids="X"), ccd("ZN", ids="Y")]], ids=str
)
def test_a55_ligands_without_frames(predicted: Command, ligands: list[dict[str, Any]]) -> None:
    done = predicted(job(protein("MKTAY"), *ligands))
    pae = np.array(done.json("job", "confidences")["pae"], float)
    assert np.isfinite(pae).all() and no_nan(done.folder)
    summary = done.json("job", "summary_confidences")
    assert summary["chain_ptm"][0] is not None and summary["ptm"] is not None


def test_a56_scores_that_are_undefined_are_null(predicted: Command) -> None:
    summary = predicted(job(protein())).json("job", "summary_confidences")
    assert summary["iptm"] is None and summary["chain_iptm"] == [None]
    done = predicted(job(protein(), ccd("MG"), name="two"))
    summary = done.json("two", "summary_confidences")
    assert summary["chain_ptm"][1] is None and summary["chain_pair_iptm"][1][1] is None
    assert summary["iptm"] is not None


@pytest.mark.parametrize(("length", "bucket"), [(1, 8), (8, 8), (9, 16), (16, 16), (17, None)])
def test_a57_sizes_at_the_edges_of_buckets(outcome: Command, length: int, bucket: int | None) -> None:
    chain = protein("MKTAYIAKQRQISFVKS"[:length]) if length > 1 else ION
    done = outcome(job(chain), "--buckets", "8,16")
    assert done.code == 0, done.err
    padded = done.json("job", "run")["plan"]["bucket"][0]
    assert padded == bucket if bucket else padded >= length
    found = np.array(done.json("job", "confidences")["pae"])
    plain = outcome(job(chain), "--buckets", "none", "--overwrite")
    assert plain.json("job", "run")["plan"]["bucket"][0] == length
    wanted = np.array(plain.json("job", "confidences")["pae"])
    assert found.shape == wanted.shape == (length, length)
    assert np.abs(found - wanted).max() <= 0.1, "one step of the last digit that is written"


def test_a58_many_samples_and_seeds(predicted: Command) -> None:
    """All are there, and in the memory of a few: tests/engine/test_flat_memory.py counts it to the byte."""
    process = ProcessBytes() if ProcessBytes.CLEAR.exists() else None
    memory = str(richest(Sizes(1, 1, 1, n_sample=5), SMALL, process=Process(cached_heap=has_caches())).peak_bytes)
    peaks = []

    def measured(*given: Any) -> Any:
        if process is not None:
            process.mark()
        done = predicted(*given, "--max-memory", memory)
        peaks.append(0 if process is None else process.peak["cpu"])
        return done

    measured(job(ION, name="some samples"), "--samples", "20", "--recycles", "0")
    measured(job(ION, name="some seeds"), "--num-seeds", "10")
    done = measured(job(ION), "--samples", "100", "--recycles", "0")
    rows = (done.folder / "job" / "job_ranking_scores.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [["1", str(number)] for number in range(100)]
    done = measured(job(ION, name="seeds"), "--num-seeds", "50")
    rows = (done.folder / "seeds" / "seeds_ranking_scores.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [str(number) for number in range(1, 51)]
    assert max(peaks[2:]) - max(peaks[:2]) < 40e6, peaks


def test_a59_overlapping_copies_are_flagged() -> None:
    """Eight chains of 280 residues, DNA and ions: two of the chains run through each other."""
    rng = np.random.default_rng(0)
    chain = np.repeat(np.arange(8), 280 * 8)
    x = rng.uniform(0, 40, (len(chain), 3)) + 60.0 * chain[:, None]
    apart = has_clash(x, chain, np.ones(len(x), bool))
    x[chain == 5] = x[chain == 2] + 0.3
    assert not apart and has_clash(x, chain, np.ones(len(x), bool))
    assert not has_clash(x, chain, chain != 5), "ligands and ions are not looked at"


def test_a59_eight_copies_with_dna_and_ions_run(outcome: Command, tmp_path: Path) -> None:
    """A ninth of the job through everything, with a network that draws all atoms to one place."""
    weights = state(small_network(), "module.")
    weights["module.diffusion_module.atom_attention_decoder.linear_no_bias_out.weight"].zero_()
    torch.save({"model": weights}, tmp_path / "heap.pt")
    chains = protein("MKTAYIAKQR" * 3, list("ABCDEFGH"))
    ions = {"ligand": {"id": [f"M{a}{b}" for a in "ABCD" for b in "ABCDEFGH"], "ccdCodes": ["MG"]}}
    eight = job(chains, dna("ACGT" * 27, "Y"), dna("ACGT" * 27, "Z"), ions, name="eight")
    done = outcome(eight, "--steps", "12", model=tmp_path / "heap.pt")
    summary = done.json("eight", "summary_confidences")
    assert done.code == 0 and summary["has_clash"] == 1.0 and len(summary["chain_ptm"]) == 42


def test_a59_the_job_itself_can_be_planned(featurised: Callable[..., Any]) -> None:
    """4,504 tokens: eight chains of 280 residues, two strands of DNA, 32 magnesium ions."""
    chains = protein("MKTAYIAKQR" * 28, [f"A{letter}" for letter in "ABCDEFGH"])
    strands = [dna("ACGT" * 279, "Y"), dna("ACGT" * 279, "Z")]
    ions = {"ligand": {"id": [f"M{a}{b}" for a in "ABCD" for b in "ABCDEFGH"], "ccdCodes": ["MG"]}}
    features = featurised(job(chains, *strands, ions)).features
    assert features.n_token == 4504 and len(set(features.asym_id.tolist())) == 42
    sizes = Sizes(4504, features.n_atom, features.sizes["N_msa"])
    chosen = plan(sizes, PROTENIX_V1, 40 * 10**9, dtype=torch.bfloat16, device="cuda")
    assert chosen.trunk_dtype == torch.bfloat16 and chosen.peak_bytes <= 40 * 10**9


def test_a60_a_library_that_cannot_be_used_is_replaced_before_a_job(
    outcome: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products go through oneDNN where PyTorch has it and the processor is known to gain; the answer is the same."""
    real = linear._has_onednn()
    for owner, name, gives in (
        (torch.backends.mkldnn, "is_available", lambda: False),
        (torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, gives)
            assert not linear._has_onednn()
    assert outcome(job(protein("MKTAYIAK"), name="with")).code == 0
    monkeypatch.setattr(linear, "_ONEDNN", False)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", None)
    done = outcome(job(protein("MKTAYIAK"), name="without"))
    assert done.code == 0 and linear._has_onednn() == real
    one, other = (np.array(done.json(name, "confidences")["pae"]) for name in ("with", "without"))
    assert np.abs(one - other).max() <= 0.1, "one step of the last digit that is written"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a61_a_gpu_that_is_not_there(outcome: Command) -> None:
    for device in ("cuda", "cuda:3"):
        done = outcome(job(ION), "--device", device)
        assert done.code == 2 and "there is no device" in done.err and "--device" in done.err
        assert done.files == []


def test_a62_checkpoints_that_cannot_be_used(outcome: Command, checkpoint: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.pt"
    torn.write_bytes(checkpoint.read_bytes()[:-2000])
    weights = state(small_network(), "module.")
    gone = next(name for name in weights if "pairformer" in name)
    models = {"torn": torn}
    for word, content in (
        ("missing", {name: value for name, value in weights.items() if name != gone}),
        ("foreign", {"decoder.weight": torch.zeros(2, 2)}),
    ):
        models[word] = tmp_path / f"{word}.pt"
        torch.save({"model": content}, models[word])
    said = {}
    for word, model in models.items():
        done = outcome(job(ION), model=model)
        assert done.code in (2, 3) and "Traceback" not in done.err
        said[word] = done.err
        content = model.read_bytes()
        told = f"{model.name} ({len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()[:16]})"
        assert told in done.err, done.err
        assert not list(done.folder.rglob("*.cif"))
    assert gone.removeprefix("module.") in said["missing"], said["missing"]
    assert "torn.pt" in said["torn"] and "foreign.pt" in said["foreign"]


def test_a63_inverted_centres_are_reported(
    outcome: Command, featurised: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that gives one enantiomer whatever is asked for: right for one job, inverted for the other."""
    from foldline.engine import runner

    left, right = (job(smiles(text), name=name) for name, text in ENANTIOMERS.items())
    x = torch.from_numpy(featurised(left).topology.ref_pos)
    monkeypatch.setattr(runner, "sample", lambda *given, **_: x.expand(len(given[2]), 2, -1, -1).clone())
    done = outcome([left, right], "--samples", "2")
    assert done.code == 0, done.err
    assert done.json("left", "run")["stereocentres"] == {"count": 2, "inverted": []}
    found = done.json("right", "run")["stereocentres"]
    assert found["count"] == 2 and [one["sample"] for one in found["inverted"]] == [0, 1]
    assert {len(one["atoms"]) for one in found["inverted"]} == {2}
    assert all(atom.startswith("L:1:C") for one in found["inverted"] for atom in one["atoms"])


def test_a64_restraints_are_refused(refused: Callable[..., str]) -> None:
    said = refused(job(protein(), constraints=[{"contact": {"residue1": ["A", 99, "CA"]}}]))
    assert "$.constraints" in said


def test_a65_seeds_of_the_command_line_win_and_it_is_said(outcome: Command) -> None:
    done = outcome(job(ION, modelSeeds=[1, 2, 3]), "--seeds", "7,8", "--progress", "plain")
    rows = (done.folder / "job" / "job_ranking_scores.csv").read_text().splitlines()[1:]
    assert sorted({row.split(",")[0] for row in rows}) == ["7", "8"]
    assert "--seeds replaces the job's own seeds 1, 2, 3" in done.err
    assert done.json("job", "data")["modelSeeds"] == [7, 8]


def test_a49_memory_does_not_grow_with_jobs(outcome: Command) -> None:
    """A big job and many small ones: the peak of the process is that of the first, give or take what lists weigh."""
    big = job(protein("MKTAYIAKQR" * 3), name="big")
    outcome([big, *(job(ION, name=f"a{number}") for number in range(15))], "--progress", "none")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome([job(ION, name=f"b{number}") for number in range(40)], "--progress", "none")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 60, f"{grown:.0f} MB more after 40 jobs"
