"""Buckets, the order of a queue, jobs that share passes, and its speed."""

from collections.abc import Iterator

import pytest

from foldline.engine.schedule import BUCKETS, Throughput, bucket_of, estimated_tokens, in_order, rounds, small_from
from foldline.inputs import Job
from foldline.inputs.job import Ligand, Polymer


def a_job(name: str, length: int, copies: int = 1, *ligands: Ligand) -> Job:
    chains = tuple(chr(65 + i) for i in range(copies))
    return Job(name, (1,), (Polymer("protein", chains, "A" * length), *ligands))


@pytest.mark.parametrize(
    ("n_token", "n_atom", "wanted"),
    [
        (1, 5, (256, 256)),
        (256, 2049, (256, 2304)),
        (257, 2048, (512, 2048)),
        (1000, 8000, (1024, 8192)),
        (5120, 40_000, (5120, 40_960)),
        (5121, 40_001, (5121, 40_001)),
    ],
)
def test_buckets_of_alphafold3(n_token: int, n_atom: int, wanted: tuple[int, int]) -> None:
    assert bucket_of(n_token, n_atom, BUCKETS) == wanted
    assert bucket_of(n_token, n_atom, ()) == (n_token, n_atom), "no buckets, no padding"


def test_atoms_of_small_buckets_are_padded_to_128() -> None:
    assert bucket_of(10, 129, (16,)) == (16, 256)


def test_estimates_count_residues_and_guess_ligands() -> None:
    assert estimated_tokens(a_job("a", 100, 2)) == 200
    zinc, haem, smiles = Ligand(("B", "C"), ("ZN",)), Ligand(("D",), ("HEM", "NAG")), Ligand(("E",), smiles="CCO")
    assert estimated_tokens(a_job("a", 100, 1, zinc)) == 102
    assert estimated_tokens(a_job("a", 100, 1, haem)) == 150
    assert estimated_tokens(a_job("a", 100, 1, smiles)) == 125


def test_buckets_repeat_in_the_order_of_their_first_jobs() -> None:
    jobs = [a_job(str(n), n) for n in (300, 100, 310, 6000, 120, 320, 90)]
    assert [job.name for job in in_order(jobs, BUCKETS)] == ["300", "310", "320", "100", "120", "90", "6000"]
    assert in_order(jobs, ()) is jobs, "without buckets, as given"


def test_a_stream_of_jobs_stays_as_it_comes() -> None:
    drawn: list[str] = []

    def stream() -> Iterator[Job]:
        for n in (300, 100, 310):
            drawn.append(str(n))
            yield a_job(str(n), n)

    ordered = iter(in_order(stream(), BUCKETS))
    assert next(ordered).name == "300" and drawn == ["300"], "drawn ahead of need"
    assert [job.name for job in ordered] == ["100", "310"]


def test_rounds_hold_equal_items_up_to_their_capacity() -> None:
    found = rounds("aaaaabbca", lambda held, one: held[0] == one, lambda held: len(held) == 3)
    assert ["".join(one) for one in found] == ["aaa", "aa", "bb", "c", "a"]


def test_a_full_round_does_not_wait_for_the_next_item() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            drawn.append(number)
            yield number

    found = rounds(items(), lambda held, one: True, lambda held: len(held) == 2)
    assert next(found) == [0, 1] and drawn == [0, 1]
    assert list(found) == [[2, 3], [4]]


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([1, 2, 9, 3, 9, 9], [[1, 2], [2], [], [3], [], []]),
        ([1, 1, 1, 1], [[1, 1, 1], [1, 1, 1], [1, 1], [1]]),  # so many and no more
        ([1, 0, 0, 2, 9, 3], [[1, 2], [0, 2], [0, 2], [2], [], [3]]),  # 0 is done: only as the first is it to be run
        ([1, 10, 2], [[1, 2], [], [2]]),  # so is 10, a large one
        ([], []),
    ],
)
def test_small_jobs_that_follow_each_other(sizes: list[int], wanted: list[list[int]]) -> None:
    def is_done(size: int) -> bool:
        return size % 10 == 0

    def from_place(place: int) -> list[int]:
        return small_from(sizes, place, lambda size: size < 5, is_done, 3)

    assert [from_place(place) for place in range(len(sizes))] == wanted


def test_throughput_of_jobs_beside_each_other() -> None:
    """Two at a time, told as they end, one of them waiting for two of its ten seconds; then one in all threads."""
    speed = Throughput()
    speed.add(1, 102.0, 108.0, 0.0, share=0.5)
    speed.add(1, 100.0, 110.0, 2.0, share=0.5)
    speed.add(1, 110.0, 120.0, 0.0)
    assert (speed.jobs, speed.seconds, speed.busy) == (3, 20, 3 + 4 + 10)


def test_throughput() -> None:
    speed = Throughput()
    assert speed.jobs_per_hour == 0 and speed.idle_share == 0
    speed.add(2, 100.0, 110.0, 1.0)  # one second of ten spent waiting
    speed.add(1, 115.0, 120.0, 0.0)
    assert speed.jobs == 3 and speed.seconds == 20 and speed.busy == 14
    assert speed.jobs_per_hour == pytest.approx(540) and speed.idle_share == pytest.approx(0.3)
    assert str(speed) == "3 jobs, 540 jobs per hour, device idle 30.0 %"
