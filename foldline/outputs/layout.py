"""AlphaFold 3's output folder, written sample by sample. Knows file names and atomic writing, not what is in the files.

    <job>/seed-S_sample-N/<job>_seed-S_sample-N_{model.cif,confidences.json,summary_confidences.json}   as they come
    <job>/<job>_{model.cif,confidences.json,summary_confidences.json,data.json,ranking_scores.csv,run.json}   at the end

Every file is written beside its place and renamed into it. Source: AlphaFold 3, run_alphafold.py:661-731.
"""

import csv
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from foldline.chem.component import Component
from foldline.errors import InputError
from foldline.outputs.confidences import confidences_json, summary_json
from foldline.outputs.disorder import fraction_disordered
from foldline.outputs.mmcif import ComponentSource, ModelWriter
from foldline.outputs.modelcif import Provenance
from foldline.outputs.stereo import stereocentres
from foldline.structure.atoms import Topology
from foldline.tensors.results import Embeddings, Samples

PARTS = ("model.cif", "confidences.json", "summary_confidences.json")
TOP_PARTS = (*PARTS, "data.json", "ranking_scores.csv", "run.json")
_MADE_FROM_IT = ("report.html", "plddt.png", "msa.png")  # by foldline report; stale when the result goes
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


@dataclass(frozen=True)
class WrittenSample:
    """One sample on disk."""

    seed: int
    sample: int
    ranking_score: float
    inverted: list[str] = field(default_factory=list)  # stereocentres, chain:residue:atom

    @property
    def folder(self) -> str:
        """Name of the sample's folder."""
        return f"seed-{self.seed}_sample-{self.sample}"


class SampleWriter:
    """Writes a job's samples as they come and its top-level files at the end.

    With a `fingerprint` (a hash of all that decides the result), samples that an interrupted run with the same
    fingerprint finished are kept and listed in `written`; files of any other run of this job are removed first.
    """

    def __init__(self, directory: Path, job: PredictedJob, *, fingerprint: str = "") -> None:
        """`directory` is the job's own folder; it is made when it does not exist."""
        self.directory, self.job, self.fingerprint = Path(directory), job, fingerprint
        self._model_writer = ModelWriter(job.topology, job.components, name=job.name, provenance=job.provenance)
        self._stereocentres = stereocentres(
            job.topology, lambda code: job.ligands.get(code) or job.components.get(code)
        )
        self._journal = progress_file(self.directory, job.name)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.written: list[WrittenSample] = self._resumed()
        if not self.written:
            remove_result(self.directory, job.name)
        _remove_scratch(self.directory, job.name)

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
        stem.parent.mkdir(exist_ok=True)
        model = self._model_writer.text(coordinates, confidences.atom_plddt)
        summary = summary_json(job.topology, confidences, fraction_disordered(job.topology, coordinates))
        arrays = confidences_json(job.topology, job.atom_to_token, confidences, samples.contact_probs)
        write_atomically(Path(f"{stem}_model.cif"), [model.encode()])
        write_atomically(Path(f"{stem}_confidences.json"), arrays)
        write_atomically(Path(f"{stem}_summary_confidences.json"), [summary])
        self.written.append(record)
        state = {"fingerprint": self.fingerprint, "samples": [asdict(done) for done in self.written]}
        write_atomically(self._journal, [json.dumps(state).encode()])
        return record

    def write_embeddings(self, seed: int, embeddings: Embeddings) -> Path:
        """`seed-S_embeddings/<job>_seed-S_embeddings.npz` with AlphaFold 3's two float16 arrays."""
        path = self._embeddings(seed)
        path.parent.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            single_embeddings=embeddings.s.astype(np.float16),
            pair_embeddings=embeddings.z.astype(np.float16),
        )
        write_atomically(path, [buffer.getbuffer()])
        return path

    def best(self) -> WrittenSample:
        """The sample with the highest ranking score, the first of equals."""
        return max(self.written, key=lambda record: record.ranking_score)

    def finish(self, data_json: str, run: Mapping[str, object], seeds: Iterable[int] = ()) -> WrittenSample:
        """Write the top-level files, `<job>_run.json` last, and return the best sample.

        `seeds` is the job's order of seeds for the ranking table (default: the order of writing). `run` is written as
        it is, with the best sample and the fingerprint added.
        """
        assert self.written, "no sample was written"
        order = {seed: place for place, seed in enumerate(seeds)}
        self.written.sort(key=lambda record: (order.get(record.seed, len(order)), record.sample) if order else (0, 0))
        best = self.best()
        top = self.directory / self.job.name
        for part in PARTS:
            write_atomically(Path(f"{top}_{part}"), _pieces(Path(f"{self._stem(best)}_{part}")))
        write_atomically(Path(f"{top}_data.json"), [data_json.encode()])
        write_atomically(Path(f"{top}_ranking_scores.csv"), [ranking_csv(self.written)])
        record = dict(run) | {"best": _score(best), "stereocentres": self._stereo(), "fingerprint": self.fingerprint}
        write_atomically(Path(f"{top}_run.json"), [json.dumps(record, indent=1, allow_nan=False).encode()])
        self._journal.unlink(missing_ok=True)
        return best

    def _stereo(self) -> dict[str, object]:
        """How many stereocentres there are, and which are inverted in which samples."""
        found = [_place(record) | {"atoms": record.inverted} for record in self.written if record.inverted]
        return {"count": len(self._stereocentres.names), "inverted": found}

    def _embeddings(self, seed: int) -> Path:
        return self.directory / f"seed-{seed}_embeddings" / f"{self.job.name}_seed-{seed}_embeddings.npz"

    def _stem(self, record: WrittenSample) -> Path:
        return self.directory / record.folder / f"{self.job.name}_{record.folder}"

    def _resumed(self) -> list[WrittenSample]:
        """Samples of an interrupted run with this fingerprint whose files are all there."""
        state = read_object(self._journal)
        if not self.fingerprint or state.get("fingerprint") != self.fingerprint:
            return []
        records = [WrittenSample(**sample) for sample in state["samples"]]
        return [r for r in records if all(Path(f"{self._stem(r)}_{part}").is_file() for part in PARTS)]


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
    return writer.finish(data_json, run)


