"""Sizes and names: files of at most 500 lines, functions of at most 80, eight parameters, no environment variables."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("foldline", "benchmarks", "examples", "scripts", "tests")
MAX_FILE, MAX_KERNEL_FILE, MAX_FUNCTION, MAX_PARAMETERS = 500, 600, 80, 8
BAD_NAMES = ("utils", "util", "helpers", "helper", "misc", "common")
BAD_PARTS = ("v2", "new", "old", "fast", "my", "tmp")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_kernel(path: Path) -> bool:
    """Kernel files hold one long listing for a GPU."""
    return "triton" in path.stem


def is_command(path: Path) -> bool:
    """A command's parameters are its options, which test_options.py counts."""
    return path.is_relative_to(ROOT / "foldline" / "cli")


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "__pycache__" not in path.parts:
                yield path


def functions(text: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            yield node


def length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def parameters(node: Function) -> int:
    a = node.args
    names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    return len(names) - (bool(names) and names[0] in ("self", "cls"))


def reads_environment(text: str) -> list[int]:
    """Lines that name os.environ or os.getenv, imported or not."""
    lines = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv"):
            lines.append(node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            lines += [node.lineno for x in node.names if x.name in ("environ", "environb", "getenv", "putenv")]
    return lines


def is_bad_name(stem: str) -> bool:
    return stem in BAD_NAMES or bool(set(stem.split("_")) & set(BAD_PARTS))


def test_files_are_short() -> None:
    long = []
    for path in sources(*FOLDERS):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > (MAX_KERNEL_FILE if is_kernel(path) else MAX_FILE):
            long.append(f"{path.relative_to(ROOT)}: {lines} lines")
    assert not long, "\n".join(long)


def test_functions_are_short_and_take_few_parameters() -> None:
    faults = []
    for path in sources(*FOLDERS):
        if is_kernel(path):
            continue
        for node in functions(path.read_text(encoding="utf-8")):
            where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
            if length(node) > MAX_FUNCTION:
                faults.append(f"{where}: {length(node)} lines")
            if parameters(node) > MAX_PARAMETERS and not is_command(path):
                faults.append(f"{where}: {parameters(node)} parameters")
    assert not faults, "\n".join(faults)


def test_no_environment_variables() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources("foldline")
        for line in reads_environment(path.read_text(encoding="utf-8"))
    ]
    assert not faults, "\n".join(faults)


def test_names_say_what_is_inside() -> None:
    paths = [p for p in (ROOT / "foldline").rglob("*") if p.is_dir() or p.suffix == ".py"]
    assert not [str(p.relative_to(ROOT)) for p in paths if is_bad_name(p.stem)]


def test_modules_open_with_a_docstring_and_need_no_future() -> None:
    faults = []
    for path in sources("foldline"):
        text = path.read_text(encoding="utf-8")
        if not ast.get_docstring(ast.parse(text)):
            faults.append(f"{path.relative_to(ROOT)}: no docstring")
        if "from __future__" in text:
            faults.append(f"{path.relative_to(ROOT)}: __future__")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "text",
    ["import os\nos.environ['A']", "from os import getenv", "import os as o\no.getenv('A')", "os.environ.get('x')"],
)
def test_the_search_for_environment_variables_finds_them(text: str) -> None:
    assert reads_environment(text)


def test_the_measures() -> None:
    node = next(functions("class A:\n    def f(self, a, /, b, *args, c=1, **more):\n        pass\n"))
    assert (parameters(node), length(node)) == (3, 2)
    assert [is_bad_name(x) for x in ("utils", "mmcif_v2", "fast_norm", "columns", "newick")] == [True] * 3 + [False] * 2
