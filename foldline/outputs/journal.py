"""The lists of an output folder: what is finished, what failed and why, and the jobs to try again. Knows no engine.

    results.jsonl        a line per finished job, made from its `<job>_run.json`
    failed.jsonl         a line per job that failed and has not been finished since, or input that could not be read
    failed_jobs.json     the failed jobs as one AlphaFold 3 JSON list, an input for `foldline predict`

Lines are added under a lock, so that several processes can share the folder; a job has one line at most. A line that a
killed process left half-written is cut off by the next one that adds a line.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from foldline.errors import FoldlineError, InputError, InternalError
from foldline.outputs.layout import has_result, record_of, write_atomically
from foldline.outputs.locks import lists_lock

RESULTS, FAILED, RETRY = LISTS = ("results.jsonl", "failed.jsonl", "failed_jobs.json")
# What a line of results.jsonl takes from the record of the run.
FROM_RECORD = (
    "seeds",
    "samples",
    "n_token",
    "n_atom",
    "trunk_passes",
    "steps",
    "model",
    "checkpoint_sha256",
    "foldline",
    "device",
    "plan",
    "seconds",
    "peak_bytes",
    "warnings",
    "fingerprint",
)


@dataclass
class _Lines:
    """A file of JSON lines, read as far as it has grown; the caller holds the lock and has called `read`.

    A record replaces one with the same key: it is added at once, and the file is cleared of replaced ones when they are
    more than a few, so that a long list is not written anew for every job.
    """

    path: Path
    key: Callable[[dict], str]
    lines: dict[str, dict] = field(default_factory=dict)
    replaced: int = 0
    _state: tuple[int, int] = (0, 0)  # inode, and bytes read of it
    _last: bytes = b""  # the last line read, by which a new file with the inode of an old one is told from it

    def read(self) -> None:
        """Take in what was added since; cut off half a line at the end."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self.lines, self.replaced, self._state, self._last = {}, 0, (0, 0), b""
            return
        start = self._state[1]
        with self.path.open("rb") as file:
            file.seek(start - len(self._last))
            if found.st_ino != self._state[0] or file.read(len(self._last)) != self._last:
                self.lines, self.replaced, self._last, start = {}, 0, b"", 0
            file.seek(start)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        if len(whole) < len(added):
            os.truncate(self.path, start + len(whole))
        for line in whole.splitlines(keepends=True):
            record = _parsed(line)
            if record:
                self.replaced += self.lines.pop(self.key(record), None) is not None
                self.lines[self.key(record)] = record
            else:
                self.replaced += 1
            self._last = line
        self._state = (found.st_ino, start + len(whole))

    def put(self, record: dict) -> None:
        """Add a record, in the place of one with the same key."""
        with self.path.open("ab") as file:
            file.write(_line(record))
        self.read()
        if self.replaced > len(self.lines) // 64:
            self.clear()

    def drop(self, keys: Iterable[str]) -> None:
        """Remove the records of some keys."""
        gone = self.lines.keys() & set(keys)
        if gone:
            self.lines = {key: record for key, record in self.lines.items() if key not in gone}
            self.replaced += len(gone)
            self.clear()

    def clear(self) -> None:
        """Write the file anew where it holds what was replaced."""
        if self.replaced:
            write_atomically(self.path, map(_line, self.lines.values()))
            self._state, self._last = (0, 0), b""
            self.read()


def unlist(out: Path, directory: str) -> None:
    """Take a job off the list of results, for the time in which its result is replaced by another one."""
    if (out / RESULTS).is_file():
        with lists_lock(out):
            lines = _results(out)
            lines.read()
            lines.drop([directory])


