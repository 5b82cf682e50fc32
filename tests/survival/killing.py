"""Kills `foldline predict` at random moments of its life and looks at what is left; nothing here knows the engine.

A run that is never killed gives the reference. After every kill: every file that has its final name is byte for byte
that of the reference, no file of a finished sample is gone, and no line of a list is half but the last. When all jobs
are done, or in the end, a last run that is left alone has to give the reference's files, no more and no less. A
`Replacer` does the same to runs that replace results.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foldline.cli import main

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = 'device = "cpu"\nthreads = 1\nsamples = 2\nsteps = 2\nrecycles = 0\nmsa = "none"\nworkers = 0\n'
ALONE = ("--seed-batch", "1")  # seeds that share passes differ in their last digits from ones that do not
NUMBER = re.compile(rb"-?\d+\.\d+")
LISTS = ("results.jsonl", "failed.jsonl", "failed_jobs.json")
# What of <job>_run.json depends on when and how often the run was broken off.
OF_THE_RUN = ("seconds", "seconds_per_seed", "peak_bytes", "plan", "files")
CHANGED = ("--steps", "3", "--samples", "1")  # options with which results are others


def write_jobs(folder: Path, count: int, seeds: int, threads: int = 1) -> None:
    """A folder with `count` small jobs in one list, and settings."""
    jobs = [
        {
            "name": f"job{number}",
            "modelSeeds": list(range(1, seeds + 1)),
            "sequences": [
                {"protein": {"id": "A", "sequence": "MKTAYIAK"[: 3 + number % 5]}},
                {"ligand": {"id": "B", "ccdCodes": ["MG"]}},
            ],
            "dialect": "alphafold3",
            "version": 4,
        }
        for number in range(count)
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    (folder / "foldline.toml").write_text(SETTINGS.replace("threads = 1", f"threads = {threads}"))


def start(folder: Path, checkpoint: Path, out: str, *options: str) -> subprocess.Popen[str]:
    """The command in a process of its own; `options` come last and win."""
    words = ("predict", "jobs.json", "--out", out, "--model", str(checkpoint), "--progress", "none", *options)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from foldline.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


class Forked:
    """The command in a fork of this process, which has imported everything: its life is all work. Like a `Popen`."""

    warm, count = False, 0

    def __init__(self, folder: Path, checkpoint: Path, out: str, *options: str) -> None:
        words = ["predict", "jobs.json", "--model", str(checkpoint), "--progress", "none", *options, "--out"]
        if not Forked.warm:
            before = Path.cwd()
            os.chdir(folder)
            assert _code([*words, "warm"]) == 0
            shutil.rmtree(folder / "warm")
            os.chdir(before)
            Forked.warm = True
        Forked.count += 1
        self._printed = [folder / f"printed-{Forked.count}-{to}.txt" for to in (1, 2)]
        self.returncode = -1
        self.pid = os.fork()
        if self.pid:
            return
        try:
            os.chdir(folder)
            sys.stdout, sys.stderr = (path.open("w") for path in self._printed)
            os.dup2(sys.stdout.fileno(), 1)
            os.dup2(sys.stderr.fileno(), 2)
            code = _code([*words, out])
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        finally:
            os._exit(99)

    def poll(self) -> int | None:
        """None while it runs."""
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if ended is None else ended.si_status

    def wait(self, timeout: float) -> int:
        """Exit code; TimeoutExpired where it runs on."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("foldline", timeout)
            time.sleep(0.002)
        return 0

    def send_signal(self, number: signal.Signals) -> None:
        """Any signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for the end; what was printed for programs and for people."""
        self.wait(timeout)
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        out, err = (path.read_text() if path.exists() else "" for path in self._printed)
        for path in self._printed:
            path.unlink(missing_ok=True)
        return out, err


def _code(words: list[str]) -> int:
    """Exit code of a command run here."""
    try:
        main(words)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


Process = subprocess.Popen[str] | Forked
Start = Callable[..., Process]


def finish(process: Process) -> tuple[int, str]:
    """Exit code and what was printed for people."""
    _, printed = process.communicate(timeout=300)
    return process.returncode, printed


