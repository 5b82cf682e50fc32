"""Where databases are found, what is said of those that cannot be used, their sizes, identities and shards."""

import os
from pathlib import Path

import hmmer_reference
import pytest

from foldline.errors import InputError, SearchError
from foldline.search import databases
from foldline.search.databases import Database, count_entries, count_residues, identity, locate, records, searches, size
from foldline.search.recipes import RFAM, UNIREF90
from foldline.search.settings import SearchSettings
from foldline.search.sharding import shard

FASTA = ">a one\nACD\nEFG\n>b\nHIKL\n"


def settings(*roots: Path, **table: object) -> SearchSettings:
    return SearchSettings.make({"roots": [str(root) for root in roots], **table})


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("fast", "slow"):
        (tmp_path / name).mkdir()
    return tmp_path / "fast", tmp_path / "slow"


def test_the_first_root_wins(roots: tuple[Path, Path]) -> None:
    for root in roots:
        (root / UNIREF90.file).write_text(FASTA)
    (roots[1] / RFAM.file).write_text(FASTA)
    for name, root, file in (("uniref90", 0, UNIREF90.file), ("rfam", 1, RFAM.file)):
        assert locate(name, settings(*roots)) == Database(name, (roots[root] / file,))


def test_a_named_file_may_lie_in_a_root_beside_the_settings_or_anywhere(roots: tuple[Path, Path]) -> None:
    (roots[1] / "mine.fasta").write_text(FASTA)
    for table in (
        {"roots": [str(roots[0]), str(roots[1])], "databases": {"mgnify": "mine.fasta"}},
        {"relative_to": str(roots[1]), "databases": {"mgnify": "mine.fasta"}},
        {"databases": {"mgnify": str(roots[1] / "mine.fasta")}},
        {"relative_to": str(roots[1].parent), "roots": ["slow"], "databases": {"mgnify": "mine.fasta"}},
    ):
        assert locate("mgnify", SearchSettings.make(table)) == Database("mgnify", (roots[1] / "mine.fasta",))


def test_without_a_root_only_named_databases_are_used(roots: tuple[Path, Path]) -> None:
    assert locate("uniref90", settings()) is None
    assert locate("uniref90", settings(*roots, databases={"uniref90": "none"})) is None
    with pytest.raises(SearchError, match=r"uniref90 \(uniref90_2022_05\.fa\) is not in .*fast, .*slow: put it there"):
        locate("uniref90", settings(*roots))


@pytest.mark.parametrize("word", ["d.fasta@3", "d.fasta@*"])
def test_shards_are_found_by_alphafold_3s_names(roots: tuple[Path, Path], word: str) -> None:
    for i in range(3):
        (roots[1] / f"d.fasta-0000{i}-of-00003").write_text(FASTA)
    found = locate("uniprot", settings(*roots, databases={"uniprot": word}))
    assert found is not None
    assert found.sharded
    assert [path.name for path in found.files] == [f"d.fasta-0000{i}-of-00003" for i in range(3)]
    (roots[1] / "d.fasta-00001-of-00003").unlink()
    with pytest.raises(SearchError, match=r"d\.fasta-00001-of-00003 of the database uniprot is missing \(1 of 3 are\)"):
        locate("uniprot", settings(*roots, databases={"uniprot": word}))


def test_shards_with_a_suffix_and_under_the_usual_name(roots: tuple[Path, Path]) -> None:
    for i in range(2):
        (roots[0] / f"d-0000{i}-of-00002.fa").write_text(FASTA)
        (roots[1] / f"{UNIREF90.file}-0000{i}-of-00002").write_text(FASTA)
    for name, named in (("uniprot", {"uniprot": "d@2.fa"}), ("uniref90", {})):
        found = locate(name, settings(*roots, databases=named))
        assert found is not None
        assert len(found.files) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: get it again"),
        (b"\n\n", "is empty: get it again"),
        (b"\x1f\x8b\x08\x00", "is compressed: unpack it"),
        (b"ACDEF\n", "is no FASTA, it does not start with '>'"),
        (FASTA.encode()[:-3], "is cut off, its last line has no end"),
    ],
)
def test_an_unusable_file_is_named(roots: tuple[Path, Path], content: bytes, said: str) -> None:
    (roots[0] / UNIREF90.file).write_bytes(content)
    with pytest.raises(SearchError, match=f"{roots[0] / UNIREF90.file} {said}"):
        locate("uniref90", settings(roots[0]))


