"""The command line as a function, an engine that predicts nothing, and a job."""

import json
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import foldline.engine
from foldline.cli import main
from foldline.config import EngineConfig
from foldline.engine import Prediction
from foldline.errors import FoldlineError
from foldline.execute import Event, StopRequest
from foldline.inputs import Job


@dataclass
class Run:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


@dataclass
class FakeEngine:
    """Stands in for `foldline.engine.Engine`: ends each job as `errors` says, and keeps what it was given."""

    errors: dict[str, FoldlineError] = field(default_factory=dict)
    made: list[tuple[str, EngineConfig]] = field(default_factory=list)
    ran: list[Job] = field(default_factory=list)
    signals: dict[str, signal.Signals] = field(default_factory=dict)  # sent in the midst of a job

    def __call__(self, model: str, *, config: EngineConfig) -> "FakeEngine":
        self.made.append((model, config))
        return self

    def predict(
        self, jobs: Iterable[Job], *, out: Path, progress: Callable[[Event], None], stop: StopRequest
    ) -> Iterator[Prediction]:
        for job in jobs:
            self.ran.append(job)
            if job.name in self.signals:
                progress(Event(job.name, "trunk", step=1, total=2, seed=job.seeds[0]))
                signal.raise_signal(self.signals[job.name])
            if job.name in self.errors:
                yield Prediction(job.name, error=self.errors[job.name])
                continue
            for step in (1, 2):
                progress(Event(job.name, "trunk", step=step, total=2, seed=job.seeds[0]))
            progress(Event(job.name, "plan", message="fits"))
            (out / job.name).mkdir(parents=True, exist_ok=True)
            record = {"fingerprint": job.name, "best": {"ranking_score": 0.5}}
            (out / job.name / f"{job.name}_run.json").write_text(json.dumps(record))
            yield Prediction(
                job.name,
                out / job.name,
                seconds={"trunk": 1.25, "total": 2.0},
                peak_bytes=2**30,
                n_token=7,
                n_atom=50,
                warnings=("something was changed",),
                ranking_score=0.5,
            )


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    monkeypatch.setattr(foldline.engine, "Engine", fake)
    return fake


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Run a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path) -> Run:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        printed = capfd.readouterr()
        return Run(int(caught.value.code or 0), printed.out, printed.err)

    return call


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """Write a job to a file."""

    def write(name: str = "one", **changes: object) -> Path:
        protein = {"id": "A", "sequence": "MKTAYIAK", "unpairedMsa": "", "pairedMsa": "", "templates": []}
        content = {
            "name": name,
            "modelSeeds": [1],
            "sequences": [{"protein": protein | dict(changes.pop("protein", {}))}],
            "dialect": "alphafold3",
            "version": 2,
        }
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(content | changes), encoding="utf-8")
        return file

    return write
