"""The command line's options are frozen: a change of one is a change here too. No command has more than twenty."""

from dataclasses import fields
from pathlib import Path

import pytest
import typer.main

from foldline.cli.app import app
from foldline.config import EngineConfig

OPTIONS = {
    "": ["--version"],
    "predict": [
        "INPUT...",
        "--buckets",
        "--config",
        "--device",
        "--dtype",
        "--max-memory",
        "--model",
        "--msa",
        "--num-seeds",
        "--on-error",
        "--out",
        "--overwrite",
        "--progress",
        "--ray",
        "--recycles",
        "--report",
        "--samples",
        "--seed-batch",
        "--seeds",
        "--stage",
        "--steps",
    ],
    "search": ["INPUT...", "--config", "--out", "--quiet", "--ray"],
    "pairs": ["A.FASTA", "[B.FASTA]", "--max-tokens", "--no-homodimers", "--out"],
    "cache list": ["--config"],
    "cache prune": ["--config", "--max-size", "--replaced", "--results", "--unused-days"],
    "cache export": ["FILE", "--config"],
    "cache import": ["FILE", "--config"],
    "db list": ["--config"],
    "db check": ["[NAME...]", "--config"],
    "db shard": ["FILE", "N", "--out"],
    "estimate": [
        "INPUT...",
        "--buckets",
        "--config",
        "--device",
        "--dtype",
        "--json",
        "--max-memory",
        "--model",
        "--msa",
        "--num-seeds",
        "--samples",
        "--seed-batch",
        "--seeds",
    ],
    "validate": ["INPUT...", "--config", "--quiet"],
    "report": ["DIR...", "--plots"],
    "weights list": ["--config"],
    "weights fetch": ["NAME|PATH", "--config", "--progress"],
    "weights verify": ["NAME|PATH", "--config"],
    "weights show": ["NAME|PATH", "--config"],
    "doctor": ["--config"],
    "bench memory": ["--atoms", "--dtype", "--max-memory", "--model", "--msa-rows", "--samples", "--tokens"],
}


def options_of(command: object, name: str = "") -> dict[str, list[str]]:
    """Options and arguments of a command and those below it, by its words."""
    found = {}
    children = getattr(command, "commands", None)
    if children is None or name == "":
        words = [p.opts[-1] if p.opts[0].startswith("-") else p.metavar for p in command.params]
        found[name] = sorted((w for w in words if w != "--help"), key=lambda word: (word.startswith("-"), word))
    for child, below in (children or {}).items():
        found |= options_of(below, f"{name} {child}".strip())
    return found


@pytest.fixture(scope="module")
def options() -> dict[str, list[str]]:
    return options_of(typer.main.get_command(app))


def test_options_are_those_written_here(options: dict[str, list[str]]) -> None:
    assert options == OPTIONS


def test_at_most_twenty(options: dict[str, list[str]]) -> None:
    assert max(sum(word.startswith("-") for word in words) for words in options.values()) <= 20


def test_no_setting_is_without_effect() -> None:
    """Every field of EngineConfig is read by some module."""
    package = Path(__file__).resolve().parents[2] / "foldline"
    texts = [p.read_text(encoding="utf-8") for p in package.rglob("*.py") if p.name != "config.py"]
    readers = ("config", "settings", "c", "settings_from(config)")
    read_as = {"work_dir": "work_root"}  # a property of the record
    unread = [
        field.name
        for field in fields(EngineConfig)
        if not any(f"{reader}.{read_as.get(field.name, field.name)}" in text for reader in readers for text in texts)
    ]
    assert not unread
