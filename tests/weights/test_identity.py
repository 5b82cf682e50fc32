"""A checkpoint whose content is refused is told from others: by its bytes and SHA-256, beside those it should have."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from upstream_layout import SMALL, shapes_only

from foldline.errors import WeightsError
from foldline.weights import identity
from foldline.weights.card import KEY
from foldline.weights.check import check
from foldline.weights.checkpoint import open_checkpoint
from foldline.weights.load import load_network, open_model
from foldline.weights.registry import DEMO, Entry, record_path


def told(path: Path) -> str:
    """The place, the bytes and the hash of a file as a sentence has them, found without the code under test."""
    content = path.read_bytes()
    return f"{path} ({len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()[:16]}"


def refused(path: Path, how: Callable[[Path], object] = load_network) -> str:
    with pytest.raises(WeightsError) as caught:
        how(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def torn(path: Path) -> None:
    torch.save({"model": shapes_only(SMALL)}, path)
    path.write_bytes(path.read_bytes()[:-2000])


def saved(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Callable[[Path], None]:
    return lambda path: torch.save({"model": change(shapes_only(SMALL))}, path)


def with_a_card_of_tomorrow(path: Path) -> None:
    tensors = {name: torch.zeros(shape.shape) for name, shape in shapes_only(SMALL).items()}
    save_file(tensors, path, metadata={KEY: '{"colour": "red"}'})


CONTENTS: dict[str, Callable[[Path], object]] = {
    "torn": torn,
    "a page": lambda path: path.write_bytes(b"<!DOCTYPE html>" * 9),
    "numbers": lambda path: torch.save({"step": 7}, path),
    "an object": lambda path: torch.save({"model": {}, "more": torch.nn.Linear(1, 1)}, path),
    "torn safetensors": lambda path: path.write_bytes(b"\xff" + bytes(7) + b"{" + bytes(20)),
    "foreign": saved(lambda _: {"decoder.weight": torch.zeros(2, 2)}),
    "language model": saved(lambda t: t | {"input_embedder.linear_esm.weight": torch.zeros(2)}),
    "missing": saved(lambda t: {name: value for name, value in t.items() if name != "linear_no_bias_sinit.weight"}),
    "extra": saved(lambda t: t | {"foo.weight": torch.zeros(2)}),
    "misshapen": saved(lambda t: t | {"linear_no_bias_token_bond.weight": torch.zeros(25, 1)}),
    "a card of tomorrow": with_a_card_of_tomorrow,
}


@pytest.mark.parametrize("content", CONTENTS)
def test_the_file_is_named_with_its_size_and_hash(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.pt"
    CONTENTS[content](path)
    for how in (load_network, check):
        said = refused(path, how)
        assert said.startswith(f"{told(path)}): "), said
        assert said.count(str(path)) == 1, said


def test_a_file_that_is_cut_off_while_it_is_read(tmp_path: Path) -> None:
    for path, save in ((tmp_path / "a.pt", torch.save), (tmp_path / "a.safetensors", save_file)):
        save({"a": torch.arange(100_000.0)}, path)
        read = open_checkpoint(path).read
        path.write_bytes(path.read_bytes()[:1000])
        assert refused(path, lambda _, read=read: read("a")).startswith(f"{told(path)}): ")
        path.unlink()
        said = refused(path, lambda _, read=read: read("a"))
        assert said.startswith(f"{path}: a cannot be read (") and "SHA-256" not in said


def test_what_was_fetched_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "protenix_mini_default_v0.5.0.pt"
    CONTENTS["missing"](path)
    whole = path.read_bytes()
    record = {"url": "https://x", "size": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
    record_path(path).write_text(json.dumps(record))
    assert refused(path).startswith(f"{told(path)}, the same when it was fetched): tensor linear_no_bias_sinit")
    path.write_bytes(whole[:-7])
    before = f"; {len(whole):,} bytes, SHA-256 {record['sha256'][:16]} when it was fetched): not a readable checkpoint"
    assert refused(path).startswith(f"{told(path)}{before}")
    record_path(path).write_text('{"sha256": 7, "size": "many"}')
    assert refused(path).startswith(f"{told(path)}): not a readable")


def test_what_was_published_comes_before_what_was_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "known.pt"
    torn(path)
    record_path(path).write_text('{"sha256": "f"}')
    monkeypatch.setattr(identity, "ENTRIES", (Entry(name="known", summary="", url="", size=99, sha256="ab" * 32),))
    assert f"; 99 bytes, SHA-256 {'ab' * 8} when it was published): " in refused(path)


def test_the_bundled_checkpoint_is_known(tmp_path: Path) -> None:
    """A copy of another name is any file; where the package has it, it is known, damaged or not."""
    assert DEMO.bundled is not None
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(DEMO.bundled.read_bytes()[:-1])
    assert refused(copy, open_model).startswith(f"{told(copy)}): ")
    same = str(identity.refusal(DEMO.bundled, "torn"))
    assert same == f"{told(DEMO.bundled)}, the same when it was published): torn"
