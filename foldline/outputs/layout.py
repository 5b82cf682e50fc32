"""AlphaFold 3's output folder, written sample by sample. Knows file names and atomic writing, not what is in the files.

    <job>/seed-S_sample-N/<job>_seed-S_sample-N_{model.cif,confidences.json,summary_confidences.json}   as they come
    <job>/<job>_{model.cif,confidences.json,summary_confidences.json,data.json,ranking_scores.csv,run.json}   at the end

Every file is written beside its place and renamed into it. Where a result lies already, the new one is made whole in
<job>/.<job>_next/ and then put in its place (`settle`). Source: AlphaFold 3, run_alphafold.py:661-731.
"""

import csv
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np

from foldline.chem.component import Component
from foldline.errors import InputError
from foldline.outputs.confidences import confidences_json, summary_json
from foldline.outputs.disorder import fraction_disordered
from foldline.outputs.embeddings import write_npz
from foldline.outputs.mmcif import ComponentSource, ModelWriter
from foldline.outputs.modelcif import Provenance
from foldline.outputs.records import WrittenSample, read_journal, read_record
from foldline.outputs.stereo import stereocentres
from foldline.structure.atoms import Topology
from foldline.tensors.results import EmbeddingRows, Samples

PARTS = ("model.cif", "confidences.json", "summary_confidences.json")
TOP_PARTS = (*PARTS, "data.json", "ranking_scores.csv", "run.json")
_MADE_FROM_IT = ("report.html", "plddt.png", "msa.png")  # by foldline report; stale when the result goes
_RANKED = re.compile(rb"^(-?\d+),(\d+),", re.MULTILINE)
_COPY_BYTES = 1 << 22


@dataclass(frozen=True)
class PredictedJob:
    """What the files of a job say besides numbers. `name` is the job's file-safe name (`inputs.names.slug`)."""

    name: str
    topology: Topology
    atom_to_token: np.ndarray  # int32 [N_atom], without padding
    components: ComponentSource
    provenance: Provenance
    ligands: Mapping[str, Component] = field(default_factory=dict)  # what `components` lacks: those given as SMILES

    def __post_init__(self) -> None:
        if not self.name or self.name in (".", "..") or Path(self.name).name != self.name or "\\" in self.name:
            raise InputError(f"the job's name {self.name!r} cannot be used in file names", path="$.name")


