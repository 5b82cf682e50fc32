"""Commands, what they are asked for and what that gives in a fresh folder, and places with results to look at.

Nothing here draws lots or judges.
"""

import io
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pytest
from faults import DiskFault, Replay, on_disk
from killing import OF_THE_RUN

from foldline.cli import main
from foldline.inputs import slug

SETTINGS = 'device = "cpu"\nthreads = 1\nmsa = "none"\nworkers = 0\nahead = 0\n'
NOT_COMPARED = (*OF_THE_RUN, "kept_seeds", "warnings", "out_of_memory")
NO_SUCH = 9  # version of a job's content that cannot be run
CHILD_SECONDS = 120.0
STORE_CALLS = ("pipe_file", "put_file", "rm_file", "cat_file", "find", "ls", "get_file", "mv")


class Broken(AssertionError):
    """A promise was broken."""


@dataclass(frozen=True)
class Options:
    """What a user chooses that makes another result."""

    samples: int = 1
    steps: int = 1
    recycles: int = 0
    dtype: str = "fp32"
    embeddings: bool = False

    @property
    def words(self) -> list[str]:
        """As on the command line."""
        given = {"samples": self.samples, "steps": self.steps, "recycles": self.recycles, "dtype": self.dtype}
        return [word for name, value in given.items() for word in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Wish:
    """A job as it is asked for."""

    name: str
    version: int
    seeds: tuple[int, ...]
    options: Options

    @property
    def slug(self) -> str:
        """Its folder."""
        return slug(self.name)

    @property
    def json(self) -> dict[str, Any]:
        """The job."""
        metal = {"ion": "ZN", "two words": "CA"}.get(self.name, "MG")
        chains: list[dict[str, Any]] = [{"ligand": {"id": "B", "ccdCodes": [metal]}}]
        if self.name != "ion":
            chains.append({"protein": {"id": "A", "sequence": "MKTA"[: 2 + self.version % 3]}})
        elif self.version:
            chains.append({"ligand": {"id": "C", "ccdCodes": ["NO_SUCH" if self.version == NO_SUCH else "MG"]}})
        shape = {"dialect": "alphafold3", "version": 1, "name": self.name, "modelSeeds": list(self.seeds)}
        return shape | {"sequences": chains}


@dataclass(frozen=True)
class Result:
    """What a wish gives: its fingerprint, its files, and what its features are known by."""

    fingerprint: str
    files: dict[str, bytes]
    features: str


@dataclass
class Came:
    """What came of a command: its exit code (None: it was killed), what it told, and whether a fault was met."""

    code: int | None
    said: list[dict[str, Any]]
    told: str
    failed: bool = False
    inputs: tuple[str, ...] = ()

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """How jobs ended, by name."""
        return {line["job"]: line for line in self.said if line["event"] == "job"}


@dataclass(frozen=True)
class StoreFault:
    """The store refuses from its `at`th call on, `times` times; with `late`, after it has done what was asked."""

    at: int
    times: int
    late: bool

    def __str__(self) -> str:
        return f"store refuses {self.times} calls from {self.at} on{' late' * self.late}"


@dataclass
class Look:
    """What is there: all files of the place, and where whole results are, by job: fingerprints by corner."""

    files: dict[str, bytes]
    held: dict[str, dict[str, str]] = field(default_factory=dict)

    def of(self, folder: str) -> dict[str, bytes]:
        """The files of a job, by names from its folder on."""
        start = f"{folder}/"
        return {name.removeprefix(start): data for name, data in self.files.items() if name.startswith(start)}

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Whole lines of a list."""
        found = []
        for line in self.files.get(name, b"").split(b"\n")[:-1]:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            found += [value] if isinstance(value, dict) and "job" in value else []
        return found


def plain(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    """Files of a result, its record without what tells of the run."""
    record = json.loads(files[f"{name}_run.json"])
    kept = {key: value for key, value in record.items() if key not in NOT_COMPARED}
    return files | {f"{name}_run.json": json.dumps(kept, sort_keys=True).encode()}


class Commands:
    """`foldline predict` in this process or in a child of it, below one folder."""

    def __init__(self, folder: Path, checkpoint: Path, replay: Replay) -> None:
        self.folder, self.checkpoint, self.replay, self.count = folder, checkpoint, replay, 0

    def words(self, wishes: list[Wish], out: str, machine: str, *more: str) -> list[str]:
        """The command line for jobs that are asked for together; inputs and settings are written."""
        self.count += 1
        options, jobs = wishes[0].options, self.folder / f"jobs-{self.count}.json"
        jobs.write_text(json.dumps([wish.json for wish in wishes]))
        toml = self.folder / f"settings-{self.count}.toml"
        toml.write_text(f'{SETTINGS}save_embeddings = {str(options.embeddings).lower()}\nwork_dir = "{machine}"\n')
        words = ["predict", str(jobs), "--out", out, "--model", str(self.checkpoint), "--progress", "json"]
        return [*words, *options.words, "--config", str(toml), *more]

    def here(self, words: list[str]) -> Came:
        """In this process."""
        said, told, code = io.StringIO(), io.StringIO(), 0
        with redirect_stdout(said), redirect_stderr(told):
            try:
                main(words)
            except SystemExit as end:
                code = int(end.code or 0)
        return Came(code, _parsed(said.getvalue()), told.getvalue())

    def child(self, words: list[str], fault: DiskFault | None) -> Callable[[], Came]:
        """In a child; what is returned waits for its end."""
        number = self.count
        printed = [self.folder / f"printed-{number}-{to}.txt" for to in (1, 2)]
        log = self.folder / f"ran-{number}.txt"
        pid = os.fork()
        if not pid:
            try:
                self.replay.log, code = log, 0
                files = [path.open("w") for path in printed]
                with redirect_stdout(files[0]), redirect_stderr(files[1]), on_disk(self.folder / "here", fault):
                    try:
                        main(words)
                    except SystemExit as end:
                        code = int(end.code or 0)
                for file in files:
                    file.flush()
                os._exit(code)
            finally:
                os._exit(99)

        def ended() -> Came:
            end = time.monotonic() + CHILD_SECONDS
            while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                if time.monotonic() > end:
                    os.kill(pid, signal.SIGKILL)
                    raise Broken(f"a child did not end: {words}")
                time.sleep(0.005)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            out, err = (path.read_text() if path.exists() else "" for path in printed)
            lines = log.read_text().splitlines() if log.exists() else []
            self.replay.ran += [(word, int(seed)) for word, seed in (line.split() for line in lines)]
            return Came(code if code >= 0 else None, _parsed(out), err, failed=code != 0)

        return ended


def _parsed(text: str) -> list[dict[str, Any]]:
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # of one that was killed
            continue
    return found


class References:
    """What wishes give in a fresh folder, made once each."""

    def __init__(self, folder: Path, checkpoint: Path, replay: Replay) -> None:
        self.commands, self.replay = Commands(folder, checkpoint, replay), replay
        self.by_wish: dict[Wish, Result] = {}
        self.by_fingerprint: dict[str, tuple[Wish, Result]] = {}

    def of(self, wish: Wish) -> Result:
        """The result of a wish that can be run."""
        if wish not in self.by_wish:
            out = self.commands.folder / "fresh"
            self.replay.begin(None)
            came = self.commands.here(self.commands.words([wish], str(out), "unused"))
            if came.code != 0:
                raise Broken(f"{wish} fails alone: {came.told}")
            job = out / wish.slug
            files = {str(path.relative_to(job)): path.read_bytes() for path in job.rglob("*") if path.is_file()}
            fingerprint = json.loads(files[f"{wish.slug}_run.json"])["fingerprint"]
            result = Result(fingerprint, plain(files, wish.slug), self.replay.ran[0][0])
            self.by_wish[wish], self.by_fingerprint[fingerprint] = result, (wish, result)
            shutil.rmtree(out)
        return self.by_wish[wish]


class Place:
    """Where results are: a folder, a store of files, or one in memory; and the working folders of two machines."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.root, self.folder = kind, root, root / "out"
        root.mkdir()
        self.url = {"folder": str(self.folder), "files": f"file://{self.folder}", "memory": "memory://bucket/out"}[kind]
        self.store = fsspec.filesystem("memory") if kind == "memory" else fsspec.filesystem("file")
        if kind == "memory":
            self.store.store.clear()

    def files(self) -> dict[str, bytes]:
        """All that is there."""
        if self.kind == "memory":
            start = "/bucket/out/"
            return {
                n.removeprefix(start): bytes(f.getvalue()) for n, f in self.store.store.items() if n.startswith(start)
            }
        paths = self.folder.rglob("*") if self.folder.is_dir() else ()
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths if path.is_file()}

    def put(self, name: str, data: bytes | None) -> None:
        """Have a file there, or have it no more, as somebody else would."""
        if self.kind == "memory":
            path = f"/bucket/out/{name}"
            self.store.pipe_file(path, data) if data is not None else self.store.rm_file(path)
            return
        path = self.folder / name
        if data is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def corners(self, folder: str) -> Iterator[tuple[str, Path]]:
        """The folders of a job on this machine that hold files of it, other than the place itself."""
        if self.kind == "folder":
            yield "out", self.folder / folder
        for work in sorted(self.root.glob("work-*/*/")):
            yield str(work.relative_to(self.root)), work / folder

    @contextmanager
    def failing(self, fault: StoreFault | None) -> Iterator[list[int]]:
        """A block in which the store fails; the number of refusals is in the list."""
        calls, refused = [0], [0]
        if fault is None or self.kind == "folder":
            yield refused
            return

        def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*words: Any, **more: Any) -> Any:
                calls[0] += 1
                fails = fault.at <= calls[0] < fault.at + fault.times
                if fails and not fault.late:
                    refused[0] += 1
                    raise OSError(5, "HTTP 503")
                done = real(*words, **more)
                if fails:
                    refused[0] += 1
                    raise TimeoutError("no answer")
                return done

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in STORE_CALLS:
                if name == "find" and name not in vars(type(self.store)):  # fsspec's own is made of the others
                    continue
                patch.setattr(type(self.store), name, refusing(getattr(type(self.store), name)))
            yield refused
