"""Settings from keywords, words and files, and what is said about bad ones."""

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from foldline.config import EngineConfig, SeedChoice, parse_bytes, parse_seeds, settings
from foldline.errors import InputError


def write(folder: Path, text: str) -> Path:
    file = folder / "foldline.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_file_then_options(tmp_path: Path) -> None:
    file = write(
        tmp_path, 'model = "protenix-mini"\nsamples = 2\nmax_memory = "40GB"\nbuckets = [256, 512]\ncache_dir = "c"\n'
    )
    config = EngineConfig.make(file, samples=3, buckets=None, model=None)
    assert config == EngineConfig(
        model="protenix-mini",
        samples=3,
        max_memory=40 * 10**9,
        buckets=(256, 512),
        cache_dir=tmp_path.resolve() / "c",
    )
    assert settings(config)["cache_dir"] == str(tmp_path.resolve() / "c")


def test_frozen_and_small() -> None:
    assert len(fields(EngineConfig)) <= 25
    with pytest.raises(FrozenInstanceError):
        EngineConfig().samples = 3  # pyright: ignore


@pytest.mark.parametrize(
    ("word", "number"),
    [("40GB", 40 * 10**9), ("1.5 GiB", 3 * 2**29), ("512mb", 512 * 10**6), ("7", 7), (9, 9), ("2g", 2 * 10**9)],
)
def test_sizes(word: object, number: int) -> None:
    assert parse_bytes(word) == number


@pytest.mark.parametrize(
    ("given", "place", "says"),
    [
        ({"sample": 3}, "sample", "did you mean samples?"),
        ({"max-memory": 3}, "max-memory", "did you mean max_memory?"),
        ({"zzz": 3}, "zzz", "known are"),
        ({"max_memory": "lots"}, "max_memory", "40GB"),
        ({"max_memory": "4QB"}, "max_memory", "40GB"),
        ({"max_memory": 0}, "max_memory", "at least 1"),
        ({"max_memory": 5}, "max_memory", "give a unit, as in 40GB"),
        ({"samples": 0}, "samples", "at least 1"),
        ({"samples": True}, "samples", "at least 1"),
        ({"recycles": -1}, "recycles", "at least 0"),
        ({"dtype": "fp16"}, "dtype", "auto, bf16 or fp32"),
        ({"device": "gpu"}, "device", "cuda:N"),
        ({"msa": "server"}, "msa", "auto or none"),
        ({"buckets": "512,256"}, "buckets", "rising order"),
        ({"overwrite": 1}, "overwrite", "true or false"),
        ({"cache_dir": 5}, "cache_dir", "a path"),
        ({"repair": ["chain_id"]}, "repair", "'chain_id' is not possible here: give chain_ids, nucleotides"),
        ({"repair": ["chain_id"]}, "repair", "or none; did you mean chain_ids?"),
        ({"repair": "chain-ids, Nucleotide"}, "repair", "did you mean chain_ids?"),
        ({"repair": ["zzz"]}, "repair", "give chain_ids, nucleotides, alignments or none"),
        ({"repair": ["none", "alignments"]}, "repair", "'none' is not possible here"),
        ({"repair": [1]}, "repair", "1 is not possible here"),
        ({"repair": 1}, "repair", "a list of chain_ids"),
        ({"repair": True}, "repair", "a list of chain_ids"),
    ],
)
def test_bad_settings(given: dict[str, object], place: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        EngineConfig.make(**given)
    assert caught.value.path == place
    assert says in str(caught.value)


def test_faults_of_a_file_name_it(tmp_path: Path) -> None:
    for text, says in (
        ("samples = 0\n", "samples: 0 is not possible"),
        ("sampels = 1\n", "sampels: unknown setting; did you mean samples?"),
        ("samples = \n", "not valid TOML"),
    ):
        file = write(tmp_path, text)
        with pytest.raises(InputError, match="foldline.toml: .*") as caught:
            EngineConfig.make(file)
        assert says in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        EngineConfig.make(tmp_path / "absent.toml")
    file = write(tmp_path, "samples = 1\n")
    with pytest.raises(InputError) as caught:
        EngineConfig.make(file, samples=0)
    assert caught.value.source == ""


def test_buckets_words() -> None:
    assert EngineConfig.make(buckets="auto").buckets is None
    assert EngineConfig.make(buckets="none").buckets == ()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], ()),
        ("none", ()),
        (["none"], ()),
        ("alignments", ("alignments",)),
        (["alignments", "chain_ids", "alignments"], ("chain_ids", "alignments")),
        ("nucleotides, chain_ids", ("chain_ids", "nucleotides")),
    ],
)
def test_repair_words(value: object, words: tuple[str, ...], tmp_path: Path) -> None:
    assert EngineConfig.make(repair=value).repair == words
    file = write(tmp_path, f"repair = {value!r}\n")
    assert EngineConfig.make(file).repair == words
    assert EngineConfig().repair == ()


def test_repair_is_checked_without_a_file_too() -> None:
    with pytest.raises(InputError, match="repair: 'x' is not possible"):
        EngineConfig(repair=("x",))
    with pytest.raises(InputError, match="repair: .*a tuple"):
        EngineConfig(repair=["chain_ids"])  # pyright: ignore


def test_seeds_of_a_job() -> None:
    assert SeedChoice().of((3, 9), "a") == (3, 9)
    assert SeedChoice(seeds=parse_seeds("5, 7")).of((3, 9), "a") == (5, 7)
    assert SeedChoice(num_seeds=3).of((4,), "a") == (4, 5, 6)
    with pytest.raises(InputError, match='"a" has 2 seeds'):
        SeedChoice(num_seeds=3).of((4, 5), "a")
    with pytest.raises(InputError, match="would pass 4294967295"):
        SeedChoice(num_seeds=2).of((2**32 - 1,), "a")


@pytest.mark.parametrize(
    ("seeds", "num_seeds", "says"),
    [
        ("1,x", None, "seeds: .*whole numbers"),
        ("", None, "seeds: .*whole numbers"),
        ("1,1", None, "seeds: .*each seed once"),
        ([-1], None, "seeds: .*whole numbers"),
        ([2**32], None, "seeds: .*whole numbers"),
        ([], None, "seeds: .*whole numbers"),
        ("1", 2, "num_seeds: .*exclude each other"),
        (None, 0, "num_seeds: .*at least 1"),
    ],
)
def test_bad_seeds(seeds: object, num_seeds: int | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        SeedChoice(seeds=None if seeds is None else parse_seeds(seeds), num_seeds=num_seeds)


def test_cache_root(tmp_path: Path) -> None:
    assert EngineConfig(cache_dir=tmp_path).cache_root == tmp_path
    assert EngineConfig().cache_root.name == "foldline"
