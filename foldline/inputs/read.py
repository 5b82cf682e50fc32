"""Files, folders and globs, here or in a store, to jobs, with all faults of all at once.

Knows which files are jobs, not what they say.
"""

import glob
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, overload

from foldline import remote
from foldline.config import parse_repair
from foldline.errors import InputError
from foldline.inputs.fasta import jobs_from_fasta
from foldline.inputs.faults import InputErrors, listed
from foldline.inputs.job import Job, Text
from foldline.inputs.json_file import jobs_from_json
from foldline.inputs.names import slug
from foldline.inputs.text import check_readable, read_text

JSON_SUFFIXES = (".json",)
FASTA_SUFFIXES = (".fasta", ".fa", ".faa", ".fas")
YAML_SUFFIXES = (".yaml", ".yml")  # refused by name
Input = str | Path
Place = TypeVar("Place", Path, str)


class Reading(NamedTuple):
    """What inputs gave: good jobs, the faults of others, and what is to be said of the inputs rather than of a job."""

    jobs: list[Job]
    errors: list[InputError]
    notes: list[str]


@dataclass
class _Found:
    """Files to read, as paths or URLs, and which other files lay beside them."""

    files: list[Path | str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[InputError] = field(default_factory=list)


@overload
def read_jobs(
    inputs: Input | Sequence[Input], *, on_error: Literal["raise"] = "raise", repair: str | Sequence[str] = ()
) -> list[Job]: ...


@overload
def read_jobs(
    inputs: Input | Sequence[Input], *, on_error: Literal["collect"], repair: str | Sequence[str] = ()
) -> tuple[list[Job], list[InputError]]: ...


def read_jobs(
    inputs: Input | Sequence[Input],
    *,
    on_error: Literal["raise", "collect"] = "raise",
    repair: str | Sequence[str] = (),
) -> list[Job] | tuple[list[Job], list[InputError]]:
    """The jobs in files, folders and globs (AlphaFold 3 JSON of both dialects, FASTA), as given, folders sorted.

    What is read, what is a fault, and what is mended with `repair` ("chain_ids", "nucleotides", "alignments"), is as in
    `read_inputs`; its notes become notes of the first job.

    Raises:
        InputErrors: With on_error="raise": all faults of all inputs; "collect" returns them beside the good jobs.
        InputError: `repair` has a word that is not known.
    """
    jobs, errors, notes = read_inputs(inputs, parse_repair(repair))
    if errors and on_error == "raise":
        raise InputErrors(errors)
    if jobs:
        jobs[0] = replace(jobs[0], notes=(*jobs[0].notes, *notes))
    return (jobs, errors) if on_error == "collect" else jobs


def read_inputs(inputs: Input | Sequence[Input], repair: Sequence[str] = ()) -> Reading:
    """The jobs in files, folders and globs, with all faults, and notes such as which files were passed over.

    A folder or glob gives its .json, .fasta, .fa, .faa and .fas files (not those of its sub-folders); what else is
    there is named in a note. A file named outright is read whatever its ending. The same file twice is read once. All
    this may be in a store (`s3://bucket/jobs`); what jobs name by path has to be here. Two jobs whose folders would be
    the same on some file system (names equal after `slug`, letter case apart) are a fault of the later one: a job's
    folder is always `slug(job.name)`. `repair` has faults that are mended, with notes of the job (`config.REPAIRS`).
    """
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    found = _find(given)
    jobs: list[Job] = []
    errors = found.errors
    for path in found.files:
        read = _read(path, repair)
        jobs += read.jobs
        errors += read.errors
        found.notes += read.notes
    jobs, clashes = _distinct(jobs)
    return Reading(jobs, [*errors, *clashes], found.notes)


def _find(inputs: Sequence[Input]) -> _Found:
    found = _Found()
    if not inputs:
        found.errors.append(InputError("no inputs: name a JSON or FASTA file, a folder or a glob"))
    seen: set[Path | str] = set()
    for item in inputs:
        for path in _expand_url(item, found) if remote.is_url(item) else _expand(Path(item), found):
            key = path.resolve() if isinstance(path, Path) else path
            if key not in seen:
                found.files.append(path)
            seen.add(key)
    return found


def _expand_url(item: Input, found: _Found) -> list[str]:
    url = str(item).rstrip("/")
    parent, _, last = url.rpartition("/")
    try:
        if "*" in last:
            return _among({f"{parent}/{name}": name for name in remote.names(parent, last)}, f"the glob {url}", found)
        if not url.startswith("http") and remote.is_folder(url):
            return _among({f"{url}/{name}": name for name in remote.names(url, "*")}, f"the folder {url}", found)
    except remote.RemoteError as fault:
        found.errors.append(InputError(str(fault)))
        return []
    return [url]


def _expand(path: Path, found: _Found) -> list[Path]:
    if "\0" in str(path):
        found.errors.append(InputError(f"{str(path)!r} is not a possible file name: give the path of a file"))
        return []
    try:
        if path.is_dir():
            return _local(sorted(path.iterdir()), f"the folder {path}", found)
        if not path.exists() and glob.has_magic(str(path)):
            names = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute patterns)
            return _local(sorted(map(Path, names)), f"the glob {path}", found)
    except OSError as fault:
        found.errors.append(InputError(f"{path} cannot be read ({fault.strerror or fault}): check its permissions"))
        return []
    return [path]