def contents(out: Path) -> dict[str, bytes]:
    """What a result is, file by file, without the parts of the record that tell of the run itself, and the lists."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_dir() or name in LISTS or any(part.startswith(".") for part in Path(name).parts):
            continue
        found[name] = path.read_bytes()
        if name.endswith("_run.json"):
            record = json.loads(found[name])
            found[name] = json.dumps({k: v for k, v in record.items() if k not in OF_THE_RUN}).encode()
    return found


def finished(out: Path) -> dict[str, bytes]:
    """Of the contents, the files of jobs with a record, and those of samples that a progress file has as finished.

    A sample is finished when all of its files are there and it is told so; before that the next run makes it anew.
    """
    samples: dict[str, set[str]] = {}
    for path in out.glob("*/.*_progress.json"):
        told = json.loads(path.read_bytes())["samples"]
        samples[path.parent.name] = {f"seed-{one['seed']}_sample-{one['sample']}" for one in told}
    whole = {path.parent.name for path in out.glob("*/*_run.json")}

    def is_finished(name: str) -> bool:
        job, *rest = name.split("/")
        return job in whole or (job in samples and (len(rest) < 2 or rest[0] in samples[job]))

    return {name: data for name, data in contents(out).items() if is_finished(name)}


def records(out: Path) -> dict[str, dict]:
    """The record of every job that has one, by the names of folders; the sizes that it tells are those of the files."""
    found = {path.parent.name: json.loads(path.read_bytes()) for path in out.glob("*/*_run.json")}
    for job, record in found.items():
        sizes = {file: (out / job / file).stat().st_size for file in record["files"] if (out / job / file).is_file()}
        assert sizes == record["files"], f"{job} has a record and is not whole"
    return found


def leftovers(out: Path) -> list[str]:
    """Files that no finished run leaves; empty lock files are none."""
    names = [path.relative_to(out) for path in out.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return [str(name) for name in names if any(part.startswith(".") for part in name.parts)]


def listed(path: Path, *, torn: bool) -> list[str]:
    """Jobs of a list of lines; with `torn` the last line may be half."""
    assert torn or not path.is_file() or path.read_bytes()[-1:] in (b"", b"\n"), f"{path}: half a line at the end"
    return [line["directory"] for line in whole_lines(path)]


def whole_lines(path: Path) -> list[dict]:
    """A list of lines but for the half one at its end."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.is_file() else []


def alike(data: bytes, reference: bytes) -> bool:
    """Whether two files differ in the last digits of their numbers at most."""
    if NUMBER.split(data) != NUMBER.split(reference):
        return False
    pairs = zip(NUMBER.findall(data), NUMBER.findall(reference), strict=True)
    return all(abs(float(a) - float(b)) <= 0.02 for a, b in pairs)


@dataclass
class Tally:
    """What the kills met."""

    kills: int = 0
    before_any_file: int = 0
    in_the_midst: int = 0
    after_all_files: int = 0
    too_late: int = 0
    finished_runs: int = 0
    half_files_seen: int = 0
    amid_a_swap: int = 0
    life: float = 0.0
    moments: list[float] = field(default_factory=list)