@pytest.mark.parametrize("chunk", [3, 7, 1 << 22])
def test_sizes_are_counted(monkeypatch: pytest.MonkeyPatch, made: dict[str, Path], chunk: int, tmp_path: Path) -> None:
    monkeypatch.setattr(databases, "CHUNK", chunk)
    small = tmp_path / "small"
    small.write_bytes(b">a b>c\r\nAC\r\nG\r\n>\nT\n>empty\n>last\nACGT\n")
    assert count_entries(small) == 4
    assert count_residues(small) == 8
    assert list(records(small)) == [b"a b>c\r\nAC\r\nG\r", b"\nT", b"empty", b"last\nACGT"]
    if chunk > 100:
        for path in made.values():
            entries = hmmer_reference.records(path)
            assert count_entries(path) == len(entries)
            assert count_residues(path) == sum(len(text) for _, text in entries)


def test_a_size_is_remembered_by_content_and_counted_again_when_that_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        path.write_text(FASTA)
    memory = tmp_path / "memory"
    assert size(Database("d", (one,)), "protein", memory) == 2
    counted: list[Path] = []
    monkeypatch.setattr(databases, "count_entries", lambda path: counted.append(path) or 7)
    assert size(Database("e", (two,)), "protein", memory) == 2
    assert not counted
    two.write_text(FASTA + ">c\nAC\n")
    assert size(Database("e", (two,)), "protein", memory) == 7
    assert counted == [two]


def test_a_given_size_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / UNIREF90.file
    path.write_text(FASTA)
    search = searches(UNIREF90, Database("uniref90", (path,)), settings(z={"uniref90": 153742194}), tmp_path)
    assert (search.z, search.z_given) == (153742194.0, True)


def test_an_identity_is_of_content_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "HASHED_WHOLE", 1 << 10)
    text = FASTA * 100_000
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(text)
    two.write_text(text)
    memory = tmp_path / "memory"
    first = identity(Database("d", (one,)), memory)
    os.utime(two, (1, 1))
    assert identity(Database("e", (two,)), memory) == first
    assert identity(Database("d", (one, two), sharded=True), memory) != first
    two.write_text(text[:-2] + "A\n")
    assert identity(Database("e", (two,)), memory) != first
    (tmp_path / "small").write_text(FASTA)
    assert identity(Database("e", (tmp_path / "small",)), memory) != first


def test_sharding_deals_the_records_out(made: dict[str, Path], tmp_path: Path) -> None:
    paths = shard(made["protein"], 4, tmp_path)
    assert [path.name for path in paths] == [f"protein.fasta-0000{i}-of-00004" for i in range(4)]
    whole = made["protein"].read_text().split(">")[1:]
    assert ["".join(f">{one}" for one in whole[i::4]) for i in range(4)] == [path.read_text() for path in paths]
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in paths]


def test_sharding_refuses_what_cannot_be_split(made: dict[str, Path], tmp_path: Path) -> None:
    for count in (0, 1, 100_000):
        with pytest.raises(InputError, match="give a number from 2 to 99999"):
            shard(made["protein"], count, tmp_path)
    with pytest.raises(InputError, match="too few for 500 shards"):
        shard(made["protein"], 500, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"root": "x"}, "search.root: unknown; did you mean roots?"),
        ({"databases": {"uniref9": "x"}}, "search.databases.uniref9: unknown; did you mean uniref90"),
        ({"databases": "x"}, r"a table \[search.databases\]"),
        ({"databases": {"uniref90": 3}}, "search.databases.uniref90: 3 is not possible here: give a file"),
        ({"z": {"uniref90": -1}}, "search.z.uniref90: -1 is not possible here: give a number above 0"),
        (
            {"tool": "blast"},
            "search.tool: 'blast' is not possible here: give auto, pyhmmer, hmmer, mmseqs or colabfold",
        ),
        ({"inline": 1}, "give true or false"),
        ({"threads": 0}, "give a whole number of at least 1"),
        ({"rna_minutes": "long"}, "give a number above 0"),
        ({"family": 3}, "give the name of a family"),
        ({"template_rules": "mine"}, "give auto, alphafold3 or protenix"),
        ({"max_template_date": "2021"}, "give a date such as 2021-09-30"),
        ({"roots": [3]}, "search.roots: 3 is not possible here: give the path of a folder"),
    ],
)
def test_bad_settings_are_named(table: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SearchSettings.make(table)
