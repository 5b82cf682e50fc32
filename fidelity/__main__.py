"""Both sides on one job, in both dialects: the error at every boundary.

    scripts/fidelity AF3_JOB PROTENIX_JOB [--preset small_v1] [--upstream-python PY] [--modules] [--bf16]

Our features are made from the AlphaFold 3 job and compared by scripts/fidelity_features.py; the network runs from
upstream's recorded arrays and draws, so that each error is that of the network alone.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from fidelity import boundaries, modules
from fidelity.presets import SPECS, run_upstream
from fidelity.records import Record
from fidelity.weights import random_network
from foldline.chem.components import Components
from foldline.features.build import build_features
from foldline.inputs import read_jobs
from foldline.models import Batch
from foldline.ops import Rows, select

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run both sides and print one line per boundary; 1 when an error is over the bound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("af3_job")
    parser.add_argument("protenix_job")
    parser.add_argument("--preset", default="small_v1", choices=SPECS)
    parser.add_argument("--upstream-python", type=Path, default=ROOT / ".venv-upstream" / "bin" / "python")
    parser.add_argument("--reference", type=Path, default=ROOT.parent / "shared" / "reference" / "protenix")
    parser.add_argument("--base", help="folder that the Protenix job's paths are relative to")
    parser.add_argument("--set", default="--model.N_cycle 2 --sample_diffusion.N_step 4 --sample_diffusion.N_sample 2")
    parser.add_argument("--modules", action="store_true", help="every module on its own, from upstream's inputs")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    made = build_features(read_jobs(args.af3_job)[0], components=Components.open())
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "upstream.pt"
        options = ["--set", args.set, "--taps", "modules" if args.modules else "boundaries"]
        options += ["--threads", str(args.threads)] + (["--base", args.base] if args.base else [])
        run_upstream(
            args.upstream_python, args.reference, args.preset, Path(args.protenix_job).resolve(), out, *options
        )
        record = Record(out)
        features, tape = record.features(), record.tape()
        print(f"sizes: ours {made.features.sizes}, upstream {features.sizes}")
        network = random_network(SPECS[args.preset])
        batch, ops, result = Batch.of(features, tape.ref_pos(features), "cpu", network.spec.max_msa), select(Rows()), {}
        worst = (0.0, 0.0)
        with torch.inference_mode():
            steps = [
                boundaries.compare_trunk(record, network, batch, tape, ops, result),
                boundaries.compare_diffusion(record, network, batch, tape, ops, result),
                boundaries.compare_confidence(record, network, batch, ops, result),
            ]
            if args.modules:
                steps.append(d for _, d in modules.compare_modules(record, network, batch, ops))
            for step in steps:
                for difference in step:
                    print(difference, flush=True)
                    worst = (max(worst[0], difference.maximum), max(worst[1], difference.rms))
    print(f"worst: max {worst[0]:.1e} (bound 1e-4), rms {worst[1]:.1e} (bound 1e-5)")
    return int(worst[0] > 1e-4 or worst[1] > 1e-5 or made.features.sizes != features.sizes)


sys.exit(main())
