"""The command line as a function, with a small checkpoint in upstream's format, and features of a job.

A refusal is looked at from outside: exit code 2, one line on stderr that has the place, and no file written.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from foldline.chem.components import Components
from foldline.chem.conformers import Conformers, EmbeddingLimits
from foldline.chem.user_ccd import read_user_ccd
from foldline.cli import main
from foldline.features.build import FeatureSet, build_features
from foldline.inputs import read_jobs, read_text

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "network_cases")]
torch.set_num_threads(1)

SETTINGS = 'device = "cpu"\nthreads = 1\nsamples = 1\nsteps = 2\nrecycles = 0\n'


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One block of everything with random weights, as upstream writes checkpoints."""
    from upstream_layout import small_network, state

    path = tmp_path_factory.mktemp("checkpoint") / "small.pt"
    torch.save({"model": state(small_network(), "module.")}, path)
    return path


@dataclass
class Run:
    """What a command printed, how it ended and where it wrote."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def files(self) -> list[str]:
        """Everything in the output folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))

    @property
    def jobs(self) -> list[str]:
        """The folders of jobs."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """A list of the output folder, such as `failed.jsonl`."""
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def json(self, name: str, what: str) -> Any:
        """A JSON file of the best sample of a job."""
        return json.loads((self.folder / name / f"{name}_{what}.json").read_text())


Command = Callable[..., Run]


@pytest.fixture
def foldline(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command line in the test's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foldline.toml").write_text(SETTINGS)

    def call(*words: str | Path) -> Run:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        printed = capfd.readouterr()
        return Run(int(caught.value.code or 0), printed.out, printed.err, tmp_path / "out")

    return call


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a job, a list of jobs, text or bytes to a file in the test's folder."""

    def run(content: Any, name: str = "job.json") -> Path:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return run


@pytest.fixture
def predicted(foldline: Command, write: Callable[..., Path], checkpoint: Path) -> Command:
    """Predict a job with the small checkpoint; everything has to go well."""

    def run(content: Any, *options: str) -> Run:
        done = foldline("predict", write(content), "--out", "out", "--model", checkpoint, *options)
        assert done.code == 0, done.err
        return done

    return run


@pytest.fixture
def outcome(foldline: Command, write: Callable[..., Path], checkpoint: Path) -> Command:
    """Predict jobs with the small checkpoint, however it ends."""

    def run(content: Any, *options: str | Path, model: Path | None = None) -> Run:
        return foldline("predict", write(content), "--out", "out", "--model", model or checkpoint, *options)

    return run


@pytest.fixture
def refused(foldline: Command, write: Callable[..., Path], checkpoint: Path) -> Callable[..., str]:
    """The one sentence with which `foldline predict` refuses a job; nothing is written. The inputs may be given."""

    def run(content: Any, *inputs: str | Path) -> str:
        files = inputs or (write(content),)
        done = foldline("predict", *files, "--out", "out", "--model", checkpoint, "--progress", "none")
        assert (done.code, done.out) == (2, ""), done.err
        assert done.err.startswith("error: ") and len(done.err.splitlines()) == 1, done.err
        assert done.files == []
        return done.err

    return run


@pytest.fixture(scope="session")
def components() -> Components:
    return Components.open()


@pytest.fixture(scope="session")
def conformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conformers]:
    """Made anew in a folder of their own, and with little patience."""
    source = Conformers(tmp_path_factory.mktemp("conformers"), EmbeddingLimits(seconds=3, limit=5))
    yield source
    source.close()


@pytest.fixture
def featurised(
    components: Components, conformers: Conformers, write: Callable[..., Path]
) -> Callable[[Any], FeatureSet]:
    """The features of a job as the command line makes them, with the notes of the file among them."""

    def run(content: Any) -> FeatureSet:
        (job,) = read_jobs(write(content))
        known = components
        if job.user_ccd is not None:
            known = components.with_user(read_user_ccd(read_text(job.user_ccd, "userCCD")))
        made = build_features(job, components=known, conformers=conformers)
        object.__setattr__(made, "notes", (*job.notes, *made.notes))
        return made

    return run
