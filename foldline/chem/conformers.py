"""Reference conformers of components: shipped, from the disk cache, from RDKit in a child process or the dictionary.

A conformer depends on the component's content, the RDKit version and a fixed seed, never on the job's seed, so that all
copies and all seeds share it. Knows no chains.
"""

import base64
import hashlib
import importlib.resources
import io
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
import weakref
import zipfile
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rdkit
from rdkit import Chem

from foldline.chem import embedding
from foldline.chem.component import Component
from foldline.chem.conformer import Conformer
from foldline.chem.molecules import clean_charges, molecule_of
from foldline.chem.residues import STANDARD_RESIDUES
from foldline.config import cache_root_of
from foldline.errors import InputError

SCHEMA = 1
SEED = 42
SHIPPED_FILE = "standard_conformers.npz"


@dataclass(frozen=True)
class EmbeddingLimits:
    """Wall-clock limits of each rung of the ladder."""

    seconds: int = 10  # kept by RDKit itself, roughly
    limit: int = 16  # kept by killing the child process


class Conformers:
    """A source of reference conformers for `assemble`; thread-safe. Closing it ends its child process."""

    def __init__(self, cache_dir: Path | None = None, limits: EmbeddingLimits | None = None) -> None:
        """Keep conformers under `cache_dir` (default: the user's cache folder)."""
        root = cache_root_of(cache_dir)
        self.folder = root / f"conformers-rdkit{rdkit.__version__}-{SCHEMA}"
        self._worker = _Worker(limits or EmbeddingLimits())
        self._known: weakref.WeakKeyDictionary[Component, Conformer] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def __call__(self, component: Component) -> Conformer:
        """The reference conformer of a component's heavy atoms.

        Raises:
            InputError: RDKit finds none and there are no coordinates to fall back on; it names the component.
        """
        with self._lock:
            if component not in self._known:
                self._known[component] = self._find(component)
            return self._known[component]

    def close(self) -> None:
        """End the child process; it starts again when it is needed."""
        self._worker.stop()

    def _find(self, component: Component) -> Conformer:
        if component.source == "file":
            return dictionary_conformer(component, component.charge)
        key = content_key(component)
        if key in _shipped():
            return _shipped()[key]
        file = self.folder / key[:2] / f"{key}.npz"
        if file.is_file():
            found = _loaded(file)
            if found is not None:
                return found
        made, lasting = self._make(component)
        if lasting:
            _store(file, made)
        return made

    def _make(self, component: Component) -> tuple[Conformer, bool]:
        """A conformer, and whether it would be the same on a machine with nothing else to do."""
        charge = clean_charges(component)
        names = component.atom_name[component.heavy]
        if len(names) == 1:
            lone = Conformer(names, np.zeros((1, 3), np.float32), np.ones(1, bool), charge[component.heavy], "etkdg")
            return lone, True
        mol = molecule_of(component)
        alone = not any(
            np.isfinite(xyz[component.heavy]).all(axis=1).any() for xyz in (component.ideal, component.model)
        )
        methods = ("etkdg", "etkdg-random", "heavy-random") if alone else ("etkdg", "etkdg-random")
        lasting = True
        for method in methods if mol is not None else ():
            xyz, fair = self._worker.embed(mol, method)
            lasting = lasting and fair
            if xyz is not None:
                pos = xyz[np.flatnonzero(component.heavy)].astype(np.float32)
                return Conformer(names, pos, np.ones(len(names), bool), charge[component.heavy], method), lasting
        return dictionary_conformer(component, charge), lasting


def dictionary_conformer(component: Component, charge: np.ndarray) -> Conformer:
    """The component's ideal, else its model coordinates; of two incomplete sets the one with more heavy atoms.

    Raises:
        InputError: there are none.
    """
    heavy = component.heavy
    masks = {name: np.isfinite(getattr(component, name)[heavy]).all(axis=1) for name in ("ideal", "model")}
    method = max(masks, key=lambda name: masks[name].sum())  # the first, ideal, where they are equal
    if not masks[method].any():
        shown = component.name if len(component.name) <= 60 else f"{component.name[:60]}..."
        what = f"SMILES {shown!r}" if component.source == "smiles" else f"component {component.code!r}"
        raise InputError(
            f"RDKit finds no conformer of {what} in the time it has, and there are no coordinates to use instead;"
            " give the molecule as a component with coordinates in userCCD"
        )
    pos = np.where(masks[method][:, None], getattr(component, method)[heavy], 0).astype(np.float32)
    name = "given" if component.source == "file" else method
    return Conformer(component.atom_name[heavy], pos, masks[method], charge[heavy], name)


