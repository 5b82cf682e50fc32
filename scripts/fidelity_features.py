"""Compare our features with upstream Protenix's, array by array: same jobs in both dialects, its conformers injected.

    fidelity_features.py --upstream-python PY [--upstream-root ROOT] [--templates --dates FILE --structures DIR] PAIR..

PAIR is AF3_JOB=PROTENIX_JOB. ROOT is upstream's data folder (PROTENIX_ROOT_DIR: components, conformers), by default the
interpreter's own. A job with templates takes the alignments that upstream made. Exit code 1 when any array differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from foldline.chem.component import Component
from foldline.chem.components import Components
from foldline.chem.conformer import Conformer
from foldline.chem.molecules import clean_charges
from foldline.features.build import build_features
from foldline.inputs import Job, Template, Text, read_jobs
from foldline.tensors import Features

POSITION_TOLERANCE = 1e-4  # Å: upstream poses in float64 and stores float32
UNIT_VECTOR_TOLERANCE = 1e-4
SAME_TOKEN = ("token_index", "residue_index", "asym_id", "entity_id", "sym_id", "restype", "profile", "deletion_mean")
SAME_ATOM = ("ref_mask", "ref_charge", "ref_element", "ref_atom_name_chars", "ref_space_uid", "is_ligand")
SAME_NAME = (*SAME_TOKEN, *SAME_ATOM, "has_frame", "msa", "template_aatype")
Arrays = Mapping[str, np.ndarray]


def run_upstream(python: Path, root: Path | None, job: Path, out: Path, *options: str) -> None:
    """Featurise with upstream; relative paths in the job are resolved in the folder that holds all of them."""
    folder = next(parent for parent in job.resolve().parents if _resolves(parent, job))
    data = [f"PROTENIX_ROOT_DIR={root.resolve()}"] if root else []
    command = ["env", *data, "LAYERNORM_TYPE=torch", "OMP_NUM_THREADS=1", str(python)]
    script = Path(__file__).resolve().with_name("upstream_features.py")
    done = subprocess.run(
        [*command, str(script), str(job.resolve()), str(out.resolve()), *options],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"upstream failed on {job}:\n{done.stderr[-3000:]}")


def _resolves(folder: Path, job: Path) -> bool:
    """Whether every path that a Protenix job names exists seen from `folder`."""
    named = [
        value
        for entry in json.loads(job.read_text())[0]["sequences"]
        for entity in entry.values()
        for key, value in [*entity.items(), *entity.get("msa", {}).items()]
        if isinstance(value, str) and (key.endswith("Path") or key == "precomputed_msa_dir")
    ]
    return all((folder / value).exists() for value in named)


def upstream_conformers(upstream: Arrays) -> Callable[[Component], Conformer]:
    """Upstream's reference positions as a source for ours, from its atoms before posing; charges are our own."""
    codes, names = upstream["component.code"], upstream["component.atom"]

    def source(component: Component) -> Conformer:
        at = codes == component.code
        if component.source in ("smiles", "file"):
            at = upstream["component.chain"] == component.code.removeprefix("LIG_")
        atoms, first = np.unique(names[at], return_index=True)
        rows = np.flatnonzero(at)[first]
        charges = dict(zip(component.atom_name.tolist(), clean_charges(component).tolist(), strict=True))
        charge = np.array([charges[name] for name in atoms.tolist()], np.int8)
        pos = upstream["component.ref_pos"][rows].astype(np.float32)
        return Conformer(atoms, pos, upstream["component.ref_mask"][rows].astype(bool), charge)

    return source


def with_templates(job: Job, upstream: Arrays, structures: Path) -> Job:
    """The job with upstream's template alignments on its first entity; `structures` holds <entry>.cif."""
    used = json.loads(str(upstream["templates"]))
    templates = tuple(
        Template(Text(path=structures / f"{one['entry']}.cif"), tuple(one["query"]), tuple(one["hit"])) for one in used
    )
    return replace(job, entities=(replace(job.entities[0], templates=templates), *job.entities[1:]))


def differences(ours: Features, upstream: Arrays) -> dict[str, float]:
    """Largest difference of every array that the network reads, in our terms; infinity where shapes differ."""
    pairs = {name: (getattr(ours, name), upstream[name]) for name in SAME_NAME}
    pairs["bond_tokens"] = ours.bond_tokens, upstream["token_bonds"]
    pairs["atom_to_token"] = ours.atom_to_token, upstream["atom_to_token_idx"]
    pairs["atom_in_token"] = ours.atom_in_token, upstream["atom_to_tokatom_idx"]
    pairs["rep_atom"] = ours.rep_atom, np.flatnonzero(upstream["distogram_rep_atom_mask"])
    pairs["has_deletion"] = np.minimum(ours.deletions, 1), upstream["has_deletion"]
    pairs["deletion_value"] = (
        (np.arctan(ours.deletions / 3) * (2 / np.pi)).astype(np.float32),
        upstream["deletion_value"],
    )
    chain = ours.asym_id[:, None] == ours.asym_id  # the network reads pairs within a chain; each template is centred
    for name, value in template_pairs(ours).items():
        kept = chain.reshape(*chain.shape, *(1,) * (value.ndim - 3))
        pairs[name] = value * kept, upstream.get(name, np.zeros_like(value)) * kept
    found = {name: largest_difference(*pair) for name, pair in pairs.items()}
    found["ref_pos"] = conformer_difference(ours, upstream["ref_pos"])
    return found


