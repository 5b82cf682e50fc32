"""Searches on a cluster of two nodes: each chain and shard once, whatever dies."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made_databases import sequence, write
from template_set import write_set

from foldline.cluster.executor import TRIES, RayExecutor, cores_of_search, search_executor
from foldline.cluster.session import nodes, session, signals_later
from foldline.errors import InputError, SearchError, Stopped, WorkerLost
from foldline.inputs import read_text
from foldline.inputs.job import Job, Polymer, Text
from foldline.search.jobs import searched
from foldline.search.pieces import Item
from foldline.search.settings import SearchSettings
from foldline.search.sharding import shard
from foldline.search.stage import Searcher
from foldline.search.template_stage import TemplateItem

SHARDS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("databases")
    for name in ("u", "p"):
        shard(write(root / f"{name}.fasta", "protein", [one.sequence for one in chains()[:3]], homologs=6), SHARDS)
    return root


def chains() -> list[Polymer]:
    """Four, the last equal to the first."""
    texts = [sequence("protein", length, 3) for length in (40, 50, 60)]
    return [Polymer("protein", (name,), text) for name, text in zip("ABCD", [*texts, texts[0]], strict=True)]


def a_searcher(folder: Path, cache: Path, machines: Any = None) -> Searcher:
    databases = {"uniref90": f"{folder}/u.fasta@{SHARDS}", "uniprot": f"{folder}/p.fasta@{SHARDS}"}
    return Searcher(SearchSettings.make({"databases": databases, "threads": 1}), cache, machines)


def texts_of(searcher: Searcher) -> list[str]:
    (job,) = searched([Job("four", (1,), tuple(chains()))], searcher)
    found = [(one.unpaired_msa, one.paired_msa) for one in job.entities if isinstance(one, Polymer)]
    return [read_text(text, "a") for pair in found for text in pair if text is not None]


@pytest.fixture(scope="module")
def wanted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return texts_of(a_searcher(folder, tmp_path_factory.mktemp("alone")))


class Counted(RayExecutor):
    """Keeps the items that have ended; runs them through `around`."""

    def __init__(self, ray: Any, around: Callable[..., Any] | None = None, **more: Any) -> None:
        super().__init__(ray, lambda item: item.threads, **more)
        self.around, self.ended = around, []

    def each(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Any:
        run = function if self.around is None else partial(self.around, function)
        for item, future in super().each(run, items):
            self.ended.append(item)
            yield item, future


def pairs(items: list[Item]) -> Counter[tuple[str, str]]:
    return Counter((Path(item.file).name, query) for item in items for query in item.queries)


def killed_once(function: Callable[[Any], Any], item: Item, flags: Path) -> Any:
    """Tell of the process in the midst of each shard's first search, and wait to be killed."""
    result = function(item)
    flag = flags / f"{Path(item.file).name}-{item.number}"
    if item.number == 2 and not flag.exists():
        flag.write_text(str(os.getpid()))
        time.sleep(60)
    return result


