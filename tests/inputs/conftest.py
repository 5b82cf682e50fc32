"""Small jobs for the tests of the readers."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from foldline.errors import InputError
from foldline.inputs import Job, jobs_from_json


@pytest.fixture
def af3() -> Callable[..., dict[str, Any]]:
    """Makes a small alphafold3 job of the given members of `sequences`; keyword arguments are top-level keys."""

    def make(*sequences: dict[str, Any], **top: Any) -> dict[str, Any]:
        chains = list(sequences) or [{"protein": {"id": "A", "sequence": "MKTAYIAK"}}]
        return {
            "dialect": "alphafold3",
            "version": 4,
            "name": "job",
            "modelSeeds": [1],
            "sequences": chains,
            **top,
        }

    return make


@pytest.fixture
def read() -> Callable[[Any], Job]:
    """Reads one good job from a JSON value."""

    def run(value: Any) -> Job:
        jobs, errors = jobs_from_json(json.dumps(value))
        assert not errors, errors
        assert len(jobs) == 1
        return jobs[0]

    return run


@pytest.fixture
def faults() -> Callable[[Any], list[InputError]]:
    """The faults of a JSON value that gives no job."""

    def run(value: Any) -> list[InputError]:
        jobs, errors = jobs_from_json(value if isinstance(value, str | bytes) else json.dumps(value))
        assert not jobs
        assert errors
        for error in errors:
            assert "\n" not in error.message, "one sentence per fault"
            assert ": " in error.message or "?" in error.message, f"no remedy in {error.message!r}"
        return errors

    return run