class Tormentor:
    """A folder of jobs, the reference for it, and the kills."""

    def __init__(
        self,
        folder: Path,
        checkpoint: Path,
        *,
        jobs: int = 4,
        seeds: int = 2,
        options: Iterable[str] = ALONE,
        starter: Start = start,
        threads: int = 1,
    ) -> None:
        """With other options than `ALONE` files need not be equal, only `alike`. `starter` is `start` or `Forked`.

        With several `threads` jobs run beside each other where their seeds share passes; then nothing may be forked.
        """
        self.folder, self.checkpoint, self.options, self.starter = folder, checkpoint, tuple(options), starter
        self.same = bytes.__eq__ if self.options == ALONE else alike
        write_jobs(folder, jobs, seeds, threads)
        self.tally = Tally()
        for _ in range(2):  # the second time, caches are warm
            shutil.rmtree(folder / "reference", ignore_errors=True)
            begin = time.monotonic()
            code, printed = finish(self._start("reference"))
            self.tally.life = time.monotonic() - begin
            assert code == 0, printed
        self.reference = contents(folder / "reference")
        self.names = sorted(listed(folder / "reference" / LISTS[0], torn=False))
        assert len(self.names) == jobs and leftovers(folder / "reference") == []

    def run(self, kills: int, seed: int = 0, say: Callable[[str], None] = lambda text: None) -> Tally:
        """Kill `kills` runs at moments drawn evenly from a whole life. AssertionError when a promise is broken."""
        rng, out, tally = random.Random(seed), self.folder / "out", self.tally
        while tally.kills < kills:
            before = finished(out)
            moment, begin = rng.uniform(0, tally.life), time.monotonic()
            process = self._start("out")
            try:
                process.wait(moment)
                tally.too_late += 1
                tally.life = time.monotonic() - begin  # a machine that is less busy than it was
                code, printed = finish(process)
                assert code == 0, printed
            except subprocess.TimeoutExpired:
                process.kill()
                finish(process)
                tally.kills += 1
                tally.moments.append(moment)
            made = self._made(self._check(before))
            tally.before_any_file += not made
            tally.in_the_midst += 0 < made < len(self.reference)
            tally.after_all_files += made == len(self.reference)
            say(f"kill {tally.kills}: after {moment:.2f} s, {made} of {len(self.reference)} files")
            if made == len(self.reference):
                self._end()
        self._end()
        return tally

    def _start(self, out: str) -> Process:
        return self.starter(self.folder, self.checkpoint, out, *self.options)

    def _made(self, after: dict[str, bytes]) -> int:
        """How many files of the reference are there."""
        return len(after)

    def _check(self, before: dict[str, bytes]) -> dict[str, bytes]:
        """Look at the folder after a kill; what it holds."""
        after = contents(self.folder / "out")
        wrong = [name for name, data in after.items() if not self.same(data, self.reference.get(name, b""))]
        assert not wrong, f"half-written or different: {wrong}"
        lost = [name for name, data in before.items() if after.get(name) != data]
        assert not lost, f"lost: {sorted(lost)}"
        self._check_lists()
        return after

    def _check_lists(self) -> dict[str, dict]:
        """Look at the lists after a kill; the records that are there."""
        out = self.folder / "out"
        there = records(out)
        for name in LISTS[:2]:
            jobs = listed(out / name, torn=True)
            assert len(jobs) == len(set(jobs)), f"{name} lists jobs twice: {jobs}"
        for job in listed(out / LISTS[0], torn=True):
            assert job in there, f"{job} is listed and not finished"
        self.tally.half_files_seen += len(list(out.rglob(".*.tmp")))
        return there

    def _end(self) -> None:
        """A run that is left alone ends as the reference did; then everything starts anew."""
        code, printed = finish(self._start("out"))
        out = self.folder / "out"
        assert code == 0, printed
        found = self._check({})
        assert found.keys() == self.reference.keys()
        assert leftovers(out) == [], f"a finished run leaves behind: {leftovers(out)}"
        assert sorted(listed(out / LISTS[0], torn=False)) == self.names
        assert listed(out / LISTS[1], torn=False) == [] and not (out / LISTS[2]).exists()
        self.tally.finished_runs += 1
        self._begin_anew()

    def _begin_anew(self) -> None:
        shutil.rmtree(self.folder / "out")


class Replacer(Tormentor):
    """Kills runs that replace results by others, to and fro: a job with a record has the one or the other, whole.

    A job without a record is amid a swap that the next run ends.
    """

    def __init__(self, folder: Path, checkpoint: Path, **more: Any) -> None:
        super().__init__(folder, checkpoint, **more)
        self.old, self.before = self.reference, self.options + CHANGED
        self._turn()
        code, printed = finish(self._start("changed"))
        assert code == 0, printed
        self.reference = contents(folder / "changed")
        shutil.copytree(folder / "reference", folder / "out")
        assert records(folder / "out").keys() == set(self.names)

    def _turn(self) -> None:
        self.old, self.reference = self.reference, self.old
        self.options, self.before = self.before, self.options

    def _begin_anew(self) -> None:
        self._turn()

    def _made(self, after: dict[str, bytes]) -> int:
        return sum(len(_of(after, job)) for job in self.names if self._is(after, self.reference, job))

    def _is(self, found: dict[str, bytes], wanted: dict[str, bytes], job: str) -> bool:
        """Whether a job's files are those wanted, no more and no less."""
        have, want = _of(found, job), _of(wanted, job)
        return have.keys() == want.keys() and all(self.same(have[name], want[name]) for name in want)

    def _check(self, before: dict[str, bytes]) -> dict[str, bytes]:
        out = self.folder / "out"
        after, there = contents(out), self._check_lists()
        lines = {line["directory"]: line for line in whole_lines(out / LISTS[0])}
        for job in self.names:
            is_old, is_new = self._is(after, self.old, job), self._is(after, self.reference, job)
            assert not self._is(before, self.reference, job) or is_new, f"{job} was done and is not"
            next_is_whole = (out / job / f".{job}_next" / f"{job}_run.json").is_file()
            if job not in there:
                assert next_is_whole and job not in lines, f"{job} has no result"
                self.tally.amid_a_swap += 1
                continue
            assert is_old or is_new, f"{job} is a mixture"
            assert job not in lines or lines[job]["fingerprint"] == there[job]["fingerprint"], (
                f"{job}: another is listed"
            )
            assert job in lines or is_new or next_is_whole, f"{job} is there and not listed"
        return after


def _of(found: dict[str, bytes], job: str) -> dict[str, bytes]:
    return {name: data for name, data in found.items() if name.startswith(f"{job}/")}
