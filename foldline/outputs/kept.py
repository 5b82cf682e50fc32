"""What a new result keeps of the one that is there: whole seeds of the same job, options, checkpoint and version.

Such samples stay where they are: the new result, when it is put in its place, only adds to them. Those of a result that
is in a store come back into the working folder first, as half a job that is gone on with. Knows the layout.
"""

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock

from foldline import remote
from foldline.outputs.layout import (
    PARTS,
    damage,
    progress_file,
    record_file,
    remove_result,
    settle,
    stored_mark,
    write_atomically,
)
from foldline.outputs.locks import job_lock
from foldline.outputs.records import WrittenSample, read_journal, read_record
from foldline.outputs.workplace import place_of
from foldline.remote import RemoteError

AT_ONCE = 8  # files that come at a time


def kept_samples(directory: Path, name: str, seedless: str, seeds: Collection[int]) -> list[WrittenSample]:
    """The samples of those seeds in a whole result that differs from the one wanted in its seeds alone.

    Args:
        directory: the job's own folder.
        name: the job's file-safe name.
        seedless: hash of all that decides the result but the seeds.
        seeds: those that are wanted.
    """
    record = read_record(record_file(directory, name))
    if not seedless or record.get("seedless_fingerprint") != seedless or damage(directory, name):
        return []
    table = (Path(directory) / f"{name}_ranking_scores.csv").read_text(encoding="utf-8")
    return [sample for sample in _samples(record, table) if sample.seed in seeds]


def bring_kept(directory: Path, name: str, seedless: str, seeds: Collection[int]) -> set[int]:
    """Have such samples here where the result is in the store that the folder works for, beside those that are here.

    Nothing is done where another process is at the job. Returns the seeds of which samples came.

    Raises:
        OSError: the store or the folder cannot be used; what is here is as it was, but for files that no list names.
    """
    directory = Path(directory)
    mark = read_record(stored_mark(directory, name))
    place = place_of(directory.parent)
    if not (place and seedless) or mark.get("seedless_fingerprint") != seedless:
        return set()
    with _if_free(directory.parent, name) as is_free:
        if not is_free:
            return set()
        settle(directory, name)
        if record_file(directory, name).is_file():  # made here, and not in the store yet
            return set()
        journal = read_journal(progress_file(directory, name))
        if journal.samples and journal.seedless != seedless:
            remove_result(directory, name)
            journal = read_journal(progress_file(directory, name))
        here = {(sample.seed, sample.sample) for sample in journal.samples}
        found = _samples(mark, _table(f"{place}/{name}", name, mark))
        come = [one for one in found if one.seed in seeds and (one.seed, one.sample) not in here]
        sizes = _files_of(name, come, mark.get("files", {}))
        _fetch(f"{place}/{name}", directory, sizes)
        if sizes:
            told: dict[str, object] = {"fingerprint": journal.fingerprint or mark["fingerprint"]}
            told |= {"seedless_fingerprint": seedless, "files": journal.sizes | sizes}
            told["samples"] = [asdict(sample) for sample in (*journal.samples, *come)]
            write_atomically(progress_file(directory, name), [json.dumps(told).encode()])
        return {sample.seed for sample in come} if sizes else set()


def _samples(record: Mapping[str, Any], table: str) -> list[WrittenSample]:
    """The samples of a result by its record and its ranking table; none where those are of another form."""
    try:
        inverted = {(each["seed"], each["sample"]): each["atoms"] for each in record["stereocentres"]["inverted"]}
        rows = list(csv.DictReader(io.StringIO(table, newline="")))
        scores = [(int(row["seed"]), int(row["sample"]), float(row["ranking_score"])) for row in rows]
    except (KeyError, TypeError, ValueError):
        return []
    return [WrittenSample(*row, inverted.get(row[:2], [])) for row in scores]


def _table(url: str, name: str, mark: Mapping[str, Any]) -> str:
    """The ranking table of the result in the store that a mark stands for; "" where another one is there by now."""
    try:
        there = json.loads(remote.content(f"{url}/{name}_run.json") or b"null")
    except ValueError:
        there = None
    if there != mark:
        return ""
    return (remote.content(f"{url}/{name}_ranking_scores.csv") or b"").decode(errors="replace")


def _files_of(name: str, samples: Collection[WrittenSample], sizes: Mapping[str, int]) -> dict[str, int]:
    """The files of samples, and the embeddings of their seeds where there are any, with their bytes.

    None where the bytes are not known: records of older versions do not tell them.
    """
    wanted = [f"{one.folder}/{name}_{one.folder}_{part}" for one in samples for part in PARTS]
    arrays = {f"seed-{one.seed}_embeddings/{name}_seed-{one.seed}_embeddings.npz" for one in samples}
    if any(file not in sizes for file in wanted):
        return {}
    return {file: sizes[file] for file in (*wanted, *sorted(arrays & sizes.keys()))}


def _fetch(url: str, directory: Path, sizes: Mapping[str, int]) -> None:
    """Files of a result, each as long as its record says. Raises RemoteError."""

    def fetch(file: str) -> None:
        target = directory / file
        target.parent.mkdir(parents=True, exist_ok=True)
        remote.fetch(f"{url}/{file}", target)
        if (size := target.stat().st_size) != sizes[file]:
            raise RemoteError(f"{url}/{file} has {size} bytes, {sizes[file]} were written")

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="foldline-kept") as pool:
        for done in [pool.submit(fetch, file) for file in sizes]:
            done.result()


@contextmanager
def _if_free(out: Path, name: str) -> Iterator[bool]:
    """Hold the claim on a job in a block, if it is to be had."""
    lock = job_lock(out, name)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
