"""Engines on a cluster of two nodes share the jobs of a run; what dies costs nothing but time."""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import contents
from upstream_layout import small_network, state

import foldline.cluster.replica
import foldline.cluster.replicas
from foldline.cluster.feed import MOST_HANDED, Feed, Handed
from foldline.cluster.replica import About, End, Replica, Unfit
from foldline.cluster.replicas import Replicas
from foldline.cluster.session import Node, nodes
from foldline.config import EngineConfig
from foldline.engine import Engine
from foldline.errors import FoldlineError, InputError, Stopped, WeightsError, WorkerLost, WriteError
from foldline.execute import Event, StopRequest, ignore
from foldline.inputs import jobs_from_json
from foldline.inputs.job import Job
from foldline.limits import SPINS

HELD_SECONDS = 30.0


def some_jobs(count: int, sizes: int = 5) -> list[Job]:
    written = [
        {
            "name": f"job{number}",
            "modelSeeds": [1],
            "sequences": [{"protein": {"id": "A", "sequence": "MKTAYIAK"[: 3 + number % sizes]}}],
            "dialect": "alphafold3",
            "version": 4,
        }
        for number in range(count)
    ]
    jobs, faults = jobs_from_json(json.dumps(written))
    assert not faults
    return jobs


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> EngineConfig:
    path = tmp_path_factory.mktemp("weights") / "small.pt"
    torch.save({"model": state(small_network(), "module.")}, path)
    return EngineConfig(
        model=str(path), device="cpu", threads=1, samples=1, steps=2, recycles=0, msa="none", seed_batch=1
    )


def place_of(settings: EngineConfig) -> About:
    """Of this worker, with the GPUs that are its own."""
    import ray

    return About(
        ray.get_runtime_context().get_node_id(), os.getpid(), f"{settings.device} {ray.get_gpu_ids()}", "protenix", True
    )


class Told:
    """What becomes a prediction where it is read: the process that tells it needs no network's libraries."""

    def __init__(self, *fields: object) -> None:
        self.fields = fields

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return predicted, self.fields


def predicted(name: str, directory: Path | None, error: FoldlineError | None) -> Any:
    from foldline.engine import Prediction

    return Prediction(name, directory, error)


class Talking:
    """A replica without a network: jobs end as their names say, in as many events as they have letters."""

    def __init__(self) -> None:
        self.real = Replica()

    def start(self, settings: EngineConfig) -> About:
        if settings.model == "none.pt":
            raise WeightsError("there is no checkpoint none.pt")
        return place_of(settings)

    def predict(self, jobs: list[Job], out: Path, mark: Path) -> None:
        self.real._messages.put(Event(jobs[0].name, "features"))
        for job in jobs:
            if job.name.startswith("killer"):
                os.kill(os.getpid(), signal.SIGKILL)
            if job.name.startswith("slow"):
                while not self.real._stop.asked:
                    time.sleep(0.01)
                (out / "asked").touch()
                break
            late = time.monotonic() + HELD_SECONDS
            while job.name.startswith("held") and not (out / "go").exists() and time.monotonic() < late:
                time.sleep(0.02)
            error = WriteError("full") if job.name.startswith("bad") else None
            self.real._messages.put(Told(job.name, None if error else out / job.name, error))  # type: ignore[arg-type]
        self.real._messages.put(End())

    def take(self, seconds: float) -> list[Any]:
        return self.real.take(seconds)

    def ask_to_end(self) -> None:
        self.real.ask_to_end()


@pytest.fixture
def talking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foldline.cluster.replicas, "Replica", Talking)


@pytest.fixture
def one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foldline.cluster.replicas, "nodes", lambda ray: [replace(nodes(ray)[0], gpus=0)])


def named(*names: str) -> list[Job]:
    return [replace(job, name=name) for job, name in zip(some_jobs(len(names)), names, strict=True)]


