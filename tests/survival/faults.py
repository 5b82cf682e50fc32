"""Faults to order: a file system that fails, kills or asks to end at a chosen step, and a network that does.

Nothing here knows what a run is. Steps are counted in all threads, those in files below one folder alone.
"""

import builtins
import errno
import hashlib
import io
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foldline.engine import engine as engines
from foldline.engine import ladder
from foldline.engine.group import Group, Lane
from foldline.engine.plan import Plan
from foldline.engine.runner import Run
from foldline.tensors import EmbeddingRows, Embeddings, Samples
from foldline.weights.checkpoint import Checkpoint

CHANGES = ("replace", "rename", "unlink", "remove", "mkdir", "rmdir", "truncate")
REMOVALS = ("unlink", "remove", "rmdir")


@dataclass
class DiskFault:
    """What goes wrong below `root` when step `at` is taken.

    `kind`: full (no write from there on), broken (one step fails), denied (no change below `only`), unreadable (one
    file cannot be opened for reading), kill, or term (SIGTERM, once).
    """

    kind: str
    at: int
    only: str = ""

    def __str__(self) -> str:
        return f"{self.kind} at step {self.at}{f' in {self.only}' if self.only else ''}"


class Disk:
    """The calls that change files or open them, below a folder; `taken` counts steps."""

    def __init__(self, root: Path, fault: DiskFault | None) -> None:
        self.root, self.fault, self.taken, self._lock = str(root), fault, 0, threading.Lock()
        self.failed = False

    def step(self, what: str, name: object, *, reads: bool = False) -> None:
        """Take a step, or fail."""
        path = os.path.abspath(name) if isinstance(name, str | os.PathLike) else ""  # noqa: PTH100 - links stay
        if self.fault is None or not path.startswith(self.root):
            return
        kind = self.fault.kind
        if reads != (kind == "unreadable"):
            return
        if kind == "denied":
            if f"{self.root}/{self.fault.only}/" in f"{path}/":
                self._fail(errno.EACCES, path)
            return
        with self._lock:
            self.taken += 1
            now, past = self.taken == self.fault.at, self.taken >= self.fault.at
        if now and kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if now and kind == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        if now and kind in ("broken", "unreadable"):
            self._fail(errno.EIO, path)
        if past and kind == "full" and what not in REMOVALS:
            self._fail(errno.ENOSPC, path)

    def _fail(self, number: int, path: str) -> None:
        self.failed = True
        raise OSError(number, os.strerror(number), path)


