"""An output folder, here or in a store, driven through random events; after each one it must keep its promises.

Everything is drawn from one seed; an error carries the events that led to it. What is promised: promises.py.
"""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from faults import DiskFault, NetworkFault, on_disk
from killing import LISTS
from places import NO_SUCH, Broken, Came, Commands, Look, Options, Place, References, StoreFault, Wish, plain
from promises import is_as_fresh, keeps_promises

from foldline.inputs import slug
from foldline.outputs.layout import is_of_result, is_whole, next_record
from foldline.outputs.records import read_object

NAMES = ("ion", "two words", "x_seed-1_sample-0")


class Chaos:
    """One sequence of events at one place."""

    def __init__(self, seed: int, folder: Path, references: References, kind: str | None = None) -> None:
        self.rng, self.references, self.replay = random.Random(seed), references, references.replay
        self.commands = Commands(folder, references.commands.checkpoint, self.replay)
        kinds = ("folder", "folder", "folder", "files", "memory")
        self.place = Place(kind or self.rng.choice(kinds), folder / "here")
        self.events: list[str] = [f"seed {seed}, {self.place.kind}"]
        self.foreign: dict[str, bytes] = {}
        self.touched: set[str] = set()  # folders of jobs in which somebody else changed files
        self.blocked: set[str] = set()  # folders in the way of files
        self.reported: set[tuple[str, str]] = set()
        self.broken = folder / "broken.json"  # an input that cannot be read, until the last run
        self.count = 0

    def run(self, events: int) -> None:
        """That many events, and a run of everything that is left alone."""
        for _ in range(events):
            self._guarded(self._event)
        self._guarded(self._last)

    def _guarded(self, event: Callable[[], None]) -> None:
        try:
            event()
            self.count += 1
        except Exception as error:
            error.add_note("\n".join(self.events))
            raise

    def _note(self, text: str) -> None:
        self.events.append(f"{len(self.events)}. {text}")

    # --- events -------------------------------------------------------------------------------------------------

    def _event(self) -> None:
        rng, kind = self.rng, self.place.kind
        what = rng.choices(
            ("clean", "disk", "network", "child", "pair", "touch", "foreign", "store"),
            (4, 4, 2, 4 * (kind != "memory"), kind != "memory", 3, 1, 3 * (kind != "folder")),
        )[0]
        if what in ("touch", "foreign", "pair"):
            {"touch": self._touch, "foreign": self._foreign, "pair": self._pair}[what]()
            return
        wishes = self._wishes(self._options())
        more = self._more()
        before = self.look()
        fault: DiskFault | None = None
        network: NetworkFault | None = None
        store: StoreFault | None = None
        if what == "disk":
            fault = self._disk_fault(("full", "broken", "broken", "denied", "unreadable"), wishes)
        if what == "network":
            network = self._network_fault()
        if what == "store":
            store = StoreFault(rng.randint(1, 60), rng.choice((1, 1, 5, 10**6)), rng.random() < 0.3)
        if what == "child":
            fault = self._disk_fault(("kill", "kill", "term"), wishes)
        machine = self._machine()
        self._note(f"{what} on {machine}: {self._told(wishes)} {_shown(more)} {fault or network or store or ''}")
        came = self._go(wishes, more, machine, fault, network, store, child=what == "child")
        self.events[-1] += f" -> {came.code}"
        keeps_promises(self, before, self.look(), wishes, came, more, network)

    def _go(
        self,
        wishes: list[Wish],
        more: list[str],
        machine: str,
        fault: DiskFault | None = None,
        network: NetworkFault | None = None,
        store: StoreFault | None = None,
        *,
        child: bool = False,
    ) -> Came:
        words = self.commands.words(wishes, self.place.url, str(self.place.root / machine), *more)
        self.replay.begin(network)
        if child:
            return replace(self.commands.child(words, fault)(), inputs=tuple(more))
        with on_disk(self.place.root, fault) as disk, self.place.failing(store) as refused:
            came = self.commands.here(words)
        came.failed, came.inputs = disk.failed or refused[0] > 0, tuple(more)
        return came

    def _pair(self) -> None:
        """Two processes of one machine at the same time; one may be killed."""
        self._unblock()
        wishes, more = self._wishes(self._options()), self._more()
        self._note(f"pair: {self._told(wishes)} {_shown(more)}")
        before, others = self.look(), self._wishes(self.rng.choice((wishes[0].options, self._options())))
        machine, fault = self._machine(), self.rng.choice((None, self._disk_fault(("kill", "term"), wishes)))
        self._note(f"  and {self._told(others)} {fault or ''}")
        self.replay.begin(None)
        first = self.commands.child(self._words(wishes, machine, more), fault)
        second = self.commands.child(self._words(others, machine, []), None)
        came, beside = first(), second()
        self.events[-1] += f" -> {came.code} and {beside.code}"
        both = wishes + others
        told = Came(None, [], came.told + beside.told, failed=True)
        keeps_promises(self, before, self.look(), both, told, more, None)
        bad = [line for line in beside.jobs.values() if line["error"] and line["error"]["code"] != "bad_input"]
        if bad or beside.code is None or beside.code > 3:
            raise Broken(f"a process is hurt by another one: {bad} {beside.told}")

    def _words(self, wishes: list[Wish], machine: str, more: list[str]) -> list[str]:
        return self.commands.words(wishes, self.place.url, str(self.place.root / machine), *more)

    def _last(self) -> None:
        """A clean run of all jobs, from any machine."""
        self._unblock()
        options = self._options()
        wishes = [self._wish(name, options, bad=False) for name in NAMES]
        for wish in wishes:
            self.references.of(wish)
        before, machine = self.look(), self._machine()
        self._note(f"the last on {machine}: {self._told(wishes)}")
        self.broken.write_text(json.dumps([wishes[0].json]))
        came = self._go(wishes[1:], [str(self.broken)], machine)
        after = self.look()
        keeps_promises(self, before, after, wishes, came, [], None)
        is_as_fresh(self, after, wishes, came, self.place.root / machine)

    def _touch(self) -> None:
        """Somebody else changes files."""
        rng, files = self.rng, self.place.files()
        self._unblock()
        names = [name for name in files if name not in self.foreign and not name.startswith(".foldline/")]
        names = [name for name in names if not name.endswith("_report.html")]
        if not names:
            return
        special = [
            name for name in names if name.rpartition("/")[2].startswith(".") or name.endswith(("_run.json", *LISTS))
        ]
        name = rng.choice(special if special and rng.random() < 0.5 else names)
        how = rng.choice(("gone", "cut", "garbage", "folder" if self.place.kind == "folder" else "cut"))
        if how == "folder" and (name in LISTS or "/" not in name or "/." in name):
            how = "gone"
        self._note(f"{name} is {how}")
        self.touched.add(name.partition("/")[0])
        data = files[name]
        if how in ("gone", "folder"):
            self.place.put(name, None)
        if how == "folder":
            self.place.put(f"{name}/mine", b"mine")
            self.blocked.add(name)
            self.foreign[f"{name}/mine"] = b"mine"
        if how == "cut":
            self.place.put(name, data[: rng.randrange(len(data) or 1)])
        if how == "garbage":
            odd = (b"[]", b"3", b"{}", b"null", b"\xff\xfe", self._odd(data))
            odd += odd[-1:] * 4
            self.place.put(name, rng.choice(odd if name.endswith((".json", ".jsonl")) else odd[:3]))

    def _odd(self, data: bytes) -> bytes:
        """JSON, or lines of it, with a value of another kind in the first."""
        is_list = data.startswith(b'{"job"')
        first, line_end, rest = data.partition(b"\n") if is_list else (data, b"", b"")
        try:
            value = json.loads(first)
        except ValueError:
            return b"{]"
        odd = self.rng.choice((None, 3, [], {}, [3], {"a": []}) if is_list else (None, 3, "x", [], {}, [3], {"a": []}))
        if isinstance(value, list) and value:
            value[0] = odd
        elif isinstance(value, dict) and value:
            often = [key for key in ("files", "samples", "stereocentres", "fingerprint", "directory") if key in value]
            value[self.rng.choice(often if often and self.rng.random() < 0.7 else sorted(value))] = odd
        return json.dumps(value).encode() + line_end + rest

    def _unblock(self) -> None:
        for name in self.blocked:
            self.foreign.pop(f"{name}/mine", None)
            if (self.place.folder / name).is_dir():
                shutil.rmtree(self.place.folder / name)
        self.blocked.clear()

    def _foreign(self) -> None:
        """Somebody else's file."""
        job = slug(self.rng.choice(NAMES))
        names = ("notes.txt", ".hidden", "seed-1_sample-0/mine.txt", f"seed-1_sample-0/{job}_mine.cif", "seed-7_x/a.b")
        names += (
            f"{job}_model.pdb",
            f".{job}.tmp",
            f"seed-1_embeddings/{job}.npz",
            "sub/folder/x",
            f"{job}/{job}_run.json",
        )
        name = f"{job}/{self.rng.choice(names)}"
        self._note(f"somebody's {name}")
        self.foreign[name] = f"mine {self.rng.random()}".encode()
        self.place.put(name, self.foreign[name])

    # --- choices ------------------------------------------------------------------------------------------------

    def _options(self) -> Options:
        rng = self.rng
        usual = Options(samples=2)
        return (
            usual
            if rng.random() < 0.6
            else replace(
                usual,
                samples=rng.choice((1, 2)),
                steps=rng.choice((1, 1, 2)),
                recycles=rng.choice((0, 0, 0, 1)),
                embeddings=rng.random() < 0.5,
                dtype=rng.choice(("fp32",) * 5 + ("bf16",)),
            )
        )

    def _wish(self, name: str, options: Options, *, bad: bool = True) -> Wish:
        rng = self.rng
        version = rng.choice((0, 0, 0, 1)) if not (bad and name == "ion" and rng.random() < 0.1) else NO_SUCH
        seeds = rng.choice(((1, 2), (1, 2), (2, 1), (1,), (2,), (1, 2, 3), (3,), (3, 1)))
        return Wish(name, version, seeds, options)

    def _wishes(self, options: Options) -> list[Wish]:
        names = self.rng.sample(NAMES, self.rng.choice((1, 2, 3, 3)))
        wishes = [self._wish(name, options) for name in names]
        for wish in wishes:
            if wish.version != NO_SUCH:
                self.references.of(wish)
        return wishes

    def _more(self) -> list[str]:
        rng, more = self.rng, []
        more += ["--overwrite"] * (rng.random() < 0.1)
        more += ["--report"] * (rng.random() < 0.1)
        more += ["--on-error", "stop"] if rng.random() < 0.1 else []
        more += ["--seed-batch", rng.choice(("1", "auto"))]
        if rng.random() < 0.1:
            self.broken.write_text("{")
            more += [str(self.broken)]
        return more

    def _machine(self) -> str:
        return self.rng.choice(("work-one", "work-one", "work-two")) if self.place.kind != "folder" else "work-one"

    def _disk_fault(self, kinds: tuple[str, ...], wishes: list[Wish]) -> DiskFault:
        rng = self.rng
        kind = rng.choice(kinds)
        only = rng.choice(wishes).slug if kind == "denied" else ""
        place = "out" if self.place.kind != "memory" else "work-one"
        most = 20 if kind == "unreadable" else rng.choice((20, 80, 300))
        return DiskFault(kind, rng.randint(1, most), f"{place}/{only}" if only else "")

    def _network_fault(self) -> NetworkFault:
        rng, kind = self.rng, self.rng.choice(("memory", "memory", "nan", "bug"))
        stage = rng.choice(("trunk", "diffusion", "confidence"))
        return NetworkFault(kind, rng.randint(1, 4), rng.choice((1, 2, 100)) if kind == "memory" else 1, stage)

    def _told(self, wishes: list[Wish]) -> str:
        jobs = ", ".join(f"{wish.slug} v{wish.version} {','.join(map(str, wish.seeds))}" for wish in wishes)
        return f"[{jobs}] {' '.join(wishes[0].options.words)}{' embeddings' * wishes[0].options.embeddings}"

    # --- looking ------------------------------------------------------------------------------------------------

    def look(self) -> Look:
        """What is there now."""
        found = Look(self.place.files())
        for folder in map(slug, NAMES):
            held = found.held[folder] = {}
            if here := self.whole(found, folder):
                held["place"] = here
            for corner, path in self.place.corners(folder):
                if following := next_record(path, folder).get("fingerprint"):
                    held[f"{corner} next"] = str(following)
                if corner != "out" and is_whole(path, folder):
                    held[corner] = str(read_object(path / f"{folder}_run.json").get("fingerprint"))
        return found

    def whole(self, found: Look, folder: str) -> str:
        """The fingerprint of the result at the place, which is just as it is made in a fresh folder; "" = none."""
        files = {name: data for name, data in found.of(folder).items() if f"{folder}/{name}" not in self.foreign}
        files = {name: data for name, data in files.items() if is_of_result(folder, name)}
        shown = {
            name: data for name, data in files.items() if not name.startswith(".") and not name.endswith("_report.html")
        }
        if f"{folder}_run.json" not in shown:
            return ""
        try:
            record = json.loads(shown[f"{folder}_run.json"])
            wish, result = self.references.by_fingerprint[record["fingerprint"]]
            shown = plain(shown, folder)
            wrong = [name for name in shown.keys() | result.files.keys() if shown.get(name) != result.files.get(name)]
            sizes = {name: len(data) for name, data in files.items() if name in record["files"]}
            if wrong or wish.slug != folder or sizes != record["files"]:
                raise Broken(f"{folder} has a record, and is not what it tells of: {sorted(wrong)}")
        except (ValueError, KeyError, TypeError, Broken) as error:
            if folder in self.touched:
                return ""
            raise Broken(str(error)) from error
        return str(record["fingerprint"])


def _shown(more: list[str]) -> str:
    return " ".join(word.rpartition("/")[2] for word in more)
