"""Which jobs run when and with whom: buckets of sizes, the order of a queue, jobs that share passes, and its speed.

Pure functions of sizes. Knows no devices, features or files.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from foldline.inputs import Job

BUCKETS = (
    256,
    512,
    768,
    1024,
    1280,
    1536,
    2048,
    2560,
    3072,
    3584,
    4096,
    4608,
    5120,
)  # AlphaFold 3, run_alphafold.py:174
SHARED_ATOMS = 128  # atoms are padded to a multiple of the bucket's tokens, or of this where that is less
LIGAND_TOKENS = 25  # of a component whose atoms are not looked up for an estimate
Item = TypeVar("Item")


def bucket_of(n_token: int, n_atom: int, buckets: Sequence[int]) -> tuple[int, int]:
    """Padded tokens and atoms of a job: the smallest bucket that holds it; one of its own size where none does.

    Args:
        n_token: true number of tokens.
        n_atom: true number of atoms.
        buckets: token counts in rising order; empty = no padding.
    """
    held = next((bucket for bucket in buckets if bucket >= n_token), None)
    if held is None:
        return n_token, n_atom
    step = max(SHARED_ATOMS, held)
    return held, -(-n_atom // step) * step


def estimated_tokens(job: "Job") -> int:
    """About how many tokens a job has: residues, and a guess for ligands. It decides order and nothing else."""
    total = 0
    for entity in job.entities:
        sequence, codes = getattr(entity, "sequence", None), getattr(entity, "ccd_codes", ())
        if sequence is not None:
            each = len(sequence)
        elif codes:
            each = sum(1 if len(code) <= 2 else LIGAND_TOKENS for code in codes)
        else:
            each = LIGAND_TOKENS
        total += each * len(entity.ids)
    return total


def in_order(jobs: "Iterable[Job]", buckets: Sequence[int]) -> "Iterable[Job]":
    """A list of jobs so that those of one bucket follow each other; what is not a list stays as it comes.

    Buckets come in the order of their first jobs, and the jobs of a bucket in the order given.
    """
    if not isinstance(jobs, Sequence) or not buckets:
        return jobs
    groups: dict[int, list[Job]] = {}
    for job in jobs:
        groups.setdefault(bucket_of(estimated_tokens(job), 0, buckets)[0], []).append(job)
    return [job for group in groups.values() for job in group]


def small_from(
    items: Sequence[Item], place: int, is_small: Callable[[Item], bool], is_done: Callable[[Item], bool], most: int
) -> list[Item]:
    """The item at a place of a list, which is to be run, and those to be run after it, while they are small.

    Args:
        items: what is to be run, in order.
        place: where to begin.
        is_small: whether an item may go beside others.
        is_done: whether an item after the first needs no run; such a one neither counts nor parts others.
        most: how many to find, at least one.

    Returns:
        At most `most`; none where the first is not small.
    """
    found: list[Item] = []
    for item in islice(items, place, None):
        if found and is_done(item):
            continue
        if not is_small(item):
            break
        found.append(item)
        if len(found) == most:
            break
    return found


def rounds(
    items: Iterable[Item], fits: Callable[[list[Item], Item], bool], is_full: Callable[[list[Item]], bool]
) -> Iterator[list[Item]]:
    """Items that share forward passes, in the order in which they come.

    Args:
        items: what is to be run.
        fits: whether an item goes along with those before it.
        is_full: whether nothing could go along any more, so that the next item is not waited for.
    """
    held: list[Item] = []
    for item in items:
        if held and not fits(held, item):
            yield held
            held = []
        held.append(item)
        if is_full(held):
            yield held
            held = []
    if held:
        yield held


@dataclass
class Throughput:
    """How fast a queue went, and how long the device had nothing to do between its first job and its last."""

    jobs: int = 0  # that did not fail
    first: float = 0.0  # clock when the first job's network began, seconds
    last: float = 0.0  # clock when the last job's network ended, seconds
    busy: float = 0.0  # seconds in the network
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, jobs: int, start: float, end: float, waited: float, share: float = 1.0) -> None:
        """Some jobs came out of the network, in it from `start` to `end`, of which they `waited` for other things.

        They had a `share` of the device, in the mean. Called from any thread.
        """
        with self._lock:
            self.first = min(self.first, start) if self.last else start
            self.jobs, self.last = self.jobs + jobs, max(self.last, end)
            self.busy += share * (end - start - waited)

    @property
    def seconds(self) -> float:
        """From the beginning of the first job's network to the end of the last one's."""
        return self.last - self.first

    @property
    def jobs_per_hour(self) -> float:
        """Jobs per hour; 0 before any ended."""
        return 3600 * self.jobs / self.seconds if self.seconds else 0.0

    @property
    def idle_share(self) -> float:
        """Share of the time that the device had nothing to do, 0 to 1."""
        return 1 - self.busy / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        """One line."""
        return f"{self.jobs} jobs, {self.jobs_per_hour:.0f} jobs per hour, device idle {100 * self.idle_share:.1f} %"