def _local(paths: Sequence[Path], where: str, found: _Found) -> list[Path]:
    ends = {path: "" if path.is_file() else "/" if path.is_dir() else " (no file)" for path in paths}
    return _among({path: f"{path.name}{end}" for path, end in ends.items()}, where, found)


def _among(names: Mapping[Place, str], where: str, found: _Found) -> list[Place]:
    """Those of the places whose names are those of jobs; the others are noted."""
    known = [place for place, name in names.items() if Path(name).suffix.lower() in JSON_SUFFIXES + FASTA_SUFFIXES]
    known = [place for place in known if not names[place].startswith("._")]
    taken = set(known)
    others = [name for place, name in names.items() if place not in taken]
    if known and others:
        found.notes.append(f"in {where} these were not read: {listed(others)}")
    if not known:
        seen = f" (not read: {listed(others)})" if others else ""
        found.errors.append(
            InputError(f"no inputs in {where}{seen}: jobs end in {', '.join(JSON_SUFFIXES + FASTA_SUFFIXES)}")
        )
    return known


def _read(place: Path | str, repair: Sequence[str]) -> Reading:
    """The jobs of a file; one of a store is brought here first."""
    if isinstance(place, Path):
        return _read_file(place, str(place), place.resolve().parent, repair)
    with tempfile.TemporaryDirectory(prefix="foldline-") as folder:
        here = Path(folder) / (Path(place).name or "job")
        try:
            here.write_bytes(remote.read(place))
        except remote.RemoteError as fault:
            return _refused(InputError(str(fault)))
        return _read_file(here, place, Path(place).parent, repair)


def _read_file(path: Path, source: str, folder: Path, repair: Sequence[str]) -> Reading:
    """Relative paths of its jobs start at `folder`."""
    reason = check_readable(path, "check the name")
    if reason is not None:
        return _refused(InputError(reason))
    data = path.read_bytes()
    suffix = path.suffix.lower()
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if suffix in JSON_SUFFIXES or suffix not in FASTA_SUFFIXES and head in (b"{", b"["):
        return Reading(*jobs_from_json(data, source=source, folder=folder, repair=repair), [])
    if suffix in FASTA_SUFFIXES or head == b">":
        try:
            text = read_text(Text(path=path), "the FASTA file")
        except InputError as fault:
            return _refused(fault)
        jobs, errors = jobs_from_fasta(text, source=source, name=path.stem, folder=folder, repair=repair)
        note = (
            f"{source}: {len(jobs)} jobs, one for each record: for one complex write its chains in one "
            'record with ":" between them, or a type in every header (">A|protein")'
        )
        return Reading(jobs, errors, [note] if len(jobs) > 1 else [])
    if suffix in YAML_SUFFIXES:
        return _refused(
            InputError("YAML, as Boltz has it, is not read: write the job as AlphaFold 3 JSON", source=source)
        )
    return _refused(InputError("neither JSON nor FASTA: a job starts with { or [, a FASTA file with >", source=source))


def _refused(error: InputError) -> Reading:
    return Reading([], [error], [])


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
