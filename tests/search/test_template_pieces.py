"""Template searches as pieces: chains beside each other, on any machine, ahead of need, with the same templates."""

import pickle
import platform
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_databases import sequence, write
from template_set import write_set

from foldline.errors import SearchError, Stopped
from foldline.execute import Event, InProcess
from foldline.inputs.job import Job, Polymer, Text
from foldline.search import ahead
from foldline.search.ahead import job_search
from foldline.search.jobs import searched
from foldline.search.settings import SearchSettings
from foldline.search.stage import Searcher
from foldline.search.template_aligner import Kalign
from foldline.search.template_stage import TemplateItem

QUERIES = [sequence("protein", 60 + i, 4) for i in range(3)]


class Machines(InProcess):
    """Stands in for other machines: pieces and results travel as bytes; `most` pieces after which this process dies."""

    def __init__(self, slots: int, most: int | None = None, around: Callable[[Any], Any] = lambda made: made) -> None:
        super().__init__(slots)
        self.ran: list[Any] = []
        self.most, self.around = most, around

    def each(
        self, function: Callable[[Any], Any], items: Iterable[Any]
    ) -> Generator[tuple[Any, Future[Any]], None, None]:
        def travel(item: Any) -> Any:
            far, packed = pickle.loads(pickle.dumps((function, item)))
            return self.around(pickle.loads(pickle.dumps(far(packed))))

        for item, future in super().each(travel, items):
            if len(self.ran) == self.most:
                raise Stopped
            self.ran.append(item)
            yield item, future


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return write_set(tmp_path_factory.mktemp("pdb"), QUERIES)


def jobs() -> list[Job]:
    """Two, with four chains of which two are equal."""
    chains = [
        Polymer("protein", (name,), QUERIES[i], (), Text(""), Text(""))
        for name, i in zip("ABCD", (0, 1, 2, 0), strict=True)
    ]
    return [Job("one", (1,), tuple(chains[:2])), Job("two", (1,), tuple(chains[2:]))]


def searcher(table: dict[str, object], cache: Path, machines: InProcess | None = None, threads: int = 1) -> Searcher:
    return Searcher(SearchSettings.make(table), cache, machines, threads=threads)


def content(found: Iterable[Job]) -> list[object]:
    """Templates without the place of their files, and notes."""
    templates = [one for job in found for entity in job.entities for one in getattr(entity, "templates", None) or ()]
    paths = [one.mmcif.path for one in templates]
    assert all(path is not None and path.is_file() for path in paths)
    names = [path.name for path in paths if path is not None]
    return [*names, *((one.query_indices, one.template_indices) for one in templates), *(job.notes for job in found)]


