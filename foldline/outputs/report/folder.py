"""Which files make up a finished result, and what is wrong with a folder that is none. Knows names, not contents.

The layout is that of `outputs.layout`; `<job>_run.json` is written last and marks a whole result.
"""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldline.errors import InputError
from foldline.inputs.faults import listed
from foldline.inputs.messages import parse_json
from foldline.outputs.layout import PARTS, WrittenSample

_MARK = "_run.json"
_REST = ("data.json", "ranking_scores.csv", *PARTS)


@dataclass(frozen=True)
class ResultFolder:
    """A folder that holds a whole result. `samples` are in the order of the ranking table."""

    directory: Path
    name: str  # the job's file-safe name
    samples: tuple[WrittenSample, ...]

    def top(self, part: str) -> Path:
        """A file of the job itself, for example `run.json`."""
        return self.directory / f"{self.name}_{part}"

    def of(self, sample: WrittenSample, part: str) -> Path:
        """A file of one sample."""
        return self.directory / sample.folder / f"{self.name}_{sample.folder}_{part}"


def open_folder(directory: Path) -> ResultFolder:
    """The result in a folder, all of its files there.

    Raises:
        InputError: the folder is not there, is no result, is half-written, or lacks files.
    """
    if not directory.is_dir():
        what = "is a file, not a folder" if directory.exists() else "does not exist"
        raise InputError(f"{directory} {what}: name the folder of a finished job, DIR/<job> of foldline predict")
    names = sorted(path.name.removesuffix(_MARK) for path in _visible(directory, f"*{_MARK}"))
    if len(names) > 1:
        raise InputError(f"{directory} holds the results of several jobs ({listed(names)}): give each its own folder")
    if not names:
        raise InputError(_why_not(directory))
    found = ResultFolder(directory, names[0], ())
    missing = [found.top(part).name for part in _REST if not found.top(part).is_file()]
    if missing:
        raise InputError(f"{directory} is not whole, it lacks {listed(missing)}: run foldline predict again")
    found = ResultFolder(directory, names[0], _ranking(found.top("ranking_scores.csv")))
    _check_samples(found)
    return found


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the result.

    Raises:
        InputError: it cannot be read, or is not an object; it names the file.
    """
    value = parse_json(read_bytes(path), str(path))
    if not isinstance(value, dict):
        raise InputError("a JSON object is expected here: run foldline predict again", source=str(path))
    return value


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as fault:
        raise InputError(f"cannot be read: {fault.strerror or fault}", source=str(path)) from fault


def _visible(directory: Path, pattern: str) -> Iterator[Path]:
    return (path for path in directory.glob(pattern) if path.is_file() and not path.name.startswith("."))


def _why_not(directory: Path) -> str:
    """One sentence on a folder without the mark of a whole result."""
    begun = [path.name for path in directory.glob(".*_progress.json")] or list(directory.glob("seed-*_sample-*"))
    if begun:
        return (
            f"{directory} is half-written, its run has not ended (there is no <job>{_MARK}): run foldline predict"
            " again, it goes on after the last finished sample"
        )
    below = sorted({path.parent.name for path in directory.glob(f"*/*{_MARK}")})
    if below:
        return f"{directory} holds the folders of jobs, not a result itself: name one of {listed(below)} in it"
    return (
        f"{directory} is not the result of a job (there is no <job>{_MARK} in it): name DIR/<job> of foldline predict"
    )


def _ranking(path: Path) -> tuple[WrittenSample, ...]:
    """The rows of the ranking table."""
    try:
        rows = list(csv.reader(read_bytes(path).decode().splitlines()))
        if not rows or rows[0] != ["seed", "sample", "ranking_score"]:
            raise ValueError("its first line is not seed,sample,ranking_score")
        samples = tuple(WrittenSample(int(seed), int(number), float(score)) for seed, number, score in rows[1:])
        if not samples or not all(math.isfinite(sample.ranking_score) for sample in samples):
            raise ValueError("it has no row, or a score that is no number")
    except ValueError as fault:
        raise InputError(f"is not a ranking table ({fault}): run foldline predict again", source=str(path)) from fault
    if len({(sample.seed, sample.sample) for sample in samples}) < len(samples):
        raise InputError("names a sample twice: run foldline predict again", source=str(path))
    return samples


def _check_samples(found: ResultFolder) -> None:
    """Whether the samples of the ranking table and those on disk are the same; other files there are somebody's own."""
    missing = [str(path) for s in found.samples for part in PARTS if not (path := found.of(s, part)).is_file()]
    if missing:
        raise InputError(
            f"{found.directory} is not whole: its ranking table names samples whose files are not there"
            f" ({listed(missing, 3)}): run foldline predict again"
        )
    ranked = {sample.folder for sample in found.samples}
    paths = (path for part in PARTS for path in found.directory.glob(f"seed-*_sample-*/{found.name}_*_{part}"))
    others = {path.parent.name for path in paths if path.is_file()}
    more = sorted(others - ranked)
    if more:
        raise InputError(
            f"{found.directory} disagrees with itself: {listed(more)} {'is' if len(more) == 1 else 'are'} not in its"
            " ranking table; remove what does not belong, or run foldline predict --overwrite"
        )
