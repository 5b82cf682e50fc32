"""Imports go down only, the network's rooms need torch, numpy and safetensors alone, the others never load torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "foldline"

# Floors from the bottom up. Rooms of one tuple stand in a row: each may import those before it. Rooms of different
# tuples of a floor do not know each other.
FLOORS: list[list[tuple[str, ...]]] = [
    [("errors", "shapes", "limits", "heap", "config", "execute", "remote")],
    [("tensors",), ("chem", "structure", "inputs")],
    [("ops",), ("search",)],
    [("layers",), ("features",)],
    [("models", "weights")],
    [("sampler",), ("confidence",), ("outputs",)],
    [("parallel", "engine")],
    [("cluster", "cli", "__main__"), ("server",)],
]
PLACES = {
    room: (floor, row, place)
    for floor, rows in enumerate(FLOORS)
    for row, rooms in enumerate(rows)
    for place, room in enumerate(rooms)
}
LIGHT = ["tensors", "ops", "layers", "models", "weights", "sampler", "confidence", "parallel", "engine"]
WITHOUT_TORCH = ["features", "chem", "structure", "search", "inputs", "outputs"]
# What a machine with torch, numpy and safetensors alone lacks.
HEAVY = [
    "pydantic",
    "rdkit",
    "gemmi",
    "biotite",
    "rich",
    "typer",
    "jaxtyping",
    "beartype",
    "requests",
    "platformdirs",
    "filelock",
    "zstandard",
    "pyhmmer",
    "scipy",
    "matplotlib",
    "ray",
    "triton",
]


def may_import(source: str, target: str) -> bool:
    """Whether a room may import another."""
    if source == target:
        return True
    (floor, row, place), (target_floor, target_row, target_place) = PLACES[source], PLACES[target]
    return target_floor < floor or (target_floor == floor and target_row == row and target_place < place)


def room_of(name: str) -> str:
    """`structure` for `foldline.structure.atoms`, the empty string for the package itself."""
    return name.split(".")[1] if "." in name else ""


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and full name of everything of the package that a module imports, inside functions too."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            module = node.module or ""
            found += [(node.lineno, f"{module}.{a.name}" if module == "foldline" else module) for a in node.names]
    return [(line, name) for line, name in found if name.split(".")[0] == "foldline"]


def faults_of(source: str, text: str) -> list[str]:
    """What a module of the room `source` imports and may not."""
    faults = []
    for line, name in imported(ast.parse(text)):
        target = room_of(name)
        if target == "__version__":
            continue
        if target not in PLACES:
            faults.append(f"line {line}: {name} is in no room of the table")
        elif not may_import(source, target):
            faults.append(f"line {line}: {source} imports {name}")
    return faults


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def rooms_here(names: list[str]) -> list[str]:
    return [n for n in names if (PACKAGE / f"{n}.py").is_file() or (PACKAGE / n / "__init__.py").is_file()]


def test_imports_go_down_only() -> None:
    faults = []
    for path in modules():
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        assert room in PLACES, f"{path}: add the room to the table"
        relative = path.relative_to(PACKAGE.parent)
        faults += [f"{relative}: {fault}" for fault in faults_of(room, path.read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)


def test_ray_is_imported_in_one_room_and_late() -> None:
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        early = set(ast.iter_child_nodes(tree))
        for node in ast.walk(tree):
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "ray" for name in named):
                assert path.parent.name == "cluster" and node not in early, f"{path}: line {node.lineno}"


@pytest.mark.parametrize(
    ("room", "text", "good"),
    [
        ("ops", "from foldline.layers.msa import X", False),
        ("chem", "from foldline.inputs import Job", False),
        ("inputs", "from foldline.chem import residues", True),
        ("outputs", "def f():\n    import foldline.sampler", False),
        ("engine", "from foldline import inputs, parallel", True),
        ("models", "from foldline import Engine", False),
        ("features", "from foldline.layers import msa", False),
        ("weights", "from foldline.models.spec import ModelSpec", True),
        ("models", "from foldline.weights import load_network", False),
    ],
)
def test_the_walk_sees_what_it_should(room: str, text: str, good: bool) -> None:
    assert (faults_of(room, text) == []) is good


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PACKAGE.parent)


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ImportError("blocked: " + name)
        return None
sys.meta_path.insert(0, Blocked())
import importlib, pkgutil
def load(name):
    module = importlib.import_module(name)
    for info in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        importlib.import_module(info.name)
"""


@pytest.mark.parametrize("room", rooms_here(LIGHT))
def test_the_networks_rooms_need_torch_numpy_safetensors_alone(room: str) -> None:
    done = run(BLOCK.format(names=set(HEAVY)) + f"load('foldline.{room}')")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", rooms_here(WITHOUT_TORCH))
def test_the_other_rooms_never_load_torch(room: str) -> None:
    done = run(BLOCK.format(names={"torch", "triton"}) + f"load('foldline.{room}')")
    assert done.returncode == 0, done.stderr


def test_the_block_works() -> None:
    done = run(BLOCK.format(names={"numpy"}) + "load('foldline.tensors')")
    assert done.returncode != 0 and "blocked: numpy" in done.stderr


def test_the_package_itself_loads_nothing() -> None:
    done = run(
        "import sys; before = set(sys.modules); import foldline; foldline.__version__; dir(foldline)\n"
        "new = {n.split('.')[0] for n in set(sys.modules) - before} - sys.stdlib_module_names\n"
        "assert new == {'foldline'}, new\n"
        "assert not [n for n in sys.modules if n.startswith('foldline.')]\n"
        "from foldline import InputError, Job\n"
        "assert issubclass(InputError, ValueError) and Job.__name__ == 'Job' and 'torch' not in sys.modules\n"
    )
    assert done.returncode == 0, done.stderr


def test_unknown_names_are_attribute_errors() -> None:
    import foldline

    with pytest.raises(AttributeError, match="no attribute 'Enigne'"):
        _ = foldline.Enigne
