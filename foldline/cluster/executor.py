"""An executor whose items run anywhere in a Ray cluster; what a lost worker was at is run again. Knows no searches."""

import pickle
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from foldline.cluster.session import nodes, signals_later
from foldline.errors import WorkerLost
from foldline.execute import go_on

Item = TypeVar("Item")
Result = TypeVar("Result")
TRIES = 3  # of an item whose worker was lost
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60.0  # that no node is large enough for an item
MOST_CORES = 8  # of an item where no number is asked for: as many as AlphaFold 3 gives a search


class RayExecutor:
    """Runs items on the nodes of a cluster. Keeps `Executor`'s protocol."""

    def __init__(
        self,
        ray: Any,
        cores: Callable[[Any], int] = lambda _item: 1,
        say: Callable[[str], None] = lambda _message: None,
        check: Callable[[], None] = go_on,
    ) -> None:
        """`cores`: how many an item takes. `say` is told of lost workers. `check` ends the work by raising."""
        self._ray, self._cores, self._say, self._check = ray, cores, say, check

    @property
    def slots(self) -> int:
        """See `Executor.slots`: the cores of all nodes."""
        return max(1, sum(node.cores for node in nodes(self._ray)))

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Future[Result], None, None]:
        """See `Executor.map`."""
        numbered = RayExecutor(self._ray, lambda pair: self._cores(pair[1]), self._say, self._check)
        done: dict[int, Future[Result]] = {}
        due = 0
        with closing(numbered.each(partial(_of_second, function), enumerate(items))) as ended:
            for (number, _), future in ended:
                done[number] = future
                while due in done:
                    yield done.pop(due)
                    due += 1

    def each(
        self, function: Callable[[Item], Result], items: Iterable[Item | None]
    ) -> Generator[tuple[Item, Future[Result]], None, None]:
        """See `Executor.each`. An item whose worker was lost is run again; the third time its future has WorkerLost."""
        from ray.cloudpickle.cloudpickle import dumps

        ray, drawn = self._ray, iter(items)
        remote = ray.remote(max_retries=0)(_call)
        running: dict[Any, tuple[Item, int]] = {}
        narrow: float | None = None  # since when no node has been large enough

        def submit(item: Item, number: int) -> None:
            packed = dumps((function, item))
            with signals_later():
                running[remote.options(num_cpus=self._cores(item)).remote(packed)] = item, number

        try:
            while True:
                self._check()
                for item in self._drawn(drawn, running):
                    submit(item, 1)
                if not running:
                    return
                ready, _ = ray.wait(list(running), num_returns=1, timeout=POLL_SECONDS)
                narrow = self._narrow_since(narrow, running) if not ready else None
                for ref in ready:
                    item, number = running.pop(ref)
                    future = self._ended(ref, item, number)
                    if future is None:
                        submit(item, number + 1)
                    else:
                        yield item, future
        finally:
            for ref in running:
                ray.cancel(ref)

    def close(self) -> None:
        """See `Executor.close`: nothing of it stays."""

    def _drawn(self, drawn: Iterator[Any], running: dict[Any, tuple[Any, int]]) -> Iterator[Any]:
        """Items to begin: as many as there are cores, and one more for each node, so that it is there in time."""
        here = nodes(self._ray)
        room = sum(node.cores for node in here) + len(here)
        while sum(self._cores(item) for item, _ in running.values()) < room:
            item = next(drawn, None)
            if item is None:
                return
            yield item

    def _ended(self, ref: Any, item: Any, number: int) -> "Future[Any] | None":
        """What came of an item; None where its worker was lost and it is to run again."""
        errors, future = self._ray.exceptions, Future()
        try:
            future.set_result(self._ray.get(ref))
        except errors.RayTaskError as error:
            future.set_exception(error.cause)
        except errors.RayError as error:
            what = f"the cluster lost a worker ({type(error).__name__})"
            if number < TRIES:
                self._say(f"{what}: {item} is run again, try {number + 1} of {TRIES}")
                return None
            future.set_exception(WorkerLost(f"{what} in each of {TRIES} tries of {item}: look at its nodes' memory"))
        return future

    def _narrow_since(self, since: float | None, running: dict[Any, tuple[Any, int]]) -> float | None:
        """Since when no node is large enough for any item.

        Raises:
            WorkerLost: for too long.
        """
        least = min(self._cores(item) for item, _ in running.values())
        if any(node.cores >= least for node in nodes(self._ray)):
            return None
        now = time.monotonic()
        if since is not None and now - since > PATIENCE_SECONDS:
            raise WorkerLost(f"the cluster has no node of {least} or more cores: add one, or set threads in [search]")
        return since or now


def search_executor(ray: Any, say: Callable[[str], None], check: Callable[[], None] = go_on) -> RayExecutor:
    """What runs searches on all nodes, each with the threads that it asks for."""
    return RayExecutor(ray, lambda item: item.threads, say, check)


def cores_of_search(ray: Any, asked: int | None) -> int:
    """Cores of one search: what was asked for, or eight, but no more than the smallest node that searches has."""
    least = min((node.cores for node in nodes(ray) if node.cores), default=1)
    return min(asked or MOST_CORES, least)


def _call(packed: bytes) -> Any:
    """What a worker runs: a function and its item, which it unpacks itself.

    A worker whose item is given up ends, after what the item had begun: where that was the import of a library, it
    could not be imported again in the same process.
    """
    try:
        function, item = pickle.loads(packed)
        return function(item)
    except KeyboardInterrupt:  # from `cancel`
        raise SystemExit(0) from None


def _of_second(function: Callable[[Item], Result], pair: tuple[int, Item]) -> Result:
    return function(pair[1])