def largest_difference(left: np.ndarray, right: np.ndarray) -> float:
    """Largest |left - right|, infinity where the shapes differ."""
    if left.shape != right.shape:
        return float("inf")
    return float(np.abs(left.astype(np.float64) - right.astype(np.float64)).max(initial=0))


def conformer_difference(ours: Features, posed: np.ndarray) -> float:
    """Largest difference of a distance between two atoms of one residue, Å."""
    if ours.ref_pos.shape != posed.shape:
        return float("inf")
    worst = 0.0
    for uid in np.unique(ours.ref_space_uid):
        at = ours.ref_space_uid == uid
        left, right = (np.linalg.norm(x[at, None].astype(np.float64) - x[at], axis=-1) for x in (ours.ref_pos, posed))
        worst = max(worst, float(np.abs(left - right).max()))
    return worst


def template_pairs(features: Features) -> dict[str, np.ndarray]:
    """Upstream's dense template features from our arrays (AF3 SI table 5)."""
    lower = np.linspace(3.25, 50.75, 39, dtype=np.float32) ** 2
    upper = np.append(lower[1:], np.float32(1e8))
    out: dict[str, list[np.ndarray]] = {}
    for slot in range(len(features.template_aatype)):
        beta, beta_mask = features.template_pseudo_beta[slot], features.template_pseudo_beta_mask[slot]
        both = beta_mask[:, None] & beta_mask
        square = np.square(beta[:, None] - beta).sum(-1)[..., None]
        n, ca, c = np.moveaxis(features.template_backbone[slot], 1, 0)
        e1 = _unit(c - ca)
        e2 = _unit(n - ca - ((n - ca) * e1).sum(-1, keepdims=True) * e1)
        frames = np.stack([e1, e2, np.cross(e1, e2)], axis=-1)
        mask = features.template_backbone_mask[slot]
        framed = mask[:, None] & mask
        vector = _unit(np.einsum("ilk,ijl->ijk", frames, ca[None] - ca[:, None])) * framed[..., None]
        for name, value in (
            ("template_pseudo_beta_mask", both),
            ("template_distogram", (square > lower) & (square < upper) & both[..., None]),
            ("template_backbone_frame_mask", framed),
            ("template_unit_vector", vector),
        ):
            out.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in out.items()}


def _unit(x: np.ndarray) -> np.ndarray:
    return x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-6)


def tolerance(name: str) -> float:
    """Largest difference of an array that counts as equal; 0 = every value the same."""
    if name in ("deletion_value", "profile", "deletion_mean"):
        return 1e-7
    return {"ref_pos": POSITION_TOLERANCE, "template_unit_vector": UNIT_VECTOR_TOLERANCE}.get(name, 0.0)


def main() -> None:
    """Compare every pair of jobs and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="AF3_JOB=PROTENIX_JOB")
    parser.add_argument("--upstream-python", type=Path, required=True)
    parser.add_argument("--upstream-root", type=Path)
    parser.add_argument("--templates", action="store_true")
    parser.add_argument("--dates", type=Path, help="release dates of template entries, for --templates")
    parser.add_argument("--structures", type=Path, default=Path(), help="folder of template entries, for --templates")
    given = parser.parse_args()
    options = ["--templates"] * given.templates + (["--dates", str(given.dates.resolve())] if given.dates else [])
    components, bad = Components.open(), 0
    for pair in given.pairs:
        ours_file, _, theirs_file = pair.partition("=")
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "upstream.npz"
            run_upstream(given.upstream_python, given.upstream_root, Path(theirs_file), out, *options)
            with np.load(out) as file:
                upstream = dict(file)
        (job,) = read_jobs(ours_file)
        if given.templates:
            job = with_templates(job, upstream, given.structures)
        features = build_features(job, components=components, conformers=upstream_conformers(upstream)).features
        found = differences(features, upstream)
        wrong = {name: value for name, value in found.items() if not value <= tolerance(name)}
        bad += bool(wrong)
        sys.stdout.write(f"{job.name}: {features.sizes}, {len(found)} arrays, {len(wrong)} differ\n")
        for name, value in sorted(found.items()):
            sys.stdout.write(f"  {name:30s} {value:.3g}{'   DIFFERS' if name in wrong else ''}\n")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
