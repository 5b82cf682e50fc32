"""Fenced blocks of a Markdown page, and the commands of a shell block.

A command that no test can run says so where the reader sees it: it ends in `# (not in the tests: REASON)`.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted({ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "examples" / "README.md"})
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARKER = re.compile(r"#\s*\(not in the tests: (.+)\)$")
KINDS = {"sh", "console", "python", "toml", "json", "text", "a3m", "bash"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text and first line in the page."""

    page: Path
    kind: str
    text: str
    line: int

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command of a shell block, what it must print (None: anything), and why no test runs it ("" where one does)."""

    text: str
    prints: str | None = None
    reason: str = ""

    @property
    def words(self) -> list[str]:
        """Words without comments; empty where the shell itself is needed."""
        if "<<" in self.text or re.search(r"[|<>;&$`*]", re.sub(r"#.*", "", self.text)):
            return []
        return shlex.split(self.text, comments=True)


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [Block(page, m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


def commands(block: Block) -> list[Command]:
    """The commands of a `sh` block, or those of a `console` block after `$ ` with what they print."""
    if block.kind == "console":
        parts = re.split(r"(?m)^\$ ", block.text)
        assert not parts[0].strip(), f"{block.where}: a console block starts with '$ '"
        found = [part.partition("\n") for part in parts[1:]]
        return [_command(first, prints) for first, _, prints in found]
    found, lines = [], iter(block.text.splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        text = line
        while text.endswith("\\"):
            text = text[:-1] + next(lines).strip()
        if here := re.search(r"<<\s*'?(\w+)'?", text):
            for more in lines:
                text += f"\n{more}"
                if more == here[1]:
                    break
        found.append(_command(text, None))
    return found


def _command(text: str, prints: str | None) -> Command:
    reason = MARKER.search(text.splitlines()[0])
    return Command(text, prints, reason[1] if reason else "")


def printed_as_told(told: str, printed: str) -> bool:
    """Whether a program printed what a page tells; `...` stands for any text, also for whole lines."""
    pattern = ".*?".join(re.escape(part) for part in told.strip().split("..."))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None
