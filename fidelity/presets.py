"""Networks that are compared, by the names of the reference's presets, and how to run upstream on one."""

import subprocess
from dataclasses import replace
from pathlib import Path

from foldline.models.spec import PROTENIX_MINI, PROTENIX_TINY, PROTENIX_V05, PROTENIX_V1, PROTENIX_V2, ModelSpec

_SMALL = {
    "n_pairformer": 2,
    "n_msa": 2,
    "n_template": 1,
    "n_diffusion": 2,
    "n_atom_encoder": 1,
    "n_atom_decoder": 1,
    "n_confidence": 1,
}
SPECS: dict[str, ModelSpec] = {
    "small_v1": replace(PROTENIX_V1, **_SMALL),
    "small_v2": replace(PROTENIX_V2, **_SMALL),
    "base_v1": PROTENIX_V1,
    "base_v05": PROTENIX_V05,
    "v2": PROTENIX_V2,
    "mini": PROTENIX_MINI,
    "tiny": PROTENIX_TINY,
}


def run_upstream(python: Path, reference: Path, preset: str, job: Path, out: Path, *options: str) -> None:
    """Run upstream on a Protenix job and write its record to `out`.

    Raises:
        RuntimeError: upstream failed; the end of what it said is told.
    """
    script = Path(__file__).with_name("upstream_side.py")
    command = [str(python), str(script), "--reference", str(reference), "--preset", preset, "--job", str(job)]
    done = subprocess.run([*command, "--out", str(out), *options], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"upstream failed on {job}:\n{done.stderr[-3000:]}")
