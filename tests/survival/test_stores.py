"""Results whose place is a store: those that a folder would have, whatever dies or fails, found again from anywhere."""

import io
import itertools
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import fsspec
import pytest
from killing import ALONE, LISTS, SETTINGS, Forked, Tormentor, contents, finish, write_jobs

from foldline import remote
from foldline.cli import main
from foldline.config import EngineConfig
from foldline.engine import Engine
from foldline.inputs import read_jobs
from foldline.outputs.layout import SampleWriter
from foldline.outputs.stored import StoredResults
from foldline.outputs.workplace import left_behind
from foldline.remote import RemoteError

URL = "memory://bucket/results"
WHOLE = ("model.cif", "confidences.json", "summary_confidences.json", "data.json", "ranking_scores.csv", "run.json")


class Place:
    """A folder with three jobs of two seeds, a store, and two machines: folders in which results are made."""

    def __init__(self, folder: Path, checkpoint: Path, memory: Any) -> None:
        self.folder, self.checkpoint, self.memory = folder, checkpoint, memory
        write_jobs(folder, 3, 2)
        for machine in ("one", "two"):
            (folder / f"{machine}.toml").write_text(f'{SETTINGS}work_dir = "{machine}"\n')

    def run(self, *options: str, machine: str = "one", out: str = URL) -> tuple[int, list[dict[str, Any]], str]:
        """Exit code, what was told to programs, and what to people."""
        words = ["predict", "jobs.json", "--out", out, "--model", str(self.checkpoint), "--progress", "json", *ALONE]
        said, told = io.StringIO(), io.StringIO()
        code = 0
        with redirect_stdout(said), redirect_stderr(told):
            try:
                main([*words, "--config", f"{machine}.toml", *options])
            except SystemExit as end:
                code = int(end.code or 0)
        return code, [json.loads(line) for line in said.getvalue().splitlines()], told.getvalue()

    def stored(self) -> dict[str, bytes]:
        """What the store has, as `contents` tells of a folder."""
        copy = self.folder / f"copy-{random.random()}"
        for file in remote.files(URL):
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            remote.fetch(f"{URL}/{file}", copy / file)
        return contents(copy)

    def list(self, name: str = LISTS[0]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (remote.content(f"{URL}/{name}") or b"").splitlines()]


