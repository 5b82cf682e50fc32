"""Memory that runs out at every stage: the same numbers on a smaller plan, no trunk computed again, all of it told."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from other_jobs import assert_same_embeddings, assert_same_samples
from random_weights import tiny_network
from tiny_features import N_MSA, rel_rms, tiny_features

from foldline.engine.group import Lane
from foldline.engine.ladder import Rung, out_of_memory, run_lanes
from foldline.engine.plan import Plan, Sizes, estimate, plan
from foldline.engine.runner import Results, Run, RunOptions, SeedResult, run_seed
from foldline.errors import DoesNotFit
from foldline.models import Network
from foldline.sampler import Draws

FEATURES = tiny_features()
SEEDS = (3, 4, 5)
OPTIONS = RunOptions(n_sample=2, n_recycle=1, n_step=3, save_embeddings=True)
PASSES = 2 * len(SEEDS)


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny_network()


@pytest.fixture(scope="module")
def alone(network: Network) -> list[SeedResult]:
    return [run_seed(network, FEATURES, Draws(seed), a_plan(network), OPTIONS) for seed in SEEDS]


def a_plan(network: Network, **changes: object) -> Plan:
    chosen = plan(Sizes(28, FEATURES.n_atom, N_MSA, OPTIONS.n_sample, len(SEEDS)), network.spec, 1 << 40)
    return estimate(replace(chosen, **changes))  # type: ignore[arg-type]


def no_device_memory() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def no_host_memory() -> Exception:
    try:
        torch.empty(1 << 60)
    except RuntimeError as error:
        return error
    raise AssertionError("2^62 bytes were there")


KINDS: list[Callable[[], Exception]] = [no_device_memory, no_host_memory, MemoryError]


class Failing:
    """Stands in for a method and raises at some of its calls, counted from 1."""

    def __init__(self, real: Callable[..., Any], when: range, error: Callable[[], Exception]) -> None:
        self.real, self.when, self.error, self.calls = real, when, error, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls in self.when:
            raise self.error()
        return self.real(*args, **kwargs)


class Counted(Failing):
    """Counts the seeds that pass through a method whose second argument is [N_lane, ...]."""

    def __init__(self, real: Callable[..., Any]) -> None:
        super().__init__(real, range(0), MemoryError)
        self.lanes = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.lanes += len(args[1])
        return super().__call__(*args, **kwargs)


def attempt(network: Network, chosen: Plan, options: RunOptions = OPTIONS) -> tuple[list[SeedResult], list[Rung], Plan]:
    lanes = [Lane(FEATURES, Draws(seed)) for seed in SEEDS]
    results, rungs = Results(), []
    run = Run(network, options, on_sample=results.on_sample, on_embeddings=results.on_embeddings)
    last = run_lanes(run, lanes, chosen, 1 << 30, on_rung=rungs.append, on_group=lambda group: None)
    return [results.of(lane, {}, run) for lane in lanes], rungs, last


def rungs_below(chosen: Plan, stage: str) -> int:
    """How often memory may run out in a stage before nothing smaller is left."""
    count, current = 0, chosen
    while (leaner := current.smaller(stage) or current.smaller()) is not None:
        count, current = count + 1, leaner
    return count


PLACES: dict[str, tuple[str, str]] = {
    "trunk.embed_inputs": ("trunk", "embed_inputs"),
    "trunk.start": ("trunk", "start"),
    "trunk.forward": ("trunk", "forward"),
    "distogram.forward": ("distogram", "forward"),
    "diffusion.prepare": ("diffusion", "prepare"),
    "diffusion.forward": ("diffusion", "forward"),
    "confidence.embed": ("confidence", "embed"),
    "confidence.forward": ("confidence", "forward"),
    "confidence.error_rows": ("confidence", "error_rows"),
}


def fails_at(network: Network, monkeypatch: pytest.MonkeyPatch, place: str, call: int) -> tuple[str, Failing]:
    """Let memory run out at one call of a place; the place's part of the network, and what counts the calls."""
    module, method = PLACES[place]
    owner = getattr(network, module)
    failing = Failing(getattr(owner, method), range(call, call + 1), KINDS[(len(place) + call) % 3])
    monkeypatch.setattr(owner, method, failing)
    return module, failing


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("place", PLACES)
def test_memory_that_runs_out_once(
    network: Network, alone: list[SeedResult], monkeypatch: pytest.MonkeyPatch, place: str, call: int
) -> None:
    """All seeds together, a failure at the first or the second call: nothing is lost, no trunk is made twice."""
    module, failing = fails_at(network, monkeypatch, place, call)
    passes = Counted(network.trunk.pairformer.forward)
    monkeypatch.setattr(network.trunk.pairformer, "forward", lambda s, z, *rest: passes(s, z, *rest))
    chosen = a_plan(network, seed_batch=2, diffusion_batch=6)
    results, rungs, last = attempt(network, chosen)
    for result, wanted in zip(results, alone, strict=True):
        assert_same_samples(result.samples, wanted.samples)
        assert_same_embeddings(result.embeddings, wanted.embeddings)
    if failing.calls < call:
        assert not rungs
        return
    (rung,) = rungs
    assert rung.stage == ("trunk" if module == "distogram" else module)
    assert rung.plan == last == chosen.smaller(rung.stage), "the next plan on which the stage needs less"
    assert rung.changes["seed_batch"] == (2, 1) and last.seed_batch == 1
    assert "out of memory" in str(rung) and "seed_batch 2 -> 1" in str(rung)
    kept = module not in ("trunk", "distogram") or place == "distogram.forward" and call == 2
    assert rung.trunk_kept is kept
    if module not in ("trunk", "distogram"):
        assert passes.lanes == PASSES, "a finished trunk was computed again"
    elif place == "distogram.forward" and call == 2:
        assert passes.lanes == PASSES + 2, "only the unfinished seed starts anew"


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("place", PLACES)
def test_memory_that_runs_out_beside_others(
    network: Network, alone: list[SeedResult], monkeypatch: pytest.MonkeyPatch, place: str, call: int
) -> None:
    """In one of three seeds that run at the same time: the others end, and it goes on alone from where it was."""
    module, failing = fails_at(network, monkeypatch, place, call)
    passes = Failing(network.trunk.pairformer.forward, range(0), MemoryError)
    monkeypatch.setattr(network.trunk.pairformer, "forward", passes)
    chosen = a_plan(network, side_by_side=3, seed_batch=1, diffusion_batch=2)
    results, (rung,), last = attempt(network, chosen)
    for result, wanted in zip(results, alone, strict=True):
        assert_same_samples(result.samples, wanted.samples)
        assert_same_embeddings(result.embeddings, wanted.embeddings)
    assert rung.plan == last == chosen.smaller() and rung.changes == {"side_by_side": (3, 1)}
    assert len(rung.seeds) == 1 and rung.trunk_kept is (module not in ("trunk", "distogram"))
    assert passes.calls <= PASSES + (0 if rung.trunk_kept else 2), "a finished trunk was computed again"


