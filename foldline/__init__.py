"""Foldline: inference for AlphaFold-class structure prediction.

Importing this package imports nothing else; each name below is fetched when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foldline.config import EngineConfig
    from foldline.engine import Engine, Prediction
    from foldline.errors import (
        DoesNotFit,
        FoldlineError,
        InputError,
        KernelUnavailable,
        NonFiniteOutput,
        SearchError,
        WeightsError,
    )
    from foldline.execute import Event
    from foldline.inputs import Job, read_jobs
    from foldline.sampler import Tape

__version__ = "0.1.0"
__all__ = [
    "DoesNotFit",
    "Engine",
    "EngineConfig",
    "Event",
    "FoldlineError",
    "InputError",
    "Job",
    "KernelUnavailable",
    "NonFiniteOutput",
    "Prediction",
    "SearchError",
    "Tape",
    "WeightsError",
    "__version__",
    "read_jobs",
]

_HOMES = {
    "Engine": "foldline.engine",
    "EngineConfig": "foldline.config",
    "Event": "foldline.execute",
    "Job": "foldline.inputs",
    "Prediction": "foldline.engine",
    "Tape": "foldline.sampler",
    "read_jobs": "foldline.inputs",
}


def __getattr__(name: str) -> object:
    """Fetch a public name from the room where it lives (PEP 562)."""
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module 'foldline' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "foldline.errors")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
