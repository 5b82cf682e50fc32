"""Results in folders as a run leaves them: random samples of a complex of every kind of chain."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foldline.inputs import slug
from foldline.outputs.layout import PredictedJob, write_prediction
from foldline.structure.atoms import Topology
from foldline.structure.entities import EntitySpec
from foldline.tensors.results import Samples

PROTEIN = "MKTAYSCHWGTYKEMKTAYICK"
ALIGNMENT = (
    f">query\n{PROTEIN}\n>a\n--TAYSCHWGTYKEMKTAYI--\n>b\nMKTAYSCHWGT-----------\n>again\n--TAYSCHWGTYKEMKTAYI--\n"
)
PAIRED = f">query\n{PROTEIN}\n>c\nmMKTAYSCHWG-YKEMKTAYICK\n"
RNA_ALIGNMENT = ">query\nGGCUAACC\n>r\nGG--AACC\n"
ENTITIES = [
    EntitySpec("protein", ("A", "B"), PROTEIN, {6: "SEP"}),
    EntitySpec("dna", ("C",), "ACGTTGCA"),
    EntitySpec("rna", ("D",), "GGCUAACC"),
    EntitySpec("ligand", ("E",), ccd_codes=("ATP",)),
    EntitySpec("ligand", ("F",), ccd_codes=("ZN",)),
]
SEQUENCES: list[dict[str, Any]] = [
    {
        "protein": {
            "id": ["A", "B"],
            "sequence": PROTEIN,
            "modifications": [{"ptmType": "SEP", "ptmPosition": 6}],
            "unpairedMsa": ALIGNMENT,
            "pairedMsa": PAIRED,
            "templates": [],
        }
    },
    {"dna": {"id": "C", "sequence": "ACGTTGCA"}},
    {"rna": {"id": "D", "sequence": "GGCUAACC", "unpairedMsa": RNA_ALIGNMENT}},
    {"ligand": {"id": "E", "ccdCodes": ["ATP"]}},
    {"ligand": {"id": "F", "ccdCodes": ["ZN"]}},
]
RUN: dict[str, Any] = {
    "foldline": "0.1.0",
    "torch": "2.13.0",
    "device": "cpu",
    "model": "protenix-v1",
    "family": "protenix",
    "checkpoint_sha256": "ab" * 32,
    "trunk_passes": 10,
    "steps": 200,
    "samples": 2,
    "msa": "auto",
    "plan": {
        "trunk_dtype": "bfloat16",
        "diffusion_dtype": "float32",
        "confidence_dtype": "float32",
        "rows": {"pair": 8192},
        "sample_batch": 2,
        "keep_biases": True,
        "staged_weights": False,
        "park_pair": False,
        "stage_bytes": {"trunk": 3 * 2**30, "diffusion": 2**30, "confidence": 2**29},
        "peak_bytes": 3 * 2**30,
    },
    "seconds": {"features": 0.5, "trunk": 12.0, "diffusion": 30.0, "confidence": 3.0, "write": 0.1, "total": 46.0},
    "seconds_per_seed": [{"seed": 1, "trunk": 6.0}, {"seed": 7, "trunk": 6.0}],
    "peak_bytes": 2**31,
    "warnings": ["the model is <b>not</b> sure & says so"],
}


@dataclass(frozen=True)
class Result:
    """A written result and what went into it."""

    folder: Path
    job: PredictedJob
    samples: list[Samples]

    @property
    def stem(self) -> str:
        """Start of the names of its files."""
        return f"{self.folder / self.job.name}"


Make = Callable[..., Result]


@pytest.fixture(scope="session")
def topology(assembled: Callable[..., Topology]) -> Topology:
    """The complex."""
    return assembled(ENTITIES)


@pytest.fixture(scope="session")
def make(
    topology: Topology,
    assembled: Callable[..., Topology],
    job_of: Callable[[Topology, str], PredictedJob],
    random_samples: Callable[[Topology, int, int], Samples],
) -> Make:
    """A function that writes a result into a folder; `entities` and `sequences` make it one of other chains."""

    def write(
        parent: Path,
        name: str = "complex",
        seeds: tuple[int, ...] = (1, 7),
        count: int = 2,
        run: dict[str, Any] | None = None,
        chains: tuple[list[EntitySpec], list[dict[str, Any]]] | None = None,
    ) -> Result:
        what = topology if chains is None else assembled(chains[0])
        job = job_of(what, slug(name))
        samples = [with_pae(random_samples(what, seed, count)) for seed in seeds]
        data = {"dialect": "alphafold3", "version": 2, "name": name, "modelSeeds": list(seeds)}
        data["sequences"] = SEQUENCES if chains is None else chains[1]
        sizes = {"n_token": int(job.atom_to_token.max()) + 1, "n_atom": what.n_atom, "samples": count}
        folder = parent / job.name
        write_prediction(folder, job, samples, json.dumps(data), RUN | sizes | (run or {}))
        return Result(folder, job, samples)

    return write


def with_pae(samples: Samples) -> Samples:
    """The same with a PAE that is not symmetric and not that of another sample."""
    confidences = []
    for number, old in enumerate(samples.confidences):
        row = np.arange(len(old.pae), dtype=np.float32)[:, None]
        confidences.append(replace(old, pae=0.2 + 2 * number + 0.2 * row + old.pae / 16))
    return replace(samples, confidences=tuple(confidences))


@pytest.fixture
def result(make: Make, tmp_path: Path) -> Result:
    """A result of two seeds with two samples each."""
    return make(tmp_path)