def test_two_replicas_share_a_folder_and_one_is_killed(ray: Any, settings: EngineConfig, tmp_path: Path) -> None:
    """The files are those of a local run; the job of a process that is killed in its midst goes to another one."""
    jobs = some_jobs(6, sizes=1)  # a plan counts kernels of the sizes that its process has had before
    assert all(p.error is None for p in Engine(config=settings).predict(jobs, out=tmp_path / "local"))
    events: list[Event] = []
    killed: list[str] = []

    with Replicas(ray, settings) as replicas:
        while len(replicas.processes) < 2:
            replicas.wait()
        started = [Path(f"/proc/{number}/environ").read_bytes() for number in replicas.processes]
        assert all(f"GOMP_SPINCOUNT={SPINS}".encode() in words.split(b"\0") for words in started)

        def progress(event: Event) -> None:
            events.append(event)
            if event.stage == "plan" and not killed:
                killed.append(event.job)
                (place,) = [one for one in replicas._places if event.job in one.handed]
                assert place.about is not None
                os.kill(place.about.process, signal.SIGKILL)

        found = list(replicas.predict(jobs, out=tmp_path / "ray", progress=progress, stop=StopRequest()))
    assert sorted(p.job_name for p in found) == [job.name for job in jobs]
    assert [p.error for p in found] == [None] * 6
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    said = [event.message for event in events if event.stage == "cluster"]
    assert len(said) == 1 and f"{killed[0]} is done again" in said[0]


def test_shares_ends_and_a_job_that_kills(ray: Any, talking: None, settings: EngineConfig, tmp_path: Path) -> None:
    """One after the other on the same two replicas."""
    with Replicas(ray, settings) as replicas:
        while len(replicas.processes) < 2:
            replicas.wait()
        jobs = named(*(f"job{number}" for number in range(40)), "bad")
        found = list(replicas.predict(jobs, out=tmp_path / "out", progress=ignore, stop=StopRequest()))
        assert sorted(p.job_name for p in found) == sorted(job.name for job in jobs)
        assert [p.job_name for p in found if p.error is not None] == ["bad"]
        assert not (tmp_path / "out").exists(), "nothing is left where nothing was written"

        stop = StopRequest()

        def progress(event: Event) -> None:
            stop.ask()
            stop.check()

        with pytest.raises(Stopped):
            list(replicas.predict(named("slow"), out=tmp_path, progress=progress, stop=stop))
        assert (tmp_path / "asked").exists(), "the replica was asked to end, and did"

        events: list[Event] = []
        jobs = named("a", "b", "killer", "c", "d")
        late = list(replicas.predict(jobs, out=tmp_path, progress=events.append, stop=StopRequest()))
    assert sorted(p.job_name for p in late) == sorted(job.name for job in jobs)
    (lost,) = [p for p in late if p.error is not None]
    assert lost.job_name == "killer" and isinstance(lost.error, WorkerLost)
    assert "3 replicas died while the job was with them" in str(lost.error)
    died = [event.message for event in events if " died (" in event.message]
    assert len(died) == 3 and sum("killer is done again" in line for line in died) == 2


def test_one_replica_for_each_gpu_and_none_elsewhere(ray: Any, talking: None, settings: EngineConfig) -> None:
    with Replicas(ray, replace(settings, device="auto")) as replicas:
        while len(replicas.processes) < 2:
            replicas.wait()
        found = [place.about for place in replicas._places if place.about is not None]
    assert sorted(one.device for one in found) == ["cuda [0]", "cuda [1]"]
    (with_gpus,) = [node.key for node in nodes(ray) if node.gpus]
    assert {one.node for one in found} == {with_gpus}


