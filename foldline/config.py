"""EngineConfig: every setting of a run in one frozen record, from keywords, a TOML file and command-line options alike.

Knows names, types and ranges of settings; not devices (whether cuda:3 is there), checkpoints or jobs.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from foldline.errors import InputError

MAX_SEED = 2**32 - 1
CONFIG_FILE = "foldline.toml"
REPAIRS = ("chain_ids", "nucleotides", "alignments")  # faults of inputs that can be mended in place of refused
_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("", 1000), ("b", 1000), ("ib", 1024))
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Settings of an engine. None leaves the choice to the checkpoint's spec or to the plan.

    `EngineConfig(...)` takes values of these types; `EngineConfig.make` also reads a file and words such as "40GB".
    """

    # model
    model: str = "protenix-v1"  # a registry name, an alias or the path of a checkpoint
    device: str = "auto"  # auto | cpu | cuda | cuda:N
    dtype: str = "auto"  # auto | bf16 | fp32
    recycles: int | None = None  # N means N + 1 trunk passes
    steps: int | None = None  # of the diffusion sampler
    samples: int = 5  # per seed
    mc_dropout: bool = False  # Monte Carlo dropout in the trunk, as upstream's command line applies it
    # memory and speed
    max_memory: int | None = None  # bytes of the device that a run may use
    seed_batch: int | None = None  # seeds that may share forward passes, of one job or of several; 1 = none do
    buckets: tuple[int, ...] | None = None  # padded token counts; empty = no padding
    threads: int | None = None  # of the CPU
    workers: int | None = None  # processes that featurise; 0 = this one does
    ahead: int | None = None  # jobs (of 256 tokens) featurised while others run
    # alignments and files
    msa: str = "auto"  # auto | none
    stage: str = "all"  # all | search (alignments alone) | infer (search for nothing)
    repair: tuple[str, ...] = ()  # of REPAIRS; for the commands that read jobs
    search: Mapping[str, object] = field(default_factory=dict)  # the [search] table: foldline.search.settings
    cache_dir: Path | None = None  # components, conformers and checkpoints; default: the user's cache folder
    work_dir: Path | None = None  # where results are made that go into a store; default: in the cache folder
    # results
    on_error: str = "continue"  # continue | stop
    overwrite: bool = False
    save_embeddings: bool = False  # s_inputs, s and z beside every seed's samples

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            InputError: naming the setting and what it may be.
        """
        _one_of("dtype", self.dtype, "auto", "bf16", "fp32")
        _one_of("msa", self.msa, "auto", "none")
        _one_of("stage", self.stage, "all", "search", "infer")
        if not isinstance(self.search, Mapping):
            raise _bad("search", self.search, "a table [search]")
        _one_of("on_error", self.on_error, "continue", "stop")
        if not isinstance(self.device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise _bad("device", self.device, "auto, cpu, cuda or cuda:N")
        if not isinstance(self.model, str) or not self.model:
            raise _bad("model", self.model, "the name or the path of a checkpoint (foldline weights list)")
        for name, least in (("recycles", 0), ("ahead", 0), ("workers", 0), ("samples", 1), ("steps", 1)):
            _whole(name, getattr(self, name), least)
        for name in ("max_memory", "threads", "seed_batch"):
            _whole(name, getattr(self, name), 1)
        for name in ("mc_dropout", "overwrite", "save_embeddings"):
            if not isinstance(getattr(self, name), bool):
                raise _bad(name, getattr(self, name), "true or false")
        for name in ("cache_dir", "work_dir"):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), Path):
                raise _bad(name, getattr(self, name), "a path")
        _check_buckets(self.buckets)
        if not isinstance(self.repair, tuple):
            raise _bad("repair", self.repair, f"a tuple of {', '.join(REPAIRS)}")
        parse_repair(self.repair)

    @classmethod
    def make(cls, file: Path | None = None, **given: object) -> "EngineConfig":
        """Settings from a TOML file, and over them those given; None stands for "not given". Words are understood.

        Raises:
            InputError: unreadable file, an unknown name (with the nearest known one), or a bad value; it says where.
        """
        known = {field.name for field in fields(cls)}
        from_file = {} if file is None else _read_toml(Path(file))
        for name in (*from_file, *given):
            if name not in known:
                raise InputError(_unknown(name, known), path=name, source=str(file) if name in from_file else "")
        values = from_file | {name: value for name, value in given.items() if value is not None}
        try:
            parsed: dict[str, Any] = {name: _PARSERS.get(name, _same)(value) for name, value in values.items()}
            for name in ("cache_dir", "work_dir"):
                if file is not None and name in from_file and given.get(name) is None:
                    parsed[name] = Path(file).resolve().parent / parsed[name]
            if file is not None and isinstance(from_file.get("search"), dict) and given.get("search") is None:
                parsed["search"] = {"relative_to": "."} | parsed["search"]
                parsed["search"]["relative_to"] = Path(file).resolve().parent / parsed["search"]["relative_to"]
            return cls(**parsed)
        except InputError as error:
            if error.path in from_file and given.get(error.path) is None:
                raise InputError(error.message, path=error.path, source=str(file)) from error
            raise

    @property
    def cache_root(self) -> Path:
        """Folder of Foldline's per-user files."""
        return cache_root_of(self.cache_dir)

    @property
    def work_root(self) -> Path:
        """Folder of the folders in which results are made that go into a store."""
        return self.work_dir if self.work_dir is not None else self.cache_root / "results-1"


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedChoice:
    """Seeds to run in place of a job's own: `seeds`, or `num_seeds` counted on from the job's one seed, or neither."""

    seeds: tuple[int, ...] | None = None
    num_seeds: int | None = None

    def __post_init__(self) -> None:
        """Check both.

        Raises:
            InputError: naming the one at fault.
        """
        if self.seeds is not None and self.num_seeds is not None:
            raise InputError("seeds and num_seeds exclude each other: give one of them", path="num_seeds")
        _whole("num_seeds", self.num_seeds, 1)
        _check_seeds(self.seeds)

    def of(self, given: tuple[int, ...], job_name: str) -> tuple[int, ...]:
        """Seeds to run for a job that brings its own.

        Raises:
            InputError: `num_seeds` is set and the job has several seeds, or the count passes the largest seed.
        """
        if self.seeds is not None:
            return self.seeds
        if self.num_seeds is None:
            return given
        if len(given) != 1:
            raise InputError(
                f'the job "{job_name}" has {len(given)} seeds, and num_seeds counts on from exactly one: '
                "leave one in modelSeeds or list them all with seeds",
                path="num_seeds",
            )
        if given[0] + self.num_seeds - 1 > MAX_SEED:
            raise InputError(
                f'the seeds of the job "{job_name}" would pass {MAX_SEED}: start from a smaller seed', path="num_seeds"
            )
        return tuple(range(given[0], given[0] + self.num_seeds))


