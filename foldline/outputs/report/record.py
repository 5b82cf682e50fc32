"""Everything that a report shows of a finished job, gathered from its folder and checked against itself.

Knows files and numbers, not how they are drawn. Files that contradict each other are refused, by name.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foldline.errors import InputError
from foldline.inputs import Job, read_jobs, slug
from foldline.outputs.layout import PARTS, WrittenSample
from foldline.outputs.report.alignments import Depth, depths
from foldline.outputs.report.confidences import FullConfidences, read_confidences
from foldline.outputs.report.folder import ResultFolder, open_folder, read_bytes, read_object
from foldline.outputs.report.structure import Structure, put_on, read_structure, upright

_ROUNDING = 0.0051  # of numbers written with two decimals


@dataclass(frozen=True)
class Scores:
    """One sample in numbers; None is undefined, as in the files."""

    seed: int
    sample: int
    ranking_score: float
    ptm: float | None
    iptm: float | None
    fraction_disordered: float | None
    has_clash: bool
    mean_plddt: float
    rmsd: float  # Å to the best sample, over one atom per residue
    chain_ptm: list[float | None]
    chain_iptm: list[float | None]
    chain_pair_iptm: list[list[float | None]]
    chain_pair_pae_min: list[list[float | None]]


@dataclass(frozen=True)
class SampleArrays:
    """One sample as arrays."""

    coordinates: np.ndarray  # float64 [N_atom, 3], Å, on the best sample
    atom_plddt: np.ndarray  # float32 [N_atom], 0-100
    pae: np.ndarray  # uint8 [n, n], eighths of Å (`confidences.quantised`), or what `shrink` made of it
    secondary: str  # a letter per residue


@dataclass(frozen=True)
class Record:
    """A finished job. Samples are in order of rank; `arrays` are those of the first of them."""

    name: str
    file_name: str  # safe in file names
    directory: Path
    run: Mapping[str, Any]
    structure: Structure
    atom_token: np.ndarray  # int [N_atom]
    depth: Mapping[str, Depth]
    scores: tuple[Scores, ...]
    arrays: tuple[SampleArrays, ...]

    @property
    def n_token(self) -> int:
        """Number of tokens."""
        return int(self.atom_token.max()) + 1

    @property
    def token_residue(self) -> np.ndarray:
        """Residue of every token, int [N_token]."""
        residues = np.zeros(self.n_token, int)
        residues[self.atom_token] = self.structure.atom_res
        return residues

    def token_plddt(self, number: int) -> np.ndarray:
        """Mean pLDDT of every token's atoms [N_token] of a sample."""
        total = np.bincount(self.atom_token, weights=self.arrays[number].atom_plddt)
        return total / np.bincount(self.atom_token)

    def token_depth(self) -> np.ndarray:
        """Rows of the alignment at every token, uint32 [N_token]; 0 for ligands."""
        s = self.structure
        per_residue = np.zeros(len(s.res_id), np.uint32)
        for chain, name in enumerate(s.chain_id):
            if name in self.depth:
                per_residue[s.res_chain == chain] = self.depth[name].columns
        return per_residue[self.token_residue]


def read_record(
    directory: Path,
    shrink: Callable[[np.ndarray], np.ndarray] = lambda pae: pae,
    n_arrays: Callable[[int, int], int] = lambda n_sample, n_atom: n_sample,
) -> Record:
    """Read a finished job.

    Args:
        directory: the job's folder.
        shrink: what is kept of each PAE, so that many large ones are never held at once.
        n_arrays: for how many samples, the best first, arrays are kept, from their number and that of atoms.

    Raises:
        InputError: no result, a half-written one, or one whose files disagree; it names the file.
    """
    folder = open_folder(directory)
    run = read_object(folder.top("run.json"))
    job = _job(folder)
    ranked = sorted(folder.samples, key=lambda sample: -sample.ranking_score)
    _check_best(folder, ranked[0])
    structure, atom_token, scores, arrays = None, np.zeros(0, int), [], []
    fixed = np.zeros((0, 3))
    kept = len(ranked)
    for number, sample in enumerate(ranked):
        source = str(folder.of(sample, "model.cif"))
        found, coordinates, b_factor = read_structure(folder.of(sample, "model.cif"))
        full = read_confidences(folder.of(sample, "confidences.json"))
        _check_atoms(found, b_factor, full, source)
        tokens = found.atom_tokens(full.token_chain, full.token_res, str(folder.of(sample, "confidences.json")))
        if structure is None:
            structure, atom_token, fixed = found, tokens, upright(coordinates)
            anchors, kept = found.anchors(), n_arrays(len(ranked), found.n_atom)
            _check_run(run, found, int(tokens.max()) + 1, len(ranked), str(folder.top("run.json")))
        elif not structure.same_as(found) or not np.array_equal(tokens, atom_token):
            raise InputError(f"has other atoms than {ranked[0].folder}: run foldline predict again", source=source)
        fitted, rmsd = put_on(fixed, coordinates, anchors)
        scores.append(_scores(folder, sample, found, full, rmsd))
        if number < kept:
            arrays.append(SampleArrays(fitted, full.atom_plddt, shrink(full.pae), found.secondary(coordinates)))
    assert structure is not None
    return Record(
        name=job.name,
        file_name=folder.name,
        directory=folder.directory,
        run=run,
        structure=structure,
        atom_token=atom_token,
        depth=_depths(job, run, structure, str(folder.top("data.json"))),
        scores=tuple(scores),
        arrays=tuple(arrays),
    )


