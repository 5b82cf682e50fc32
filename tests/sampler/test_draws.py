"""Random draws depend on the seed, the sample and the purpose alone; a tape replays what it holds and checks sizes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_features import tiny_features, with_garbage

from foldline.errors import InputError
from foldline.sampler import Draws, SampleDraws, Tape
from foldline.sampler.draws import generator, random_rotations

FEATURES = tiny_features()
N_ATOM, N_STEP = FEATURES.n_atom, 3


def all_draws(source: SampleDraws, n_atom: int = N_ATOM) -> dict[str, np.ndarray]:
    """Every draw of a run in sampler order."""
    out: dict[str, list[np.ndarray]] = {"rotation": [], "translation": [], "noise": []}
    x_init = source.x_init(n_atom).numpy()
    for step in range(N_STEP):
        out["rotation"].append(source.rotation(step).numpy())
        out["translation"].append(source.translation(step).numpy())
        out["noise"].append(source.noise(step, n_atom).numpy())
    return {"x_init": x_init} | {k: np.stack(v) for k, v in out.items()}


def test_draws_of_a_sample_do_not_depend_on_the_others() -> None:
    together, alone = all_draws(Draws(7).samples([0, 1, 2])), all_draws(Draws(7).samples([2]))
    reordered = all_draws(Draws(7).samples([2, 0]))
    assert np.array_equal(together["x_init"][2], alone["x_init"][0])
    for name in ("rotation", "translation", "noise"):
        assert np.array_equal(together[name][:, 2], alone[name][:, 0])
        assert np.array_equal(together[name][:, 2], reordered[name][:, 0])


def test_seeds_samples_steps_and_purposes_differ() -> None:
    a, b = all_draws(Draws(7).samples([0, 1])), all_draws(Draws(8).samples([0, 1]))
    for name in a:
        assert not np.isclose(a[name], b[name]).all()
    assert np.isclose(a["noise"][:, 0], a["noise"][:, 1]).mean() < 0.01
    assert np.isclose(a["noise"][0], a["noise"][1]).mean() < 0.01
    assert not np.array_equal(a["x_init"], a["noise"][0])


def test_purposes_do_not_share_a_stream() -> None:
    """What one purpose has used up does not move another."""
    one, two = Draws(7).samples([0]), Draws(7).samples([0])
    one.x_init(N_ATOM)
    one.noise(0, N_ATOM)
    assert torch.equal(one.rotation(0), two.rotation(0)) and torch.equal(one.translation(0), two.translation(0))


def test_values_are_recorded() -> None:
    """A seed gives the same numbers in every version of Foldline and on every machine."""
    assert generator(1, "noise", 0).integers(0, 1 << 30, 3).tolist() == [40276707, 722174606, 754816644]
    found = Draws(1).samples([0]).x_init(2)[0].numpy()
    recorded = [[0.69926822, -1.11213589, -1.00833595], [-0.76782179, -0.44496149, 0.1067146]]
    assert np.allclose(found, recorded, atol=1e-6)
    assert Draws(1).msa_rows(0, 9).tolist() == [6, 0]


def test_normal_draws_are_standard() -> None:
    x = Draws(3).samples(range(4)).x_init(5000).numpy()
    assert abs(x.mean()) < 0.02 and abs(x.std() - 1) < 0.02 and x.dtype == np.float32


def test_rotations_are_proper_and_uniform() -> None:
    r = random_rotations(np.random.default_rng(0), 4000).astype(np.float64)
    assert np.allclose(r @ r.transpose(0, 2, 1), np.eye(3), atol=1e-5)
    assert np.allclose(np.linalg.det(r), 1, atol=1e-5)
    assert np.abs(r.mean(0)).max() < 0.04  # every direction is as likely as its opposite
    assert np.allclose(np.square(r).mean(0), 1 / 3, atol=0.02)
    cosine = (np.trace(r, axis1=1, axis2=2) - 1) / 2
    angle = np.arccos(np.clip(cosine, -1, 1))
    edges = np.linspace(0, np.pi, 9)
    expected = np.diff(edges - np.sin(edges)) / np.pi  # density (1 - cos a) / pi of the angle of a uniform rotation
    assert np.allclose(np.histogram(angle, edges)[0] / 4000, expected, atol=0.03)


def test_alignment_rows() -> None:
    counts = []
    for i in range(300):
        rows = Draws(4).msa_rows(i, 12).tolist()
        assert len(set(rows)) == len(rows) and set(rows) <= set(range(12))
        counts.append(len(rows))
    assert set(counts) == set(range(1, 13)), "every count from one to all"
    assert np.abs(np.bincount(counts)[1:] - 25).max() < 20
    assert Draws(4).msa_rows(0, 1).tolist() == [0]
    assert Draws(4).msa_rows(5, 12).dtype == torch.int64
    firsts = [Draws(4).msa_rows(i, 12).tolist()[0] for i in range(300)]
    assert len(set(firsts)) == 12, "the query row is not forced in"


def test_pose_keeps_the_inside_of_residues() -> None:
    posed = Draws(9).ref_pos(FEATURES)
    assert posed.dtype == np.float32 and posed.shape == (N_ATOM, 3)
    for uid in np.unique(FEATURES.ref_space_uid):
        atoms = FEATURES.ref_space_uid == uid
        x, y = FEATURES.ref_pos[atoms], posed[atoms]
        assert np.allclose(np.linalg.norm(x[:, None] - x, axis=-1), np.linalg.norm(y[:, None] - y, axis=-1), atol=1e-4)
        volume = [np.linalg.det((p - p[0])[1:4]) if len(p) > 3 else 0.0 for p in (x, y)]
        assert np.isclose(*volume, rtol=1e-3, atol=1e-3), "mirrored"
        assert np.abs(y - x).max() > 0.1
    moved = posed - FEATURES.ref_pos
    assert np.abs(moved).max() < 20


def test_pose_shifts_by_at_most_one_angstrom() -> None:
    still = replace(FEATURES, ref_pos=np.zeros_like(FEATURES.ref_pos))
    shift = Draws(9).ref_pos(still)
    assert np.abs(shift).max() <= 1 and np.abs(shift).max() > 0.8
    first = [np.flatnonzero(still.ref_space_uid == uid)[0] for uid in np.unique(still.ref_space_uid)]
    assert len(np.unique(shift, axis=0)) == len(first)


def test_pose_differs_between_seeds_and_not_with_padding() -> None:
    posed = Draws(9).ref_pos(FEATURES)
    assert not np.isclose(posed, Draws(10).ref_pos(FEATURES)).all(1).any()
    padded = with_garbage(FEATURES, N_token=40, N_atom=180)
    assert np.array_equal(Draws(9).ref_pos(padded), posed)


def test_dropout_generators_are_seeded() -> None:
    a, b, c = (torch.rand(4, generator=Draws(seed).dropout()) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.fixture
def tape() -> Tape:
    source = all_draws(Draws(21).samples(range(2)))
    rows = {f"msa_rows_{i}": Draws(21).msa_rows(i, 70).numpy() for i in range(2)}
    return Tape(21, source | rows | {"ref_pos": Draws(21).ref_pos(FEATURES)})


def test_a_tape_replays_a_run(tape: Tape, tmp_path: Path) -> None:
    tape.save(tmp_path / "tape.safetensors")
    loaded = Tape.load(tmp_path / "tape.safetensors")
    assert loaded.seed == 21 and set(loaded.arrays) == set(tape.arrays)
    for source in (tape, loaded):
        replayed, drawn = all_draws(source.samples(range(2))), all_draws(Draws(21).samples(range(2)))
        assert all(np.array_equal(replayed[name], drawn[name]) for name in drawn)
        assert np.array_equal(all_draws(source.samples([1]))["noise"][:, 0], drawn["noise"][:, 1])
        assert np.array_equal(source.ref_pos(FEATURES), Draws(21).ref_pos(FEATURES))
        assert source.msa_rows(1, 70).tolist() == Draws(21).msa_rows(1, 70).tolist()


def test_what_a_tape_holds_comes_before_the_seed(tape: Tape) -> None:
    other = Tape(99, tape.arrays)
    assert np.array_equal(other.ref_pos(FEATURES), tape.ref_pos(FEATURES))
    assert torch.equal(other.samples([0]).x_init(N_ATOM), tape.samples([0]).x_init(N_ATOM))


def test_what_a_tape_lacks_is_drawn(tape: Tape) -> None:
    empty = Tape(5)
    assert np.array_equal(empty.ref_pos(FEATURES), Draws(5).ref_pos(FEATURES))
    assert torch.equal(empty.samples([1]).x_init(4), Draws(5).samples([1]).x_init(4))
    assert empty.msa_rows(3, 9).tolist() == Draws(5).msa_rows(3, 9).tolist()
    assert tape.msa_rows(7, 9).tolist() == Draws(21).msa_rows(7, 9).tolist()


@pytest.mark.parametrize("missing", ["x_init", "rotation", "translation", "noise"])
def test_a_tape_may_lack_one_of_the_samplers_draws(tape: Tape, missing: str) -> None:
    part = Tape(33, {k: v for k, v in tape.arrays.items() if k != missing})
    found, recorded = all_draws(part.samples([0, 1])), all_draws(tape.samples([0, 1]))
    drawn = all_draws(Draws(33).samples([0, 1]))
    for name in found:
        assert np.array_equal(found[name], (drawn if name == missing else recorded)[name]), name


def test_files_that_are_no_tape_are_told(tmp_path: Path) -> None:
    broken = tmp_path / "tape.safetensors"
    broken.write_bytes(b"PK not a tape")
    for path in (broken, tmp_path / "missing"):
        with pytest.raises(InputError, match=f"{path.name}.*not a readable tape of draws"):
            Tape.load(path)


def cut(tape: Tape, name: str, axis: int) -> Tape:
    """The tape with one element of an axis of one of its arrays."""
    return Tape(tape.seed, tape.arrays | {name: tape.arrays[name].take([0], axis)})


FAULTS: dict[str, tuple[Callable[[Tape], object], str]] = {
    "atoms of the pose": (
        lambda t: t.ref_pos(tiny_features(1)),
        rf"draws: the tape holds {N_ATOM} atoms, the job has {tiny_features(1).n_atom}",
    ),
    "alignment row": (lambda t: t.msa_rows(0, 3), r"the tape names alignment row \d+, the job has 3"),
    "samples": (lambda t: t.samples(range(3)), "x_init holds 2 samples, 3 asked"),
    "samples of one array": (lambda t: cut(t, "noise", 1).samples([1]), "noise holds 1 samples, 2 asked"),
    "steps": (lambda t: t.samples([0]).rotation(N_STEP), "the tape holds 3 steps, 4 asked"),
    "steps of the noise": (lambda t: cut(t, "noise", 0).samples([0]).noise(1, N_ATOM), "the tape holds 1 steps, 2"),
    "more atoms than the job": (lambda t: t.samples([0]).x_init(7), rf"x_init holds {N_ATOM} atoms, the job has 7"),
    "fewer atoms than the job": (
        lambda t: t.samples([0]).noise(0, N_ATOM + 1),
        rf"noise holds {N_ATOM} atoms, the job has {N_ATOM + 1}",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_sizes_that_do_not_fit_are_told(tape: Tape, fault: str) -> None:
    ask, message = FAULTS[fault]
    with pytest.raises(InputError, match=message):
        ask(tape)


def test_digests_tell_draws_apart() -> None:
    recorded = Tape(1, {"x_init": np.zeros((1, 2, 3), np.float32)})
    moved = Tape(1, {"x_init": np.ones((1, 2, 3), np.float32)})
    renamed = Tape(1, {"noise": np.zeros((1, 2, 3), np.float32)})
    digests = {draws.digest for draws in (Draws(1), Draws(2), Tape(1), Tape(2), recorded, moved, renamed)}
    assert len(digests) == 7
    assert recorded.digest == Tape(1, {"x_init": np.zeros((1, 2, 3), np.float32)}).digest
