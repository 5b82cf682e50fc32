"""Texts inline and in files: compression, byte order marks, line ends, damage, and bounded memory (A32, A35, A37)."""

import gzip
import lzma
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from foldline.errors import InputError
from foldline.inputs import Text, open_text, read_text

PACKERS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "two gzip members": lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]),
    "xz": lzma.compress,
    "zstandard": zstandard.ZstdCompressor().compress,
    "two zstandard frames": lambda data: zstandard.compress(data[:7]) + zstandard.compress(data[7:]),
}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("data", [b"\xef\xbb\xbf>a\r\nMK\xc3\xa9\r\n>b\rMK", ">a\nMKé\n>b\nMK".encode()])
def test_files_of_every_kind(tmp_path: Path, packer: str, data: bytes) -> None:
    """The kind is told by the first bytes, not by the name."""
    path = tmp_path / "x.a3m"
    path.write_bytes(PACKERS[packer](data))
    assert read_text(Text(path=path), "the MSA") == ">a\nMKé\n>b\nMK"


def test_inline_text() -> None:
    assert read_text(Text("\ufeff>a\r\nMK\r"), "the MSA") == ">a\nMK\n"
    assert read_text(Text(""), "the MSA") == ""


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    assert read_text(Text(path=tmp_path / "x"), "the MSA") == ""


@pytest.mark.parametrize("packer", ["gzip", "xz", "zstandard"])
def test_a_cut_off_file_is_an_input_error(tmp_path: Path, packer: str) -> None:
    path = tmp_path / "x.a3m"
    path.write_bytes(PACKERS[packer](bytes(range(1, 128)) * 50)[:-9])
    with pytest.raises(InputError, match="the MSA of chain A: .*x.a3m is a damaged or cut-off compressed file"):
        text = read_text(Text(path=path), "the MSA of chain A")
        raise AssertionError(f"{len(text)} characters were read")


@pytest.mark.parametrize(
    ("name", "words"),
    [("gone", "does not exist"), (".", "is a folder"), ("latin", "is not UTF-8"), ("bad.gz", "damaged")],
)
def test_unreadable_files(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "latin").write_bytes(b">a\nMK\xe9\n")
    (tmp_path / "bad.gz").write_bytes(b"\x1f\x8bnot gzip at all")
    with pytest.raises(InputError, match=words):
        read_text(Text(path=tmp_path / name), "the MSA")


def test_a_cap_refuses_before_reading_all(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"A" * 50_000_000, compresslevel=1))
    tracemalloc.start()
    with pytest.raises(InputError, match="longer than the 1,000,000 characters"):
        read_text(Text(path=path), "the MSA", max_chars=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000
    assert read_text(Text("12345"), "the MSA", max_chars=5) == "12345"


def test_a_deep_alignment_is_read_row_by_row(tmp_path: Path) -> None:
    """A37: memory does not grow with the file."""
    path = tmp_path / "deep.a3m.gz"
    with gzip.open(path, "wt", compresslevel=1) as stream:
        for i in range(100_000):
            stream.write(f">row{i}\n{'ACDEFGHIKL' * 30}\n")
    tracemalloc.start()
    with open_text(Text(path=path), "the MSA") as stream:
        rows = sum(1 for line in stream if line.startswith(">"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 100_000
    assert peak < 4_000_000


def test_reading_may_stop_early(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(zstandard.compress(b">a\n" * 1_000_000))
    with open_text(Text(path=tmp_path / "x"), "the MSA") as stream:
        assert stream.readline() == ">a\n"