class SampleWriter:
    """Writes a job's samples as they come and its top-level files at the end.

    With a `fingerprint` (a hash of all that decides the result), samples that an interrupted run with the same
    fingerprint finished are kept and listed in `written`, and those of wanted seeds that one with other seeds finished;
    what any other run of this job has begun is removed. A result that is there stays until `finish` has made the new
    one whole.
    """

    def __init__(
        self,
        directory: Path,
        job: PredictedJob,
        *,
        fingerprint: str = "",
        seedless: str = "",
        kept: Sequence[WrittenSample] = (),
        seeds: Collection[int] | None = None,
        before_swap: Callable[[], None] = lambda: None,
    ) -> None:
        """Look at what is there.

        Args:
            directory: the job's own folder; it is made when it does not exist.
            job: what the files say besides numbers.
            fingerprint: hash of all that decides the result.
            seedless: the same of all but the seeds, for `outputs.kept` and runs with other seeds.
            kept: samples of whole seeds that stay where they are, in the result that is there.
            seeds: those of which an interrupted run is gone on with; None: all, of one with this fingerprint alone.
            before_swap: called before an old result goes.
        """
        self.directory, self.job, self.fingerprint, self.seedless = Path(directory), job, fingerprint, seedless
        self._before_swap = before_swap
        self._model_writer = ModelWriter(job.topology, job.components, name=job.name, provenance=job.provenance)
        self._stereocentres = stereocentres(
            job.topology, lambda code: job.ligands.get(code) or job.components.get(code)
        )
        settle(self.directory, job.name, before_swap)
        self.remark = _remark(self.directory, job.name, fingerprint)  # on the result that is there; "" where none is
        replaces, following = record_file(self.directory, job.name).is_file(), next_folder(self.directory, job.name)
        self._place = following if replaces else self.directory  # where files are written
        self._journal = progress_file(self._place, job.name)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._kept = {sample.seed for sample in kept} if replaces else set()
        self.remark += f"; seeds kept: {len(self._kept)}" if self._kept else ""
        self._made: dict[str, int] = {}  # bytes of the files that the journal tells of
        made = self._resumed(seeds)
        if following.is_dir() and not (replaces and made):
            shutil.rmtree(following)
        if not replaces and not made:
            remove_result(self.directory, job.name)
        _remove_scratch(self._place, job.name)
        self.written: list[WrittenSample] = [*(kept if replaces else ()), *made]

    def is_written(self, seed: int, sample: int) -> bool:
        """Whether this sample is on disk."""
        return any((done.seed, done.sample) == (seed, sample) for done in self.written)

    def has_seed(self, seed: int, samples: int, *, embeddings: bool = False) -> bool:
        """Whether all that a seed gives is on disk: samples 0 to `samples` - 1, and its embeddings where wanted."""
        whole = all(self.is_written(seed, number) for number in range(samples))
        return whole and (not embeddings or self._embeddings(seed).is_file())

    def write(self, samples: Samples) -> list[WrittenSample]:
        """Write samples of one seed, all or some; those on disk already are left as they are.

        Raises:
            NonFiniteOutput: a sample holds NaN or Inf where none may be; nothing of it is written.
        """
        return [self.write_sample(samples, place) for place in range(len(samples.confidences))]

    def write_sample(self, samples: Samples, place: int) -> WrittenSample:
        """Write the sample at `place` of `samples`. Raises NonFiniteOutput before anything of it is written."""
        confidences, coordinates = samples.confidences[place], samples.coordinates[place]
        samples.require_finite(place)
        inverted = self._stereocentres.inverted(coordinates)
        record = WrittenSample(samples.seed, samples.first + place, float(confidences.ranking_score), inverted)
        if self.is_written(record.seed, record.sample):
            return record
        job = self.job
        stem = self._stem(record)
        stem.parent.mkdir(parents=True, exist_ok=True)
        model = self._model_writer.text(coordinates, confidences.atom_plddt)
        summary = summary_json(job.topology, confidences, fraction_disordered(job.topology, coordinates))
        arrays = confidences_json(job.topology, job.atom_to_token, confidences, samples.contact_probs)
        write_atomically(Path(f"{stem}_model.cif"), [model.encode()])
        write_atomically(Path(f"{stem}_confidences.json"), arrays)
        write_atomically(Path(f"{stem}_summary_confidences.json"), [summary])
        self.written.append(record)
        made = [asdict(done) for done in self.written if done.seed not in self._kept]
        self._made |= self._sizes_of(record)
        state = {"fingerprint": self.fingerprint, "seedless_fingerprint": self.seedless}
        state |= {"samples": made, "files": self._made}
        write_atomically(self._journal, [json.dumps(state).encode()])
        return record

    def write_embeddings(self, seed: int, embeddings: EmbeddingRows) -> Path:
        """`seed-S_embeddings/<job>_seed-S_embeddings.npz` with AlphaFold 3's two float16 arrays."""
        path = self._embeddings(seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            write_npz(file, embeddings)
        return path

    def best(self) -> WrittenSample:
        """The sample with the highest ranking score, the first of equals."""
        return max(self.written, key=lambda record: record.ranking_score)

    def finish(self, data_json: Iterable[bytes], run: Mapping[str, object], seeds: Iterable[int] = ()) -> WrittenSample:
        """Write the top-level files, `<job>_run.json` last, and return the best sample; an old result goes then.

        `data_json` is the job's JSON in pieces, `seeds` its order of seeds for the ranking table (default: the order of
        writing). `run` is written as it is, with the best sample, the fingerprint and the bytes of all other files.
        """
        assert self.written, "no sample was written"
        order = {seed: place for place, seed in enumerate(seeds)}
        self.written.sort(key=lambda record: (order.get(record.seed, len(order)), record.sample) if order else (0, 0))
        best = self.best()
        self._place.mkdir(exist_ok=True)  # where every sample is kept, nothing is there yet
        top = self._place / self.job.name
        for part in PARTS:
            write_atomically(Path(f"{top}_{part}"), _pieces(Path(f"{self._stem(best)}_{part}")))
        write_atomically(Path(f"{top}_data.json"), data_json)
        write_atomically(Path(f"{top}_ranking_scores.csv"), [ranking_csv(self.written)])
        record = dict(run) | {"best": _score(best), "stereocentres": self._stereo(), "fingerprint": self.fingerprint}
        record |= {"seedless_fingerprint": self.seedless, "kept_seeds": sorted(self._kept), "files": self._sizes()}
        write_atomically(Path(f"{top}_run.json"), [json.dumps(record, indent=1, allow_nan=False).encode()])
        self._journal.unlink(missing_ok=True)
        settle(self.directory, self.job.name, self._before_swap)
        return best

    def _sizes(self) -> dict[str, int]:
        """Bytes of all files of the result but the record."""
        top = self._place / self.job.name
        paths = [Path(f"{top}_{part}") for part in TOP_PARTS if part != "run.json"]
        paths += [Path(f"{self._stem(record)}_{part}") for record in self.written for part in PARTS]
        arrays = [self._embeddings(seed) for seed in dict.fromkeys(record.seed for record in self.written)]
        paths += [path for path in arrays if path.is_file()]
        places = [self._place if path.is_relative_to(self._place) else self.directory for path in paths]
        found = zip(paths, places, strict=True)
        return {path.relative_to(place).as_posix(): path.stat().st_size for path, place in found}

    def _stereo(self) -> dict[str, object]:
        """How many stereocentres there are, and which are inverted in which samples."""
        found = [_place(record) | {"atoms": record.inverted} for record in self.written if record.inverted]
        return {"count": len(self._stereocentres.names), "inverted": found}

    def _embeddings(self, seed: int) -> Path:
        return self._place_of(seed) / f"seed-{seed}_embeddings" / f"{self.job.name}_seed-{seed}_embeddings.npz"

    def _stem(self, record: WrittenSample) -> Path:
        return self._place_of(record.seed) / record.folder / f"{self.job.name}_{record.folder}"

    def _place_of(self, seed: int) -> Path:
        return self.directory if seed in self._kept else self._place

    def _resumed(self, seeds: Collection[int] | None) -> list[WrittenSample]:
        """Samples of an interrupted run whose files are all there, as long as they were; others of it go."""
        journal, found = read_journal(self._journal), []
        is_same = self.fingerprint != "" and journal.fingerprint == self.fingerprint
        if not is_same and (seeds is None or not self.seedless or journal.seedless != self.seedless):
            return []
        for record in journal.samples:
            if record.seed in self._kept or (seeds is not None and record.seed not in seeds):
                continue
            sizes = self._sizes_of(record)
            told = {file: size for file, size in journal.sizes.items() if file in sizes}
            if all(Path(f"{self._stem(record)}_{part}").is_file() for part in PARTS) and sizes == sizes | told:
                found.append(record)
                self._made |= sizes
        if found and not is_same:
            for path in _files_of_result(self._place, self.job.name):
                if path != self._journal and path.relative_to(self._place).as_posix() not in self._made:
                    path.unlink(missing_ok=True)
            _remove_empty(self._place)
        return found

    def _sizes_of(self, record: WrittenSample) -> dict[str, int]:
        """Bytes of the files of a sample that are there, and of its seed's embeddings."""
        paths = [Path(f"{self._stem(record)}_{part}") for part in PARTS] + [self._embeddings(record.seed)]
        return {path.relative_to(self._place).as_posix(): path.stat().st_size for path in paths if path.is_file()}


def _place(record: WrittenSample) -> dict[str, object]:
    return {"seed": record.seed, "sample": record.sample}


def _score(record: WrittenSample) -> dict[str, object]:
    return _place(record) | {"ranking_score": record.ranking_score}


def write_prediction(
    directory: Path,
    job: PredictedJob,
    samples: Iterable[Samples],
    data_json: str,
    run: Mapping[str, object],
) -> WrittenSample:
    """Write a whole result at once, seeds in the order given; returns the best sample. Raises NonFiniteOutput."""
    writer = SampleWriter(directory, job)
    for of_seed in samples:
        writer.write(of_seed)
    return writer.finish([data_json.encode()], run)


def is_finished(directory: Path, name: str, fingerprint: str) -> bool:
    """Whether a whole result with this fingerprint lies in the folder, or in the store that the folder works for."""
    if not fingerprint:
        return False
    if read_record(stored_mark(directory, name)).get("fingerprint") == fingerprint:
        return True
    if following := next_record(directory, name):
        return following.get("fingerprint") == fingerprint
    return read_record(record_file(directory, name)).get("fingerprint") == fingerprint and is_whole(directory, name)


def asked_for(directory: Path, name: str) -> set[str]:
    """Fingerprints of what the results there were asked for as, files by their names: those `is_finished` looks at."""
    places = stored_mark(directory, name), record_file(directory, name)
    told = (record.get("asked_fingerprint") for record in (*map(read_record, places), next_record(directory, name)))
    return {found for found in told if found}


def is_whole(directory: Path, name: str) -> bool:
    """Whether the folder has every file of a result, as long as it was when the result was made."""
    return not damage(directory, name)


def has_result(directory: Path, name: str) -> bool:
    """Whether a result of this job is whole, here or in the store that the folder works for."""
    return bool(read_record(stored_mark(directory, name))) or is_whole(directory, name)


def damage(directory: Path, name: str) -> str:
    """What is wrong with the files of the result in a folder, in a few words that name one; "": it is whole."""

    def size_of(file: str) -> int | None:
        path = Path(directory) / file
        return path.stat().st_size if path.is_file() else None

    last, table = record_file(directory, name), Path(directory) / f"{name}_ranking_scores.csv"
    record = read_record(last)
    if not record:
        return f"{last.name} {'cannot be read' if last.is_file() else 'is missing'}"
    return damage_among(name, record, size_of, table.read_bytes() if "files" not in record and table.is_file() else b"")


def damage_among(name: str, record: Mapping, size_of: Callable[[str], int | None], table: bytes = b"") -> str:
    """The same for files wherever they are.

    Args:
        name: the job's file-safe name.
        record: that of the result.
        size_of: bytes of a file that is there, None for others.
        table: the ranking table, by which records of older versions, which tell no sizes, are judged.
    """
    tops = [f"{name}_{part}" for part in TOP_PARTS]
    folders = [f"seed-{seed.decode()}_sample-{sample.decode()}" for seed, sample in _RANKED.findall(table)]
    samples = [f"{folder}/{name}_{folder}_{part}" for folder in folders for part in PARTS]
    for file, size in (dict.fromkeys(tops + samples) | record.get("files", {})).items():
        found = size_of(file)
        if found is None:
            return f"{file} is missing"
        if size is not None and found != size:
            return f"{file} has {found} bytes, {size} were written"
    return ""


def record_file(directory: Path, name: str) -> Path:
    """The record of how a result came about, whose file is written last."""
    return Path(directory) / f"{name}_run.json"


def progress_file(directory: Path, name: str) -> Path:
    """What tells of a job that is half done which samples are there."""
    return Path(directory) / f".{name}_progress.json"


def stored_mark(directory: Path, name: str) -> Path:
    """A copy of the record of a whole result that lies in a store (`outputs.stored`)."""
    return Path(directory) / f".{name}_stored.json"


def next_folder(directory: Path, name: str) -> Path:
    """Where a new result is made while the old one is there."""
    return Path(directory) / f".{name}_next"


def next_record(directory: Path, name: str) -> dict:
    """The record of a new result that is whole and not, or only in part, in its place; {} where there is none.

    Files are put in their place after the old record is removed; those of seeds that it keeps are there all the time.
    """
    directory, following = Path(directory), next_folder(directory, name)
    record = read_record(record_file(following, name))
    begun = not record_file(directory, name).is_file()
    kept = tuple(f"seed-{seed}_" for seed in record.get("kept_seeds", ()))

    def size_of(file: str) -> int | None:
        in_place = is_of_result(name, file) and (begun or file.startswith(kept))
        places = (following / file, directory / file) if in_place else (following / file,)
        return next((path.stat().st_size for path in places if path.is_file()), None)

    return {} if "files" not in record or damage_among(name, record, size_of) else record


def record_of(directory: Path, name: str) -> dict:
    """The record of a job's result, here or in the store, {} where there is none."""
    return read_record(record_file(directory, name)) or read_record(stored_mark(directory, name))


def is_of_result(name: str, file: str) -> bool:
    """Whether a file of a job's folder, named from there on, is one of a result of this job, or was made of it."""
    folder, _, last = file.rpartition("/")
    if folder:
        parts = (*(f"_{part}" for part in PARTS), ".npz")
        return folder.startswith("seed-") and last in {f"{name}_{folder}{part}" for part in parts}
    pictures = last.startswith(f"{name}_seed-") and "_sample-" in last and last.endswith("_pae.png")
    tops = {f"{name}_{part}" for part in (*TOP_PARTS, *_MADE_FROM_IT)} | {f".{name}_progress.json"}
    return pictures or last in tops


def settle(directory: Path, name: str, before_swap: Callable[[], None] = lambda: None) -> None:
    """Put a new result that is whole in the place of the old one; nothing happens where there is none.

    A kill at any moment leaves what the next call ends: the old record goes first, the new one comes last, and files
    are only removed when all new ones are in their place. Files that are of no result stay.

    Raises:
        OSError: it cannot be done; a later call goes on with it.
    """
    directory, following = Path(directory), next_folder(directory, name)
    record = next_record(directory, name)
    if not record:
        return
    before_swap()
    record_file(directory, name).unlink(missing_ok=True)
    for file in filter(lambda file: is_of_result(name, file) and (following / file).is_file(), record["files"]):
        (directory / file).parent.mkdir(exist_ok=True)
        (following / file).replace(directory / file)
    for path in _files_of_result(directory, name):
        if path.relative_to(directory).as_posix() not in record["files"]:
            path.unlink(missing_ok=True)
    _remove_scratch(directory, name)
    _remove_empty(directory)
    record_file(following, name).replace(record_file(directory, name))
    shutil.rmtree(following)


def tidy(directory: Path, name: str) -> None:
    """Remove from a whole result what a run that was killed, at its very end or while replacing it, left beside it."""
    progress_file(directory, name).unlink(missing_ok=True)
    _remove_scratch(Path(directory), name)
    if next_folder(directory, name).is_dir():
        shutil.rmtree(next_folder(directory, name))


def remove_result(directory: Path, name: str) -> None:
    """Remove every file that a result of this job has in its folder, and nothing else."""
    directory = Path(directory)
    doomed = _files_of_result(directory, name)
    doomed.sort(key=lambda path: not path.name.endswith("_run.json"))  # the mark of a whole result goes first
    for path in doomed:
        path.unlink(missing_ok=True)
    _remove_scratch(directory, name)
    _remove_empty(directory)


def _files_of_result(directory: Path, name: str) -> list[Path]:
    folders = [folder for folder in directory.glob("seed-*_*") if folder.is_dir()]
    found = [path for folder in (directory, *folders) for path in folder.glob("*") if not path.is_dir()]
    return [path for path in found if is_of_result(name, path.relative_to(directory).as_posix())]


def _remove_empty(directory: Path) -> None:
    for folder in directory.glob("seed-*_*"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _remark(directory: Path, name: str, fingerprint: str) -> str:
    """What is to be said of the result that a new run finds."""
    last, again = record_file(directory, name), "the job is predicted again"
    if last.is_file():
        fault, is_same = damage(directory, name), read_record(last).get("fingerprint", fingerprint) == fingerprint
        if fault and is_same:
            return f"its result is damaged ({fault}): {again}"
        made = datetime.fromtimestamp(last.stat().st_mtime)
        return f"replaces the result of {made:%Y-%m-%d %H:%M}, which stays until the new one is whole"
    if read_record(stored_mark(directory, name)):
        return "replaces the result that is in the store, which stays until the new one is whole"
    if (Path(directory) / f"{name}_data.json").is_file() and not progress_file(directory, name).is_file():
        return f"its result is damaged ({last.name} is missing): {again}"
    return ""


def _remove_scratch(directory: Path, name: str) -> None:
    """Remove what a killed run was writing. A job's folder has one writer at a time."""
    for folder in (directory, *directory.glob("seed-*_*")):
        for path in folder.glob(".*.tmp"):
            if path.name.lstrip(".").startswith(f"{name}_"):  # the journal's own name has a dot too
                path.unlink(missing_ok=True)


def ranking_csv(records: Iterable[WrittenSample]) -> bytes:
    """AlphaFold 3's table of scores, in full precision and with its line ends (CRLF)."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["seed", "sample", "ranking_score"])
    table.writerows([record.seed, record.sample, record.ranking_score] for record in records)
    return text.getvalue().encode()


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that is whole or not there, whatever happens; an existing one is replaced at the end."""
    scratch = path.with_name(f".{path.name[:200]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with scratch.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_atomically(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """The same for content that is there in pieces."""
    with atomic_file(path) as file:
        file.writelines(pieces)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_COPY_BYTES):
            yield piece