def is_finished(directory: Path, name: str, fingerprint: str) -> bool:
    """Whether a whole result with this fingerprint lies in the folder, or in the store that the folder works for."""
    if not fingerprint:
        return False
    of_store = read_object(stored_mark(directory, name)).get("fingerprint") == fingerprint
    return of_store or (
        read_object(record_file(directory, name)).get("fingerprint") == fingerprint and is_whole(directory, name)
    )


def is_whole(directory: Path, name: str) -> bool:
    """Whether the folder has every file of a result that is at its top."""
    return all((Path(directory) / f"{name}_{part}").is_file() for part in TOP_PARTS)


def record_file(directory: Path, name: str) -> Path:
    """The record of how a result came about, whose file is written last."""
    return Path(directory) / f"{name}_run.json"


def progress_file(directory: Path, name: str) -> Path:
    """What tells of a job that is half done which samples are there."""
    return Path(directory) / f".{name}_progress.json"


def stored_mark(directory: Path, name: str) -> Path:
    """A copy of the record of a whole result that lies in a store (`outputs.stored`)."""
    return Path(directory) / f".{name}_stored.json"


def record_of(directory: Path, name: str) -> dict:
    """The record of a job's result, here or in the store, {} where there is none."""
    return read_object(record_file(directory, name)) or read_object(stored_mark(directory, name))


def is_of_result(name: str, file: str) -> bool:
    """Whether a file of a job's folder, named from there on, is one of a result of this job, or was made of it."""
    folder, _, last = file.rpartition("/")
    if folder:
        parts = (*(f"_{part}" for part in PARTS), ".npz")
        return folder.startswith("seed-") and last in {f"{name}_{folder}{part}" for part in parts}
    pictures = last.startswith(f"{name}_seed-") and "_sample-" in last and last.endswith("_pae.png")
    tops = {f"{name}_{part}" for part in (*TOP_PARTS, *_MADE_FROM_IT)} | {f".{name}_progress.json"}
    return pictures or last in tops


def tidy(directory: Path, name: str) -> None:
    """Remove from a whole result what a run that was killed at its very end left beside it."""
    progress_file(directory, name).unlink(missing_ok=True)
    _remove_scratch(Path(directory), name)


def remove_result(directory: Path, name: str) -> None:
    """Remove every file that a result of this job has in its folder, and nothing else."""
    directory = Path(directory)
    folders = [folder for folder in directory.glob("seed-*_*") if folder.is_dir()]
    found = [path for folder in (directory, *folders) for path in folder.glob("*") if not path.is_dir()]
    doomed = [path for path in found if is_of_result(name, path.relative_to(directory).as_posix())]
    doomed.sort(key=lambda path: not path.name.endswith("_run.json"))  # the mark of a whole result goes first
    for path in doomed:
        path.unlink(missing_ok=True)
    _remove_scratch(directory, name)
    for folder in folders:
        if not any(folder.iterdir()):
            folder.rmdir()


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


def write_atomically(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file so that it is whole or not there, whatever happens; an existing one is replaced at the end."""
    scratch = path.with_name(f".{path.name[:200]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with scratch.open("xb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_COPY_BYTES):
            yield piece


def read_object(path: Path) -> dict:
    """A JSON object, {} where there is none."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
