"""Results whose place is a store: made in a working folder of this machine, carried into the store, found there again.

A job is done in the store when `<job>_run.json` is there: it comes last, and goes first before a result is replaced.
In the working folder, `.<job>_stored.json` stands for a result that is in the store; its files are removed here. Knows
the layout and `foldline.remote`; no engine, and not how a run is shown.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock

from foldline import remote
from foldline.outputs.journal import LISTS
from foldline.outputs.layout import (
    PARTS,
    TOP_PARTS,
    damage_among,
    is_of_result,
    is_whole,
    progress_file,
    record_file,
    remove_result,
    settle,
    stored_mark,
    write_atomically,
)
from foldline.outputs.locks import job_lock
from foldline.outputs.records import WrittenSample, is_record, journal_of, read_journal, read_record
from foldline.outputs.workplace import Workplace
from foldline.remote import RemoteError

AT_ONCE = 8  # files that come or go at a time
MANY = 20  # jobs of which the store is asked all together first
PATIENCE = 60.0  # seconds to wait for another process that has a job


class StoredResults:
    """The results at a URL. A context manager: in it, `folder` is the working folder.

    Its methods raise OSError (a `RemoteError`) where the store or the working folder cannot be used.
    """

    def __init__(self, url: str, root: Path) -> None:
        """`root` is the folder of working folders."""
        self.url = url.rstrip("/")
        self._place = Workplace(root.absolute(), self.url)
        self.folder = self._place.folder
        self._pool = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="foldline-store")
        self._sent: dict[str, dict[str, tuple[int, int]]] = {}  # size and time of a job's files that are in the store

    def __enter__(self) -> Self:
        self._place.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        self._place.__exit__(kind, error, trace)

    def url_of(self, name: str) -> str:
        """Where the files of the job whose folder is `name` are or will be."""
        return f"{self.url}/{name}"

    def bring(self, names: Iterable[str]) -> dict[str, str]:
        """Note which jobs are done in the store, and have the samples of those that are half done there.

        Returns:
            By the names of jobs whose result there is damaged: what is wrong with it, in a few words.
        """
        names = list(names)
        known = remote.listed(self.url) if len(names) > MANY else set(names)
        faults = self._pool.map(lambda name: self._bring(name, is_there=name in known), names)
        return {name: fault for name, fault in zip(names, faults, strict=True) if fault}

    def url_if_away(self, name: str, fingerprint: str = "", *, is_made: bool = True) -> str | None:
        """The URL of a job's result where `carry`, told the same, finds it there and takes nothing from here."""
        directory = self.folder / name
        stays = not is_made and _is_meant(read_record(stored_mark(directory, name)), fingerprint)
        here = not stays and _is_meant(read_record(record_file(directory, name)), fingerprint)
        return None if here and is_whole(directory, name) else self.url_of(name)

    def carry(self, name: str, fingerprint: str = "", *, is_made: bool = True) -> None:
        """Put a job's result into the store, and remove it here.

        `is_made`: it has been made just now; one that was made before is not put where there is one already.

        Raises:
            OSError: it cannot be; the result stays here.
        """
        directory = self.folder / name

        def is_meant(record: dict) -> bool:
            return _is_meant(record, fingerprint)

        with self._alone(name):
            settle(directory, name)
            if not is_made and is_meant(read_record(stored_mark(directory, name))):
                remove_result(directory, name)
                return
            if not (is_meant(read_record(record_file(directory, name))) and is_whole(directory, name)):
                if is_meant(read_record(stored_mark(directory, name))):
                    return
                raise RemoteError(f"the result in {directory} was replaced or removed meanwhile: run again")
            record = record_file(directory, name).read_bytes()
            stored_mark(directory, name).unlink(missing_ok=True)
            self._put_whole(name)
            write_atomically(stored_mark(directory, name), [record])
            remove_result(directory, name)
            self._sent.pop(name, None)

    def carry_samples(self, name: str) -> None:
        """Put the finished samples of a job into the store that is at work, so that another machine may go on with it.

        A whole result that is there stays until the new one is whole too.
        """
        directory = self.folder / name
        journal = read_journal(progress_file(directory, name))
        if not journal.samples:
            return
        text = progress_file(directory, name).read_bytes()
        if name not in self._sent and not self._has_room(name, journal.fingerprint):
            return
        samples = [f"{stem}_{part}" for stem in _stems(name, journal.samples) for part in PARTS]
        arrays = [path.relative_to(directory).as_posix() for path in directory.glob("seed-*_embeddings/*.npz")]
        self._put(name, samples + arrays)
        remote.write(text, f"{self.url_of(name)}/{progress_file(directory, name).name}")

    @contextmanager
    def lists(self) -> Iterator[None]:
        """A block in which the working folder has the store's lists of results; they are put back after it.

        One process of this machine at a time.
        """
        with job_lock(self.folder, ".store-lists"):
            remote.sweep(self.url)
            places = {name: self.folder / name for name in LISTS}
            before = {name: remote.content(self.url_of(name)) for name in LISTS}
            for name, path in places.items():
                path.unlink(missing_ok=True)
                if (text := before[name]) is not None:
                    write_atomically(path, [text])
            yield
            for name, path in places.items():
                if not path.is_file():
                    if before[name] is not None:
                        remote.remove(self.url_of(name))
                elif before[name] != path.read_bytes():
                    remote.write(path, self.url_of(name))
                path.unlink(missing_ok=True)

    def _bring(self, name: str, *, is_there: bool) -> str:
        """Leaves a job alone that another process is at, and takes samples where there are none of this machine's.

        Returns:
            What is wrong with the result in the store.
        """
        lock = job_lock(self.folder, name)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return ""
        try:
            there, directory = remote.files(self.url_of(name)) if is_there else {}, self.folder / name
            settle(directory, name)
            mark, last = stored_mark(directory, name), record_file(directory, name)
            record = remote.content(f"{self.url_of(name)}/{last.name}") if last.name in there else None
            fault = "" if record is None else _fault(name, record, there)
            if record is not None and not fault:
                directory.mkdir(exist_ok=True)
                write_atomically(mark, [record])
                if last.is_file() and last.read_bytes() == record:  # a run was killed before it removed them
                    remove_result(directory, name)
                return ""
            mark.unlink(missing_ok=True)
            journal = progress_file(directory, name)
            if journal.name in there and not journal.is_file() and not last.is_file():
                self._bring_samples(name, there)
            return fault
        finally:
            lock.release()

    def _bring_samples(self, name: str, there: dict[str, int]) -> None:
        journal = progress_file(self.folder / name, name)
        content = remote.content(f"{self.url_of(name)}/{journal.name}") or b""
        try:
            stems = _stems(name, journal_of(json.loads(content)).samples)
        except ValueError:
            return
        wanted = [f"{stem}_{part}" for stem in stems for part in PARTS]
        wanted += [file for file in there if file.endswith("_embeddings.npz")]
        for file in wanted:
            if file in there and is_of_result(name, file):
                self._fetch(name, file)
        if stems:
            journal.parent.mkdir(exist_ok=True)
            write_atomically(journal, [content])

    def _fetch(self, name: str, file: str) -> None:
        target = self.folder / name / file
        target.parent.mkdir(parents=True, exist_ok=True)
        remote.fetch(f"{self.url_of(name)}/{file}", target)

    def _put_whole(self, name: str) -> None:
        """All files: those of samples, those at the top, the record; what the old result had besides goes before it."""
        directory = self.folder / name
        here = [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]
        here = [file for file in here if is_of_result(name, file) and not file.startswith(".")]
        there, last = remote.files(self.url_of(name)), record_file(directory, name).name
        if last in there:
            remote.remove(f"{self.url_of(name)}/{last}")
        self._sent.get(name, {}).pop(last, None)
        for folder in {"", *(f"/{file.rpartition('/')[0]}" for file in [*here, *there] if file.startswith("seed-"))}:
            remote.sweep(f"{self.url_of(name)}{folder}")
        self._put(name, [file for file in here if "/" in file], there)
        self._put(name, [file for file in here if "/" not in file and file != last], there)
        self._remove(name, [file for file in there if is_of_result(name, file) and file not in here])
        self._put(name, [last])

    def _put(self, name: str, files: Iterable[str], there: dict[str, int] | None = None) -> None:
        """Put files into the store, but for those that are there as this process put them."""
        sent = self._sent.setdefault(name, {})

        def put(file: str) -> None:
            path = self.folder / name / file
            stat = path.stat()
            state = stat.st_size, stat.st_mtime_ns
            if sent.get(file) != state or (there is not None and there.get(file) != stat.st_size):
                remote.write(path, f"{self.url_of(name)}/{file}")
                sent[file] = state

        self._each(put, files)

    def _remove(self, name: str, files: Iterable[str]) -> None:
        self._each(lambda file: remote.remove(f"{self.url_of(name)}/{file}"), files)

    def _each(self, call: Callable[[str], None], files: Iterable[str]) -> None:
        """Do something to some files until it fails for one; nothing of it is under way any more when this ends."""
        done, left = wait([self._pool.submit(call, file) for file in files], return_when=FIRST_EXCEPTION)
        for each in left:
            each.cancel()
        wait(left)
        for each in done:
            each.result()

    def _has_room(self, name: str, fingerprint: object) -> bool:
        """Whether the store has no whole result of a job; half a one goes if that is of other input or options."""
        there = remote.files(self.url_of(name))
        if all(f"{name}_{part}" in there for part in TOP_PARTS):
            return False
        journal = progress_file(self.folder / name, name).name
        text = remote.content(f"{self.url_of(name)}/{journal}") if journal in there else None
        if text is None or json.dumps(fingerprint).encode() not in text:
            others = [file for file in there if is_of_result(name, file)]
            self._remove(name, [file for file in others if file == journal])
            self._remove(name, [file for file in others if file != journal])
        return True

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Hold the claim on a job."""
        lock = job_lock(self.folder, name)
        try:
            lock.acquire(timeout=PATIENCE)
        except filelock.Timeout:
            raise RemoteError(f"another process is at the job in {self.folder / name}: wait for it") from None
        try:
            yield
        finally:
            lock.release()


def _is_meant(record: dict, fingerprint: str) -> bool:
    """Whether a record is of a result with this fingerprint, "" being any."""
    return bool(record) and fingerprint in ("", record.get("fingerprint"))


def _fault(name: str, record: bytes, there: dict[str, int]) -> str:
    """What is wrong with a result in the store; where stores tell no sizes, only that files are there counts."""
    try:
        about = json.loads(record)
        if not is_record(about):
            raise TypeError(about)
        sizes = there if any(there.values()) else there | about.get("files", {})
        return damage_among(name, about, lambda file: sizes[file] if file in there else None)
    except (ValueError, TypeError, AttributeError):
        return f"{name}_run.json cannot be read"


def _stems(name: str, samples: Iterable[WrittenSample]) -> list[str]:
    """What the names of a job's finished samples begin with."""
    return [f"{sample.folder}/{name}_{sample.folder}" for sample in samples]
