"""A desk for a reader of the documentation: a folder with the examples, small checkpoints under the known names.

Commands run in this process, in that folder, with a cache folder of its own and without a network.
"""

import io
import runpy
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from foldline.chem.components import Components
from foldline.cli import main
from foldline.config import cache_root_of
from foldline.weights import load
from foldline.weights.registry import ENTRIES, cached_path

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(Path(__file__).parent), str(ROOT / "tests" / "network_cases")]
torch.set_num_threads(1)
SETTINGS = 'device = "cpu"\nthreads = 1\n'


@dataclass(frozen=True)
class Done:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for a user's folder of caches: the component store, and a small random checkpoint for every name."""
    from upstream_layout import SMALL, small_network, state

    Components.open()
    folder = tmp_path_factory.mktemp("caches")
    own = folder / "foldline"
    own.mkdir()
    for part in cache_root_of(None).glob("components-*"):
        (own / part.name).symlink_to(part)
    names = {"default": replace(SMALL, n_msa=2), "distilled": replace(SMALL, n_msa=1)}
    files = {}
    for kind, spec in names.items():
        files[kind] = folder / f"{kind}.pt"
        torch.save({"model": state(small_network(spec), "module.")}, files[kind])
    for entry in ENTRIES:
        place = cached_path(entry, own)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(files["distilled" if "5 sampler steps" in entry.summary else "default"])
    return folder


class Desk:
    """A reader's folder; runs commands and Python there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str | Path) -> Done:
        """A command line of ours, as a function."""
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main([str(word) for word in words])
            except SystemExit as end:
                code = int(end.code or 0)
        return Done(code, out.getvalue(), err.getvalue())

    def shell(self, text: str) -> Done:
        """A command of the shell; `foldline` and `python` are ours."""
        done = subprocess.run(["bash", "-euc", text], cwd=self.folder, capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    def script(self, *words: str) -> Done:
        """A Python script with its arguments, in this process."""
        out, before = io.StringIO(), sys.argv
        sys.argv = list(words)
        try:
            with redirect_stdout(out):
                runpy.run_path(words[0], run_name="__main__")
        finally:
            sys.argv = before
        return Done(0, out.getvalue(), "")

    def python(self, text: str, names: dict[str, object]) -> Done:
        """Some lines of Python, with the names of those before."""
        out = io.StringIO()
        with redirect_stdout(out):
            exec(compile(text, "documentation", "exec"), names)
        return Done(0, out.getvalue(), "")


@pytest.fixture
def desk(caches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """An empty desk with the examples on it."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "foldline.toml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    monkeypatch.setattr(socket.socket, "connect", _refuse(socket.socket.connect))
    monkeypatch.setattr(load, "FAMILIES", dict(load.FAMILIES))  # a page adds one
    return Desk(tmp_path)


def _refuse(connect: Callable[..., None]) -> Callable[..., None]:
    def local_only(self: socket.socket, address: object) -> None:
        assert self.family == socket.AF_UNIX, f"the documentation's commands reach for {address}"
        connect(self, address)

    return local_only
