"""A cluster of two nodes on this machine, with one core each, for all tests of this folder.

One of them says that it has two GPUs: Ray then counts them and sets what they are called for, and that is all.
"""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE.parent / name) for name in ("network_cases", "search", "survival")]
STORE_BYTES = 100 * 2**20
LIGHT = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}  # processes that nobody needs


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """The cluster's `address`, and what has a node `join` and `leave`."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install foldline[ray]")
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "num_gpus": 2, "object_store_memory": STORE_BYTES, **LIGHT},
    )
    join = partial(made.add_node, num_cpus=1, object_store_memory=STORE_BYTES)
    try:
        join()
        made.wait_for_nodes()
        yield SimpleNamespace(address=made.address, join=join, leave=made.remove_node)
    finally:
        made.shutdown()


@pytest.fixture(scope="module")
def ray(cluster: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The module, connected to the cluster."""
    from foldline.cluster.session import session

    with session(cluster.address) as module:
        module.cloudpickle.register_pickle_by_value(request.module)  # workers cannot import the tests
        yield module