def content_key(component: Component) -> str:
    """SHA-256 of everything that decides a conformer but for the RDKit version: atoms, bonds, coordinates, seed."""
    digest = hashlib.sha256(f"{SCHEMA} {SEED} {component.source}".encode())
    if component.source == "smiles":
        digest.update(component.name.encode())
    for array in (component.atom_name, component.element, component.stereo):
        digest.update("\t".join(array.tolist()).encode())
    for array in (component.charge, component.bond_atoms, component.bond_order, component.ideal, component.model):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def pack_conformers(components: Iterable[Component], source: Conformers) -> dict[str, np.ndarray]:
    """Arrays of the shipped file: conformers under each other, with the key of each and its number of atoms."""
    parts = list(components)
    made = [source(component) for component in parts]
    return {
        "key": np.array([content_key(component) for component in parts]),
        "count": np.array([len(conformer.atom_names) for conformer in made]),
        "atom_names": np.concatenate([conformer.atom_names for conformer in made]).astype("U4"),
        "pos": np.concatenate([conformer.pos for conformer in made]),
        "mask": np.concatenate([conformer.mask for conformer in made]),
        "charge": np.concatenate([conformer.charge for conformer in made if conformer.charge is not None]),
    }


_SHIPPED: dict[str, Conformer] = {}


def _shipped() -> dict[str, Conformer]:
    """Conformers of the standard residues that come with the package, by content key."""
    if not _SHIPPED:
        packed = importlib.resources.files("foldline.chem").joinpath(SHIPPED_FILE).read_bytes()
        data = np.load(io.BytesIO(packed))
        cuts = np.cumsum(data["count"])[:-1]
        names, pos, mask, charge = (np.split(data[name], cuts) for name in ("atom_names", "pos", "mask", "charge"))
        for i, key in enumerate(data["key"].tolist()):
            _SHIPPED[key] = Conformer(names[i], pos[i], mask[i], charge[i], "etkdg")
    return _SHIPPED


def shipped_codes() -> list[str]:
    """Components whose conformers are shipped."""
    return sorted(STANDARD_RESIDUES | {"MSE"})


def _loaded(file: Path) -> Conformer | None:
    """A conformer from the cache; None for a file that cannot be read, which is then made anew."""
    try:
        data = np.load(io.BytesIO(file.read_bytes()))
        return Conformer(data["atom_names"], data["pos"], data["mask"], data["charge"], str(data["method"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _store(file: Path, conformer: Conformer) -> None:
    """Write by atomic rename; a cache that cannot be written is no reason to fail."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as scratch:
            np.savez(
                scratch,
                atom_names=conformer.atom_names,
                pos=conformer.pos,
                mask=conformer.mask,
                charge=conformer.charge if conformer.charge is not None else np.zeros(0, np.int8),
                method=conformer.method,
            )
        Path(scratch.name).replace(file)
    except OSError:
        return


class _Attempt(NamedTuple):
    """What one method gave; `fair` = it was found, or failed in the processor time that was meant for it."""

    xyz: np.ndarray | None  # float64 [n_atom, 3]
    fair: bool


class _Worker:
    """One child process that embeds; killed where it passes the limit or dies, started again for the next molecule."""

    def __init__(self, limits: EmbeddingLimits) -> None:
        self.limits = limits
        self._process: subprocess.Popen[str] | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="conformers")
        self._end = weakref.finalize(self, lambda: None)

    def embed(self, mol: Chem.Mol, method: str) -> _Attempt:
        """Coordinates, or None where the method failed or time ran out."""
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        request = {
            "molecule": base64.b64encode(mol.ToBinary()).decode("ascii"),
            "seed": SEED,
            "method": method,
            "seconds": self.limits.seconds,
            "limit": self.limits.limit + 5,
        }
        start, before = time.monotonic(), _ended_children_seconds()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = self._reader.submit(process.stdout.readline).result(timeout=self.limits.limit)
        except (FutureTimeout, BrokenPipeError):
            line = ""
        elapsed = time.monotonic() - start
        if not line:
            self.stop()
            return _Attempt(None, _was_fair(_ended_children_seconds() - before, elapsed))
        reply = json.loads(line)
        xyz = np.frombuffer(base64.b64decode(reply["xyz"])).reshape(-1, 3)
        if len(xyz):
            return _Attempt(xyz, True)
        return _Attempt(None, elapsed < self.limits.seconds or _was_fair(reply["processor_seconds"], elapsed))

    def stop(self) -> None:
        """Kill the child process, if there is one."""
        self._end()
        self._process = None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", embedding.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._end = weakref.finalize(self, _kill, self._process)
        return self._process


def _ended_children_seconds() -> float:
    """Processor time of all child processes that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _was_fair(processor_seconds: float, elapsed: float) -> bool:
    """Whether a process had most of a processor while it was waited for."""
    return processor_seconds > 0.7 * elapsed


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
