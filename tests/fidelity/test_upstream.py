"""The network against upstream Protenix itself: every module with weights and every module boundary."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fidelity import boundaries, modules
from fidelity.presets import SPECS, run_upstream
from fidelity.records import Difference, Record
from fidelity.weights import random_network
from foldline.layers.diffusion import DiffusionTransformerBlock
from foldline.layers.msa import OuterProductMean, PairWeightedAveraging
from foldline.layers.pairformer import SingleAttention, Transition, TriangleAttention, TriangleMultiplication
from foldline.layers.relative import RelativePositionEncoding
from foldline.models import Batch, Network
from foldline.ops import Rows, select
from foldline.tensors import Features

pytestmark = pytest.mark.upstream
ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "tests" / "data" / "fidelity" / "protenix.json"
MAXIMUM, RMS = 1e-4, 1e-5
RUNS = {
    "small_v1": "--model.N_cycle 2 --sample_diffusion.N_step 4 --sample_diffusion.N_sample 2",
    "small_v2": "--model.N_cycle 1 --sample_diffusion.N_step 3 --sample_diffusion.N_sample 1",
    "mini": "--model.N_cycle 1 --sample_diffusion.N_step 5 --sample_diffusion.N_sample 1",
    "tiny": "--model.N_cycle 2 --sample_diffusion.N_step 5 --sample_diffusion.N_sample 1",
    "base_v1": "--model.N_cycle 1 --sample_diffusion.N_step 2 --sample_diffusion.N_sample 1",
}
# Parameters outside the modules that are compared one by one: the boundary whose output they decide.
GLUE = (
    "trunk.input_encoder.", "trunk.s_init.", "trunk.z_init_", "trunk.bond.", "trunk.norm_", "trunk.recycle_",
    "trunk.template_embedder.", "trunk.msa_module.", "diffusion.conditioning.", "diffusion.encoder.",
    "diffusion.decoder.", "diffusion.norm_", "diffusion.s.", "distogram.", "confidence.",
)  # fmt: skip


@pytest.fixture(scope="session")
def reference() -> Path:
    folder = ROOT.parent / "shared" / "reference" / "protenix"
    if not folder.is_dir():
        pytest.skip("the folder that runs upstream is not here")
    return folder


@pytest.fixture(scope="session", params=list(RUNS))
def run(
    request: pytest.FixtureRequest, upstream_python: Path, reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Record, Network]]:
    preset = request.param
    out = tmp_path_factory.mktemp(preset) / "record.pt"
    taps = "boundaries" if preset == "base_v1" else "modules"
    options = ["--set", RUNS[preset], "--taps", taps, "--threads", "2"]
    if SPECS[preset].n_template:
        options.append("--synthetic-templates")
    run_upstream(upstream_python, reference, preset, JOB, out, *options)
    yield preset, Record(out), random_network(SPECS[preset])
    out.unlink()


def compare(record: Record, network: Network, features: Features, rows: Rows) -> list[Difference]:
    tape, ops, result = record.tape(), select(rows), {}
    batch = Batch.of(features, tape.ref_pos(features), "cpu", network.spec.max_msa)
    found = []
    with torch.inference_mode():
        found += boundaries.compare_trunk(record, network, batch, tape, ops, result)
        found += boundaries.compare_diffusion(record, network, batch, tape, ops, result)
        found += boundaries.compare_confidence(record, network, batch, ops, result)
    return found


def check(found: list[Difference]) -> None:
    bad = [str(d) for d in found if not (d.maximum <= MAXIMUM and d.rms <= RMS)]
    assert not bad, "\n".join(bad)


def test_the_job_can_tell(run: tuple[str, Record, Network]) -> None:
    """At least 64 distinct rows, a draw 1 < K < M, charges, more than three windows, an atom count not of 32."""
    _, record, _ = run
    f, tape = record.features(), record.tape()
    assert len(np.unique(f.msa, axis=0)) >= 64
    assert any(1 < len(tape.arrays[k]) < len(f.msa) for k in tape.arrays if k.startswith("msa_rows"))
    assert (f.ref_charge != 0).any()
    assert f.n_atom > 96
    assert f.n_atom % 32


def test_every_boundary(run: tuple[str, Record, Network]) -> None:
    preset, record, network = run
    features = record.features()
    if network.spec.n_template:
        assert features.template_backbone_mask.any()
    found = compare(record, network, features, Rows())
    check(found)
    names = " ".join(d.name for d in found)
    for boundary in ("input_embedder", "msa_module", "pairformer_stack, z", "coordinates", "PAE", "pLDDT"):
        assert boundary in names, f"{preset} compared no {boundary}"


def test_padding_and_row_blocks_do_not_matter(run: tuple[str, Record, Network]) -> None:
    """Every axis padded, padding filled with NaN and large numbers, odd row blocks."""
    preset, record, network = run
    if preset != "small_v1":
        pytest.skip("one network is enough")
    whole = record.features()
    sizes = whole.sizes
    grown = whole.pad_to(N_token=sizes["N_token"] + 13, N_atom=sizes["N_atom"] + 45, N_msa=sizes["N_msa"] + 7)
    changed = {}
    for name in ("profile", "deletion_mean", "ref_pos", "ref_charge", "template_pseudo_beta", "template_backbone"):
        array = getattr(grown, name).copy()
        mask = grown.atom_mask if name.startswith("ref") else grown.token_mask
        array[(slice(None), ~mask) if name.startswith("template") else ~mask] = np.nan
        changed[name] = array
    for name in ("restype", "residue_index", "asym_id", "sym_id"):
        array = getattr(grown, name).copy()
        array[~grown.token_mask] = 77
        changed[name] = array
    check(compare(record, network, replace(grown, **changed), Rows(pair=3000, point=1100, msa=2500)))


def test_every_module_with_weights(run: tuple[str, Record, Network]) -> None:
    preset, record, network = run
    if preset == "base_v1":
        pytest.skip("inputs of single modules take too much memory in full size")
    features, ops = record.features(), select(Rows())
    batch = Batch.of(features, features.ref_pos, "cpu", network.spec.max_msa)
    with torch.inference_mode():
        found = list(modules.compare_modules(record, network, batch, ops))
    check([d for _, d in found])
    seen = {name for name, _ in found}
    kinds = (
        TriangleMultiplication,
        TriangleAttention,
        Transition,
        SingleAttention,
        OuterProductMean,
        PairWeightedAveraging,
        DiffusionTransformerBlock,
        RelativePositionEncoding,
    )
    wanted = {name for name, module in network.named_modules() if isinstance(module, kinds)}
    assert seen == wanted, f"not compared: {sorted(wanted - seen)}"
    rest = [n for n, _ in network.named_parameters() if not any(n.startswith(f"{s}.") for s in seen)]
    assert all(n.startswith(GLUE) for n in rest), [n for n in rest if not n.startswith(GLUE)]
