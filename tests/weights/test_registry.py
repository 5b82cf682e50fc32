"""Names, aliases and paths of checkpoints, and what is said about those that are not there."""

from pathlib import Path

import pytest

from foldline.errors import WeightsError
from foldline.weights.registry import ENTRIES, cached_path, checkpoint_path, lookup


def test_names_and_aliases_are_distinct_and_urls_follow_the_name() -> None:
    names = [name for entry in ENTRIES for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    assert all(entry.url.endswith(f"/checkpoint/{entry.name}.pt") for entry in ENTRIES)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("protenix-v2", "protenix-v2"),
        ("protenix-v1", "protenix_base_default_v1.0.0"),
        ("protenix-v1-20250630", "protenix_base_20250630_v1.0.0"),
        ("protenix-v0.5", "protenix_base_default_v0.5.0"),
        ("protenix-mini", "protenix_mini_default_v0.5.0"),
        ("protenix-tiny", "protenix_tiny_default_v0.5.0"),
        ("protenix_tiny_default_v0.5.0", "protenix_tiny_default_v0.5.0"),
    ],
)
def test_lookup(alias: str, name: str) -> None:
    assert lookup(alias).name == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("protenix-v3", "did you mean .*protenix-v[12]"),
        ("Protenix-Mini", "did you mean protenix-mini"),
        ("qqqq", "foldline weights list"),
        ("protenix_mini_esm_v0.5.0", "reads ESM embeddings"),
    ],
)
def test_unknown_names(name: str, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        lookup(name)


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_bytes(b"x")
    assert checkpoint_path(file) == file
    assert checkpoint_path(str(file)) == file


def test_a_fetched_name_is_found_and_another_is_not(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="run foldline weights fetch protenix-mini") as caught:
        checkpoint_path("protenix-mini", cache_dir=tmp_path)
    file = cached_path(lookup("protenix-mini"), tmp_path)
    assert str(file) in str(caught.value)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert checkpoint_path("protenix-mini", cache_dir=tmp_path) == file
    assert file == tmp_path / "checkpoints" / "v1" / "protenix_mini_default_v0.5.0.pt"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("absent.pt", "no such checkpoint file"),
        ("a/b", "no such checkpoint file"),
        (Path("model"), "no such checkpoint file"),
    ],
)
def test_absent_files(given: str | Path, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=says):
        checkpoint_path(given)
    with pytest.raises(WeightsError, match="is a folder"):
        checkpoint_path(tmp_path)
