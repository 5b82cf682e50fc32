"""What the documentation tells a reader to type is typed; what it points at is there."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pages import FENCE, KINDS, PAGES, ROOT, Command, blocks, commands, printed_as_told

from foldline.cli.app import app
from foldline.config import EngineConfig

# What no test can run, and why; the page shows the same reason beside the command.
BENCH = "foldline bench memory --tokens 10000 --atoms 80000 --msa-rows 1024 --dtype bf16"
TRAIN, STATE = "python -m tools.train_demo.", "--data data --state state.pt --targets $names "
WRITE = "--seconds 600 --out foldline/weights/demo.safetensors"
NOT_RUN: dict[tuple[str, str], str] = {
    ("README.md", "scripts/demo"): "it makes an environment",
    ("README.md", "python3 -m venv .venv"): "it makes an environment",
    ("README.md", ". .venv/bin/activate"): "it needs that environment",
    ("README.md", "pip install . -c constraints.txt"): "it installs into that environment",
    ("README.md", "scripts/test"): "it runs the tests",
    ("README.md", "scripts/check"): "it makes an environment",
    ("README.md", "scripts/upstream-env DIR"): "it downloads",
    ("README.md", "scripts/clients-env DIR"): "it downloads",
    ("README.md", ".ci/run"): "it runs the tests",
    ("docs/numerics.md", "scripts/upstream-env DIR"): "it downloads",
    ("docs/numerics.md", "scripts/test --upstream-python=DIR/bin/python tests/fidelity"): "it runs upstream",
    ("docs/performance.md", BENCH): "it takes a minute",
    (
        "docs/demo_model.md",
        "python -m tools.train_demo.prepare --jobs examples --structures PDB_FILES --out data",
    ): "it needs PDB files",
    (
        "docs/demo_model.md",
        f"{TRAIN}train {STATE}--shares 5 4 4 --seconds 2400 --place-seconds 300",
    ): "it takes 40 minutes",
    ("docs/demo_model.md", f"{TRAIN}confidence {STATE}{WRITE}"): "it takes 10 minutes",
    (
        "docs/output.md",
        "foldline predict out/failed_jobs.json --out out --max-memory 40GB",
    ): "it needs jobs that failed",
    ("docs/output.md", "foldline predict jobs/ --out s3://bucket/out --config work.toml"): "it needs a bucket",
    ("docs/cluster.md", "pip install foldline[ray]"): "it downloads",
    ("docs/cluster.md", "ray start --head --port=6379"): "it starts a cluster",
    ("docs/cluster.md", "ray start --address=HOST:6379"): "it needs a cluster",
    ("docs/cluster.md", "foldline search jobs/ --out out --ray auto"): "it needs a cluster",
    ("docs/cluster.md", "foldline predict jobs/ --out out --ray auto"): "it needs a cluster",
}
OF_OTHERS = {"--domZ", "--uniref90_z_value", "--head"}  # options of HMMER, of AlphaFold 3 and of Ray
named_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def do(desk: Any, command: Command) -> Any:
    words = command.words
    if words[:1] == ["foldline"]:
        return desk.run(*words[1:])
    if words[:1] == ["python"] and words[1].endswith(".py"):
        return desk.script(*words[1:])
    assert "foldline" not in command.text.split()[:1], f"plain words, so that the test can run it: {command.text}"
    return desk.shell(command.text)


@named_page
def test_commands_run(desk: Any, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page in order, on one desk. Python blocks of a page share their names, as in one session."""
    monkeypatch.syspath_prepend(desk.folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.kind in ("sh", "console"):
            for command in commands(block):
                if command.reason:
                    continue
                done = do(desk, command)
                assert done.code == 0, f"{block.where}: {command.text}\n{done.out}{done.err}"
                if command.prints is not None:
                    assert printed_as_told(command.prints, done.out + done.err), f"{block.where}\n{done.out}{done.err}"
        elif block.kind == "python":
            first = block.text.partition("\n")[0]
            if file := re.fullmatch(r"# (\w+\.py)", first):
                (desk.folder / file[1]).write_text(block.text)
            else:
                desk.python(block.text, names)
        elif block.kind == "toml":
            (desk.folder / "read.toml").write_text(block.text)
            EngineConfig.make(desk.folder / "read.toml")
        elif block.kind == "json":
            content = json.loads(block.text)
            if isinstance(content, list) or "sequences" in content:
                (desk.folder / "read.json").write_text(block.text)
                done = desk.run("validate", "read.json")
                assert done.code == 0, f"{block.where}: {done.err}"


def test_what_is_not_run_is_listed_with_its_reason() -> None:
    found = {
        (block.page.relative_to(ROOT).as_posix(), command.text.partition("#")[0].strip()): command.reason
        for page in PAGES
        for block in blocks(page)
        if block.kind in ("sh", "console")
        for command in commands(block)
        if command.reason
    }
    assert found == {key: reason for key, reason in NOT_RUN.items() if (ROOT / key[0]).exists()}


@named_page
def test_blocks_have_a_language_and_are_closed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = blocks(page)
    assert 2 * len(found) == len(re.findall(r"(?m)^ *```", text))
    assert {block.kind for block in found} <= KINDS
    indented = [line for line in text.splitlines() if re.match(r" {4}(foldline|pip|python|scripts/|\.ci/)", line)]
    assert not indented, "a command stands in a block, where it is run"


@named_page
def test_named_tests_exist(page: Path) -> None:
    named = re.findall(r"`(?:tests/)?(\w+/test_\w+\.py)(?:::(test_\w+))?`", page.read_text(encoding="utf-8"))
    assert named or page.name != "numerics.md"
    for file, test in named:
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {test}(" in text if test else text, f"{page.name}: {file}::{test}"


@named_page
def test_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name}: {link}"
        if heading:
            heads = re.findall(r"(?m)^#+ (.+)$", target.read_text(encoding="utf-8"))
            assert heading in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, link


@named_page
def test_named_files_exist(page: Path) -> None:
    """Files of the repository that are named in code font."""
    roots = "benchmarks|docs|examples|fidelity|foldline|scripts|tests|tools"
    for name in re.findall(rf"`((?:{roots})/[\w./-]+)(?:::\w+)?[`: ]", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


def words_of(command: Any) -> set[str]:
    """All options of a command and those below it."""
    found = {opt for parameter in command.params for opt in parameter.opts if opt.startswith("--")}
    return found.union(*(words_of(below) for below in getattr(command, "commands", {}).values()))


@named_page
def test_named_options_are_options(page: Path) -> None:
    text = FENCE.sub("", re.sub(r"(?m)^.*(?:pip install|scripts/|benchmarks/|tools/).*$", "", page.read_text("utf-8")))
    typed = [command.text for block in blocks(page) if block.kind == "sh" for command in commands(block)]
    text += " ".join(line for line in typed if line.startswith("foldline"))
    ours = words_of(typer.main.get_command(app)) | {"--help"}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text)) <= ours | OF_OTHERS