def cache_root_of(cache_dir: str | Path | None) -> Path:
    """`cache_dir`, or the folder of Foldline's per-user files where it is not set.

    Raises:
        InputError: the user has no home folder, as in some containers.
    """
    if cache_dir is not None:
        return Path(cache_dir)
    import platformdirs  # here, so that whoever names files by path needs torch and numpy alone

    try:
        root = Path(platformdirs.user_cache_dir("foldline"))
    except RuntimeError:
        root = Path()
    if not root.is_absolute():
        what = "this user has no home folder to keep files in: set cache_dir in foldline.toml, or HOME"
        raise InputError(what, path="cache_dir")
    return root


def parse_bytes(value: object) -> int:
    """Bytes from a number or a word such as "40GB" (1000^3) or "40GiB" (1024^3)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", str(value).lower())
    if found is None or found[2] not in _UNITS:
        raise _bad("max_memory", value, "a size such as 40GB or 16GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def _parse_max_memory(value: object) -> int:
    """Bytes of a device: so few that a unit was forgotten are refused."""
    size = parse_bytes(value)
    if 0 < size < 10**6:
        message = f"{size} bytes are less than any job needs: give a unit, as in 40GB or 16GiB"
        raise InputError(message, path="max_memory")
    return size


def parse_seeds(value: object) -> tuple[int, ...]:
    """Seeds from "1,2,3", a number or a list."""
    return _numbers("seeds", value, f"whole numbers from 0 to {MAX_SEED}, separated by commas")


def parse_buckets(value: object) -> tuple[int, ...] | None:
    """Token counts from "256,512", "none" (no padding), "auto" or a list."""
    if value in ("auto", "none"):
        return None if value == "auto" else ()
    return _numbers("buckets", value, "auto, none, or token counts separated by commas")


def parse_seed_batch(value: object) -> object:
    """A number of seeds, or None for "auto"."""
    if value == "auto":
        return None
    text = str(value)
    if not text.isdecimal() or not text.isascii():
        raise _bad("seed_batch", value, "auto or a whole number of at least 1")
    return int(text)


def parse_repair(value: object) -> tuple[str, ...]:
    """What to mend, each word once and in the order of `REPAIRS`, from a list of words, "a,b" or "none".

    Raises:
        InputError: a word that is none of them, with the nearest one.
    """
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise _bad("repair", value, f"a list of {', '.join(REPAIRS)}, or none")
    words = [item.strip() if isinstance(item, str) else item for item in items]
    words = [] if words == ["none"] else words
    for word in words:
        if word not in REPAIRS:
            near = difflib.get_close_matches(str(word).lower().replace("-", "_"), REPAIRS, n=1)
            known = f"{', '.join(REPAIRS)} or none"
            raise _bad("repair", word, f"{known}; did you mean {near[0]}?" if near else known)
    return tuple(word for word in REPAIRS if word in words)


def _parse_path(name: str) -> Callable[[object], Path]:
    def parse(value: object) -> Path:
        if not isinstance(value, str | Path) or not str(value):
            raise _bad(name, value, "a path")
        return Path(value).expanduser()

    return parse


_PARSERS: dict[str, Callable] = {
    "max_memory": _parse_max_memory,
    "buckets": parse_buckets,
    "seed_batch": parse_seed_batch,
    "repair": parse_repair,
    "cache_dir": _parse_path("cache_dir"),
    "work_dir": _parse_path("work_dir"),
}


def _same(value: object) -> object:
    return value


def _numbers(name: str, value: object, wanted: str) -> tuple[int, ...]:
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    numbers = []
    for item in items:
        text = item.strip() if isinstance(item, str) else item
        if isinstance(text, str) and text.isdecimal() and text.isascii():
            text = int(text)
        if not isinstance(text, int) or isinstance(text, bool):
            raise _bad(name, value, wanted)
        numbers.append(text)
    return tuple(numbers)


def _read_toml(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"the configuration cannot be read ({error.strerror}): check its path", source=str(file)
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not valid TOML ({error}): mend the line", source=str(file)) from error


def _unknown(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), sorted(known), n=1)
    return f"unknown setting; {f'did you mean {near[0]}?' if near else 'known are ' + ', '.join(sorted(known))}"


def _bad(name: str, value: object, wanted: str) -> InputError:
    shown = "true" if value is True else "false" if value is False else repr(value) if isinstance(value, str) else value
    return InputError(f"{shown} is not possible here: give {wanted}", path=name)


def _one_of(name: str, value: object, *words: str) -> None:
    if value not in words:
        raise _bad(name, value, f"{', '.join(words[:-1])} or {words[-1]}")


def _whole(name: str, value: object, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise _bad(name, value, f"a whole number of at least {least}")


def _check_seeds(seeds: tuple[int, ...] | None) -> None:
    if seeds is None:
        return
    numbers = isinstance(seeds, tuple) and all(isinstance(seed, int) and 0 <= seed <= MAX_SEED for seed in seeds)
    if not numbers or not seeds:
        raise _bad("seeds", seeds, f"whole numbers from 0 to {MAX_SEED}, separated by commas")
    if len(set(seeds)) != len(seeds):
        raise _bad("seeds", seeds, "each seed once")


def _check_buckets(buckets: tuple[int, ...] | None) -> None:
    numbers = buckets is None or isinstance(buckets, tuple) and all(isinstance(x, int) and x > 0 for x in buckets)
    if not numbers or (buckets and list(buckets) != sorted(set(buckets))):
        raise _bad("buckets", buckets, "token counts above 0 in rising order")


def settings(config: EngineConfig) -> Mapping[str, object]:
    """All settings by name as plain values, for the record of a run."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
