"""What must hold after every event at an output folder, however the event ended. Knows the documentation alone."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from faults import NetworkFault
from places import NO_SUCH, Came, Look, Wish

if TYPE_CHECKING:
    from chaos import Chaos

FROM_NETWORK = {"nan": "non_finite_output", "bug": "internal_error", "memory": "does_not_fit"}


class Lost(AssertionError):
    """Something that was finished is gone, or something that is said is not so."""


def require(holds: object, text: str) -> None:
    """Say what does not hold."""
    if not holds:
        raise Lost(text)


def keeps_promises(
    chaos: "Chaos",
    before: Look,
    after: Look,
    wishes: list[Wish],
    came: Came,
    more: list[str],
    network: NetworkFault | None,
) -> None:
    """All that holds after a command that was asked for `wishes`; AssertionError where something does not."""
    references = chaos.references
    wanted: dict[str, set[str]] = {}
    for wish in wishes:
        found = {references.of(wish).fingerprint} if wish.version != NO_SUCH else set()
        wanted[wish.slug] = wanted.get(wish.slug, set()) | found
    for name, data in chaos.foreign.items():
        require(after.files.get(name) == data, f"somebody's {name} is gone or changed")
    for folder, was in before.held.items():
        now = after.held[folder]
        if folder not in wanted:
            require(before.of(folder) == after.of(folder), f"{folder} was not asked for and is changed")
            continue
        _nothing_lost(folder, was, now, wanted[folder])
        here = now.get("place")
        possible = {*was.values(), *wanted[folder], None}
        require(here in possible, f"{folder} has a result that nobody asked for")
        if "--report" in more:
            chaos.reported |= {(folder, each) for each in wanted[folder]}
        if here and f"{folder}/{folder}_report.html" in after.files and folder not in chaos.touched:
            require((folder, here) in chaos.reported, f"{folder} has a report of another result")
    if chaos.place.kind == "folder":
        _listed_is_there(chaos, after)
    if came.code is not None:
        _as_said(chaos, before, after, wishes, came, more, network)


def _nothing_lost(folder: str, was: dict[str, str], now: dict[str, str], wanted: set[str]) -> None:
    """A whole result stays where it is, or comes to its place, unless one that is wanted, or was, is there."""
    following = {fingerprint for corner, fingerprint in was.items() if corner.endswith("next")}
    for corner, fingerprint in was.items():
        there = now.get("place") == fingerprint or now.get(corner) == fingerprint
        require(
            there or (wanted | following) & set(now.values()),
            f"{folder}: the result at {corner} is lost ({was} -> {now})",
        )


def _listed_is_there(chaos: "Chaos", after: Look) -> None:
    if "results.jsonl" in chaos.touched:
        return
    lines = after.lines("results.jsonl")
    folders = [line["directory"] for line in lines]
    for line in lines:
        folder = line["directory"]
        if folder not in chaos.touched:
            here = after.held.get(folder, {}).get("place")
            require(here == line["fingerprint"], f"{folder} is listed with a result that is not there")
    require(len(folders) == len(set(folders)), f"listed twice: {folders}")


def _as_said(
    chaos: "Chaos",
    before: Look,
    after: Look,
    wishes: list[Wish],
    came: Came,
    more: list[str],
    network: NetworkFault | None,
) -> None:
    """What holds after a command that came to its own end."""
    jobs, hurt = came.jobs, came.failed
    errors = {name: line["error"] for name, line in jobs.items() if line["error"]}
    require("Traceback" not in came.told, came.told)
    for wish in wishes:
        line, result = jobs.get(wish.name), None
        if wish.version == NO_SUCH:
            codes = ("bad_input", "not_written") if hurt else ("bad_input",)
            require(line is None or errors.get(wish.name, {}).get("code") in codes, f"{wish.slug} ran: {line}")
            continue
        result = chaos.references.of(wish)
        if line is not None and not line["error"]:
            require(
                after.held[wish.slug].get("place") == result.fingerprint, f"{wish.slug} is done and not there: {line}"
            )
            if not hurt:
                _clean(chaos, before, after, wish, came, more)
                chaos.touched.discard(wish.slug)
        elif line is not None:
            _expected(chaos, wish, line["error"], hurt, network)
    if hurt and came.code in (2, 143):
        return
    missing = [wish.name for wish in wishes if wish.name not in jobs]
    stops = "stop" in more and errors
    require(not missing or stops or came.code in (2, 143), f"{missing} are not told of (exit code {came.code})")
    done = len(jobs) - len(errors)
    inputs = all(error["code"] == "bad_input" for error in errors.values())
    pages = any(line["event"] == "report" and line["error"] for line in came.said)
    require(hurt or not pages, f"no page: {came.told}")
    faults = [line for line in came.said if line["event"] == "unreadable"]
    code = (1 if pages else 0) if not errors and not faults else 1 if done else 2 if inputs else 3
    require(came.code == code, f"exit code {came.code} in the place of {code}: {came.told}")
    if not hurt and code != 2:
        require(not came.told or errors or faults, f"said: {came.told}")
        _lists(chaos, before, after, wishes, came)


def _expected(chaos: "Chaos", wish: Wish, error: dict, hurt: bool, network: NetworkFault | None) -> None:
    """Whether an error has a cause that was ordered."""
    codes = {"not_written"} if hurt else set()
    if network is not None:
        codes.add(FROM_NETWORK[network.kind])
    if any(name.startswith(f"{wish.slug}/") for name in chaos.blocked):
        codes.add("not_written")
    require(error["code"] in codes, f"{wish.slug} failed: {error}")
    require(error["code"] != "not_written" or chaos.place.root.name in error["message"], f"no path: {error['message']}")


def _clean(chaos: "Chaos", before: Look, after: Look, wish: Wish, came: Came, more: list[str]) -> None:
    """What a run in which nothing went wrong leaves of a job, and what it did not do again."""
    folder, fingerprint = wish.slug, chaos.references.of(wish).fingerprint
    hidden = [name for name in after.of(folder) if any(part.startswith(".") for part in Path(name).parts)]
    hidden = [name for name in hidden if f"{folder}/{name}" not in chaos.foreign]
    require(not hidden, f"{folder}: left behind {hidden}")
    if "--report" in more:
        told = [each for each in came.said if each["event"] == "report" and each["job"] == wish.name]
        require(f"{folder}/{folder}_report.html" in after.files, f"{folder} has no report: {told}")
    if "--overwrite" in more or folder in chaos.touched:
        return
    features = chaos.references.of(wish).features
    ran = sorted({seed for word, seed in chaos.replay.ran if word == features})
    was = before.held[folder]
    if fingerprint in (was.get("place"), was.get("out next")):
        require(came.jobs[wish.name]["skipped"] and not ran, f"{folder} was there and is run again: {ran}")
    require(not _done_seeds(chaos, before, wish) & set(ran), f"{folder}: finished seeds are run again: {ran}")


def _done_seeds(chaos: "Chaos", before: Look, wish: Wish) -> set[int]:
    """Seeds that the job needs not be run for: those of an interrupted run, or of a result with other seeds."""
    folder, done = wish.slug, set()
    if chaos.place.kind != "folder":
        return set()
    was = before.held[folder]
    here = was.get("out next", was.get("place"))  # a new result that is whole takes its place first
    if here is not None:
        other = chaos.references.by_fingerprint[here][0]
        if (other.version, other.options) == (wish.version, wish.options):
            done |= set(other.seeds) & set(wish.seeds)
    for start in ("", f".{folder}_next/"):
        text = before.of(folder).get(f"{start}.{folder}_progress.json")
        if text is None or (start == "") == (here is not None):
            continue
        state = json.loads(text)
        known = chaos.references.by_fingerprint.get(state["fingerprint"])
        if known is None or (known[0].version, known[0].options) != (wish.version, wish.options):
            continue
        made = [(one["seed"], one["sample"]) for one in state["samples"]]
        files = before.of(folder)
        for seed in wish.seeds:
            arrays = f"{start}seed-{seed}_embeddings/{folder}_seed-{seed}_embeddings.npz" in files
            whole = all((seed, sample) in made for sample in range(wish.options.samples))
            if whole and (arrays or not wish.options.embeddings):
                done.add(seed)
    return done


def _lists(chaos: "Chaos", before: Look, after: Look, wishes: list[Wish], came: Came) -> None:
    """The lists after a run that had no trouble with its disk."""
    results = {line["directory"]: line for line in after.lines("results.jsonl")}
    failures = after.lines("failed.jsonl")
    failed = {line["directory"]: line for line in failures if line["job"] is not None}
    unread = sorted(line["source"] for line in failures if line["job"] is None)
    given = {line["source"] for line in came.said if line["event"] == "unreadable"}
    was = {line["source"] for line in before.lines("failed.jsonl") if line["job"] is None}
    wanted = sorted(given or (was if wishes and str(chaos.broken) not in came.inputs else set()))
    require(unread == wanted or "failed.jsonl" in chaos.touched, f"failed.jsonl: {unread} and not {wanted}")
    for wish in wishes:
        line = came.jobs.get(wish.name)
        if line is None:
            continue
        error, listed = line["error"], results.get(wish.slug)
        require((wish.slug in failed) == bool(error), f"{wish.slug} in failed.jsonl: {failed.get(wish.slug)}")
        here = after.held[wish.slug].get("place")
        if error:
            told = failed[wish.slug]
            require((told["code"], told["message"]) == (error["code"], error["message"]), f"{told} of {error}")
            if wish.slug not in chaos.touched and chaos.place.kind == "folder":
                require(listed is None or listed["fingerprint"] == here, f"{wish.slug} is listed and not there")
        else:
            record = json.loads(after.of(wish.slug)[f"{wish.slug}_run.json"])
            require(listed is not None, f"{wish.slug} is done and not listed")
            assert listed is not None
            wrong = [key for key, value in listed.items() if key in record and record[key] != value]
            require(not wrong, f"{wish.slug}: results.jsonl is of another run in {wrong}")
    if not {"failed.jsonl", "results.jsonl"} & chaos.touched:
        ours = {wish.slug for wish in wishes if wish.name in came.jobs}
        for name in ("results.jsonl", "failed.jsonl"):
            was = {line["directory"]: line for line in before.lines(name) if line["directory"] not in {*ours, None}}
            now = {line["directory"]: line for line in after.lines(name) if line["directory"] not in {*ours, None}}
            gone = {key: line for key, line in was.items() if now.get(key) != line}
            excused = {key for key in gone if name == "failed.jsonl" and after.held.get(key, {}).get("place")}
            require(not gone.keys() - excused and not now.keys() - was.keys(), f"{name}: {was} became {now}")
    if "failed_jobs.json" not in chaos.touched:
        again = [job["name"] for job in json.loads(after.files.get("failed_jobs.json", b"[]"))]
        require(len(again) == len(set(again)), f"failed_jobs.json lists twice: {again}")
        names = {line["job"] for line in failed.values()}
        require(set(again) <= names, f"failed_jobs.json has {again}, failed.jsonl {names}")
        now = {wish.name: wish.json for wish in wishes if (came.jobs.get(wish.name) or {}).get("error")}
        told = {job["name"]: job["modelSeeds"] for job in json.loads(after.files.get("failed_jobs.json", b"[]"))}
        require(all(told.get(name) == job["modelSeeds"] for name, job in now.items()), f"{told} is to be tried again")
    for name in ("results.jsonl", "failed.jsonl", "failed_jobs.json"):
        chaos.touched.discard(name)


def is_as_fresh(chaos: "Chaos", after: Look, wishes: list[Wish], came: Came, work: Path) -> None:
    """After a last run of all jobs: every file is that of a fresh folder, and nothing else is there."""
    require(came.code == 0, f"the last run ends with {came.code}: {came.told}")
    for wish in wishes:
        require(after.held[wish.slug] and wish.slug not in chaos.touched, f"{wish.slug} is not there")
    own = {name for name in after.files if name not in chaos.foreign and not name.startswith(".foldline/")}
    expected = {f"{wish.slug}/{file}" for wish in wishes for file in chaos.references.of(wish).files}
    extra = own - expected - {f"{wish.slug}/{wish.slug}_report.html" for wish in wishes}
    require(extra <= {"results.jsonl", "failed.jsonl"}, f"left behind: {sorted(extra)}")
    require(not after.files.get("failed.jsonl", b"").strip(), "failures are listed still")
    require(len(after.lines("results.jsonl")) == len(wishes), "not all are listed")
    if chaos.place.kind != "folder" and work.exists():
        left = [str(path) for path in work.rglob("*") if path.is_file()]
        require(not left, f"the working folder keeps {left}")