def test_a_node_that_joins_gets_a_replica_and_one_that_leaves_takes_nothing_with_it(
    cluster: Any, ray: Any, talking: None, settings: EngineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It joins when the first replica has begun, is given jobs, and is gone before it has done any."""
    first, second = nodes(ray)
    seen = [[replace(first, gpus=0)]]

    def but_second(ray: Any) -> list[Node]:
        seen.append([replace(node, gpus=0) for node in nodes(ray) if node.key != second.key])
        return seen[-1]

    monkeypatch.setattr(foldline.cluster.replicas, "nodes", but_second)
    monkeypatch.setattr(foldline.cluster.replicas, "JOIN_SECONDS", 0.2)
    events: list[Event] = []
    added: list[Any] = []

    def progress(event: Event) -> None:
        events.append(event)
        if event.stage == "features" and not added:
            added.append(cluster.join())
        elif event.stage == "features" and not (tmp_path / "go").exists():
            cluster.leave(added[0])
            (tmp_path / "go").touch()

    jobs = named("held0", "held1", "held2", "held3")
    with Replicas(ray, settings) as replicas:
        found = list(replicas.predict(jobs, out=tmp_path, progress=progress, stop=StopRequest()))
    assert sorted(p.job_name for p in found) == [job.name for job in jobs]
    assert [p.error for p in found] == [None] * 4
    said = [event.message for event in events if event.stage == "cluster"]
    assert said[0] == f"{first.name} has joined, with 1 replica"
    assert any(" died (" in line and "is done again" in line for line in said)
    assert max(map(len, seen)) == 2


def test_what_cannot_be_begun_is_an_error(ray: Any, talking: None, one_node: None, settings: EngineConfig) -> None:
    with (
        pytest.raises(WeightsError, match=r"no checkpoint none\.pt"),
        Replicas(ray, replace(settings, model="none.pt")),
    ):
        pass
    with pytest.raises(InputError, match="--device: cuda:1 is of one machine"):
        Replicas(ray, replace(settings, device="cuda:1"))
    with pytest.raises(InputError, match="--device: no node of the cluster has a GPU"):
        Replicas(ray, replace(settings, device="cuda")).__enter__()


def test_the_command(
    cluster: Any,
    ray: Any,
    talking: None,
    one_node: None,
    settings: EngineConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Exit code, counts and lists are those of a local run."""
    from foldline.cli import main
    from foldline.inputs import to_json

    monkeypatch.chdir(tmp_path)
    for job in named("good", "bad"):
        Path(f"{job.name}.json").write_text(to_json(job))
    words = ["predict", "good.json", "bad.json", "--out", "out", "--model", settings.model, "--progress", "json"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--ray", cluster.address])
    assert ended.value.code == 1
    end = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (end["done"], end["failed"], end["not run"]) == (1, 1, 0)
    (failed,) = map(json.loads, Path("out/failed.jsonl").read_text().splitlines())
    assert (failed["job"], failed["code"]) == ("bad", "not_written")


def told(replica: Replica) -> list[Any]:
    found: list[Any] = []
    while not any(isinstance(message, End) for message in found):
        found += replica.take(10)
    return found


def test_an_output_folder_that_is_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foldline.cluster.replica, "SEEN_SECONDS", 0.0)
    replica = Replica()
    replica._engine = object()  # type: ignore[assignment]
    replica.predict(some_jobs(1), tmp_path, tmp_path / "mark")
    first, _ = told(replica)
    assert isinstance(first, Unfit) and "does not see the output folder" in str(first.error)


def test_a_checkpoint_that_a_node_lacks_is_named_with_it(settings: EngineConfig, tmp_path: Path) -> None:
    import platform

    with pytest.raises(WeightsError, match=f"on {platform.node()}: .*none.pt"):
        Replica().start(replace(settings, model=str(tmp_path / "none.pt")))


def fed(jobs: list[Job], search: Callable[..., Job] | None = None, buckets: tuple[int, ...] = ()) -> Feed:
    return Feed(jobs, search, ignore, buckets)


def test_jobs_are_handed_out_in_smaller_parts_towards_the_end() -> None:
    with fed(some_jobs(80)) as feed:
        sizes = []
        while sum(sizes) < 80:
            feed.wait(10)
            time.sleep(0.01)  # for the thread to be ahead
            sizes.append(len(feed.take(2)))
    assert max(sizes) == MOST_HANDED and sizes[-1] == 1 and feed.take(2) == []


def test_only_jobs_of_one_bucket_go_together() -> None:
    jobs = some_jobs(20)  # of 3, 4, 5, 6, 7 residues
    with fed(sorted(jobs, key=lambda job: len(job.entities[0].sequence)), buckets=(4, 8)) as feed:  # type: ignore
        parts = []
        while sum(map(len, parts)) < 20:
            feed.wait(10)
            parts.append(feed.take(1))
    for part in parts:
        assert len({len(one.job.entities[0].sequence) <= 4 for one in part}) == 1  # type: ignore[union-attr]


def test_a_failed_search_is_the_jobs_error_and_a_returned_job_comes_alone() -> None:
    def search(job: Job, progress: object) -> Job:
        if job.name == "job1":
            raise ValueError("odd")
        return job

    with fed(some_jobs(3), search) as feed:
        found: list[Handed] = []
        while len(found) < 2:
            feed.wait(10)
            found += feed.take(1)
        (failed,) = feed.failed()
        assert failed.job_name == "job1" and "unforeseen ValueError: odd" in str(failed.error)
        feed.give_back(found)
        assert [feed.take(1), feed.take(1), feed.take(1)] == [[found[0]], [found[1]], []]
