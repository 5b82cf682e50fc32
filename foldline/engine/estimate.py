"""What a job would need, on this device and on others, and the largest job that they hold. Loads no weights.

Knows sizes, specs and plans; a checkpoint's spec comes by its name, or from its header where a file is named.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from foldline.engine.memory_model import Sizes
from foldline.engine.plan import Plan, leanest, plan
from foldline.engine.schedule import BUCKETS, bucket_of
from foldline.errors import DoesNotFit
from foldline.models import ModelSpec
from foldline.models.spec import PROTENIX_MINI, PROTENIX_TINY, PROTENIX_V05, PROTENIX_V1, PROTENIX_V2
from foldline.weights.load import open_model
from foldline.weights.registry import checkpoint_path, known, lookup

if TYPE_CHECKING:
    from foldline.chem.component import Component
    from foldline.chem.components import Components
    from foldline.chem.conformer import Conformer
    from foldline.inputs import Job

NAMED_GB = (24, 40, 80, 141)  # accelerators by the memory they are sold with
LARGEST = 1 << 16  # tokens; no job is looked for beyond
SPECS = {
    "protenix-v2": PROTENIX_V2,
    "protenix_base_default_v1.0.0": PROTENIX_V1,
    "protenix_base_20250630_v1.0.0": PROTENIX_V1,
    "protenix_base_default_v0.5.0": PROTENIX_V05,
    "protenix_mini_default_v0.5.0": PROTENIX_MINI,
    "protenix_tiny_default_v0.5.0": PROTENIX_TINY,
}


@dataclass(frozen=True)
class Place:
    """A device to estimate for."""

    name: str
    kind: str  # "cpu" | "cuda"
    memory_bytes: int
    dtype: torch.dtype
    buckets: tuple[int, ...] = ()
    threads: int = 1  # of a CPU


@dataclass(frozen=True)
class JobSizes:
    """What of a job decides memory, before padding."""

    name: str
    n_token: int
    n_atom: int
    n_msa: int
    n_seed: int
    without_alignment: tuple[str, ...] = ()  # chains counted with their query alone

    def padded(self, place: Place, n_sample: int, n_token: int | None = None) -> Sizes:
        """In its bucket on a device; with `n_token`, the like job of that many tokens."""
        n = n_token or self.n_token
        bucket = bucket_of(n, max(1, round(self.n_atom * n / self.n_token)), place.buckets)
        return Sizes(*bucket, self.n_msa, n_sample, self.n_seed)


@dataclass(frozen=True)
class Estimate:
    """A job on a device: the plan, or why there is none; the tokens of the largest job like it that fits."""

    place: Place
    plan: Plan | None
    error: DoesNotFit | None
    largest: int


def named_places(dtype: str, buckets: tuple[int, ...] | None) -> list[Place]:
    """Accelerators by size.

    A size is counted in units of 10^9 bytes, where devices have up to 7 % more: what the driver takes and what the
    allocator cannot use.
    """
    kind = torch.float32 if dtype == "fp32" else torch.bfloat16
    return [Place(f"{gb} GB", "cuda", gb * 10**9, kind, BUCKETS if buckets is None else buckets) for gb in NAMED_GB]


def spec_of(model: str, cache_dir: Path | None = None) -> ModelSpec:
    """The spec of a registry name, whether it was fetched or not, or of a checkpoint file.

    Raises:
        WeightsError: an unknown name, or an unusable file.
    """
    if known(model) and lookup(model).bundled is None:
        return SPECS[lookup(model).name]
    return open_model(checkpoint_path(model, cache_dir=cache_dir))[1]


def estimate_on(place: Place, job: JobSizes, n_sample: int, spec: ModelSpec) -> Estimate:
    """One job on one device."""
    found, error = None, None
    try:
        sizes = job.padded(place, n_sample)
        memory, threads = place.memory_bytes, place.threads
        found = plan(sizes, spec, memory, dtype=place.dtype, device=place.kind, threads=threads)
    except DoesNotFit as fault:
        error = fault
    return Estimate(place, found, error, _largest(place, job, n_sample, spec))


def _largest(place: Place, job: JobSizes, n_sample: int, spec: ModelSpec) -> int:
    """Tokens of the largest job that fits, with as many atoms per token and alignment rows as this one; 0 = none."""
    fits, too_large = 0, LARGEST
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        sizes = replace(job.padded(place, n_sample, middle), n_seed=1)
        if leanest(sizes, spec, dtype=place.dtype, device=place.kind).peak_bytes <= place.memory_bytes:
            fits = middle
        else:
            too_large = middle
    return fits


def job_sizes(job: "Job", components: "Components", msa: str) -> JobSizes:
    """Sizes of a job, from its topology and the alignments that it has; reference conformers are not made.

    Raises:
        InputError: something is wrong with the job.
    """
    from foldline.chem.user_ccd import read_user_ccd
    from foldline.features.build import build_features
    from foldline.inputs import Polymer, Text, read_text

    if job.user_ccd is not None:
        components = components.with_user(read_user_ccd(read_text(job.user_ccd, "userCCD")))
    none, entities, without = Text(""), [], []
    for entity in job.entities:
        if isinstance(entity, Polymer):
            lacks = [entity.unpaired_msa] if entity.kind == "rna" else [entity.unpaired_msa, entity.paired_msa]
            if entity.kind != "dna" and None in lacks and msa != "none":
                without += entity.ids
            entity = replace(entity, unpaired_msa=entity.unpaired_msa or none, paired_msa=entity.paired_msa or none)
        entities.append(entity)
    made = build_features(
        replace(job, entities=tuple(entities)),
        components=components,
        conformers=_no_conformer,
        msa="none" if msa == "none" else "auto",
    )
    features = made.features
    return JobSizes(
        job.name, features.n_token, features.n_atom, int(features.msa_mask.sum()), len(job.seeds), tuple(without)
    )


def _no_conformer(component: "Component") -> "Conformer":
    """All atoms of a component, none with a position."""
    import numpy as np

    from foldline.chem.conformer import Conformer

    names = component.atom_name[component.heavy]
    return Conformer(names, np.zeros((len(names), 3), np.float32), np.zeros(len(names), bool))
