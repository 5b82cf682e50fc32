"""The command's heap and waiting: a restart that is done once, where it is of use, and changes nothing else."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from foldline.cli import restart

GLIBC = pytest.mark.skipif(sys.platform != "linux" or not restart.is_glibc(), reason="another C library")
# prints what it was given, what heap it has, and what it was told
PROGRAM = """
import os, sys
from foldline.cli.restart import restart_prepared
from foldline.heap import has_caches
print("begun", flush=True)
restart_prepared()
told = [os.environ.get(name) for name in ("GLIBC_TUNABLES", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")]
print(sys.argv[1:], sys.stdin.read(), has_caches(), *told)
"""


@pytest.fixture
def run() -> Callable[..., list[str]]:
    """Lines that the program prints, given words and variables."""

    def start(*words: str, python: tuple[str, ...] = (), **variables: str) -> list[str]:
        settings = [f"{name}={value}" for name, value in variables.items()]
        unset = [word for name in ("GLIBC_TUNABLES", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT") for word in ("-u", name)]
        command = ["env", *unset, *settings, sys.executable, *python, "-c", PROGRAM, *words]
        done = subprocess.run(command, input="job", capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    return start


@GLIBC
def test_predict_starts_anew_once_with_its_words_and_streams(run: Callable[..., list[str]]) -> None:
    *begun, told = run("predict", "a b.json", '"$x" é')
    assert begun == ["begun", "begun"]
    words = str(["predict", "a b.json", '"$x" é'])
    assert told == f"{words} job False {restart.HEAP} None {restart.SPINS}"


@GLIBC
def test_other_commands_run_as_they_are(run: Callable[..., list[str]]) -> None:
    assert run("validate", "predict") == ["begun", "['validate', 'predict'] job True None None None"]
    assert run() == ["begun", "[] job True None None None"]


@GLIBC
def test_what_the_user_set_stays(run: Callable[..., list[str]]) -> None:
    own = "glibc.malloc.arena_max=4"
    *begun, told = run("predict", GLIBC_TUNABLES=own)
    assert len(begun) == 2
    assert told == f"['predict'] job False {own}:{restart.HEAP} None {restart.SPINS}"


@GLIBC
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("OMP_WAIT_POLICY", "active", "active None"), ("GOMP_SPINCOUNT", "7", "None 7"), ("OMP_WAIT_POLICY", "", " None")],
)
def test_waiting_that_the_user_set_stays(run: Callable[..., list[str]], name: str, value: str, told: str) -> None:
    assert run("predict", **{name: value})[-1] == f"['predict'] job False {restart.HEAP} {told}"


@GLIBC
def test_a_command_that_was_restarted_is_not_restarted_again(run: Callable[..., list[str]]) -> None:
    assert run("predict", python=("-X", restart.MARK)) == ["begun", "['predict'] job True None None None"]


@pytest.mark.parametrize("fault", ["no shell", "no interpreter", "another C library"])
def test_it_goes_on_where_it_cannot_restart(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(*command: object) -> None:
        tried.append(command)
        raise FileNotFoundError

    monkeypatch.setattr(os, "execv", refuse)
    monkeypatch.setattr(sys, "argv", ["foldline", "predict"])
    monkeypatch.setattr(restart, "is_glibc", lambda: fault != "another C library")
    if fault == "no interpreter":
        monkeypatch.setattr(sys, "executable", "")
    restart.restart_prepared()
    assert len(tried) == (fault == "no shell")


@GLIBC
@pytest.mark.parametrize(
    "entry", [("-m", "foldline"), ("-m", "foldline.cli"), (str(Path(sys.executable).parent / "foldline"),)]
)
@pytest.mark.parametrize(("command", "times"), [("predict", 2), ("estimate", 1)])
def test_every_entry_restarts_predict(entry: tuple[str, ...], command: str, times: int) -> None:
    words = [sys.executable, "-X", "importtime", *entry, command, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert sum(line.endswith(" foldline.cli.restart") for line in done.stderr.splitlines()) == times
    assert f"Usage: foldline {command}" in done.stdout
