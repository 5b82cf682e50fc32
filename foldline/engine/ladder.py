"""When memory runs out: the next smaller plan, once per rung, with what is finished kept. Knows plans and groups."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

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
    """Take all lanes through the network, as many together as the plan says; returns the plan of the last group.

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
    while started or waiting:
        started = deque(group for group in started if any(map(wanted, group.lanes)))
        waiting = deque(group for group in waiting if any(map(wanted, group.lanes)))
        if not started and not waiting:
            break
        if not started:
            started.append(_joined(waiting, 1 if plan.park_pair or plan.park_template else plan.seed_group))
        group = started.popleft()
        if _fits(run, group, plan):
            on_group(group)
            continue
        leaner = plan.smaller(group.stage) or plan.smaller()
        if leaner is None:
            n_token = max(lane.features.n_token for lane in group.lanes)
            hint = (
                f"memory ran out in {group.stage} with the smallest plan there is; set --max-memory below what other "
                "programs leave free, or use a device with more memory"
            )
            error = DoesNotFit(n_token, plan.peak_bytes, memory_bytes, hint)
            error.stage = group.stage
            raise error
        kept, again = _after_failure(group)
        on_rung(_rung(plan, leaner, group, bool(kept)))
        plan = leaner
        started.extendleft(reversed(kept))
        waiting.extendleft(reversed(again))
        del group, kept, again
        release_memory(run.device)
    return plan


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


def _rung(plan: Plan, leaner: Plan, group: Group, kept: bool) -> Rung:
    before, after = plan.record(), leaner.record()
    changes = {
        name: (before[name], after[name])
        for name in before
        if before[name] != after[name] and name not in ("stage_bytes", "peak_bytes")
    }
    jobs = tuple(dict.fromkeys(lane.job for lane in group.lanes))
    return Rung(group.stage, jobs, tuple(lane.draws.seed for lane in group.lanes), kept, changes, leaner)
