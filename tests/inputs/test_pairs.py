"""Screens: each unordered pair once, under names that are safe and unique, and what is refused."""

import csv
import json
import random
import time
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from foldline.errors import InputError, WriteError
from foldline.inputs import pairs, read_jobs
from foldline.inputs.pairs import Written, read_screen, write_screen

SEQUENCES = ["MKV", "ACDEF", "GHIK", "LMNPQR"]


def fasta(path: Path, records: dict[str, str]) -> Path:
    path.write_text("".join(f">{header}\n{text}\n" for header, text in records.items()))
    return path


@pytest.fixture
def four(tmp_path: Path) -> Path:
    return fasta(tmp_path / "four.fasta", dict(zip("abcd", SEQUENCES, strict=True)))


def chains_of(folder: Path) -> dict[str, list[str]]:
    """The chains of every job in a folder, as a run of the folder reads them."""
    return {job.name: [e.sequence for e in job.entities for _ in e.ids] for job in read_jobs(folder)}  # type: ignore[union-attr]


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_all_against_all(four: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_screen(read_screen(four), out) == Written(10, 0)
    letters = dict(zip("abcd", SEQUENCES, strict=True))
    wanted = {f"{x}__{y}": [letters[x], letters[y]] for x, y in combinations_with_replacement("abcd", 2)}
    assert chains_of(out) == wanted
    rows = table(out / "pairs.csv")
    assert rows[0] == ["job", "first", "second", "tokens"]
    assert {row[0]: int(row[3]) for row in rows[1:]} == {name: len("".join(both)) for name, both in wanted.items()}
    assert not (out / "left_out.csv").exists()
    entity = json.loads((out / "a__a.json").read_text())["sequences"]
    assert [one["protein"]["id"] for one in entity] == [["A", "B"]], "the sequence of a homodimer is written once"


def test_without_homodimers(four: Path, tmp_path: Path) -> None:
    assert write_screen(read_screen(four, homodimers=False), tmp_path / "out") == Written(6, 0)
    assert "a__a" not in chains_of(tmp_path / "out")
    alone = fasta(tmp_path / "one.fasta", {"a": "ACD"})
    with pytest.raises(InputError, match="one sequence alone makes no pair"):
        write_screen(read_screen(alone, homodimers=False), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_two_files_give_every_pair_once(four: Path, tmp_path: Path) -> None:
    """b and c stand in both files, b under another name in the second: b with c, and c with b, is one job."""
    second = fasta(tmp_path / "second.fasta", {"c": "GHIK", "beta": "ACDEF", "e": "WWW"})
    screen = read_screen(four, second)
    assert write_screen(screen, tmp_path / "out") == Written(4 * 3 - 1, 0)
    names = set(chains_of(tmp_path / "out"))
    assert {"b__c", "b__b", "c__c", "a__e"} <= names and "c__b" not in names
    assert [note for note in screen.notes if "beta" in note] == [
        f'{second}: "beta" has the sequence of "b": its pairs have that name'
    ]


def test_equal_sequences_of_one_file_are_one_member(tmp_path: Path) -> None:
    path = tmp_path / "twice.fasta"
    path.write_text(">a\nACD\n>b\nacd\n>a\nACD\n>c\nEFG\n")
    screen = read_screen(path)
    assert [member.name for member in screen.members] == ["a", "c"]
    assert any('"b" has the sequence of "a"' in note for note in screen.notes)
    assert any('"a" is there twice with one sequence' in note for note in screen.notes)
    assert len(list(screen.pairs())) == 3


def test_names_are_safe_and_unique(tmp_path: Path) -> None:
    headers = ["sp|P12345-2|HBA_HUMAN of man", "A/b c", "a b", "A\\b", "..", "é", "x__y", "x" * 100, "con", "P1|x.y"]
    path = fasta(tmp_path / "n.fasta", {h: "ACDEFGHIKLMN"[: i + 1] for i, h in enumerate(headers)})
    out = tmp_path / "out"
    count = len(headers) * (len(headers) + 1) // 2
    assert write_screen(read_screen(path), out) == Written(count, 0)
    files = [file.name for file in out.glob("*.json")]
    assert len({name.lower() for name in files}) == count
    assert len(read_jobs(out)) == count, "no two share a folder"
    assert "P12345-2__x_y.json" in files
    assert all(name.isascii() and len(name) < 160 and not name.startswith((".", "-")) for name in files)


def test_complexes_are_paired_whole(tmp_path: Path) -> None:
    path = fasta(tmp_path / "c.fasta", {"ab": "ACD:EFG:ACD", "c": "HIK"})
    write_screen(read_screen(path), tmp_path / "out")
    found = chains_of(tmp_path / "out")
    assert found["ab__c"] == ["ACD", "EFG", "ACD", "HIK"]
    assert found["ab__ab"] == ["ACD", "EFG", "ACD", "ACD", "EFG", "ACD"]


def test_too_large_pairs_are_left_out_and_listed(four: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_screen(read_screen(four), out, max_tokens=9) == Written(6, 4)
    assert table(out / "left_out.csv")[1:] == [
        ["b__b", "b", "b", "10"],
        ["b__d", "b", "d", "11"],
        ["c__d", "c", "d", "10"],
        ["d__d", "d", "d", "12"],
    ]
    assert max(sum(map(len, chains)) for chains in chains_of(out).values()) == 9
    with pytest.raises(InputError, match=r"--max-tokens: every pair has more than 5 tokens, the smallest 6"):
        write_screen(read_screen(four), tmp_path / "none", max_tokens=5)


def test_a_folder_with_other_jobs_is_refused(four: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_screen(read_screen(four), out)
    write_screen(read_screen(four), out)
    (out / "mine.json").write_text("{}")
    with pytest.raises(InputError, match=r"jobs that are not of this screen \(mine\.json\)"):
        write_screen(read_screen(four), out)
    (out / "mine.json").unlink()
    with pytest.raises(InputError, match=r"not of this screen \(b__b\.json, b__d\.json, c__d\.json and 1 more\)"):
        write_screen(read_screen(four), out, max_tokens=9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no FASTA record in the file"),
        ("\n \n", "no FASTA record in the file"),
        ('{"name": "x"}', "text before the first header"),
        (">a\nACD\n>b\n\n", "the protein sequence is empty"),
        (">a\nACD\n>b\nAC1D*\n", "not protein letters"),
        (">a\nACD\n>a\nEFG\n", 'the name "a" stands for another sequence too: rename one of the two'),
        (">A|protein\nACD\n>B|dna\nACG\n", "headers with a type make one job"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.fasta"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"bad\.fasta.*{said}"):
        read_screen(path)


def test_names_across_files_and_missing_files(four: Path, tmp_path: Path) -> None:
    second = fasta(tmp_path / "second.fasta", {"a": "WWW"})
    with pytest.raises(InputError, match=r'second\.fasta: the name "a" stands for another sequence in .*four\.fasta'):
        read_screen(four, second)
    with pytest.raises(InputError, match=r"none\.fasta does not exist"):
        read_screen(four, tmp_path / "none.fasta")


def test_a_full_disk(four: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *_: object, **__: object) -> None:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(WriteError, match="No space left on device.*: free space there"):
        write_screen(read_screen(four), tmp_path / "out")
    assert not list((tmp_path / "out").glob(".*")) and not list((tmp_path / "out").glob("*.json"))


def test_a_screen_of_100_sequences_takes_seconds(tmp_path: Path) -> None:
    dice = random.Random(0)
    records = {f"p{i}": "".join(dice.choices("ACDEFGHIKLMNPQRSTVWY", k=300)) for i in range(100)}
    path = fasta(tmp_path / "many.fasta", records)
    start = time.perf_counter()
    assert write_screen(read_screen(path), tmp_path / "out") == Written(5050, 0)
    assert time.perf_counter() - start < 20
    assert len(list((tmp_path / "out").glob("*.json"))) == 5050
    assert pairs.BETWEEN in (tmp_path / "out" / "pairs.csv").read_text()
