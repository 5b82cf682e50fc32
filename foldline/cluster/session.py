"""The connection to a Ray cluster and what is known of its nodes. Knows neither searches nor engines."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from foldline.errors import InputError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ANSWER_SECONDS = 10.0
MAX_PORT = 65535


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is there."""

    key: str  # Ray's identifier
    name: str
    cores: int
    gpus: int


def load_ray() -> Any:
    """The module.

    Raises:
        InputError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed: pip install foldline[ray]", path="--ray") from error
    return ray


@contextmanager
def signals_later() -> Iterator[None]:
    """Handle signals that come in the block after it: a handler that raises in Ray's compiled code breaks that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


class Steady:
    """Ray's module, whose calls that wait for others are not broken by signals."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._ray, name)
        if name not in ("get", "wait", "nodes", "kill", "cancel"):
            return found

        def steady(*values: object, **named: object) -> Any:
            with signals_later():
                return found(*values, **named)

        return steady


@contextmanager
def session(address: str) -> Iterator[Any]:
    """Be connected to a cluster; gives Ray's module. One that this process is connected to already is used and kept.

    Args:
        address: HOST:PORT of the head, or "auto" for the cluster that this machine is a node of.

    Raises:
        InputError: Ray is not installed, or no cluster can be connected to.
    """
    ray = load_ray()
    if ray.is_initialized():
        yield Steady(ray)
        return
    if address != "auto":
        _check(address)
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS if main}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _unreachable(address, " ".join(str(error).split())[:300]) from error
    for number, handler in before.items():  # Ray sets handlers of its own
        signal.signal(number, handler)
    # Ray prints what befalls its workers on standard output, which is that of --progress json; we say it ourselves.
    printer = ray._private.worker
    printed, printer._worker_logs_enabled = getattr(printer, "_worker_logs_enabled", True), False
    try:
        yield Steady(ray)
    finally:
        with signals_later():
            ray.shutdown()
        printer._worker_logs_enabled = printed


def nodes(ray: Any) -> list[Node]:
    """The nodes that are alive, the one with the smallest identifier first."""
    found = []
    for one in ray.nodes():
        if one["Alive"]:
            has = one["Resources"]
            name = one["NodeManagerHostname"] or one["NodeManagerAddress"]
            found.append(Node(one["NodeID"], name, int(has.get("CPU", 0)), int(has.get("GPU", 0))))
    return sorted(found, key=lambda node: node.key)


def _check(address: str) -> None:
    """Whether something listens at an address: Ray itself waits for very long.

    Raises:
        InputError: it is none, or nothing does.
    """
    host, colon, port = address.rpartition(":")
    if not host or not colon or not port.isdecimal() or "/" in host or int(port) > MAX_PORT:
        raise InputError(
            f"{address!r} is no address: give auto, or HOST:PORT as ray start --head says it", path="--ray"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, str(error.strerror or error)) from error


def _unreachable(address: str, why: str) -> InputError:
    return InputError(
        f"no Ray cluster can be connected to at {address} ({why}): start one with ray start --head, on the other"
        " machines ray start --address=HOST:PORT, and run this on one of them",
        path="--ray",
    )
