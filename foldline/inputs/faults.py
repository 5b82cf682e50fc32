"""Collecting faults: JSON paths, the list of faults and notes of one job, and the error that carries many faults.

Knows nothing of what a job means; readers add to a `Faults` and go on, so that a user sees all that is wrong at once.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from foldline.errors import InputError

_PLACE_OF_JOB = re.compile(r"\$\[\d+\]|line \d+|")  # in a list of jobs, in FASTA, alone in its file
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class InputErrors(InputError):
    """Several faults of one run, in the order in which they were found; `errors` holds one `InputError` per fault."""

    def __init__(self, errors: Sequence[InputError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))

    def __reduce__(self) -> tuple[type["InputErrors"], tuple[tuple[InputError, ...]]]:
        """Exceptions are pickled by their text, which is not what this one is made from."""
        return InputErrors, (self.errors,)


def count_refused(errors: Sequence[InputError]) -> int:
    """How many jobs, or inputs that are none, the errors are about: a job may have several."""
    places = {(error.source or error.message, _place_of_job(error.path)) for error in errors}
    return len(places)


def _place_of_job(path: str) -> str:
    found = _PLACE_OF_JOB.match(path)
    return found[0] if found else ""


def json_path(parts: Sequence[str | int], root: str = "$") -> str:
    """`$.sequences[2].ligand` from `("sequences", 2, "ligand")`; keys that are not plain words are quoted."""
    path = root
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            path += f".{part}"
        else:
            path += f"[{part!r}]"
    return path


@dataclass
class Faults:
    """The faults and notes of one job. `source` is its file, `root` the JSON path of the job in the file.

    `place` turns the parts of a place into words; files that are not JSON bring their own. `repair` has what is to be
    mended and noted rather than recorded as a fault (`config.REPAIRS`).
    """

    source: str = ""
    root: str = "$"
    place: Callable[[Sequence[str | int], str], str] = json_path
    repair: Sequence[str] = ()
    errors: list[InputError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, parts: Sequence[str | int], message: str) -> None:
        """Record a fault at a place given as its parts below the job, such as `("sequences", 2, "ligand")`."""
        self.errors.append(InputError(message, path=self.place(parts, self.root), source=self.source))

    def note(self, parts: Sequence[str | int], message: str) -> None:
        """Record something that was changed or that the user should know."""
        self.notes.append(f"{self.place(parts, self.root)}: {message}" if parts else message)


def shown(value: object, limit: int = 60) -> str:
    """A value as JSON would name it, cut to `limit` characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= limit else f'"{value[:limit]}..."'
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def listed(values: Sequence[object], limit: int = 20) -> str:
    """`1, 2, 3` with an end at `limit` values that says how many more there are."""
    head = ", ".join(str(value) for value in values[:limit])
    return head if len(values) <= limit else f"{head} and {len(values) - limit} more"