class _File:
    """An open file whose writes are steps; one that fails writes half of what it was given."""

    def __init__(self, file: Any, disk: Disk, name: object) -> None:
        self._file, self._disk, self._name = file, disk, name

    def write(self, data: Any) -> int:
        try:
            self._disk.step("write", self._name)
        except OSError:
            self._file.write(data[: len(data) // 2])
            raise
        return self._file.write(data)

    def writelines(self, pieces: Any) -> None:
        for piece in pieces:
            self.write(piece)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def on_disk(root: Path, fault: DiskFault | None) -> Iterator[Disk]:
    """A block in which that goes wrong."""
    disk = Disk(root, fault)
    if fault is None:
        yield disk
        return
    with pytest.MonkeyPatch.context() as patch:
        for change in CHANGES:
            patch.setattr(os, change, _stepped(disk, change, getattr(os, change)))
        patch.setattr(shutil, "rmtree", _stepped(disk, "rmdir", shutil.rmtree))
        opens = _opening(disk, io.open)
        patch.setattr(io, "open", opens)
        patch.setattr(builtins, "open", opens)
        patch.setattr(os, "open", _opening_number(disk, os.open))
        yield disk


def _stepped(disk: Disk, what: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(name: Any, *words: Any, **more: Any) -> Any:
        disk.step(what, name)
        return real(name, *words, **more)

    return call


def _opening(disk: Disk, real: Callable[..., Any]) -> Callable[..., Any]:
    def opens(name: Any, mode: str = "r", *words: Any, **more: Any) -> Any:
        writes = any(letter in mode for letter in "wxa+")
        disk.step("open", name, reads=not writes)
        file = real(name, mode, *words, **more)
        return _File(file, disk, name) if writes and isinstance(name, str | os.PathLike) else file

    return opens


def _opening_number(disk: Disk, real: Callable[..., int]) -> Callable[..., int]:
    def opens(name: Any, flags: int, *words: Any, **more: Any) -> int:
        disk.step("open", name, reads=not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return real(name, flags, *words, **more)

    return opens


@dataclass
class NetworkFault:
    """What goes wrong from the `at`th group on, for `times` of them: memory at a stage, a NaN, or a fault of ours."""

    kind: str  # memory | nan | bug
    at: int
    times: int = 1
    stage: str = "diffusion"

    def __str__(self) -> str:
        return f"{self.kind} in group {self.at}, {self.times} times, in {self.stage}"


@dataclass
class Replay:
    """Stands in for the network: each seed runs once and is handed over again ever after. Lists what ran, by seed."""

    fault: NetworkFault | None = None
    ran: list[tuple[str, int]] = field(default_factory=list)  # what a job is known by, and the seed
    log: Path | None = None  # where children list it
    groups: int = 0
    _made: dict[tuple, tuple[list[Samples], Embeddings | None]] = field(default_factory=dict)

    def begin(self, fault: NetworkFault | None) -> None:
        """Begin another run."""
        self.fault, self.groups = fault, 0
        self.ran.clear()

    def advance(self, run: Run, group: Group, plan: Plan, real: Callable[[Run, Group, Plan], None]) -> None:
        """Stands in for `runner.advance`."""
        self.groups += 1
        fault = self.fault
        fails = fault is not None and fault.at <= self.groups < fault.at + fault.times
        for stage in ("trunk", "diffusion", "confidence"):
            group.stage = stage
            run.progress(group.lanes, stage, 1, 1)
            if fails and fault is not None and fault.kind == "memory" and fault.stage == stage != "confidence":
                raise MemoryError("to order")
        for number, lane in enumerate(group.lanes):
            samples, embeddings = self._of(run, lane, plan, real)
            self._note(lane)
            if embeddings is not None and number not in group.embedded:
                z = embeddings.z
                run.on_embeddings(lane, EmbeddingRows(embeddings.s_inputs, embeddings.s, z.shape, partial(iter, [z])))
                group.embedded.add(number)
            for sample in samples:
                if (number, sample.first) in group.scored:
                    continue
                if fails and fault is not None and sample.first == len(samples) - 1:
                    if fault.kind == "memory" and fault.stage == "confidence":
                        raise MemoryError("to order")
                    sample = _spoiled(sample) if fault.kind == "nan" else sample
                run.on_sample(lane, _bug if fails and fault and fault.kind == "bug" else partial(_given, sample))
                group.scored.add((number, sample.first))
            group.seconds |= {"trunk": 0.1, "diffusion": 0.1, "confidence": 0.1}

    def _of(self, run: Run, lane: Lane, plan: Plan, real: Callable) -> tuple[list[Samples], Embeddings | None]:
        options = run.options
        key = (known_by(lane), lane.draws.seed, options, run.passes, run.steps, plan.trunk_dtype)
        if key not in self._made:
            samples: list[Samples] = []
            embeddings: list[Embeddings] = []
            listening = replace(
                run,
                on_sample=lambda _, make: samples.append(make()),
                on_embeddings=lambda _, rows: embeddings.append(rows.whole()),
                progress=lambda *_: None,
            )
            real(listening, Group([lane]), plan)
            self._made[key] = (samples, embeddings[0] if embeddings else None)
        return self._made[key]

    def _note(self, lane: Lane) -> None:
        self.ran.append((known_by(lane), lane.draws.seed))
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{known_by(lane)} {lane.draws.seed}\n")


def known_by(lane: Lane) -> str:
    """A word for a lane's features."""
    values = (getattr(lane.features, each.name) for each in fields(lane.features))
    arrays = [np.ascontiguousarray(value).tobytes() for value in values if isinstance(value, np.ndarray)]
    return hashlib.sha256(b"".join(arrays)).hexdigest()[:16]


@contextmanager
def replayed() -> Iterator[Replay]:
    """A block in which seeds that ran before are handed over again, and a checkpoint is opened once."""
    replay, real = Replay(), ladder.advance
    opened: dict[object, Any] = {}
    hashed: dict[str, str] = {}
    sha256, open_model = Checkpoint.sha256, engines.open_model

    def opens(path: Path) -> Any:
        key = (str(path), path.stat().st_mtime_ns)
        return opened.setdefault(key, None) or opened.update({key: open_model(path)}) or opened[key]

    def hashes(self: Checkpoint) -> str:
        return hashed.get(str(self.path)) or hashed.setdefault(str(self.path), sha256(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "advance", lambda run, group, plan: replay.advance(run, group, plan, real))
        patch.setattr(engines, "open_model", opens)
        patch.setattr(Checkpoint, "sha256", hashes)
        yield replay


def _given(sample: Samples) -> Samples:
    return sample


def _spoiled(sample: Samples) -> Samples:
    spoiled = sample.coordinates.copy()
    spoiled[0, 0, 0] = np.nan
    return replace(sample, coordinates=spoiled)


def _bug() -> Samples:
    raise KeyError("to order")
