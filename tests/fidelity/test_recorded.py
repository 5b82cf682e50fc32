"""The network against recorded values of upstream: runs everywhere."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fidelity.golden import probes, read
from fidelity.presets import SPECS
from fidelity.records import difference
from fidelity.weights import random_network
from foldline.models import Batch
from foldline.ops import Rows, select
from foldline.sampler import sample

GOLDEN = Path(__file__).with_name("small_v1.npz")


@pytest.fixture(scope="module")
def results() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(ours, upstream's)."""
    features, tape, theirs = read(GOLDEN)
    network, ops = random_network(SPECS["small_v1"]), select(Rows())
    batch = Batch.of(features, tape.ref_pos(features), "cpu", network.spec.max_msa)
    found = {}
    with torch.inference_mode():
        found["s_inputs"] = s_inputs = network.trunk.embed_inputs(batch, ops)
        s, z = network.trunk.start(batch, s_inputs)
        for i in range(2):
            network.trunk(batch, s_inputs, s, z, tape.msa_rows(i, len(batch.msa)), ops)
        found |= {"s": s, "z": z, "contact_probs": network.distogram(z, ops)}
        fixed = network.diffusion.prepare(batch, s_inputs, s, z, False, ops)
        steps: list[torch.Tensor] = []

        def denoise(x: torch.Tensor, t_hat: torch.Tensor) -> torch.Tensor:
            steps.append(network.diffusion(x, t_hat, fixed, None, ops))
            return steps[-1]

        mask = torch.ones(features.n_atom, dtype=torch.bool)
        x = sample(denoise, network.spec, tape.samples([0]), mask, n_step=len(tape.arrays["rotation"]))
        found |= {"denoised": steps[0][0], "coordinates": x[0]}
        head, pair = network.confidence, torch.empty_like(z)
        head.embed(z, s_inputs, torch.from_numpy(theirs.pop("x"))[batch.rep_atom], pair, ops)
        single = head(s, pair, None, ops)
        found["pae"] = torch.cat([rows.pae for rows in head.error_rows(pair, ops)])
        slots = batch.atoms.to_token, batch.atom_in_token
        found["plddt"] = head._per_atom(single, head.norm_plddt, head.plddt, *slots)
    return probes(found), theirs


@pytest.mark.parametrize("name", ["s_inputs", "s", "z", "contact_probs", "denoised", "coordinates", "pae", "plddt"])
def test_recorded_value(results: tuple[dict[str, np.ndarray], dict[str, np.ndarray]], name: str) -> None:
    ours, theirs = results
    found = difference(name, torch.from_numpy(ours[name]), torch.from_numpy(theirs[name]))
    assert found.maximum <= 1e-4, found
    assert found.rms <= 1e-5, found