def _job(folder: ResultFolder) -> Job:
    """The job as it was run."""
    path = folder.top("data.json")
    try:
        jobs = read_jobs(path)
    except InputError as error:
        raise InputError(f"is not the job of a result: {error}", source=str(path)) from error
    if len(jobs) != 1 or slug(jobs[0].name) != folder.name:
        named = jobs[0].name if jobs else ""
        raise InputError(
            f"is the job {named!r}, whose files would not be called {folder.name}_...: the folder mixes two jobs",
            source=str(path),
        )
    return jobs[0]


def _check_best(folder: ResultFolder, best: WrittenSample) -> None:
    """Whether the files at the top are those of the best sample of the ranking table."""
    tied = [sample for sample in folder.samples if sample.ranking_score == best.ranking_score]
    for part in PARTS:
        text = read_bytes(folder.top(part))
        if all(text != read_bytes(folder.of(sample, part)) for sample in tied):
            raise InputError(
                f"disagrees with the ranking table: it is not the file of {best.folder}, which scores best; run"
                " foldline predict --overwrite",
                source=str(folder.top(part)),
            )


def _check_atoms(found: Structure, b_factor: np.ndarray, full: FullConfidences, source: str) -> None:
    """Whether structure and confidences are of the same atoms and the same sample."""
    chains = [found.chain_id[chain] for chain in found.res_chain[found.atom_res].tolist()]
    if chains != list(full.atom_chain):
        raise InputError(
            f"disagrees with the full confidences beside it: {found.n_atom} atoms here, {len(full.atom_chain)} there,"
            " or in other chains; run foldline predict --overwrite",
            source=source,
        )
    worst = float(np.abs(b_factor - full.atom_plddt).max())
    if worst > 2 * _ROUNDING:
        raise InputError(
            f"disagrees with the full confidences beside it: pLDDT differs by up to {worst:.2f}, as if of another"
            " sample; run foldline predict --overwrite",
            source=source,
        )


def _check_run(run: Mapping[str, Any], found: Structure, n_token: int, n_sample: int, source: str) -> None:
    """Whether the record of the run is of this result."""
    seeds = run.get("seconds_per_seed")
    for key, here in (("n_token", n_token), ("n_atom", found.n_atom)):
        if key in run and run[key] != here:
            raise InputError(
                f"disagrees with the structures: {run[key]} as {key} in the record, {here} in the files; run foldline"
                " predict --overwrite",
                source=source,
            )
    if isinstance(run.get("samples"), int) and isinstance(seeds, list) and n_sample < run["samples"]:
        raise InputError(
            f"disagrees with the ranking table: {run['samples']} samples per seed in the record, {n_sample} in the"
            " table; run foldline predict --overwrite",
            source=source,
        )


def _scores(
    folder: ResultFolder, sample: WrittenSample, found: Structure, full: FullConfidences, rmsd: float
) -> Scores:
    path = folder.of(sample, "summary_confidences.json")
    summary = read_object(path)
    n_chain = len(found.chain_id)
    try:
        if tuple(summary["chain_ids"]) != found.chain_id:
            raise ValueError(f"its chains are {summary['chain_ids']}, those of the structure {list(found.chain_id)}")
        score = _number(summary["ranking_score"])
        if score is None or abs(score - sample.ranking_score) > _ROUNDING:
            raise ValueError(f"a ranking score of {score}, where the ranking table has {sample.ranking_score:.2f}")
        return Scores(
            seed=sample.seed,
            sample=sample.sample,
            ranking_score=sample.ranking_score,
            ptm=_number(summary["ptm"]),
            iptm=_number(summary["iptm"]),
            fraction_disordered=_number(summary["fraction_disordered"]),
            has_clash=bool(summary["has_clash"]),
            mean_plddt=float(full.atom_plddt.mean(dtype=np.float64)),
            rmsd=rmsd,
            chain_ptm=_numbers(summary["chain_ptm"], n_chain),
            chain_iptm=_numbers(summary["chain_iptm"], n_chain),
            chain_pair_iptm=[_numbers(row, n_chain) for row in _rows(summary["chain_pair_iptm"], n_chain)],
            chain_pair_pae_min=[_numbers(row, n_chain) for row in _rows(summary["chain_pair_pae_min"], n_chain)],
        )
    except KeyError as fault:
        raise InputError(f"has no {fault}: run foldline predict again", source=str(path)) from fault
    except (ValueError, TypeError) as fault:
        raise InputError(
            f"disagrees with the rest: {fault}; run foldline predict --overwrite", source=str(path)
        ) from fault


def _number(value: object) -> float | None:
    """A number of a summary; None is null."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _rows(value: object, n: int) -> Iterator[object]:
    if not isinstance(value, list) or len(value) != n:
        raise ValueError(f"a list of {n} is expected for {n} chains")
    return iter(value)


def _numbers(value: object, n: int) -> list[float | None]:
    return [_number(item) for item in _rows(value, n)]


def _depths(job: Job, run: Mapping[str, Any], structure: Structure, source: str) -> dict[str, Depth]:
    """Depths by chain, of the length of the chains that were predicted."""
    found = depths(job, str(run.get("msa", "auto")))
    for chain, (name, kind) in enumerate(zip(structure.chain_id, structure.chain_kind, strict=True)):
        n_res = int((structure.res_chain == chain).sum())
        if kind != "ligand" and (name not in found or len(found[name].columns) != n_res):
            raise InputError(
                f"disagrees with the structures: chain {name} has {n_res} residues there, and is not that long or not"
                " there in the job; run foldline predict --overwrite",
                source=source,
            )
    return found