def test_each_chain_and_shard_once_and_a_killed_worker_changes_nothing(
    ray: Any, folder: Path, wanted: list[str], tmp_path: Path
) -> None:
    said: list[str] = []
    executor = Counted(ray, partial(killed_once, flags=tmp_path), say=said.append)

    def kill() -> None:
        while not (found := [path for path in tmp_path.glob("*-2") if path.read_text()]):
            time.sleep(0.02)
        os.kill(int(found[0].read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert texts_of(a_searcher(folder, tmp_path / "cache", executor)) == wanted
    killer.join(10)
    assert [line.split(": ")[0] for line in said] == ["the cluster lost a worker (WorkerCrashedError)"]
    assert said[0].endswith(f"is run again, try 2 of {TRIES}")
    files = [f"{name}.fasta-{i:05d}-of-{SHARDS:05d}" for name in "up" for i in range(SHARDS)]
    assert pairs(executor.ended) == {(file, one.sequence): 1 for file in files for one in chains()[:3]}


def test_a_driver_that_is_killed_goes_on_from_the_cache(
    cluster: Any, ray: Any, folder: Path, wanted: list[str], tmp_path: Path
) -> None:
    """The first driver is killed when two items have ended and are stored; the second asks for the others alone."""
    code = f"""
import os, sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from pathlib import Path
import test_search as t
with t.session({cluster.address!r}) as ray:
    class Dying(t.Counted):
        def each(self, function, items):
            for item, future in super().each(function, items):
                if len(self.ended) == 3:
                    os.kill(os.getpid(), 9)
                yield item, future
    t.texts_of(t.a_searcher(Path({str(folder)!r}), Path({str(tmp_path)!r}), Dying(ray)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = [entry for entry in a_searcher(folder, tmp_path).cache.entries() if entry.about["what"] == "rows of a shard"]
    assert kept
    executor = Counted(ray)
    assert texts_of(a_searcher(folder, tmp_path, executor)) == wanted
    asked = pairs(executor.ended)
    assert set(asked.values()) == {1} and sum(asked.values()) == 3 * 2 * SHARDS - len(kept)


def killed_in_templates(function: Callable[[Any], Any], item: TemplateItem, flags: Path) -> Any:
    """Die after the first search for templates of the last chain."""
    result, flag = function(item), flags / "killed"
    if len(item.query) == 60 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def test_templates_of_chains_on_all_nodes_and_a_killed_worker(ray: Any, tmp_path: Path) -> None:
    """Each chain is a piece, and is searched for again where its worker died; the result is that of one machine."""
    table = write_set(tmp_path / "pdb", [one.sequence for one in chains()[:3]])

    def found(cache: str, machines: Any = None) -> list[Any]:
        some = tuple(replace(one, unpaired_msa=Text(""), paired_msa=Text("")) for one in chains())
        settings = SearchSettings.make(table | {"inline": True})
        (job,) = searched([Job("four", (1,), some)], Searcher(settings, tmp_path / cache, machines))
        return [job.notes, *(one.templates for one in job.entities if isinstance(one, Polymer))]

    here, said = found("here"), []
    assert [len(one) for one in here[1:]] == [2] * 4
    executor = Counted(ray, partial(killed_in_templates, flags=tmp_path), say=said.append)
    assert found("there", executor) == here
    assert sorted(len(item.query) for item in executor.ended) == [40, 50, 60]
    (line,) = said
    assert line.endswith(f"the template search for a chain of 60 residues is run again, try 2 of {TRIES}")
    again = Counted(ray)
    assert found("there", again) == here and again.ended == []


def double(number: int, flags: Path) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        raise SearchError("five is not possible")
    return 2 * number


def test_the_protocol_of_executors(ray: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Results in order, errors with their item, and an item that kills each of its workers; Ray prints nothing."""
    said: list[str] = []
    executor = RayExecutor(ray, say=said.append)
    assert executor.slots == 2 and cores_of_search(ray, None) == cores_of_search(ray, 5) == 1
    futures = list(executor.map(partial(double, flags=tmp_path), range(7)))
    assert [future.result() for future in futures if future.exception() is None] == [0, 2, 4, 8, 12]
    with pytest.raises(WorkerLost, match=rf"in each of {TRIES} tries of \(3, 3\)"):
        futures[3].result()
    with pytest.raises(SearchError, match="five is not possible"):
        futures[5].result()
    assert len(said) == TRIES - 1
    ended: list[int] = []

    def waiting() -> Iterator[int | None]:
        yield 1
        while not ended:
            yield None
        yield 2

    for item, future in executor.each(partial(double, flags=tmp_path), waiting()):
        assert future.result() == 2 * item
        ended.append(item)
    assert ended == [1, 2], "the second waits for the end of the first"
    time.sleep(0.5)  # Ray would print a little later
    assert capfd.readouterr().out == ""


def held(_item: int, flags: Path) -> None:
    """Tell of this process and of a program that it starts, and wait for that; end it when this is ended."""
    with subprocess.Popen(["sleep", "300"]) as program:
        (flags / f"{os.getpid()}.part").write_text(str(program.pid))
        (flags / f"{os.getpid()}.part").rename(flags / str(os.getpid()))
        try:
            while program.poll() is None:
                time.sleep(0.05)  # Ray interrupts between two steps in Python
        finally:
            program.kill()


def test_a_worker_whose_item_is_given_up_ends_after_what_it_began(ray: Any, tmp_path: Path) -> None:
    """One that was interrupted as it imported a library could not import it again: later items would fail there."""
    executor = RayExecutor(ray)

    def given_up() -> None:
        if any(name.suffix == "" for name in tmp_path.iterdir()):
            raise Stopped

    with pytest.raises(Stopped):
        list(RayExecutor(ray, check=given_up).each(partial(held, flags=tmp_path), [1]))
    (flag,) = tmp_path.iterdir()
    latest, gone = time.monotonic() + 20, [int(flag.name), int(flag.read_text())]
    while any(map(is_running, gone)):
        assert time.monotonic() < latest, "goes on"
        time.sleep(0.05)
    assert [future.result() for future in executor.map(partial(double, flags=tmp_path), [1, 2])] == [2, 4]


def is_running(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_node_without_the_database_is_named(ray: Any, folder: Path, tmp_path: Path) -> None:
    import shutil

    mine = tmp_path / "mine"
    shutil.copytree(folder, mine)

    def gone(function: Callable[[Any], Any], item: Item) -> Any:
        if item.number == 1:
            Path(item.file).unlink()
        return function(item)

    executor = Counted(ray, gone)
    name = nodes(ray)[0].name
    with pytest.raises(SearchError, match=rf"{mine}/u.fasta-00000-of-00003 cannot be read on {name}"):
        texts_of(a_searcher(mine, tmp_path / "cache", executor))


def test_the_command(cluster: Any, ray: Any, folder: Path, wanted: list[str], tmp_path: Path) -> None:
    from foldline.cli import main

    sequences = [{"protein": {"id": one.ids[0], "sequence": one.sequence, "templates": []}} for one in chains()]
    job = {"name": "four", "dialect": "alphafold3", "version": 4, "modelSeeds": [1], "sequences": sequences}
    (tmp_path / "four.json").write_text(json.dumps(job))
    toml = tmp_path / "foldline.toml"
    at = f".fasta@{SHARDS}"
    toml.write_text(
        f'cache_dir = "cache"\n[search.databases]\nuniref90 = "{folder}/u{at}"\nuniprot = "{folder}/p{at}"\n'
    )
    words = ["search", str(tmp_path / "four.json"), "--out", str(tmp_path), "--config", str(toml), "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--ray", cluster.address])
    assert not ended.value.code
    written = json.loads((tmp_path / "four" / "four_data.json").read_text())["sequences"]
    found = [one["protein"][f"{kind}MsaPath"] for one in written for kind in ("unpaired", "paired")]
    assert [read_text(Text(path=Path(path)), "a") for path in found] == wanted


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere", r"--ray: 'nowhere' is no address: give auto, or HOST:PORT"),
        ("ray://a:1", r"--ray: 'ray://a:1' is no address"),
        ("127.0.0.1:1", r"--ray: no Ray cluster can be connected to at 127.0.0.1:1 \(Connection refused\): start one"),
    ],
)
def test_addresses_that_are_none(monkeypatch: pytest.MonkeyPatch, address: str, message: str) -> None:
    module = pytest.importorskip("ray")
    monkeypatch.setattr(module, "is_initialized", lambda: False)
    with pytest.raises(InputError, match=message), session(address):
        pass


def test_a_signal_waits_for_the_end_of_a_call() -> None:
    order: list[str] = []

    def handle(number: int, frame: object) -> None:
        order.append("handled")
        raise Stopped

    before = signal.signal(signal.SIGTERM, handle)
    try:
        with pytest.raises(Stopped), signals_later():
            signal.raise_signal(signal.SIGTERM)
            order.append("call ended")
        assert order == ["call ended", "handled"] and signal.getsignal(signal.SIGTERM) is handle
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_ray_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--ray: Ray is not installed: pip install foldline\[ray\]"), session("auto"):
        pass


def test_search_executor_gives_items_their_threads(ray: Any) -> None:
    executor = search_executor(ray, lambda message: None)
    assert executor._cores(Item(1, "t", "f", "v", (), "x", 1, None, 5)) == 5  # type: ignore[arg-type]
