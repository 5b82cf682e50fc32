"""Alignments from a server in the stage: kept, asked for once, paired by the set of a job's chains."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import colabfold_server
import pytest
from colabfold_server import Fake
from made_databases import sequence, write
from test_colabfold import QUICK

from foldline.cli import main
from foldline.errors import SearchError
from foldline.execute import Event, InProcess
from foldline.features.pairing import pair_rows, species_of
from foldline.inputs import read_text
from foldline.inputs.job import Job, Polymer, Text
from foldline.search import stage
from foldline.search.ahead import job_search
from foldline.search.colabfold import Server, Unsearchable
from foldline.search.jobs import searched
from foldline.search.rows import parse_a3m
from foldline.search.settings import SearchSettings
from foldline.search.stage import Chain, Searcher

A, B, C = (sequence("protein", length, 3) for length in (50, 60, 70))
OFF = dict.fromkeys(("pdb_seqres", "mmcif"), "none")


@pytest.fixture
def fake() -> Iterator[Fake]:
    with colabfold_server.running() as one:
        yield one


def searcher_of(fake: Fake, folder: Path, **databases: str) -> Searcher:
    table = {"tool": "colabfold", "server": fake.url, "databases": OFF | databases}
    return Searcher(SearchSettings.make(table), folder, InProcess(0), pace=QUICK)


def job(name: str, *chains: str | tuple[str, str]) -> Job:
    pairs = [one if isinstance(one, tuple) else ("protein", one) for one in chains]
    return Job(name, (1,), tuple(Polymer(kind, ("ABCDEFG"[i],), text) for i, (kind, text) in enumerate(pairs)))


def texts(one: Job) -> list[tuple[str, str]]:
    chains = [entity for entity in one.entities if isinstance(entity, Polymer)]
    return [tuple(read_text(text or Text(""), "a") for text in (c.unpaired_msa, c.paired_msa)) for c in chains]


def test_each_sequence_and_each_set_is_asked_for_once(fake: Fake, tmp_path: Path) -> None:
    jobs = [job("dimer", A, A), job("two", B, A, B), job("turned", A, B), job("three", A, B, C)]
    found = searched(jobs, searcher_of(fake, tmp_path))
    modes = [(mode, sorted(sequences)) for _, mode, sequences in fake.sent]
    assert modes == [("env", sorted([A, B, C])), ("pairgreedy", sorted([A, B])), ("pairgreedy", sorted([A, B, C]))]
    fake.sent.clear()
    again = searcher_of(fake, tmp_path)
    assert searched(jobs, again) == found
    assert (fake.sent, again.searched) == ([], [])

    assert texts(found[0])[0] == texts(found[0])[1]
    assert texts(found[0])[0][1] == f">query\n{A}\n"
    assert len(parse_a3m(texts(found[0])[0][0]).rows) == 8
    assert texts(found[1])[0] == texts(found[1])[2] == texts(found[2])[1]
    two = [species_of([h.encode() for h in parse_a3m(paired).headers]) for _, paired in texts(found[2])]
    three = [species_of([h.encode() for h in parse_a3m(paired).headers]) for _, paired in texts(found[3])]
    assert len(pair_rows(two, limit=100)) == 8
    assert len(pair_rows(three, limit=100)) == 10
    assert len(pair_rows([two[0], three[2]], limit=100)) == 1  # rows of different sets never meet


def test_tickets_are_not_too_large_and_earlier_ones_are_kept(fake: Fake, tmp_path: Path) -> None:
    chains = [Chain("protein", sequence("protein", 30, seed)) for seed in range(13)]
    fake.script = {"result": [b"garbage"]}
    with pytest.raises(SearchError, match="no tar archive"):
        searcher_of(fake, tmp_path).alignments(chains)
    assert not searcher_of(fake, tmp_path).cache.entries()
    fake.script = {"GET ticket": ["COMPLETE", "MAINTENANCE"]}
    with pytest.raises(SearchError, match="maintenance"):
        searcher_of(fake, tmp_path).alignments(chains)
    assert len(searcher_of(fake, tmp_path).cache.entries()) == 10
    fake.sent.clear()
    found = searcher_of(fake, tmp_path).alignments(chains)
    assert [len(sequences) for _, _, sequences in fake.sent] == [3]
    assert list(found) == chains


def sizes(fake: Fake) -> list[int]:
    """Sequences of the tickets that were sent, which are forgotten."""
    found = [len(sequences) for _, _, sequences in fake.sent]
    fake.sent.clear()
    return found


def test_a_ticket_that_fails_is_asked_for_in_halves(fake: Fake, tmp_path: Path) -> None:
    chains = [Chain("protein", sequence("protein", 30, seed)) for seed in range(13)]
    bad = chains[4].sequence
    fake.unsearchable = {bad}
    said: list[str] = []
    one = replace(searcher_of(fake, tmp_path), say=said.append)
    with pytest.raises(
        Unsearchable, match=rf"could not search for {bad[:24]}\.\.\. \(30 residues\): check the"
    ) as raised:
        one.alignments(chains)
    assert raised.value.sequences == (bad,)
    asked = sizes(fake)
    assert asked[0] == 10 and asked[-1] == 3 and asked.count(1) >= 1 and len(asked) <= 10
    assert max(asked[1:-1]) == 5
    assert any("asking for halves of these sequences" in line for line in said)
    assert len(one.cache.entries()) == 12
    rest = [chain for chain in chains if chain.sequence != bad]
    assert list(one.alignments(rest)) == rest and not fake.sent
    with pytest.raises(Unsearchable):  # alone at once
        one.alignments(chains)
    assert sizes(fake) == [1]
    fake.unsearchable = set()  # it was the server's fault
    assert list(one.alignments(chains)) == chains
    assert sizes(fake) == [1]


def test_halves_wait_as_a_busy_server_asks(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(Server, "pause", lambda self, seconds, go_on=None: waited.append(seconds))
    chains = [Chain("protein", sequence("protein", 30, seed)) for seed in range(4)]
    fake.unsearchable = {chains[0].sequence}
    one = replace(searcher_of(fake, tmp_path), pace=replace(QUICK, busy=7.0, poll=0.25))
    with pytest.raises(Unsearchable):
        one.alignments(chains)
    assert sizes(fake) in ([4, 2, 1, 1, 2], [4, 2, 2, 1, 1])  # the order is that of keys, which have the server's port
    assert waited.count(7.0) == 2  # once for each ticket that is asked for again in parts


def test_a_server_that_fails_with_all_is_not_asked_for_each(fake: Fake, tmp_path: Path) -> None:
    chains = [Chain("protein", sequence("protein", 30, seed)) for seed in range(13)]
    fake.unsearchable = {chain.sequence for chain in chains}
    one = searcher_of(fake, tmp_path)
    with pytest.raises(Unsearchable, match=r"\(30 residues\), 7 more: check the letters") as raised:
        one.alignments(chains)
    assert len(raised.value.sequences) == 10
    assert len(fake.sent) <= 8 and not one.cache.entries()


def test_only_the_jobs_at_fault_fail(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage, "Server", lambda url, pace, check: Server(url, QUICK, check))
    monkeypatch.chdir(tmp_path)
    jobs = {"good": [A], "bad": [A, B], "fine": [A, C], "worse": [B]}
    for name, chains in jobs.items():
        entries = [{"protein": {"id": "ABC"[i], "sequence": text}} for i, text in enumerate(chains)]
        whole = {"dialect": "alphafold3", "version": 2, "name": name, "modelSeeds": [1], "sequences": entries}
        Path(f"{name}.json").write_text(json.dumps(whole))
    Path("foldline.toml").write_text(f'cache_dir = "cache"\n[search]\ntool = "colabfold"\nserver = "{fake.url}"\n')
    names = [f"{name}.json" for name in jobs]
    fake.unsearchable = {B}
    for out, given, code, written in (("out", names, 1, ["fine", "good"]), ("none", names[1:2], 3, [])):
        with pytest.raises(SystemExit) as ended:
            main(["search", *given, "--out", out])
        assert ended.value.code == code
        assert sorted(path.parent.name for path in tmp_path.glob(f"{out}/*/*_data.json")) == written
        said = capsys.readouterr().err
        assert f"could not search for {B[:24]}... (60 residues): check" in said
        assert [name for name in jobs if f"error: {name}: the ColabFold" in said] == (
            ["bad", "worse"] if written else []
        )
    modes = {mode for _, mode, _ in fake.sent}
    assert modes == {"env", "pairgreedy"}

    fake.unsearchable = {A, C}  # what is whole is kept: only the pairing of another set can fail
    (tmp_path / "pair.json").write_text((tmp_path / "bad.json").read_text().replace(B, A[::-1]))
    (tmp_path / "alone.json").write_text((tmp_path / "good.json").read_text())
    with pytest.raises(SystemExit) as ended:
        main(["search", "pair.json", "alone.json", "fine.json", "--out", "last"])
    assert ended.value.code == 1
    assert "error: bad: the ColabFold server" in (said := capsys.readouterr().err) and "could not pair" in said
    assert sorted(path.parent.name for path in tmp_path.glob("last/*/*_data.json")) == ["fine", "good"]


def test_two_threads_ask_once(fake: Fake, tmp_path: Path) -> None:
    jobs = [job("a", A, B), job("b", B, A)]
    threads = [threading.Thread(target=searched, args=([one], searcher_of(fake, tmp_path))) for one in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(mode for _, mode, _ in fake.sent) == ["env", "pairgreedy"]


def test_only_what_lacks_alignments_is_sent(fake: Fake, tmp_path: Path, queries: dict[str, list[str]]) -> None:
    given = Polymer("protein", ("A",), A, unpaired_msa=Text(f">q\n{A}\n"), paired_msa=Text(""))
    rna = write(tmp_path / "rfam.fasta", "rna", queries["rna"])
    whole = job("j", "MKV", B, ("rna", queries["rna"][1]), ("dna", "ACGT"), A[::-1])
    one = searcher_of(fake, tmp_path, rfam=str(rna))
    (found,) = searched([Job("j", (1,), (given, *whole.entities))], one)
    assert sorted({text for _, _, sequences in fake.sent for text in sequences}) == sorted([B, A[::-1]])
    assert texts(found)[0] == (f">q\n{A}\n", "")
    assert texts(found)[1] == (">query\nMKV\n", ">query\nMKV\n")
    assert len(parse_a3m(texts(found)[3][0]).rows) > 3  # RNA, searched for here
    assert found.entities[3].paired_msa is None  # type: ignore[union-attr]
    assert ("rfam", queries["rna"][1]) in one.searched


def test_jobs_of_a_run_ask_when_it_is_their_turn(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queries: dict[str, list[str]]
) -> None:
    monkeypatch.setattr(stage, "Server", lambda url, pace, check: Server(url, QUICK, check))
    rna = write(tmp_path / "rfam.fasta", "rna", queries["rna"])
    jobs = [job("one", A, B), job("two", B, ("rna", queries["rna"][0]), A)]
    table = {"tool": "colabfold", "server": fake.url, "databases": {"rfam": str(rna)}, "threads": 1}
    told: list[Event] = []
    search = job_search(table, tmp_path, jobs, progress=told.append)
    assert search is not None
    found = [search(one, told.append) for one in jobs]
    search.close()
    assert [mode for _, mode, _ in fake.sent] == ["env", "pairgreedy"]
    assert texts(found[0]) == [texts(found[1])[2], texts(found[1])[0]]
    assert [event.job for event in told if "asking" in event.message] == ["one", "one"]
    fake.script = {"POST ticket": ["MAINTENANCE"]}
    again = job_search(table, tmp_path, [job("three", C)])
    assert again is not None
    with pytest.raises(SearchError, match="maintenance"):
        again(job("three", C), told.append)
    again.close()


def test_rna_without_a_database_is_an_error_before_anything_is_sent(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r'search rna sequences in: name databases .* unpairedMsa \("" for none\)'):
        searched([job("j", A, ("rna", "ACGU" * 9))], searcher_of(fake, tmp_path))
    assert not fake.asked


def test_from_the_command_line(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage, "Server", lambda url, pace, check: Server(url, QUICK, check))
    monkeypatch.chdir(tmp_path)
    chains = [{"protein": {"id": name, "sequence": text}} for name, text in (("A", A), ("B", B))]
    whole = {"dialect": "alphafold3", "version": 2, "name": "pair", "modelSeeds": [1], "sequences": chains}
    Path("job.json").write_text(json.dumps(whole))
    Path("foldline.toml").write_text(
        f'cache_dir = "cache"\n[search]\ntool = "colabfold"\nserver = "{fake.url}"\ninline = true\n'
    )
    for expected in (0, 0):
        with pytest.raises(SystemExit) as ended:
            main(["search", "job.json", "--out", "out"])
        assert ended.value.code == expected
    said = capsys.readouterr().err
    server = f"the ColabFold server {fake.url}"
    assert said.count(f"asking {server} for unpaired alignments of 2 sequences, which are sent to it") == 1
    assert said.count("for paired alignments of 2 sequences, which are sent to it") == 1
    written = json.loads(Path("out/pair/pair_data.json").read_text())["sequences"]
    assert written[1]["protein"]["unpairedMsa"].startswith(f">query\n{B}\n>UniRef100_B000")
    assert "UniRef100_A0A-" in written[0]["protein"]["pairedMsa"]
    fake.script = {"POST ticket": ["MAINTENANCE"]}
    Path("foldline.toml").write_text(Path("foldline.toml").read_text().replace('"cache"', '"other"'))
    with pytest.raises(SystemExit) as ended:
        main(["search", "job.json", "--out", "other"])
    assert ended.value.code == 3
    assert f"{server} is under maintenance" in capsys.readouterr().err
    assert not Path("other").joinpath("pair").exists()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"tool": "colabfold"}, "search.tool: 'colabfold' is not possible here: give server = URL with it"),
        ({"server": "api.colabfold.com"}, "search.server: 'api.colabfold.com' is not possible here: give the URL"),
        ({"server_minutes": 0}, "search.server_minutes: 0 is not possible here: give a number above 0"),
    ],
)
def test_bad_settings(table: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SearchSettings.make(table)
