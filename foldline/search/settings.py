"""The `[search]` table of foldline.toml as one record: databases, tool and limits. Knows names, not files."""

import datetime
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from foldline.errors import InputError
from foldline.remote import is_url
from foldline.search.recipes import RECIPES

SEQRES, MMCIF = "pdb_seqres", "mmcif"
COLABFOLD_SET = "colabfold"
DATABASES = (*RECIPES, SEQRES, MMCIF, COLABFOLD_SET)
OFF = "none"
TEMPLATE_RULES = ("auto", "alphafold3", "protenix")
TOOLS = ("auto", "pyhmmer", "hmmer", "mmseqs", "colabfold")


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """Settings of searches. `make` reads them from the table."""

    roots: tuple[Path | str, ...] = ()  # folders of databases, or URLs of them; the first that has one wins
    databases: Mapping[str, str] = field(default_factory=dict)  # file, prefix@N or "none"; default: AlphaFold 3's names
    z: Mapping[str, float] = field(default_factory=dict)  # sequences, or million nucleotides; default: counted
    tool: str = "auto"
    sensitivity: float = 5.7  # of mmseqs in FASTA databases, 1 to 8.5
    iterations: int = 1  # of the same, 1 to 5
    server: str = ""  # URL of a ColabFold server, for the tool of that name alone
    server_minutes: float = 60.0  # for one of its searches
    threads: int | None = None  # default: one per core
    inline: bool = False  # alignments as text in <job>_data.json instead of paths
    rna_minutes: float | None = None  # time limit of an RNA search
    on_rna_timeout: str = "continue"  # continue (without that database's rows) | stop
    max_template_date: datetime.date = datetime.date(2021, 9, 30)
    template_rules: str = "auto"  # alphafold3 | protenix; auto: the family's
    family: str = ""  # of the network that the search is for; predict sets it
    relative_to: Path | None = None  # where relative paths start; default: the folder of the TOML file

    @classmethod
    def make(cls, table: Mapping[str, object]) -> "SearchSettings":
        """Settings from the values of a TOML table.

        Raises:
            InputError: an unknown name or a bad value; it says what may stand there.
        """
        known = [one.name for one in fields(cls)]
        for name in table:
            if name not in known:
                raise _unknown(f"search.{name}", name, known)
        values: dict[str, Any] = dict(table)
        base = values["relative_to"] = _path(table.get("relative_to", "."), "relative_to")
        values["roots"] = tuple(_root(root, base) for root in _list(table.get("roots", []), "roots"))
        for name in ("databases", "z"):
            values[name] = _table(table.get(name, {}), name)
        for name, value in values["databases"].items():
            if not isinstance(value, str) or not value:
                raise _bad(f"databases.{name}", value, 'a file, prefix@N for shards, or "none" to go without')
        for name, value in values["z"].items():
            _number(f"z.{name}", value)
        _one_of(values.get("tool", "auto"), "tool", TOOLS)
        _check_tool(values)
        _one_of(values.get("template_rules", "auto"), "template_rules", TEMPLATE_RULES)
        if not isinstance(values.get("family", ""), str):
            raise _bad("family", values["family"], 'the name of a family, such as "protenix"')
        _one_of(values.get("on_rna_timeout", "continue"), "on_rna_timeout", ("continue", "stop"))
        if not isinstance(values.get("inline", False), bool):
            raise _bad("inline", values["inline"], "true or false")
        threads = values.get("threads", 1)
        if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
            raise _bad("threads", threads, "a whole number of at least 1")
        if "rna_minutes" in values:
            _number("rna_minutes", values["rna_minutes"])
        if "max_template_date" in values:
            values["max_template_date"] = _date(values["max_template_date"])
        return cls(**values)

    @property
    def rules(self) -> str:
        """Whose rules choose templates: AlphaFold 3's, unless the search is for a network of Protenix's."""
        if self.template_rules != "auto":
            return self.template_rules
        return "protenix" if self.family == "protenix" else "alphafold3"

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to search in."""
        if self.tool == "colabfold":
            return False
        return not self.roots and not any(value != OFF for value in self.databases.values())

    @property
    def has_colabfold_set(self) -> bool:
        """Whether proteins are searched for in ColabFold's databases."""
        return self.tool == "mmseqs" and self.databases.get(COLABFOLD_SET, OFF) != OFF


def _list(value: object, name: str) -> list[object]:
    return value if isinstance(value, list) else [value]


def _table(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _bad(name, value, f"a table [search.{name}]")
    for key in value:
        if key not in DATABASES:
            raise _unknown(f"search.{name}.{key}", key, list(DATABASES))
    return value


def _check_tool(values: dict[str, Any]) -> None:
    """Settings of mmseqs and of servers."""
    tool, named = values.get("tool", "auto"), values["databases"]
    sensitivity, iterations = values.get("sensitivity", 5.7), values.get("iterations", 1)
    _number("sensitivity", sensitivity)
    if not 1 <= sensitivity <= 8.5:
        raise _bad("sensitivity", sensitivity, "a number from 1 (fast) to 8.5")
    if not isinstance(iterations, int) or isinstance(iterations, bool) or not 1 <= iterations <= 5:
        raise _bad("iterations", iterations, "a whole number from 1 to 5")
    _number("server_minutes", values.get("server_minutes", 60.0))
    if named.get(COLABFOLD_SET, OFF) != OFF:
        if tool != "mmseqs":
            raise _bad(f"databases.{COLABFOLD_SET}", named[COLABFOLD_SET], '"none", or set tool = "mmseqs"')
        both = [key for key, recipe in RECIPES.items() if recipe.kind == "protein" and named.get(key, OFF) != OFF]
        if both:
            raise InputError(
                f"with {COLABFOLD_SET}, proteins are searched for in it alone: leave one of the two out",
                path=f"search.databases.{both[0]}",
            )
    server = values.get("server", "")
    if not isinstance(server, str) or (server and not server.startswith(("http://", "https://"))):
        raise _bad("server", server, "the URL of a ColabFold server, such as https://api.colabfold.com")
    if tool == "colabfold" and not server:
        raise _bad("tool", tool, "server = URL with it, such as https://api.colabfold.com: sequences are sent there")


def _path(value: object, name: str) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise _bad(name, value, "the path of a folder")
    return Path(value).expanduser()


def _root(value: object, base: Path) -> Path | str:
    return value if isinstance(value, str) and is_url(value) else base / _path(value, "roots")


def _number(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        raise _bad(name, value, "a number above 0")


def _date(value: object) -> datetime.date:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    try:
        return datetime.date.fromisoformat(str(value))
    except ValueError:
        raise _bad("max_template_date", value, "a date such as 2021-09-30") from None


def _one_of(value: object, name: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise _bad(name, value, f"{', '.join(words[:-1])} or {words[-1]}")


def _bad(name: str, value: object, wanted: str) -> InputError:
    return InputError(f"{value!r} is not possible here: give {wanted}", path=f"search.{name}")


def _unknown(path: str, name: str, known: list[str]) -> InputError:
    near = difflib.get_close_matches(name, known, n=1)
    return InputError(f"unknown; {f'did you mean {near[0]}?' if near else 'known are ' + ', '.join(known)}", path=path)