@pytest.fixture(scope="module")
def wanted(table: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """One after the other in one thread."""
    found = []
    for job in jobs():
        found += searched([job], searcher(table, tmp_path_factory.mktemp("alone")))
    assert len(content(found)) == 4 * 2 * 2 + 2
    return content(found)


@pytest.mark.parametrize(("slots", "threads", "of_each"), [(1, 1, 1), (2, 2, 1), (8, 4, 2), (16, 2, 2)])
def test_each_chain_once_on_any_number_of_machines(
    table: dict[str, object], wanted: list[object], tmp_path: Path, slots: int, threads: int, of_each: int
) -> None:
    with Machines(slots) as machines:
        assert content(searched(jobs(), searcher(table, tmp_path, machines, threads))) == wanted
    assert sorted(item.query for item in machines.ran) == sorted(QUERIES)
    assert machines.ran[0].threads == of_each
    with Machines(slots) as machines:
        assert content(searched(jobs(), searcher(table, tmp_path, machines, threads))) == wanted
    assert machines.ran == []


def test_chains_beside_each_other_in_this_process(
    table: dict[str, object], wanted: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    together = threading.Barrier(3, timeout=30)
    real = TemplateItem.run

    def run(self: TemplateItem, check: Callable[[], None]) -> object:
        together.wait()
        return real(self, check)

    monkeypatch.setattr(TemplateItem, "run", run)
    assert content(searched(jobs(), searcher(table, tmp_path, threads=3))) == wanted


def test_protenix_rules_on_other_machines(table: dict[str, object], tmp_path: Path) -> None:
    if Kalign.find() is None:
        pytest.skip("kalign is not on the PATH")
    table = table | {"template_rules": "protenix"}
    here = content(searched(jobs(), searcher(table, tmp_path / "here")))
    with Machines(2) as machines:
        assert content(searched(jobs(), searcher(table, tmp_path / "there", machines))) == here
    (item, *_) = machines.ran
    with pytest.raises(SearchError, match=rf"kalign is .* on {platform.node()} and 1.0 on the machine that asks"):
        replace(item, kalign="1.0").run(lambda: None)


def test_a_driver_that_dies_goes_on(table: dict[str, object], wanted: list[object], tmp_path: Path) -> None:
    with Machines(1, most=1) as first, pytest.raises(Stopped):
        searched(jobs(), searcher(table, tmp_path, first))
    with Machines(1) as second:
        assert content(searched(jobs(), searcher(table, tmp_path, second))) == wanted
    assert [item.query for item in (*first.ran, *second.ran)] == QUERIES


def test_what_another_machine_lacks_is_named(table: dict[str, object], tmp_path: Path) -> None:
    """Of pdb_seqres and the folder it says so itself; of single structures, whoever asks compares their sizes."""
    with Machines(1) as machines:
        searched(jobs()[:1], searcher(table, tmp_path / "cache", machines))
    item, node = machines.ran[0], platform.node()
    (name, size) = item.files[0]
    for changed, message in (
        (
            {"files": ((f"{name}x", size),)},
            rf"{name}x cannot be read on {node} \(No such file or directory\): databases",
        ),
        ({"files": ((name, 3),)}, rf"the database file {name} has {size} bytes on {node}, 3 on the machine that asks"),
        ({"version": "0.1"}, rf"pyhmmer is .* on {node} and 0.1 on the machine that asks"),
        (
            {"structures": replace(item.structures, files=(tmp_path / "none",))},
            rf"the folder of structures {tmp_path}/none cannot be read on {node} \(no such folder\): databases must",
        ),
    ):
        with pytest.raises(SearchError, match=message):
            replace(item, **changed).run(lambda: None)
    for there, message in (
        (None, r"the structure .*/1aa0.cif cannot be read on far \(No such file or directory\): databases must lie"),
        (7, r"the structure .*/1aa0.cif has 7 bytes on far, \d+ on the machine that asks: copy it again"),
    ):

        def elsewhere(made: Any, there: int | None = there) -> Any:
            return replace(made, sizes=made.sizes | {"1aa0": there}, node="far")

        with Machines(1, around=elsewhere) as machines, pytest.raises(SearchError, match=message):
            searched(jobs()[:1], searcher(table, tmp_path / f"other{there}", machines))
        kept = searcher(table, tmp_path / f"other{there}").cache.entries()
        assert kept == []


@pytest.mark.parametrize("slots", [0, 2])
def test_templates_are_found_ahead_of_the_jobs(table: dict[str, object], tmp_path: Path, slots: int) -> None:
    """Of chains that bring alignments and of those that are searched for; the first job's need not wait for all."""
    far = ahead.Machines(lambda check: Machines(slots), threads=1) if slots else None
    u = write(tmp_path / "u.fasta", "protein", QUERIES, homologs=2, others=5)
    databases = {**table["databases"], "uniref90": str(u)}  # type: ignore[dict-item]
    bare = [Job(f"bare{i}", (1,), (Polymer("protein", ("A",), query),)) for i, query in enumerate(QUERIES)]
    some, events = [*jobs(), *bare], []
    given = table | {"databases": databases}
    search = job_search(given, tmp_path / "cache", some, progress=events.append, machines=far)
    assert search is not None
    last: list[Event] = []
    (entity,) = search(some[-1], last.append).entities
    assert isinstance(entity, Polymer) and len(entity.templates or ()) == 2
    assert [event.message for event in last] == [""], "everything was there"
    assert all(len(entity.templates or ()) == 2 for job in some for entity in search(job, last.append).entities)  # type: ignore[union-attr]
    search.close()
    said = [event.message for event in events]
    assert said.count("searching pdb_seqres for templates") == 6
    if slots:
        return  # they are begun beside each other
    assert said[:3] == ["searching pdb_seqres for templates"] * 3
    assert said[3] == "searching uniref90 for 1 sequence"


def test_a_fault_of_templates_ahead_is_the_jobs(table: dict[str, object], tmp_path: Path) -> None:
    odd = replace(jobs()[0].entities[0], unpaired_msa=Text(f">q\n{QUERIES[0]}\n>r\nAA\n"))  # type: ignore[type-var]
    some = [Job("bad", (1,), (odd,)), jobs()[1]]
    search = job_search(table, tmp_path / "cache", some)
    assert search is not None
    with pytest.raises(ValueError, match="row 2 has 2 match columns"):
        search(some[0], lambda event: None)
    assert len(search(some[1], lambda event: None).entities[0].templates) == 2  # type: ignore[union-attr, arg-type]
    search.close()
