"""bf16: our trunk is no farther from upstream's fp32 than upstream's own bf16 trunk is, times 1.1."""

from pathlib import Path

import pytest
import torch

from fidelity.presets import SPECS, run_upstream
from fidelity.records import Record, difference
from fidelity.weights import random_network
from foldline.engine.plan import Sizes, plan
from foldline.models import Batch
from foldline.ops import Rows, select

pytestmark = pytest.mark.upstream
ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "tests" / "data" / "fidelity" / "protenix.json"


def test_no_farther_than_upstreams_own(upstream_python: Path, tmp_path: Path) -> None:
    reference = ROOT.parent / "shared" / "reference" / "protenix"
    if not reference.is_dir():
        pytest.skip("the folder that runs upstream is not here")
    records = []
    for extra in ((), ("--bf16",)):
        out = tmp_path / f"upstream{len(extra)}.pt"
        run_upstream(
            upstream_python, reference, "small_v1", JOB, out, "--synthetic-templates", "--threads", "2", *extra
        )
        records.append(Record(out))
    exact, low = records
    features, tape = exact.features(), exact.tape()
    assert torch.equal(exact["tape.msa_indices.1"], low["tape.msa_indices.1"])
    spec, ops = SPECS["small_v1"], select(Rows())
    sizes = Sizes(features.n_token, features.n_atom, len(features.msa))
    network = random_network(spec, dtype_of=plan(sizes, spec, 1 << 40, dtype=torch.bfloat16).dtype_of)
    batch = Batch.of(features, tape.ref_pos(features), "cpu", network.spec.max_msa)
    with torch.inference_mode():
        s_inputs = network.trunk.embed_inputs(batch, ops).to(torch.bfloat16)
        s, z = network.trunk.start(batch, s_inputs)
        for i in range(2):
            network.trunk(batch, s_inputs, s, z, tape.msa_rows(i, len(batch.msa)), ops)
            for which, ours in enumerate((s, z)):
                name = f"taps.pairformer_stack.{i}.out.{which}"
                allowed = 1.1 * difference(name, low[name].float(), exact[name]).rms
                assert 0 < difference(name, ours.float(), exact[name]).rms <= allowed
        contact = network.distogram(z, ops)
    name = "outputs.contact_probs"
    assert difference(name, contact, exact[name]).rms <= 1.1 * difference(name, low[name].float(), exact[name]).rms
