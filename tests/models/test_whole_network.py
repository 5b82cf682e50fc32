"""The whole network: padded = unpadded, blocks of any size = whole, kept biases = biases made at each step."""

import numpy as np
import pytest
import torch
from random_weights import tiny_network
from tiny_features import rel_rms, tiny_features, with_garbage
from whole_run import Arrays, bring, everything, trunk

from foldline.models import Network
from foldline.models.network import Dropout
from foldline.ops import Rows, select
from foldline.sampler import Draws

FEATURES, DRAWS = tiny_features(), Draws(11)


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny_network()


@pytest.fixture(scope="module")
def plain(network: Network) -> Arrays:
    return everything(network, FEATURES, DRAWS)


def assert_same(found: Arrays, wanted: Arrays, tolerance: float = 1e-5) -> None:
    worst = {}
    for name, array in wanted.items():
        nan = np.isnan(array)
        assert np.array_equal(np.isnan(found[name]), nan), name
        if np.any(array[~nan]):
            worst[name] = rel_rms(found[name][~nan], array[~nan])
        else:
            assert not found[name][~nan].any(), name
    assert len(worst) >= 17
    assert max(worst.values()) <= tolerance, worst


def test_results_are_of_a_sensible_size(plain: Arrays) -> None:
    """So that the comparisons below compare something: no output is constant, and the trunk is not the identity."""
    for name in ("s_inputs", "s", "z", "contact", "step", "x", "pae", "pde", "atom_plddt"):
        assert plain[name].std() > 1e-3 * abs(plain[name]).mean() > 0, name
    assert np.isfinite(plain["chain_pair_iptm"]).all()


@pytest.mark.parametrize(
    "sizes",
    [
        {"N_token": 29, "N_atom": 115, "N_msa": 71, "N_bond": 15},
        {"N_token": 48, "N_atom": 256, "N_msa": 128, "N_bond": 40},
        {"N_token": 48},
        {"N_atom": 224},
    ],
    ids=str,
)
def test_padding_changes_nothing(network: Network, plain: Arrays, sizes: dict[str, int]) -> None:
    assert_same(everything(network, with_garbage(FEATURES, **sizes), DRAWS), plain)


@pytest.mark.parametrize("rows", [Rows(1, 1, 1), Rows(100, 64, 130), Rows(28 * 9, 28 * 5, 28 * 13)], ids=str)
def test_blocks_of_any_size_give_the_same(network: Network, plain: Arrays, rows: Rows) -> None:
    assert_same(everything(network, FEATURES, DRAWS, rows), plain)


def test_biases_kept_or_made_at_each_step_give_the_same(network: Network, plain: Arrays) -> None:
    assert_same(everything(network, FEATURES, DRAWS, keep_biases=False), plain, 0.0)


def test_a_second_run_is_equal_to_the_bit(network: Network, plain: Arrays) -> None:
    assert_same(everything(network, FEATURES, DRAWS), plain, 0.0)


def test_all_template_slots_computed_one_by_one_give_the_same(network: Network) -> None:
    ops, batch = select(), bring(FEATURES, DRAWS, network)
    assert [t.count for t in batch.templates] == [1, 1, 2]
    single = [t._replace(count=1) for t in batch.templates for _ in range(t.count)]
    once = trunk(network, batch, DRAWS, ops)[2].numpy()
    vars(batch)["templates"] = single
    assert rel_rms(trunk(network, batch, DRAWS, ops)[2].numpy(), once) <= 1e-6
    vars(batch)["templates"] = single[:1] * 4
    assert rel_rms(trunk(network, batch, DRAWS, ops)[2].numpy(), once) > 1e-3, "templates are not read"


@torch.inference_mode()
def recycled(network: Network, rows: Rows, dropout: Dropout | None, padded: bool = False) -> torch.Tensor:
    features = with_garbage(FEATURES, N_token=37) if padded else FEATURES
    batch, ops = bring(features, DRAWS, network), select(rows)
    s_inputs = network.trunk.embed_inputs(batch, ops)
    s, z = network.trunk.start(batch, s_inputs)
    for _ in range(2):
        network.trunk.recycle(batch, s_inputs, s, z, ops, dropout)
    return z[: FEATURES.n_token, : FEATURES.n_token]


def test_dropout_is_off_by_default_and_drops_where_asked_for(network: Network) -> None:
    plain = recycled(network, Rows(), None)
    dropped = recycled(network, Rows(), Dropout(0.4, (DRAWS.dropout(), 28)))
    assert rel_rms(dropped.numpy(), plain.numpy()) > 1e-2
    assert torch.equal(recycled(network, Rows(), Dropout(0.0, (DRAWS.dropout(), 28))), plain)
    again = recycled(network, Rows(), Dropout(0.4, (DRAWS.dropout(), 28)))
    assert torch.equal(again, dropped)


def test_dropout_does_not_depend_on_blocks(network: Network) -> None:
    whole = recycled(network, Rows(), Dropout(0.4, (DRAWS.dropout(), 28)))
    blocks = recycled(network, Rows(point=28 * 3), Dropout(0.4, (DRAWS.dropout(), 28)))
    assert rel_rms(blocks.numpy(), whole.numpy()) <= 1e-6


def test_dropout_does_not_depend_on_padding(network: Network) -> None:
    whole = recycled(network, Rows(), Dropout(0.4, (DRAWS.dropout(), 28)))
    padded = recycled(network, Rows(), Dropout(0.4, (DRAWS.dropout(), 28)), padded=True)
    assert rel_rms(padded.numpy(), whole.numpy()) <= 1e-5


def test_dropout_drops_the_rate_asked_for_and_rescales() -> None:
    x = torch.ones(30, 30, 16)
    out = Dropout(0.4, (torch.Generator().manual_seed(0), 30))(x, 0)
    assert abs(float((out == 0).float().mean()) - 0.4) < 0.02
    assert torch.allclose(out[out != 0], torch.tensor(1 / 0.6))
