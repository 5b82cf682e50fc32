"""Files, folders and globs to jobs, with all faults of all at once. Knows which files are jobs, not what they say."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, overload

from foldline.errors import InputError
from foldline.inputs.fasta import jobs_from_fasta
from foldline.inputs.faults import InputErrors, listed
from foldline.inputs.job import Job, Text
from foldline.inputs.json_file import jobs_from_json
from foldline.inputs.names import slug
from foldline.inputs.text import check_readable, read_text

JSON_SUFFIXES = (".json",)
FASTA_SUFFIXES = (".fasta", ".fa", ".faa", ".fas")
Input = str | Path


@dataclass
class _Found:
    """Files to read, and which other files lay beside the first of them."""

    files: list[Path] = field(default_factory=list)
    ignored: dict[Path, str] = field(default_factory=dict)
    errors: list[InputError] = field(default_factory=list)


@overload
def read_jobs(inputs: Input | Sequence[Input], *, on_error: Literal["raise"] = "raise") -> list[Job]: ...


@overload
def read_jobs(
    inputs: Input | Sequence[Input], *, on_error: Literal["collect"]
) -> tuple[list[Job], list[InputError]]: ...


def read_jobs(
    inputs: Input | Sequence[Input], *, on_error: Literal["raise", "collect"] = "raise"
) -> list[Job] | tuple[list[Job], list[InputError]]:
    """The jobs in files, folders and globs (AlphaFold 3 JSON of both dialects, FASTA), as given, folders sorted.

    A folder or glob gives its .json, .fasta, .fa, .faa and .fas files (not those of its sub-folders); what else is
    there is named in a note of the first job. A file named outright is read whatever its ending. The same file twice is
    read once. Two jobs whose folders would be the same on some file system (names equal after `slug`, letter case
    apart) are a fault of the later one: a job's folder is always `slug(job.name)`.

    Raises:
        InputErrors: With on_error="raise": all faults of all inputs; "collect" returns them beside the good jobs.
    """
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    found = _find(given)
    jobs: list[Job] = []
    errors = found.errors
    for path in found.files:
        new, faults = _read_file(path)
        if new and path in found.ignored:
            new[0] = replace(new[0], notes=(*new[0].notes, found.ignored[path]))
        jobs += new
        errors += faults
    jobs, clashes = _distinct(jobs)
    errors += clashes
    if on_error == "collect":
        return jobs, errors
    if errors:
        raise InputErrors(errors)
    return jobs


def _find(inputs: Sequence[Input]) -> _Found:
    found = _Found()
    if not inputs:
        found.errors.append(InputError("no inputs: name a JSON or FASTA file, a folder or a glob"))
    seen: set[Path] = set()
    for item in inputs:
        for path in _expand(item, found):
            key = path.resolve()
            if key not in seen:
                found.files.append(path)
            seen.add(key)
    return found


def _expand(item: Input, found: _Found) -> list[Path]:
    path = Path(item)
    if "\0" in str(item):
        found.errors.append(InputError(f"{str(path)!r} is not a possible file name: give the path of a file"))
        return []
    try:
        if path.is_dir():
            return _among(sorted(path.iterdir()), f"the folder {path}", found)
        if not path.exists() and glob.has_magic(str(item)):
            names = glob.glob(str(item), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute patterns)
            return _among(sorted(map(Path, names)), f"the glob {item}", found)
    except OSError as fault:
        found.errors.append(InputError(f"{path} cannot be read ({fault.strerror or fault}): check its permissions"))
        return []
    return [path]


def _among(paths: Sequence[Path], where: str, found: _Found) -> list[Path]:
    known = [path for path in paths if path.is_file() and path.suffix.lower() in JSON_SUFFIXES + FASTA_SUFFIXES]
    known = [path for path in known if not path.name.startswith("._")]
    others = [f"{path.name}/" if path.is_dir() else path.name for path in paths if path not in known]
    if known and others:
        found.ignored[known[0]] = f"in {where} these were not read: {listed(others)}"
    if not known:
        seen = f" (not read: {listed(others)})" if others else ""
        found.errors.append(
            InputError(f"no inputs in {where}{seen}: jobs end in {', '.join(JSON_SUFFIXES + FASTA_SUFFIXES)}")
        )
    return known


def _read_file(path: Path) -> tuple[list[Job], list[InputError]]:
    source = str(path)
    reason = check_readable(path)
    if reason is not None:
        return [], [
            InputError(reason.replace(": relative paths start at the folder of the job's file", ": check the name"))
        ]
    data = path.read_bytes()
    suffix = path.suffix.lower()
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    folder = path.resolve().parent
    if suffix in JSON_SUFFIXES or suffix not in FASTA_SUFFIXES and head in (b"{", b"["):
        return jobs_from_json(data, source=source, folder=folder)
    if suffix in FASTA_SUFFIXES or head == b">":
        try:
            text = read_text(Text(path=path), "the FASTA file")
        except InputError as fault:
            return [], [fault]
        return jobs_from_fasta(text, source=source, name=path.stem, folder=folder)
    return [], [InputError("neither JSON nor FASTA: a job starts with { or [, a FASTA file with >", source=source)]


def _distinct(jobs: Sequence[Job]) -> tuple[list[Job], list[InputError]]:
    """Jobs with folders of their own; the later of two that would share one is a fault (two answers, one place)."""
    taken: dict[str, Job] = {}
    kept: list[Job] = []
    errors: list[InputError] = []
    for job in jobs:
        key = slug(job.name).lower()
        first = taken.setdefault(key, job)
        if first is job:
            kept.append(job)
            continue
        what = f'the name "{job.name}"' if first.name == job.name else f'the name "{job.name}", like "{first.name}",'
        errors.append(
            InputError(
                f"{what} leads to the folder {slug(first.name)} of a job in {first.source}: rename one of the two",
                source=job.source,
            )
        )
    return kept, errors