@pytest.fixture(scope="module")
def reference(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the jobs give in a folder."""
    folder = tmp_path_factory.mktemp("reference")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert Place(folder, checkpoint, None).run(out="out")[0] == 0
    finally:
        os.chdir(before)
    return contents(folder / "out")


@pytest.fixture
def place(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    monkeypatch.chdir(tmp_path)
    yield Place(tmp_path, checkpoint, memory)
    memory.store.clear()


def jobs_of(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in said if line["event"] == "job"]


def predicted(said: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Job and seed of all that went through the network."""
    return sorted({(line["job"], line["seed"]) for line in said if line["event"] == "progress" and line["seed"]})


def test_the_store_gets_what_a_folder_would_have(place: Place, reference: dict[str, bytes]) -> None:
    """And nothing stays here; a second run, from a machine that has nothing, finds all of it done."""
    code, said, told = place.run()
    assert (code, told) == (0, "") and place.stored() == reference
    assert {line["directory"] for line in jobs_of(said)} == {f"{URL}/job{number}" for number in range(3)}
    assert [line["job"] for line in place.list()] == ["job0", "job1", "job2"]
    assert not [file for file in remote.files(URL) if "/." in file or file.startswith(".")], "no progress, no scratch"
    assert list(Path("one").iterdir()) == []
    again = place.list()
    code, said, told = place.run(machine="two")
    assert code == 0 and [line["skipped"] for line in jobs_of(said)] == [True] * 3 and not predicted(said)
    assert place.list() == again and place.stored() == reference and list(Path("two").iterdir()) == []
    seconds = [line["seconds"] for line in again]
    code, said, _ = place.run("--overwrite")
    assert code == 0 and len(predicted(said)) == 6 and place.stored() == reference
    assert not any(line["seconds"] in seconds for line in place.list())


def test_two_processes_of_one_machine_share_a_store(place: Place, reference: dict[str, bytes]) -> None:
    """Nothing is predicted twice, and both find all jobs done."""
    url, options = f"file://{place.folder}/store", (*ALONE, "--config", "one.toml", "--progress", "json")
    pair = [Forked(place.folder, place.checkpoint, url, *options) for _ in range(2)]
    printed = [process.communicate(timeout=300)[0] for process in pair]
    said = [[json.loads(line) for line in text.splitlines()] for text in printed]
    assert [process.returncode for process in pair] == [0, 0], said
    assert [line["error"] for lines in said for line in jobs_of(lines)] == [None] * 6
    made = [line["job"] for lines in said for line in jobs_of(lines) if not line["skipped"]]
    assert sorted(made) == ["job0", "job1", "job2"] and contents(place.folder / "store") == reference
    listed = (place.folder / "store" / LISTS[0]).read_text().splitlines()
    assert sorted(json.loads(line)["job"] for line in listed) == ["job0", "job1", "job2"]
    assert list(Path("one").iterdir()) == []


def test_no_reader_sees_half_a_result(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every moment, a job that has its record has all that belongs to that record; a changed job replaces it."""
    before: dict[str, int] = {}
    moments = itertools.count()

    def look(change: Callable[..., None]) -> Callable[..., None]:
        def looked(*words: Any) -> None:
            change(*words)
            next(moments)
            here = remote.files(URL)
            for job in {file.partition("/")[0] for file in here if "/" in file}:
                if f"{job}/{job}_run.json" in here:
                    assert all(f"{job}/{job}_{part}" in here for part in WHOLE)
                    record = json.loads(remote.content(f"{URL}/{job}/{job}_run.json") or b"")
                    table = (remote.content(f"{URL}/{job}/{job}_ranking_scores.csv") or b"").split()[1:]
                    samples = {file.split("/")[1] for file in here if file.startswith(f"{job}/seed-")}
                    assert len(samples) == len(table) == 2 * record["samples"]

        return looked

    monkeypatch.setattr(remote, "write", look(remote.write))
    monkeypatch.setattr(remote, "remove", look(remote.remove))
    assert place.run()[0] == 0
    before = remote.files(URL)
    code, said, told = place.run("--samples", "1", machine="two")
    assert code == 0 and told == "" and not any(line["skipped"] for line in jobs_of(said))
    assert len(remote.files(URL)) == len(before) - 3 * 2 * 3 and next(moments) > 100
    assert [line["samples"] for line in place.list()] == [1, 1, 1]


def test_a_damaged_result_in_the_store_is_made_again(place: Place, reference: dict[str, bytes]) -> None:
    assert place.run()[0] == 0
    file = "seed-2_sample-1/job1_seed-2_sample-1_confidences.json"
    remote.write(b"{}", f"{URL}/job1/{file}")
    code, said, told = place.run(machine="two")
    assert (code, told) == (0, "") and predicted(said) == [("job1", 1), ("job1", 2)] and place.stored() == reference
    remarks = [line["message"] for line in said if line["event"] == "progress" and line["message"]]
    assert any(text.startswith(f"its result in the store is damaged ({file} has 2 bytes, ") for text in remarks)


def test_a_store_that_fails_in_the_midst(
    place: Place, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does not take is kept and named; the next run puts it there and predicts nothing."""
    write = remote.write

    def fails(source: Path | bytes, url: str) -> None:
        if "/job0/" not in url and "write-check" not in url:
            raise RemoteError(f"{url} cannot be written (HTTP 503): check the network")
        write(source, url)

    with monkeypatch.context() as patch:
        patch.setattr(remote, "write", fails)
        code, said, told = place.run()
    assert code == 1 and [line["error"] is None for line in jobs_of(said)] == [True, False, False]
    assert [line["error"]["code"] for line in jobs_of(said)[1:]] == ["not_written"] * 2
    message = jobs_of(said)[1]["error"]["message"]
    kept = Path(message.removeprefix("the result is kept in ").partition(" and is not")[0])
    assert kept.name == "job1" and (kept / "job1_run.json").is_file() and "(HTTP 503)" in message
    assert message.endswith("; the same command puts it there without predicting it again")
    assert (
        told
        == f"error: the lists of results in {URL} cannot be written: {URL}/failed.jsonl cannot be written"
        + (" (HTTP 503): check the network\n")
        or "results.jsonl cannot be written (HTTP 503)" in told
    )
    (left,) = left_behind(Path("one"))
    assert left.url == URL and left.whole == ("job1", "job2") and not left.busy
    assert not any(file.endswith("run.json") for file in remote.files(URL) if "job0" not in file)
    code, said, told = place.run()
    assert (code, told) == (0, "") and not predicted(said) and place.stored() == reference
    assert [line["job"] for line in place.list()] == ["job0", "job1", "job2"] and list(Path("one").iterdir()) == []


def test_an_outage_that_ends_costs_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be carried is tried once more at the end of the run."""
    carry, tries = StoredResults.carry, []

    def fails(self: StoredResults, name: str, fingerprint: str, **more: bool) -> None:
        tries.append(name)
        if len(tries) == 1:
            raise RemoteError("the store is away")
        carry(self, name, fingerprint, **more)

    monkeypatch.setattr(StoredResults, "carry", fails)
    code, said, told = place.run()
    assert (code, told) == (0, "") and sorted(tries) == ["job0", "job0", "job1", "job2"]
    remarks = [line["message"] for line in said if line["event"] == "progress" and line["stage"] == "write"]
    assert remarks.count("the store is away; it is tried again at the end of the run") == 3
    assert [line["error"] for line in jobs_of(said)] == [None] * 3 and len(place.list()) == 3


def test_a_store_that_lets_nobody_write_is_an_error_before_anything_is_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: Any, path: str, value: bytes) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(place.memory), "pipe_file", refuses)
    code, said, told = place.run()
    assert (code, said) == (2, []) and "error: --out: memory://bucket/results/" in told
    assert "may not be written (Access Denied): check your credentials for the store" in told
    assert not Path("one").exists()


def test_killed_between_network_and_store(place: Place, reference: dict[str, bytes]) -> None:
    """The next run of this machine puts the results there; one of another machine makes them."""
    url = f"file://{place.folder}/store"
    for machine, made in (("one", []), ("two", [("job1", 1), ("job1", 2), ("job2", 1), ("job2", 2)])):
        with pytest.MonkeyPatch.context() as patch:
            carry = StoredResults.carry

            def dies(self: StoredResults, name: str, fingerprint: str, carry: Any = carry, **more: bool) -> None:
                if name == "job1":
                    os.kill(os.getpid(), signal.SIGKILL)
                carry(self, name, fingerprint, **more)

            patch.setattr(StoredResults, "carry", dies)
            patch.setattr(StoredResults, "carry_samples", lambda self, name: None)
            process = Forked(place.folder, place.checkpoint, url, *ALONE, "--config", "one.toml")
            finish(process)
        assert process.returncode == -signal.SIGKILL
        assert (place.folder / "store" / "job0" / "job0_run.json").is_file()
        assert not (place.folder / "store" / "job1").exists()
        code, said, _ = place.run(machine=machine, out=url)
        assert code == 0 and [one for one in predicted(said) if one[0] == "job1"] == made[:2]
        assert contents(place.folder / "store") == reference
        for path in ("store", "one", "two"):
            if (place.folder / path).exists():
                (place.folder / path).rename(place.folder / f"{path}-{machine}")


def test_another_machine_goes_on_with_the_samples_of_one_that_was_lost(
    place: Place, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are there seed by seed; those made with other options are not taken."""

    def lost(self: SampleWriter, *_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(SampleWriter, "finish", lost)
        assert place.run()[0] == 3
    for number in range(3):
        journal = f"/bucket/results/job{number}/.job{number}_progress.json"
        content = json.loads(place.memory.cat(journal))
        assert len(content["samples"]) == 4
        content["samples"] = [one for one in content["samples"] if one["seed"] == 1]
        place.memory.pipe(journal, json.dumps(content).encode())
    assert sum(file.endswith("model.cif") for file in remote.files(URL)) == 3 * 4
    held = {path: place.memory.cat(path) for path in place.memory.find("/bucket")}
    code, said, _ = place.run(machine="two")
    assert code == 0 and predicted(said) == [("job0", 2), ("job1", 2), ("job2", 2)]
    assert place.stored() == reference
    place.memory.store.clear()
    place.memory.pipe(held)
    code, said, _ = place.run("--steps", "3", machine="two")
    assert code == 0 and len(predicted(said)) == 6
    assert place.stored().keys() == reference.keys() and place.stored() != reference


def test_more_seeds_and_others_of_a_result_in_a_store(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """On any machine, only new ones are run; what the store has then is what a folder has with these seeds."""
    assert place.run("--seeds", "1,2")[0] == 0
    code, said, _ = place.run("--seeds", "1,2,3", machine="two")
    assert code == 0 and predicted(said) == [("job0", 3), ("job1", 3), ("job2", 3)]
    assert place.run("--seeds", "1,2,3", out="three")[0] == 0
    kept = {line["message"] for line in said if "seeds kept" in line.get("message", "")}
    assert kept == {"seeds kept of the result in the store: 2"}
    assert place.stored() == contents(place.folder / "three")
    code, said, _ = place.run("--seeds", "2")
    assert code == 0 and predicted(said) == []
    assert place.run("--seeds", "2", out="one-seed")[0] == 0
    assert place.stored() == contents(place.folder / "one-seed")
    assert len(predicted(place.run("--seeds", "1,2", "--steps", "3")[1])) == 6
    assert len(predicted(place.run("--seeds", "1,2,3", "--steps", "3", "--overwrite")[1])) == 9
    assert not left_behind(place.folder / "one") and not left_behind(place.folder / "two")


def test_seeds_in_a_store_that_cannot_be_read_are_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.run("--seeds", "1")[0] == 0

    def fetch(url: str, target: Path) -> None:
        raise RemoteError(f"{url} cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(remote, "fetch", fetch)
        code, said, _ = place.run("--seeds", "1,2", machine="two")
    assert code == 0 and len(predicted(said)) == 6
    assert sum("no seeds are kept" in line.get("message", "") for line in said) == 3
    assert place.run("--seeds", "1,2", out="here")[0] == 0 and place.stored() == contents(place.folder / "here")


def test_lists_of_two_machines(place: Place) -> None:
    """Each adds its jobs to what the other has listed; jobs that failed are listed until they are done."""
    jobs = json.loads(Path("jobs.json").read_text())
    bad = jobs[1] | {"sequences": [{"ligand": {"id": "A", "ccdCodes": ["NO_SUCH_ONE"]}}]}
    Path("jobs.json").write_text(json.dumps([jobs[0], bad]))
    assert place.run()[0] == 1
    assert [line["job"] for line in place.list()] == ["job0"]
    assert [line["job"] for line in place.list(LISTS[1])] == ["job1"]
    Path("jobs.json").write_text(json.dumps(jobs[2:]))
    assert place.run(machine="two")[0] == 0
    assert [line["job"] for line in place.list()] == ["job0", "job2"]
    assert [job["name"] for job in json.loads(remote.content(f"{URL}/{LISTS[2]}") or b"")] == ["job1"]
    Path("jobs.json").write_text(json.dumps(jobs[1:]))
    assert place.run(machine="two")[0] == 0
    assert [line["job"] for line in place.list()] == ["job0", "job2", "job1"]
    assert place.list(LISTS[1]) == [] and remote.content(f"{URL}/{LISTS[2]}") is None


def test_reports_go_along(place: Place) -> None:
    """A page is made before its result leaves, and of results that are in the store already."""
    code, said, _ = place.run("--report")
    pages = [f"{URL}/job{number}/job{number}_report.html" for number in range(3)]
    assert code == 0 and [line["path"] for line in said if line["event"] == "report"] == pages
    first = remote.content(pages[0])
    assert first is not None and b"3Dmol" in first
    remote.remove(pages[0])
    code, said, _ = place.run("--report", machine="two")
    assert code == 0 and not predicted(said) and remote.content(pages[0]) == first


def test_a_run_that_is_asked_to_end_takes_along_what_it_has_made(place: Place, reference: dict[str, bytes]) -> None:
    """Results that are whole come into the store and its lists; the rest goes on later."""
    url, store = f"file://{place.folder}/store", place.folder / "store"
    process = Forked(place.folder, place.checkpoint, url, *ALONE, "--config", "one.toml")
    while process.poll() is None and not list(store.glob("*/seed-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, printed = finish(process)
    assert code == 143 and printed.startswith("stopped by SIGTERM with "), printed
    some = contents(store)
    assert some.items() < reference.items()
    done = sorted(path.parent.name for path in store.glob("*/*_run.json"))
    listed = (store / LISTS[0]).read_text().splitlines() if done else []
    assert sorted(json.loads(line)["directory"] for line in listed) == done
    assert place.run(out=url)[0] == 0 and contents(store) == reference


def test_the_protocol_of_s3(place: Place, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a server of this machine: the first run, one that finds all done, one with other options, no bucket."""
    server_of = pytest.importorskip("moto.server", reason="no S3 server is installed: pip install s3fs 'moto[server]'")
    s3fs = pytest.importorskip("s3fs")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        config = place.folder / "aws"
        config.write_text(f"[default]\nregion = us-east-1\nendpoint_url = http://{host}:{port}\n")
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_CONFIG_FILE": str(config)}
        for name, value in keys.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        store = s3fs.S3FileSystem()
        store.mkdir("bucket")
        url = "s3://bucket/some/results"
        assert place.run(out=url)[0] == 0
        store.get("bucket/some/results", str(place.folder / "copy"), recursive=True)
        assert contents(place.folder / "copy") == reference
        code, said, _ = place.run(machine="two", out=url)
        assert code == 0 and [line["skipped"] for line in jobs_of(said)] == [True] * 3
        code, said, _ = place.run("--samples", "1", machine="two", out=url)
        assert code == 0 and len(remote.files(url)) == 1 + 3 * (6 + 2 * 3)
        assert (remote.content(f"{url}/{LISTS[0]}") or b"").count(b'"samples": 1') == 3
        code, _, told = place.run(out="s3://no-such-bucket/results")
        assert code == 2 and "--out: s3://no-such-bucket/results/" in told and "is not there: check" in told
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()


def test_from_python(place: Place, reference: dict[str, bytes]) -> None:
    """A list and a stream of jobs; the second call finds all done."""
    settings = EngineConfig.make(Path("one.toml"), seed_batch=1)
    engine = Engine(place.checkpoint, config=settings)
    jobs = read_jobs("jobs.json")
    found = list(engine.predict(iter(jobs), out=URL))
    assert [(one.url, one.directory, one.error) for one in found] == [(f"{URL}/job{i}", None, None) for i in range(3)]
    assert place.stored().keys() == reference.keys()
    assert [one.skipped for one in engine.predict(jobs, out=f"{URL}/")] == [True] * 3


@pytest.mark.slow
def test_kills_at_random_moments(checkpoint: Path, tmp_path: Path) -> None:
    """Two machines in turn, in a store of files: what is there is whole, and nothing that was there is lost."""
    for machine in ("one", "two"):
        (tmp_path / f"{machine}.toml").write_text(f'{SETTINGS}work_dir = "{machine}"\n')
    turn = itertools.cycle(("one", "two"))

    def starter(folder: Path, model: Path, out: str, *options: str) -> Forked:
        where = f"file://{folder}/out" if out == "out" else out
        return Forked(folder, model, where, *options, "--config", f"{next(turn)}.toml")

    tormentor = Tormentor(tmp_path, checkpoint, jobs=2, starter=starter)
    seed = random.randrange(10**6)
    said: list[str] = []
    try:
        assert tormentor.run(4, seed=seed, say=said.append).kills == 4
    except AssertionError as error:
        error.add_note("\n".join([f"seed {seed}", *said]))
        raise
