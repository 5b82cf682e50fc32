"""Checkpoints by name: where they come from, what they are called for short, and where they lie once fetched.

Knows names, addresses and the cache's layout; opens no network connection and no checkpoint.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path

from foldline.config import cache_root_of
from foldline.errors import WeightsError

_HOST = "https://protenix.tos-cn-beijing.volces.com/checkpoint"
CACHE_SCHEMA = "v1"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One published checkpoint. `size` (bytes) and `sha256` are None where its publisher does not state them.

    `bundled` is the file of one that is part of the package and has no address; it needs no fetching.
    """

    name: str
    summary: str
    url: str
    aliases: tuple[str, ...] = ()
    family: str = "protenix"
    licence: str = "Apache-2.0"
    size: int | None = None
    sha256: str | None = None
    bundled: Path | None = None


def _protenix(name: str, summary: str, *aliases: str) -> Entry:
    return Entry(name=name, summary=summary, url=f"{_HOST}/{name}.pt", aliases=aliases)


ENTRIES = (
    _protenix("protenix-v2", "464 M parameters, pair width 256"),
    _protenix("protenix_base_default_v1.0.0", "368 M parameters, templates", "protenix-v1"),
    _protenix("protenix_base_20250630_v1.0.0", "368 M parameters, templates", "protenix-v1-20250630"),
    _protenix("protenix_base_default_v0.5.0", "368 M parameters, no templates", "protenix-v0.5"),
    _protenix("protenix_mini_default_v0.5.0", "134 M parameters, 5 sampler steps, no templates", "protenix-mini"),
    _protenix("protenix_tiny_default_v0.5.0", "110 M parameters, 5 sampler steps, no templates", "protenix-tiny"),
)
# Part of the package: nothing to fetch. Its hash is that of the file that tools/train_demo wrote.
DEMO = Entry(
    name="demo",
    summary="3.4 M parameters, has memorised a few structures and can predict nothing else (docs/demo_model.md)",
    url="",
    size=6877226,
    sha256="2be8f93b595e940ab3f94da20ac85ca94afa7430acf83e677b083291a5fd319e",
    bundled=Path(__file__).with_name("demo.safetensors"),
)
BUNDLED = (DEMO,)
# Published under these names, and read by no network that is built here.
UNREADABLE = {
    "protenix_base_constraint_v0.5.0": "it reads constraints and ESM embeddings",
    "protenix_mini_esm_v0.5.0": "it reads ESM embeddings",
    "protenix_mini_ism_v0.5.0": "it reads ISM embeddings",
}
_BY_NAME = {name: entry for entry in (*ENTRIES, *BUNDLED) for name in (entry.name, *entry.aliases)}


def known(name: str) -> bool:
    """Whether a checkpoint has this name or alias."""
    return name in _BY_NAME


def lookup(name: str) -> Entry:
    """The entry of a name or alias.

    Raises:
        WeightsError: unknown name, with the nearest known ones.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name in UNREADABLE:
        raise WeightsError(
            f"the checkpoint {name} cannot be run, since {UNREADABLE[name]}; use {ENTRIES[1].aliases[0]}"
        )
    near = difflib.get_close_matches(name.lower(), _BY_NAME, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "see foldline weights list"
    raise WeightsError(f'no checkpoint is called "{name}" and no file is there; {hint}')


def cached_path(entry: Entry, cache_root: Path) -> Path:
    """Where a checkpoint lies once fetched; a bundled one is there already."""
    if entry.bundled is not None:
        return entry.bundled
    return cache_root / "checkpoints" / CACHE_SCHEMA / f"{entry.name}.pt"


def record_path(checkpoint: Path) -> Path:
    """Where the origin, size and hash of a fetched checkpoint are written."""
    return checkpoint.with_name(f"{checkpoint.name}.json")


def checkpoint_path(model: str | Path, *, cache_dir: Path | None = None) -> Path:
    """The file of a checkpoint given by path, or by the name or alias of one that was fetched.

    Args:
        model: a path, a name or an alias; a known name comes before a file of that name.
        cache_dir: folder of per-user files; default: the user's cache folder.

    Raises:
        WeightsError: no such file or name, or not fetched yet.
    """
    name = str(model)
    if not known(name):
        path = Path(model).expanduser()
        if path.is_file():
            return path
        if path.is_dir():
            raise WeightsError(f"{path} is a folder: name the checkpoint file in it")
        if isinstance(model, Path) or len(path.parts) > 1 or path.suffix in (".pt", ".pth", ".ckpt", ".safetensors"):
            raise WeightsError(f"{path}: no such checkpoint file")
    entry = lookup(name)
    if entry.bundled is not None:
        return entry.bundled
    path = cached_path(entry, cache_root_of(cache_dir))
    if not path.is_file():
        raise WeightsError(
            f"the checkpoint {entry.name} is not on this machine: run foldline weights fetch {name}, or put the file "
            f"from {entry.url} at {path}"
        )
    return path