class Journal:
    """Keeps the lists of the folder `out`. Its methods raise OSError where they cannot be written."""

    def __init__(self, out: Path) -> None:
        self.out = Path(out)
        self._results = _results(self.out)
        self._failed = _Lines(self.out / FAILED, _failure_key)
        self._retry: dict[str, str] = {}

    def begin(self, sources: Collection[str]) -> None:
        """Forget what was wrong with the files that this run reads anew, and what a killed process left."""
        self.out.mkdir(parents=True, exist_ok=True)
        with lists_lock(self.out):
            for name in (RESULTS, FAILED, RETRY):
                for scratch in self.out.glob(f".{name}.*.tmp"):
                    scratch.unlink(missing_ok=True)
            self._results.read()
            self._results.clear()
            self._failed.read()
            self._failed.drop(
                key
                for key, line in self._failed.lines.items()
                if (line["source"] in sources if line["job"] is None else self._is_finished_since(line))
            )
            self._failed.clear()

    def unreadable(self, fault: InputError) -> None:
        """Note a fault of an input file."""
        self._fail(failure_line(fault, stage="read"))

    def failed(self, job: str, directory: str, error: FoldlineError, *, stage: str, job_json: str) -> None:
        """Note a failed job; `job_json` is what the list to try again says."""
        self._retry[directory] = job_json
        self._fail(failure_line(error, job=job, directory=directory, stage=stage))

    def finished(self, job: str, directory: str) -> None:
        """Note a job whose result is whole, unless that is noted already."""
        record = record_of(self.out / directory, directory)
        if not record:
            return
        line = result_line(job, directory, record)
        with lists_lock(self.out):
            self._results.read()
            if (
                self._results.lines.get(directory, {}).get("fingerprint") != line["fingerprint"]
                or line != (self._results.lines[directory])
            ):
                self._results.put(line)
            self._failed.read()
            self._failed.drop([directory])

    def close(self) -> None:
        """Write the list of jobs to try again: those of this run, and of others that are not finished since."""
        path = self.out / RETRY
        with lists_lock(self.out):
            self._results.read()
            self._results.clear()
            self._failed.read()
            still = {line["job"] for line in self._failed.lines.values() if line["job"] is not None}
            ours = {json.loads(text)["name"] for text in self._retry.values()}
            others = [job for job in _listed(path) if job["name"] in still - ours]
            texts = [json.dumps(job, indent=2) for job in others] + list(self._retry.values())
            if texts:
                write_atomically(path, [("[\n" + ",\n".join(texts) + "\n]\n").encode()])
            else:
                path.unlink(missing_ok=True)

    def _fail(self, line: dict[str, object]) -> None:
        with lists_lock(self.out):
            self._failed.read()
            self._results.read()
            name = str(line["directory"])
            if line["job"] is not None and not self._has_result(name):
                self._results.drop([name])
            if line["job"] is not None and name in self._results.lines:
                line["earlier_result"] = self._results.lines[name].get("fingerprint", "")
            self._failed.put(line)

    def _has_result(self, name: str) -> bool:
        """Whether a job has a whole result; one whose record cannot be read has none that could be named."""
        try:
            return has_result(self.out / name, name)
        except OSError:
            return False

    def _is_finished_since(self, line: dict) -> bool:
        """Whether a job that failed has a result that it had not then."""
        found = self._results.lines.get(line["directory"])
        return found is not None and found.get("fingerprint", "") != line.get("earlier_result")


def result_line(job: str, directory: str, record: dict) -> dict[str, object]:
    """A line of results.jsonl."""
    best = record.get("best", {})
    line = {"job": job, "directory": directory, "ranking_score": best.get("ranking_score")}
    line |= {"best_seed": best.get("seed"), "best_sample": best.get("sample")}
    return line | {name: record[name] for name in FROM_RECORD if name in record}


def failure_line(
    error: FoldlineError, *, job: str | None = None, directory: str | None = None, stage: str = ""
) -> dict[str, object]:
    """A line of failed.jsonl."""
    line: dict[str, object] = {"job": job, "directory": directory, "code": error.code, "stage": error.stage or stage}
    line |= {"message": str(error), "path": getattr(error, "path", "") or None}
    line |= {"source": getattr(error, "source", "") or None}
    if isinstance(error, InternalError):
        line["details"] = error.details
    return line


def _results(out: Path) -> _Lines:
    return _Lines(out / RESULTS, lambda record: str(record["directory"]))


def _failure_key(line: dict) -> str:
    """A job's folder, or the fault of a file: no folder's name has a slash."""
    return str(line["directory"]) if line["job"] is not None else f"/{line['source']}/{line['path']}/{line['message']}"


def _line(record: dict) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def _parsed(line: bytes) -> dict:
    """A line of a list, {} where it is none."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(value, dict) or not {"job", "directory"} <= value.keys():
        return {}
    words = (value["job"], value["directory"], value.get("source"), value.get("fingerprint"))
    has_words = all(word is None or isinstance(word, str) for word in words)
    return value if has_words and (value["job"] is None) == (value["directory"] is None) else {}


def _listed(path: Path) -> list[dict]:
    """The jobs of a list that was written before."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return []
    jobs = found if isinstance(found, list) else []
    return [job for job in jobs if isinstance(job, dict) and isinstance(job.get("name"), str)]