def test_every_option_of_a_run_is_told() -> None:
    told = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    options = {opt for p in typer.main.get_command(app).commands["predict"].params for opt in p.opts if "--" in opt}
    assert not {option for option in options if option not in told}


def test_the_record_is_told(desk: Any) -> None:
    """Every key of `<job>_run.json`, and no other."""
    text = (ROOT / "docs" / "output.md").read_text(encoding="utf-8")
    rows = text[text.index("| key of the record |") :].split("\n\n")[0].splitlines()[2:]
    told = {key for row in rows for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert desk.run("predict", "examples/protein.json", "--out", "out", "--model", "protenix-mini").code == 0
    assert told == set(json.loads((desk.folder / "out" / "protein" / "protein_run.json").read_text()))


def test_pages_stay_short() -> None:
    lines = {page.name: len(page.read_text(encoding="utf-8").splitlines()) for page in PAGES}
    assert lines["README.md"] <= 150 and lines["architecture.md"] <= 60


def test_the_settings_of_the_readme_are_settings() -> None:
    (block,) = [block for block in blocks(ROOT / "README.md") if block.kind == "toml"]
    assert tomllib.loads(block.text).keys() == {"model", "cache_dir", "max_memory"}


@pytest.mark.parametrize(
    ("told", "printed", "equal"),
    [("a\nb", "a\nb\n", True), ("a ... c", "a b\nb c", True), ("a", "a b", False), ("1.5 s", "125 s", False)],
)
def test_the_comparison_of_output(told: str, printed: str, equal: bool) -> None:
    assert printed_as_told(told, printed) is equal


def test_how_commands_are_found(tmp_path: Path) -> None:
    page = tmp_path / "x.md"
    lines = ("a b \\", "  c  # why", "cat > f <<'X'", "{", "}", "X", "# nothing", "d  # (not in the tests: a GPU)")
    page.write_text("\n".join(("```sh", *lines, "```", "")))
    (block,) = blocks(page)
    assert [(c.text, c.words, c.reason) for c in commands(block)] == [
        ("a b c  # why", ["a", "b", "c"], ""),
        ("cat > f <<'X'\n{\n}\nX", [], ""),
        ("d  # (not in the tests: a GPU)", ["d"], "a GPU"),
    ]
