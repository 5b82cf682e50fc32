"""Searching ahead for the jobs of a run: the first does not wait for the last, the later ones are searched together."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from made_databases import sequence, write

from foldline.errors import SearchError, Stopped
from foldline.execute import Event
from foldline.inputs.job import Job, Polymer, Text
from foldline.search import pieces
from foldline.search.ahead import JobSearch, job_search

SEQUENCES = [sequence("protein", 20 + i, 1) for i in range(7)]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return write(tmp_path / "u.fasta", "protein", SEQUENCES, homologs=2, others=9)


def jobs() -> list[Job]:
    return [Job(f"job{i}", (1,), (Polymer("protein", ("A",), text),)) for i, text in enumerate(SEQUENCES)]


def search_of(database: Path, tmp_path: Path, events: list[Event]) -> JobSearch:
    table = {"databases": {"uniref90": str(database)}, "threads": 1}
    found = job_search(table, tmp_path / "cache", jobs(), progress=events.append)
    assert found is not None
    return found


def test_a_database_is_read_for_more_jobs_each_time(database: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    search = search_of(database, tmp_path, events)
    for job in jobs():
        (entity,) = search(job, events.append).entities
        assert isinstance(entity, Polymer) and entity.unpaired_msa is not None
    search.close()
    messages = [event.message for event in events if event.message.startswith("searching")]
    assert messages == [f"searching uniref90 for {count}" for count in ("1 sequence", "2 sequences", "4 sequences")]
    assert {event.job for event in events} == {"queue", *(job.name for job in jobs())}


def test_the_first_job_does_not_wait_for_the_last(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, gate = pieces.search_item, threading.Event()

    def held(item: pieces.Item, check: object = None) -> object:
        if len(item.queries) > 1:
            assert gate.wait(30)
        return real(item)

    monkeypatch.setattr(pieces, "search_item", held)
    search = search_of(database, tmp_path, [])
    search(jobs()[0], lambda event: None)
    gate.set()
    search(jobs()[-1], lambda event: None)
    search.close()


def test_what_goes_wrong_ahead_is_told_when_the_job_asks(tmp_path: Path) -> None:
    bad = tmp_path / "bad.fasta"
    bad.write_text(">a\nACDEF\n>b\nAC@@!\n")
    search = search_of(bad, tmp_path, [])
    for job in jobs()[:2]:
        with pytest.raises(SearchError, match=r"bad\.fasta cannot be read as FASTA"):
            search(job, lambda event: None)
    search.close()


def test_closing_ends_the_search(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = threading.Event()

    def endless(item: pieces.Item, check: object = None) -> object:
        started.set()
        while True:
            check()  # type: ignore[operator]
            time.sleep(0.01)

    monkeypatch.setattr(pieces, "search_item", endless)
    search = search_of(database, tmp_path, [])
    assert started.wait(30)
    asked: list[BaseException] = []

    def ask() -> None:
        try:
            search(jobs()[-1], lambda event: None)
        except Stopped as stopped:
            asked.append(stopped)

    waiting = threading.Thread(target=ask)
    waiting.start()
    search.close()
    waiting.join(30)
    assert len(asked) == 1 and not waiting.is_alive()


def test_late_searches_are_not_made_again_for_each_job(tmp_path: Path) -> None:
    chain = sequence("rna", 60, 1)
    database = write(tmp_path / "r.fasta", "rna", [chain], homologs=2, others=3)
    table = {"databases": {"rfam": str(database)}, "threads": 1, "rna_minutes": 1e-9}
    some = [Job(name, (1,), (Polymer("rna", ("A",), chain),)) for name in ("a", "b")]
    events: list[Event] = []
    search = job_search(table, tmp_path / "cache", some, progress=events.append)
    assert search is not None
    for job in some:
        assert any("passed its limit of 1e-09 minutes" in note for note in search(job, events.append).notes)
    search.close()
    assert [event.message for event in events if event.message.startswith("searching")] == [
        "searching rfam for 1 sequence"
    ]


@pytest.mark.parametrize("templates", [True, False])
def test_without_templates_nothing_is_looked_for_in_their_databases(
    templates: bool, database: Path, tmp_path: Path
) -> None:
    (tmp_path / "mmcif").mkdir()
    seqres = write(tmp_path / "seqres.fasta", "protein", SEQUENCES, homologs=1, others=2)
    own = Text(inline="")
    given = Polymer("protein", ("B",), SEQUENCES[1], unpaired_msa=own, paired_msa=own)
    some = [Job("job", (1,), (*jobs()[0].entities, given))]
    named = {"uniref90": str(database), "pdb_seqres": str(seqres), "mmcif": str(tmp_path / "mmcif")}
    table = {"databases": named, "threads": 1}
    events: list[Event] = []
    search = job_search(table, tmp_path / "cache", some, progress=events.append, templates=templates)
    assert search is not None
    found = search(some[0], events.append).entities
    search.close()
    assert [entity.templates for entity in found if isinstance(entity, Polymer)] == [(), ()]
    messages = [event.message for event in events]
    assert messages.count("searching pdb_seqres for templates") == (2 if templates else 0)
    assert messages.count("no templates are searched for: this network does not read them") == (not templates)
    # Where the databases of templates are all there is, nothing is left; a job that asks for none is quiet.
    table = {"databases": {name: named[name] for name in ("pdb_seqres", "mmcif")}}
    events.clear()
    quiet = [Job("quiet", (1,), (replace(given, templates=()),))]
    search = job_search(table, tmp_path / "cache", quiet, progress=events.append, templates=templates)
    assert (search is not None) == templates and not events
    if search is not None:
        search.close()
