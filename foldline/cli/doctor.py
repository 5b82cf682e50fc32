"""`foldline doctor`: what this machine offers to a run, and what it lacks."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from foldline.cli.options import ConfigFile, settings_from
from foldline.config import EngineConfig
from foldline.errors import ExitCode, SearchError

if TYPE_CHECKING:
    from foldline.search.tools import Tool

LIBRARIES = ("torch", "numpy", "safetensors", "rdkit", "gemmi", "biotite", "pydantic", "zstandard")
OPTIONAL = {
    "matplotlib": "pictures, foldline report --plots",
    "fsspec": "databases in stores, s3:// and so on",
}  # and what is lost without it

PROGRAMS = ("pyhmmer", "hmmer", "mmseqs")  # that search on this machine


@dataclass(frozen=True)
class Finding:
    """One line of the doctor. `remedy` is empty for what is fine."""

    what: str
    found: str
    remedy: str = ""


def doctor(config: ConfigFile = None) -> None:
    """Check what this machine has and lacks.

    Libraries, devices, implementations of ops, memory, disk, checkpoints, search tools and databases: a line with + is
    fine, one with - says what to do. Exit code 1 when a run cannot work.
    """
    findings = list(examine(settings_from(config)))
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        mark = "-" if finding.remedy else "+"
        print(f"{mark} {finding.what.ljust(width)}  {finding.found}" + (f"; {finding.remedy}" * bool(finding.remedy)))
    lacking = sum(bool(finding.remedy) for finding in findings)
    print(f"to mend: {lacking} (the lines with -)" if lacking else "all that a run needs is here", file=sys.stderr)
    if lacking:
        raise typer.Exit(ExitCode.SOME_FAILED)


def examine(settings: EngineConfig) -> Iterator[Finding]:
    """All findings, in the order in which a run needs them."""
    from foldline import __version__

    yield Finding("foldline", __version__)
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _libraries()
    yield from _devices()
    yield from _kernels()
    yield from _memory()
    yield from _cache(settings.cache_root)
    yield from _search(settings)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _libraries() -> Iterator[Finding]:
    requirements = (importlib.metadata.requires("foldline") or []) if _version("foldline") else []
    exact = dict(item.split("==") for item in requirements if "==" in item and ";" not in item)
    for name in LIBRARIES:
        version = _version(name)
        if version is None:
            yield Finding(name, "not installed", f"pip install {name}")
        elif version != exact.get(name, version):
            yield Finding(name, version, f"reference conformers need {exact[name]}: pip install {name}=={exact[name]}")
        else:
            yield Finding(name, version)
    for name, purpose in OPTIONAL.items():
        yield Finding(name, _version(name) or f"not installed (needed for {purpose}, and for nothing else)")


def _devices() -> Iterator[Finding]:
    import torch

    from foldline.engine.record import available_bytes, available_threads
    from foldline.limits import processors

    memory = f"plans take up to {available_bytes(torch.device('cpu')) / 2**30:.1f} GiB"
    allowed = f"{processors()} of {os.cpu_count()} cores may be used"
    yield Finding("cpu", f"{allowed}, {available_threads(None)} threads; {memory}")
    yield Finding("cuda", str(torch.version.cuda or "not in this build of torch"))
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        major, minor = torch.cuda.get_device_capability(index)
        sizes = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        supported = f"sm_{major}{minor}" in torch.cuda.get_arch_list() or major >= 9
        remedy = "" if supported else f"this torch is not built for sm_{major}{minor}: install one that is"
        yield Finding(f"cuda:{index}", f"{name}, sm_{major}{minor}, {sizes}", remedy)


def _kernels() -> Iterator[Finding]:
    from foldline.ops import TABLES

    for op, implementations in TABLES.items():
        yield Finding(op.rstrip("_"), f"implementations: {', '.join(implementations)}")


def _memory() -> Iterator[Finding]:
    page = os.sysconf("SC_PAGE_SIZE")
    free, total = (page * os.sysconf(name) / 2**30 for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
    yield Finding("memory", f"{free:.1f} of {total:.1f} GiB free")


def _cache(root: Path) -> Iterator[Finding]:
    from foldline.weights.registry import ENTRIES, cached_path

    there = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(there).free / 1e9
    remedy = "" if os.access(there, os.W_OK) else "it cannot be written: choose another with cache_dir in foldline.toml"
    yield Finding("cache folder", f"{root}, {free:.1f} GB free", remedy)
    yield _attempt("component store", lambda: _components(root))
    here = [entry.name for entry in ENTRIES if cached_path(entry, root).is_file()]
    yield Finding("checkpoints", ", ".join(here) or "none here (foldline weights fetch NAME)")


def _components(root: Path) -> str:
    from foldline.chem.components import Components

    components = Components.open(root)
    return f"{len(components)} components up to {components.info['date']}, {components.folder}"


def _attempt(what: str, describe: Callable[[], str]) -> Finding:
    from foldline.errors import FoldlineError

    try:
        return Finding(what, describe())
    except FoldlineError as error:
        return Finding(what, "not usable", str(error))


def _search(settings: EngineConfig) -> Iterator[Finding]:
    """Search tools with their versions, and the databases of the settings. What no setting asks for lacks no remedy."""
    from foldline.search.databases import describe
    from foldline.search.mmseqs_databases import describe_set
    from foldline.search.settings import COLABFOLD_SET, DATABASES, SearchSettings
    from foldline.search.stage import FOLDER
    from foldline.search.template_aligner import Kalign

    search = SearchSettings.make(settings.search)
    folder = settings.cache_root / FOLDER
    yield from _tools(search.tool, {name: _chosen(name, folder) for name in ("auto", *PROGRAMS)})
    if search.tool == "colabfold":
        yield Finding("colabfold", f"the server {search.server or 'of ColabFold'}, searches; it is not asked here")
    kalign = Kalign.find()
    yield Finding("kalign", kalign.version if kalign else "not here (needed for Protenix's rules for templates)")
    if search.is_empty:
        yield Finding("databases", "none: chains without alignments need a [search] table, or --msa none")
        return
    for name in DATABASES:
        if name == COLABFOLD_SET:
            yield _attempt(name, lambda: describe_set(search))
        else:
            yield _attempt(name, lambda name=name: describe(name, search, folder, count=False))


def _tools(asked: str, tools: "dict[str, Tool | SearchError]") -> Iterator[Finding]:
    """The programs and libraries that search; one that the settings ask for has to be here."""
    one = tools.get(asked)
    for name in PROGRAMS:
        tool = tools[name]
        if not isinstance(tool, SearchError):
            used = one is not None and not isinstance(one, SearchError) and tool.name == one.name
            yield Finding(name, f"{tool.version}{', searches' * used}")
        elif asked in ("auto", name) and isinstance(one, SearchError):
            yield Finding(name, "not usable", str(tool))
        else:
            yield Finding(name, f'not here (needed for tool = "{name}", and for nothing else)')


def _chosen(name: str, folder: Path) -> "Tool | SearchError":
    from foldline.search.tools import choose

    try:
        return choose(name, folder)
    except SearchError as error:
        return error
