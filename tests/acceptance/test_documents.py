"""What the documentation points at is there: tests, files and options."""

import re
import tomllib
from pathlib import Path

import pytest

from foldline.config import EngineConfig

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_exist(page: Path) -> None:
    named = re.findall(r"`(?:tests/)?(\w+/test_\w+\.py)(?:::(test_\w+))?`", page.read_text(encoding="utf-8"))
    assert named or page.name != "numerics.md"
    for file, test in named:
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {test}(" in text if test else text, f"{page.name}: {file}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_settings_of_the_readme_are_settings(tmp_path: Path) -> None:
    (block,) = re.findall(r'(?m)(?:^    \w+ = ".*\n)+', (ROOT / "README.md").read_text(encoding="utf-8"))
    settings = re.sub("(?m)^    ", "", block)
    (tmp_path / "foldline.toml").write_text(settings)
    made = EngineConfig.make(tmp_path / "foldline.toml")
    assert tomllib.loads(settings).keys() == {"model", "cache_dir", "max_memory"}
    assert made.max_memory == 40 * 10**9