def test_memory_that_runs_out_in_all_at_once(
    network: Network, alone: list[SeedResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step down for all of them."""
    monkeypatch.setattr(network.diffusion, "prepare", Failing(network.diffusion.prepare, range(1, 4), MemoryError))
    passes = Failing(network.trunk.pairformer.forward, range(0), MemoryError)
    monkeypatch.setattr(network.trunk.pairformer, "forward", passes)
    results, (rung,), _ = attempt(network, a_plan(network, side_by_side=3, seed_batch=1, diffusion_batch=2))
    assert rung.seeds == SEEDS and rung.trunk_kept and passes.calls == PASSES
    for result, wanted in zip(results, alone, strict=True):
        assert_same_samples(result.samples, wanted.samples)


def test_what_is_finished_beside_an_error_is_told(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a job that is tried again does not run its finished seeds once more."""
    failing = Failing(network.diffusion.prepare, range(2, 3), lambda: ValueError("a fault"))
    monkeypatch.setattr(network.diffusion, "prepare", failing)
    lanes, told, results = [Lane(FEATURES, Draws(seed)) for seed in SEEDS], [], Results()
    run = Run(network, OPTIONS, on_sample=results.on_sample, on_embeddings=results.on_embeddings)
    chosen = a_plan(network, side_by_side=3, seed_batch=1, diffusion_batch=2)
    with pytest.raises(ValueError, match="a fault"):
        run_lanes(run, lanes, chosen, 1 << 30, on_rung=pytest.fail, on_group=told.append)
    assert len(told) == 2 and {group.n_abreast for group in told} == {3}


def test_the_trunk_of_a_lone_seed_is_kept(
    network: Network, alone: list[SeedResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that runs out again and again in the diffusion: down to z on the host, with one trunk a seed."""
    chosen = a_plan(network, seed_batch=1, diffusion_batch=2)
    n_rung = rungs_below(chosen, "diffusion")
    failing = Failing(network.diffusion.forward, range(1, n_rung + 1), no_device_memory)
    passes = Failing(network.trunk.pairformer.forward, range(0), MemoryError)
    monkeypatch.setattr(network.diffusion, "forward", failing)
    monkeypatch.setattr(network.trunk.pairformer, "forward", passes)
    results, rungs, last = attempt(network, chosen)
    assert len(rungs) == n_rung > 3 and last.diffusion_batch == 1 and last.park_pair and not last.keep_biases
    assert passes.calls == PASSES and all(rung.trunk_kept for rung in rungs)
    for result, wanted in zip(results, alone, strict=True):
        assert_same_samples(result.samples, wanted.samples)


def test_samples_that_were_scored_are_not_scored_again(
    network: Network, alone: list[SeedResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = Failing(network.confidence.forward, range(2, 3), MemoryError)
    drawn = Failing(network.diffusion.forward, range(0), MemoryError)
    monkeypatch.setattr(network.confidence, "forward", scored)
    monkeypatch.setattr(network.diffusion, "forward", drawn)
    results, rungs, _ = attempt(network, a_plan(network, seed_batch=3, diffusion_batch=6))
    assert [rung.stage for rung in rungs] == ["confidence"]
    assert scored.calls == 2 + 3, "first sample of three seeds, a failure, and the second of each"
    assert drawn.calls == 3, "what was drawn is drawn again"
    for result, wanted in zip(results, alone, strict=True):
        assert_same_samples(result.samples, wanted.samples)


def test_the_only_sample_of_a_seed_survives_too(
    network: Network, alone: list[SeedResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is scored in the memory of z, so that the trunk has to be computed again; the record says so."""
    monkeypatch.setattr(network.confidence, "forward", Failing(network.confidence.forward, range(1, 2), MemoryError))
    results, rungs, _ = attempt(network, a_plan(network, seed_batch=1, diffusion_batch=1), replace(OPTIONS, n_sample=1))
    assert [rung.trunk_kept for rung in rungs] == [False]
    for result, wanted in zip(results, alone, strict=True):
        first = replace(
            wanted.samples, coordinates=wanted.samples.coordinates[:1], confidences=wanted.samples.confidences[:1]
        )
        assert_same_samples(result.samples, first)


def test_what_was_handed_over_is_not_handed_over_again(
    network: Network, alone: list[SeedResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seed that starts anew in the company of others, after its embeddings were written."""
    handed: list[int] = []
    stack, head = network.trunk.pairformer, network.confidence
    monkeypatch.setattr(stack, "forward", Failing(stack.forward, range(3, 4), MemoryError))  # the last four seeds
    monkeypatch.setattr(head, "forward", Failing(head.forward, range(1, 2), MemoryError))  # z is used up by then
    options, results, groups = replace(OPTIONS, n_sample=1), Results(), []
    run = Run(
        network,
        options,
        on_sample=results.on_sample,
        on_embeddings=lambda lane, _rows: handed.append(lane.draws.seed),
    )
    sizes = Sizes(28, FEATURES.n_atom, N_MSA, 1, 8)
    chosen = estimate(replace(plan(sizes, network.spec, 1 << 40), seed_batch=4, diffusion_batch=8))
    lanes = [Lane(FEATURES, Draws(seed)) for seed in range(3, 11)]
    run_lanes(run, lanes, chosen, 1 << 40, on_rung=lambda rung: None, on_group=groups.append)
    assert [len(group.lanes) for group in groups] == [1, 1, 1, 2, 2, 1]
    assert lanes[0] in groups[3].lanes, "the first seed does not start anew beside others"
    assert sorted(handed) == list(range(3, 11))
    found = results.of(lanes[0], {}, run).samples
    assert rel_rms(found.coordinates, alone[0].samples.coordinates[:1]) <= 1e-5


@pytest.mark.parametrize("where", ["clone", "put"])
def test_memory_that_runs_out_while_a_trunk_is_put_away(
    network: Network, alone: list[SeedResult], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Then all seeds start anew."""
    from foldline.engine.offload import Resting

    owner = torch.Tensor if where == "clone" else Resting
    real = getattr(owner, where)
    failing = Failing(real, range(0), no_device_memory)

    def then(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(network.diffusion, "prepare", prepare.real)
        monkeypatch.setattr(owner, where, lambda *rest: failing(*rest))
        failing.when = range(2, 3)
        raise MemoryError

    prepare = Failing(network.diffusion.prepare, range(0), MemoryError)
    monkeypatch.setattr(network.diffusion, "prepare", then)
    results, rungs, _ = attempt(network, a_plan(network, seed_batch=3, diffusion_batch=6))
    assert failing.calls >= 2 and [rung.trunk_kept for rung in rungs] == [False]
    for result, wanted in zip(results, alone, strict=True):
        assert_same_samples(result.samples, wanted.samples)
        assert_same_embeddings(result.embeddings, wanted.embeddings)


def test_nothing_fits(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = network.trunk.pairformer
    monkeypatch.setattr(stack, "forward", Failing(stack.forward, range(1, 999), MemoryError))
    with pytest.raises(DoesNotFit) as caught:
        attempt(network, a_plan(network))
    assert "28 tokens need" in str(caught.value) and "ran out in trunk with the smallest plan" in str(caught.value)


def test_other_errors_are_not_taken_for_memory(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        network.trunk, "forward", Failing(network.trunk.forward, range(1, 2), lambda: RuntimeError("shape"))
    )
    with pytest.raises(RuntimeError, match="shape"):
        attempt(network, a_plan(network))
    assert [out_of_memory(kind()) for kind in KINDS] == [True] * 3
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access")) and not out_of_memory(OSError())


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_memory_that_a_driver_or_a_library_lacks(words: str) -> None:
    assert out_of_memory(RuntimeError(words))


def test_a_step_down_is_recorded_as_plain_values(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.setattr(network.diffusion, "prepare", Failing(network.diffusion.prepare, range(1, 2), MemoryError))
    _, (rung,), _ = attempt(network, a_plan(network, seed_batch=3, diffusion_batch=6))
    assert json.loads(json.dumps(rung.record())) == {
        "stage": "diffusion",
        "seeds": [3, 4, 5],
        "trunk_kept": True,
        "changes": {"seed_batch": [3, 1], "diffusion_batch": [6, 2]},
    }
