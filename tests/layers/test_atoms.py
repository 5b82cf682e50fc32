"""Atom conditioning and window pairs against AF3 SI Alg. 5 atom by atom, encoder and decoder with many samples."""

import numpy as np
import pytest
import torch
from random_weights import draw, fill, tiny_spec
from tiny_features import tiny_features
from torch import Tensor

from foldline.layers.atoms import AtomConditions, AtomFeatures, Atoms
from foldline.models import Batch, build
from foldline.ops import Rows, select

F_ = tiny_features()
SPEC, N_TOKEN, N_ATOM = tiny_spec(), F_.n_token, F_.n_atom
ATOMS = Batch.of(F_, F_.ref_pos, "cpu", 10).atoms
N_WINDOW = -(-N_ATOM // 32)


def single_by_hand(f: AtomFeatures) -> Tensor:
    """W pos + W arcsinh(charge) + W [mask, onehot(element), onehot(characters)], times the mask."""
    columns = []
    for i in range(N_ATOM):
        element, chars = torch.zeros(128), torch.zeros(4, 64)
        element[int(F_.ref_element[i])] = 1
        for k in range(4):
            chars[k, int(F_.ref_atom_name_chars[i, k])] = 1
        columns.append(torch.cat([torch.tensor([float(F_.ref_mask[i])]), element, chars.flatten()]))
    charge = torch.asinh(torch.from_numpy(F_.ref_charge).double())[:, None]
    c = torch.from_numpy(F_.ref_pos).double() @ f.ref_pos.weight.double().T + charge @ f.ref_charge.weight.double().T
    c = c + torch.stack(columns).double() @ f.ref_features.weight.double().T
    return c * torch.from_numpy(F_.ref_mask)[:, None]


def pairs_by_hand(f: AtomFeatures, c: Tensor, z: Tensor | None, window: int) -> dict[tuple[int, int], Tensor]:
    """Pair features of one window, by atoms (query, key)."""
    w = {name: p.double() for name, p in f.named_parameters()}
    pos, uid = torch.from_numpy(F_.ref_pos).double(), F_.ref_space_uid
    out = {}
    queries = range(32 * window, min(32 * window + 32, N_ATOM))
    keys = range(max(0, 32 * window - 48), min(32 * window + 80, N_ATOM))
    for query in queries:
        for key in keys:
            d = pos[query] - pos[key]
            v = float(uid[query] == uid[key])
            p = v * (w["offset.weight"] @ d)
            p = p + v * w["inverse_distance.weight"][:, 0] / (1 + d @ d) + v * w["same_space.weight"][:, 0]
            if z is not None:
                i, j = int(F_.atom_to_token[query]), int(F_.atom_to_token[key])
                norm = torch.nn.functional.layer_norm(z[i, j].double(), z.shape[-1:], w["norm_z.weight"])
                p = p + w["z.weight"] @ norm
            p = p + w["pair_query.weight"] @ torch.relu(c[query]) + w["pair_key.weight"] @ torch.relu(c[key])
            hidden = p
            for layer in range(3):
                hidden = w[f"mlp.{layer}.weight"] @ torch.relu(hidden)
            out[query, key] = p + hidden
    return out


def test_single_conditioning() -> None:
    f = fill(AtomFeatures(SPEC.c_atom, SPEC.c_atompair, 128, None))
    assert torch.allclose(f.single(ATOMS).double(), single_by_hand(f), atol=1e-5)
    assert np.count_nonzero(F_.ref_charge) > 5 and not F_.ref_mask.all()


@pytest.mark.parametrize("with_trunk", [True, False])
def test_window_pairs(with_trunk: bool) -> None:
    f = fill(AtomFeatures(SPEC.c_atom, SPEC.c_atompair, 128, (SPEC.c_s, SPEC.c_z) if with_trunk else None))
    c = draw("c", N_ATOM, SPEC.c_atom)
    z = draw("z", N_TOKEN, N_TOKEN, SPEC.c_z) if with_trunk else None
    found = f.pairs(ATOMS, c, z, slice(0, N_WINDOW))
    assert found.shape == (N_WINDOW, 32, 128, SPEC.c_atompair)
    for window in (0, 1, N_WINDOW - 1):
        by_hand = pairs_by_hand(f, c.double(), z, window)
        theirs = torch.stack(list(by_hand.values()))
        ours = torch.stack([found[window, q - 32 * window, k - 32 * window + 48] for q, k in by_hand])
        assert torch.allclose(ours.double(), theirs, atol=1e-5)
    assert torch.equal(f.pairs(ATOMS, c, z, slice(1, 3)), found[1:3])


def conditions(rows: Rows) -> tuple[Tensor, list[AtomConditions]]:
    encoder, decoder = fill(build.diffusion_encoder(SPEC)), fill(build.diffusion_decoder(SPEC))
    s, z = draw("s", N_TOKEN, SPEC.c_s), draw("z", N_TOKEN, N_TOKEN, SPEC.c_z)
    return encoder.condition(ATOMS, s, z, [encoder.transformer, decoder.transformer], select(rows))


def test_conditions_do_not_depend_on_window_blocks() -> None:
    c, whole = conditions(Rows())
    c_blocks, blocks = conditions(Rows(point=1))
    assert torch.equal(c, c_blocks) and len(whole) == 2
    for a, b in zip(whole, blocks, strict=True):
        assert len(a.biases) == len(a.blocks) == 2
        for x, y in zip(a.biases, b.biases, strict=True):
            assert torch.allclose(x, y, atol=1e-5)


def test_the_trunk_single_is_part_of_the_conditioning() -> None:
    encoder = fill(build.diffusion_encoder(SPEC))
    s = draw("s", N_TOKEN, SPEC.c_s)
    with_s, _ = encoder.condition(ATOMS, s, None, [encoder.transformer], select())
    f = encoder.features
    norm = torch.nn.functional.layer_norm(s.double(), (SPEC.c_s,), f.norm_s.weight.double())
    token = norm @ f.s.weight.double().T
    wanted = single_by_hand(f) + token[torch.from_numpy(F_.atom_to_token).long()]
    assert torch.allclose(with_s.double(), wanted, atol=1e-5)


def test_samples_together_are_as_good_as_alone() -> None:
    encoder, decoder, ops = fill(build.diffusion_encoder(SPEC)), fill(build.diffusion_decoder(SPEC)), select()
    c, (first, second) = conditions(Rows())
    r, a = draw("r", 4, N_ATOM, 3), draw("a", 4, N_TOKEN, SPEC.c_token)
    atoms = ATOMS.for_samples()
    tokens, q = encoder(atoms, c.unsqueeze(-3), first.for_samples(), r, N_TOKEN, ops)
    update = decoder(a, q.clone(), atoms.to_token, second.for_samples(), ops)
    assert update.shape == (4, N_ATOM, 3)
    for i in range(4):
        alone, q_alone = encoder(ATOMS, c, first, r[i], N_TOKEN, ops)
        assert torch.allclose(tokens[i], alone, atol=1e-5) and torch.allclose(q[i], q_alone, atol=1e-5)
        assert torch.allclose(update[i], decoder(a[i], q_alone, ATOMS.to_token, second, ops), atol=1e-5)


def test_seeds_with_atoms_of_their_own_broadcast_over_samples() -> None:
    """Leading axes [seed, sample]: the atom columns of two seeds, three samples each."""
    encoder, ops = fill(build.diffusion_encoder(SPEC)), select()
    mask = torch.ones(2, N_ATOM, dtype=torch.bool)
    mask[1, -20:] = False
    seeds = Atoms(*(x if x is None else torch.stack([x, x]) for x in ATOMS))._replace(mask=mask)
    seeds.ref_pos[1] += draw("shift", N_ATOM, 3)
    s, z = draw("s", 2, N_TOKEN, SPEC.c_s), draw("z", 2, N_TOKEN, N_TOKEN, SPEC.c_z)
    r = draw("r", 2, 3, N_ATOM, 3)
    c, (together,) = encoder.condition(seeds, s, z, [encoder.transformer], ops)
    found, _ = encoder(seeds.for_samples(), c.unsqueeze(-3), together.for_samples(), r, N_TOKEN, ops)
    for i in range(2):
        own = Atoms(*(None if x is None else x[i] for x in seeds))
        c_own, (alone,) = encoder.condition(own, s[i], z[i], [encoder.transformer], ops)
        assert torch.allclose(c[i], c_own, atol=1e-5)
        wanted, _ = encoder(own, c_own, alone, r[i, 1], N_TOKEN, ops)
        assert torch.allclose(found[i, 1], wanted, atol=1e-5)


def test_input_encoder_reads_no_positions() -> None:
    encoder, ops = fill(build.input_encoder(SPEC)), select()
    assert encoder.r is None
    c, (own,) = encoder.condition(ATOMS, None, None, [encoder.transformer], ops)
    before = c.clone()
    a, q = encoder(ATOMS, c, own, None, N_TOKEN, ops)
    assert a.shape == (N_TOKEN, 20) and (a >= 0).all() and a.std() > 0
    assert torch.equal(c, before) and not torch.equal(q, c)
