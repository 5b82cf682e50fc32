"""When memory runs out: the next smaller plan, once per rung, with what is finished kept. Knows plans and groups."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from foldline.engine.abreast import abreast
from foldline.engine.group import Group, Lane
from foldline.engine.offload import release_memory
from foldline.engine.plan import Plan
from foldline.engine.runner import Run, advance
from foldline.errors import DoesNotFit

# of the CPU's allocator; of a GPU's driver, past the allocator; of a library that found none left for its workspace
_NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class Rung(NamedTuple):
    """One step down: the stage that ran out of memory, and the plan that follows."""

    stage: str
    jobs: tuple[int, ...]
    seeds: tuple[int, ...]
    trunk_kept: bool
    changes: dict[str, tuple[object, object]]
    plan: Plan

    def __str__(self) -> str:
        """One sentence for a log."""
        changed = ", ".join(f"{name} {before} -> {after}" for name, (before, after) in self.changes.items())
        kept = "the trunk's result is kept" if self.trunk_kept else "the seed starts anew"
        return f"out of memory in {self.stage}: going on with {changed}; {kept}"

    def record(self) -> dict[str, object]:
        """As plain values."""
        return {
            "stage": self.stage,
            "seeds": list(self.seeds),
            "trunk_kept": self.trunk_kept,
            "changes": {name: list(pair) for name, pair in self.changes.items()},
        }


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is that of an allocator, a device's or the host's own, or of a library that asked one."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def run_lanes(
    run: Run,
    lanes: Sequence[Lane],
    plan: Plan,
    memory_bytes: int,
    *,
    on_rung: Callable[[Rung], None],
    on_group: Callable[[Group], None],
    wanted: Callable[[Lane], bool] = lambda _lane: True,
) -> Plan:
    """Take all lanes through the network, as many together and beside each other as the plan says.

    Returns the plan of the last groups.

    Args:
        run: network, options and listeners.
        lanes: seeds of jobs that fit the plan's bucket.
        plan: the plan to begin with.
        memory_bytes: what the plan was made for.
        on_rung: called with every step down.
        on_group: called with every finished group.
        wanted: whether a lane is still to be run when its turn comes.

    Raises:
        DoesNotFit: memory runs out with the smallest plan too.
    """
    waiting = deque(Group([lane]) for lane in lanes)
    started: deque[Group] = deque()
    while True:
        started = deque(group for group in started if any(map(wanted, group.lanes)))
        waiting = deque(group for group in waiting if any(map(wanted, group.lanes)))
        groups = _next(started, waiting, plan)
        if not groups:
            return plan
        failed = _advance(run, groups, plan, on_group)
        if not failed:
            continue
        leaner = plan.smaller(failed[0].stage) or plan.smaller()
        if leaner is None:
            raise _does_not_fit(failed[0], plan, memory_bytes)
        after = [_after_failure(group) for group in failed]
        on_rung(_rung(plan, leaner, failed, all(kept for kept, _ in after)))
        plan = leaner
        for kept, again in reversed(after):
            started.extendleft(reversed(kept))
            waiting.extendleft(reversed(again))
        del groups, failed, after, kept, again
        release_memory(run.device)


def _next(started: deque[Group], waiting: deque[Group], plan: Plan) -> list[Group]:
    """The groups that run now, as many as may be at a time: those that have begun, then new ones."""
    groups: list[Group] = []
    while len(groups) < plan.side_by_side and (started or waiting):
        groups.append(started.popleft() if started else _joined(waiting, _together(plan)))
    return groups


def _together(plan: Plan) -> int:
    """Seeds of a new group."""
    return 1 if plan.park_pair or plan.park_template else plan.seed_group


def _advance(run: Run, groups: list[Group], plan: Plan, on_group: Callable[[Group], None]) -> list[Group]:
    """Take groups to their end, beside each other; returns those in which memory ran out.

    What other error one of them ends in is raised when all have ended and those that are finished are told.
    """
    for group in groups:
        group.n_abreast = len(groups)
    found = abreast(lambda group: _fits(run, group, plan), groups)
    for group, fits in zip(groups, found, strict=True):
        if fits is True:
            on_group(group)
    failed = [group for group, fits in zip(groups, found, strict=True) if not fits]
    error = next((fits for fits in found if isinstance(fits, BaseException)), None)
    found.clear()
    del fits
    try:
        if error is not None:
            raise error
    finally:
        del error  # it holds this frame
    return failed


def _does_not_fit(group: Group, plan: Plan, memory_bytes: int) -> DoesNotFit:
    """The error of a group in which memory ran out with the smallest plan."""
    hint = (
        f"memory ran out in {group.stage} with the smallest plan there is; set --max-memory below what other "
        "programs leave free, or use a device with more memory"
    )
    error = DoesNotFit(max(lane.features.n_token for lane in group.lanes), plan.peak_bytes, memory_bytes, hint)
    error.stage = group.stage
    return error


def _joined(waiting: deque[Group], count: int) -> Group:
    """The next lanes in one group."""
    return Group.joined([waiting.popleft() for _ in range(min(count, len(waiting)))])


def _fits(run: Run, group: Group, plan: Plan) -> bool:
    """Whether a group got to its end; the tensors of a failed attempt are gone when this returns."""
    try:
        advance(run, group, plan)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return False
    return True


def _after_failure(group: Group) -> tuple[list[Group], list[Group]]:
    """What is kept of a group, and what starts anew: all of it where memory runs out again while some is put away."""
    try:
        return group.after_failure()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    return [], group.anew()


def _rung(plan: Plan, leaner: Plan, groups: list[Group], kept: bool) -> Rung:
    """One step down for groups that ran out of memory at the same time."""
    before, after = plan.record(), leaner.record()
    changes = {
        name: (before[name], after[name])
        for name in before
        if before[name] != after[name] and name not in ("stage_bytes", "peak_bytes")
    }
    lanes = [lane for group in groups for lane in group.lanes]
    jobs = tuple(dict.fromkeys(lane.job for lane in lanes))
    return Rung(groups[0].stage, jobs, tuple(lane.draws.seed for lane in lanes), kept, changes, leaner)
