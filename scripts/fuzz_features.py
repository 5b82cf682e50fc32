"""Random jobs in both dialects, featurised by Protenix and by us, compared array by array.

    fuzz_features.py --upstream-python PY --upstream-root ROOT [--jobs N] [--seed S] [--deep]

Jobs are made of the components that ROOT, Protenix's data folder, has in common/components.cif, and leave out what
Foldline does otherwise on purpose. --deep makes alignments deeper than Protenix's caps. Exit code 1 when an array
differs or Foldline refuses what Protenix takes.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fidelity_features import Arrays, differences, tolerance, upstream_conformers
from random_jobs import JobMaker, component_pool

from foldline.chem.components import Components
from foldline.errors import InputError
from foldline.features.build import FeatureSet, build_features
from foldline.features.tokens import residue_kinds
from foldline.inputs import read_jobs


def is_ligand_by_majority(made: FeatureSet) -> np.ndarray:
    """Protenix's `is_ligand`: of every atom whose chain has more atoms of ligands than of any polymer."""
    kinds, chain = residue_kinds(made.topology)[made.topology.atom_res], made.topology.atom_chain
    most = [Counter(kinds[chain == number].tolist()).most_common(1)[0][0] for number in range(chain.max() + 1)]
    return (np.array(most) == "ligand")[chain]


def compared(made: FeatureSet, upstream: Arrays) -> tuple[int, dict[str, float]]:
    """How many arrays were compared, and the differences beyond the tolerance."""
    if np.array_equal(is_ligand_by_majority(made), upstream["is_ligand"]):
        upstream = {**upstream, "is_ligand": made.features.is_ligand}
    found = differences(made.features, upstream)
    if not np.array_equal(made.topology.chain_entity, made.topology.chain_given):  # equal entities are one for us alone
        found = {name: value for name, value in found.items() if name not in ("entity_id", "sym_id")}
    return len(found), {name: value for name, value in found.items() if not value <= tolerance(name)}


@dataclass
class Upstream:
    """Protenix in a process of its own, job after job."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, python: Path, root: Path, job: Path) -> "Upstream":
        """Start it; any job lets it set up."""
        script = Path(__file__).resolve().with_name("upstream_features.py")
        setting = [f"PROTENIX_ROOT_DIR={root.resolve()}", "LAYERNORM_TYPE=torch", "OMP_NUM_THREADS=1"]
        command = ["env", *setting, str(python.absolute()), str(script), str(job), "-", "--serve"]
        pipe = subprocess.PIPE
        return cls(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True))

    def __call__(self, job: Path) -> Arrays | str:
        """Arrays of the job, or why there are none."""
        assert self.process.stdin is not None and self.process.stdout is not None
        out = job.with_suffix(".npz")
        self.process.stdin.write(f"{job}\t{out}\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline().strip()
        if said != "ok":
            return said or "it ended"
        with np.load(out) as file:
            found = dict(file)
        out.unlink()
        return found


def main() -> None:
    """Make jobs, run both sides, print what differs and a count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream-python", type=Path, required=True)
    parser.add_argument("--upstream-root", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first job; the next job has the next")
    parser.add_argument("--deep", action="store_true")
    given = parser.parse_args()
    components = Components.open()
    pool = component_pool(given.upstream_root / "common" / "components.cif", components)
    count: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        upstream = None
        for seed in range(given.seed, given.seed + given.jobs):
            maker = JobMaker(random.Random(seed), components, pool, given.deep)
            maker.make()
            files = Path(folder) / "af3.json", Path(folder) / "protenix.json"
            for file, text in zip(files, maker.dialects(f"fuzz{seed}"), strict=True):
                file.write_text(json.dumps(text))
            upstream = upstream or Upstream.start(given.upstream_python, given.upstream_root, files[1])
            for line in outcome(files[0], upstream(files[1]), components, count):
                sys.stdout.write(f"job {seed}: {line}\n")
                sys.stdout.flush()
    sys.stdout.write(", ".join(f"{number:,} {what}" for what, number in count.items()) + "\n")
    raise SystemExit(1 if count["jobs that differ"] + count["jobs that we alone refuse"] else 0)


def outcome(job: Path, upstream: Arrays | str, components: Components, count: Counter[str]) -> list[str]:
    """What to say of one job; counts it."""
    refused, made = "", None
    try:
        source = None if isinstance(upstream, str) else upstream_conformers(upstream)
        made = build_features(read_jobs(job)[0], components=components, conformers=source)
    except InputError as error:
        refused = str(error)
    if isinstance(upstream, str) or made is None:
        theirs = upstream if isinstance(upstream, str) else "ok"
        who = "Protenix alone refuses" if not refused else "both refuse" if theirs != "ok" else "we alone refuse"
        count[f"jobs that {who}"] += 1
        return [f"{who}: {theirs}; {refused}"]
    n_array, found = compared(made, upstream)
    count["jobs compared"] += 1
    count["arrays"] += n_array
    count["tokens"] += made.features.sizes["N_token"]
    count["jobs that differ"] += bool(found)
    return [f"{name} differs by {value:.3g}" for name, value in found.items()]


if __name__ == "__main__":
    main()
