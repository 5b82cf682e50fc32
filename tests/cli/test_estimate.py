"""`foldline estimate`: sizes, plans and largest jobs in a table or as JSON, for models that are not on the machine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DEVICES = ["24 GB", "40 GB", "80 GB", "141 GB"]


@pytest.fixture
def estimated(run: Callable[..., Any]) -> Callable[..., list[dict]]:
    def call(*words: str | Path) -> list[dict]:
        found = run("estimate", *words, "--json")
        assert (found.code, found.err) == (0, "")
        return json.loads(found.out)

    return call


def test_a_table_for_this_device_and_for_named_ones(run: Callable[..., Any], job: Callable[..., Path]) -> None:
    found = run("estimate", job(), "--device", "cpu")
    assert (found.code, found.err) == (0, "")
    lines = found.out.splitlines()
    assert lines[0] == "one: 8 tokens, 64 atoms, 2 alignment rows, 1 x 5 samples, protenix-v1"
    heading = next(line for line in lines if "cpu" in line)
    assert all(device in heading for device in DEVICES)
    rows = {line[:34].strip(): line[34:].split() for line in lines}
    assert len(rows["peak, GiB"]) == 5 and all(float(x) > 0.5 for x in rows["peak, GiB"])
    assert len(rows["largest job that fits, tokens"]) == 5
    assert "pairformer, GiB" in rows and "template embedder, GiB" in rows


def test_as_json(estimated: Callable[..., list[dict]], job: Callable[..., Path]) -> None:
    one, two = estimated(job("one"), job("two"), "--device", "cpu", "--samples", "2", "--num-seeds", "3")
    assert (one["job"], two["job"], one["n_token"], one["n_atom"]) == ("one", "two", 8, 64)
    assert (one["seeds"], one["samples"], one["model"]) == (3, 2, "protenix-v1")
    assert [device["device"] for device in one["devices"]][1:] == DEVICES
    for device in one["devices"]:
        plan = device["plan"]
        assert plan["peak_bytes"] == max(plan["stage_bytes"].values()) <= device["memory_bytes"]
        assert device["error"] is None
    assert one["devices"][1]["plan"]["bucket"][0] == 256 and one["devices"][0]["plan"]["bucket"][0] == 8


def test_seeds_that_share_passes(
    estimated: Callable[..., list[dict]], job: Callable[..., Path], tmp_path: Path
) -> None:
    """As many as `predict --seed-batch` would let share; the option wins over the configuration."""

    def together(*words: str) -> tuple[int, int]:
        (one,) = estimated(job(), "--device", "cuda", "--max-memory", "80GB", "--num-seeds", "4", *words)
        plan = one["devices"][0]["plan"]
        assert one["seeds"] == 4
        return plan["seed_batch"], plan["diffusion_batch"]

    assert together() == together("--seed-batch", "auto") == (4, 20)
    assert together("--seed-batch", "2") == (2, 10) and together("--seed-batch", "1")[0] == 1
    (tmp_path / "foldline.toml").write_text("seed_batch = 2\n")
    assert together() == (2, 10) and together("--seed-batch", "3") == (3, 15)
    assert together("--seed-batch", "auto") == (4, 20)


def test_one_device_of_a_given_size(estimated: Callable[..., list[dict]], job: Callable[..., Path]) -> None:
    """Also one that this machine does not have."""
    (one,) = estimated(job(), "--device", "cuda", "--max-memory", "10GB", "--buckets", "none")
    (device,) = one["devices"]
    assert device["memory_bytes"] == 10**10 and device["plan"]["trunk_dtype"] == "bfloat16"
    assert device["plan"]["bucket"] == [8, 64]
    (full,) = estimated(job(), "--device", "cuda", "--max-memory", "10GB", "--dtype", "fp32")[0]["devices"]
    assert full["largest_tokens"] < device["largest_tokens"]


def test_models_differ(estimated: Callable[..., list[dict]], job: Callable[..., Path]) -> None:
    size = ("--device", "cuda", "--max-memory", "24GB")
    largest = [
        estimated(job(), "--model", model, *size)[0]["devices"][0]["largest_tokens"]
        for model in ("protenix-v2", "protenix-v1", "protenix-tiny")
    ]
    assert largest == sorted(largest) and len(set(largest)) == 3


def test_what_does_not_fit_is_said(run: Callable[..., Any], job: Callable[..., Path]) -> None:
    found = run("estimate", job(), "--device", "cpu", "--max-memory", "500MB")
    assert found.code == 3 and "does not fit" in found.out and "none" in found.out
    assert "8 tokens need " in found.out
    assert "--dtype bf16" not in found.out, "it would not fit either"
    assert "use a machine with at least " in found.out


def test_some_jobs_that_fit_nowhere(run: Callable[..., Any], job: Callable[..., Path]) -> None:
    large = {"protein": {"id": "A", "sequence": "MKTAYIAK" * 200, "unpairedMsa": "", "pairedMsa": "", "templates": []}}
    words = ("--device", "cpu", "--max-memory", "700MB", "--model", "demo")
    small, big = job("small"), job("big", sequences=[large])
    assert [run("estimate", *files, *words).code for files in ([small], [small, big], [big])] == [0, 1, 3]


def test_chains_without_an_alignment_are_named(run: Callable[..., Any], job: Callable[..., Path]) -> None:
    bare = job(sequences=[{"protein": {"id": ["A", "B"], "sequence": "MKTAYIAK"}}])
    found = run("estimate", bare, "--max-memory", "10GB", "--device", "cpu")
    assert found.code == 0 and "no alignment is given for A, B: counted with the query alone" in found.out
    assert "no alignment" not in run("estimate", bare, "--max-memory", "10GB", "--device", "cpu", "--msa", "none").out


def test_a_bad_job_does_not_hide_the_others(run: Callable[..., Any], job: Callable[..., Path]) -> None:
    bad = job("bad", sequences=[{"ligand": {"id": "L", "ccdCodes": ["QQQQQ"]}}])
    found = run("estimate", bad, job("good"), "--device", "cpu")
    assert found.code == 2 and "good: 8 tokens" in found.out
    assert found.err.startswith("error: ") and found.err.count("\n") == 1 and "QQQQQ" in found.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "protenix-v9"), "no checkpoint is called"),
        (("--max-memory", "much"), "--max-memory"),
        (("--max-memory", "5"), "--max-memory: 5 bytes are less than any job needs: give a unit, as in 40GB or 16GiB"),
        (("--device", "tpu"), "--device"),
        (("--seeds", "1", "--num-seeds", "2"), "--"),
    ],
)
def test_bad_options(run: Callable[..., Any], job: Callable[..., Path], words: tuple[str, ...], said: str) -> None:
    found = run("estimate", job(), *words)
    assert (found.code, found.out) == (2, "") and said in found.err and found.err.count("\n") == 1
