"""Fixtures shared by all tests."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real jobs, alignments and structures beside the repository; the test is skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real inputs is not here")
    return folder


@pytest.fixture(scope="session")
def fidelity() -> ModuleType:
    """scripts/fidelity_features.py as a module."""
    path = Path(__file__).resolve().parents[1] / "scripts" / "fidelity_features.py"
    spec = importlib.util.spec_from_file_location("fidelity_features", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def memory() -> Iterator[Any]:
    """What memory:// holds, emptied afterwards."""
    store = pytest.importorskip("fsspec").filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Interpreters of other environments: `--upstream-python` has Protenix, `--clients-python` readers of results."""
    parser.addoption("--upstream-python", default=None, help="interpreter that has Protenix installed")
    parser.addoption(
        "--clients-python", default=None, help="interpreter of the environment made by scripts/clients-env"
    )
    parser.addoption("--chromium", default=None, help="a Chromium to open pages in (scripts/program chromium gets one)")


@pytest.fixture(scope="session")
def upstream_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter that has Protenix; the test is skipped without one."""
    given = request.config.getoption("--upstream-python")
    if not given:
        pytest.skip("no --upstream-python is given")
    return Path(given)


@pytest.fixture(scope="session")
def clients_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter that the programs reading our results stand beside; the test is skipped without one."""
    given = request.config.getoption("--clients-python")
    if not given:
        pytest.skip("no --clients-python is given")
    return Path(given)


@pytest.fixture(scope="session")
def chromium(request: pytest.FixtureRequest) -> Path:
    """The browser that pages are opened in; the test is skipped without one."""
    given = request.config.getoption("--chromium")
    if not given:
        pytest.skip("no --chromium is given")
    return Path(given)
