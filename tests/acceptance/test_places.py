"""Places that cannot be written to, and machines without a home folder or shared memory (A53)."""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_jobs import ccd, job, protein, smiles

from foldline.config import EngineConfig

Command = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
ION = ccd("ZN")


def set_more(folder: Path, **settings: object) -> None:
    """Add settings to those of the test's folder."""
    with (folder / "foldline.toml").open("a") as file:
        file.writelines(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())


def test_a53_no_home_and_a_cache_that_cannot_be_written(
    outcome: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence with what to set, and what is set is enough. Nobody can write to /proc."""
    cache = EngineConfig().cache_root
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/nobody")
    said = outcome(job(ION), "--progress", "none")
    assert said.code == 2 and len(said.err.splitlines()) == 1 and said.files == []
    assert "cannot be stored in /proc/nobody" in said.err and "cache_dir" in said.err, said.err
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    said = outcome(job(ION), "--progress", "none")
    assert said.code == 2 and "Traceback" not in said.err and said.files == []
    assert said.err.splitlines() == [
        "error: cache_dir: this user has no home folder to keep files in: set cache_dir in foldline.toml, or HOME"
    ]
    set_more(tmp_path, cache_dir=str(cache))
    assert outcome(job(ION)).code == 0


@pytest.fixture
def isolated(
    foldline: Command, tmp_path: Path, write: Callable[..., Path], checkpoint: Path
) -> Callable[..., list[str]]:
    """Run shell lines, in which `foldline` predicts a job in two child processes, where mounts are the test's own."""
    trial = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    if shutil.which("unshare") is None or subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount here")
    set_more(tmp_path, workers=2, cache_dir=str(EngineConfig().cache_root))
    words = ["predict", str(write(job(protein(), smiles("CCO")))), "--model", str(checkpoint), "--progress", "none"]
    command = f'PYTHONPATH={shlex.quote(str(ROOT))} {sys.executable} -m foldline {shlex.join(words)} --out "$1"'

    def run(*lines: str) -> list[str]:
        script = f"set -e\nfoldline() {{ {command} 2>&1 && code=0 || code=$?; echo rc $code; }}\n" + "\n".join(lines)
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_a53_folders_that_cannot_be_written_and_no_shared_memory(
    isolated: Callable[..., list[str]], tmp_path: Path
) -> None:
    """For real: an output folder and a filled cache that are mounted for reading, 4 kB of /dev/shm, no HOME."""
    (tmp_path / "sealed").mkdir()
    cache = EngineConfig().cache_root
    assert cache.is_dir(), "filled by the tests before"
    said = isolated(
        "unset HOME",
        "mount -t tmpfs -o size=4k none /dev/shm",
        *(f"mount --bind {path} {path}; mount -o remount,ro,bind {path}" for path in (tmp_path / "sealed", cache)),
        "foldline out",
        "foldline sealed",
    )
    assert said == [
        "rc 0",
        "error: --out: sealed cannot be written to: check its permissions, or name another folder",
        "rc 2",
    ]
    assert (tmp_path / "out" / "job" / "job_run.json").is_file() and not list((tmp_path / "sealed").iterdir())


def test_a53_a_folder_that_becomes_read_only(outcome: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the second of three jobs is written: its lowest write raises what a read-only file system does."""
    real = Path.open

    def refuse(path: Path, mode: str = "r", *given: Any, **named: Any) -> Any:
        if "x" in mode and "/b/" in str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, mode, *given, **named)

    monkeypatch.setattr(Path, "open", refuse)
    done = outcome([job(ION, name=name) for name in "abc"], "--progress", "none")
    assert done.code == 1
    assert done.err.splitlines() == ["error: job b: the result cannot be written: Read-only file system (out/b)"]
    assert [(line["job"], line["code"]) for line in done.lines("failed.jsonl")] == [("b", "not_written")]
    assert sorted(line["job"] for line in done.lines("results.jsonl")) == ["a", "c"]
