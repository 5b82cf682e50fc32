"""Every error that Foldline raises on purpose, and the exit code it leads to.

FoldlineError                 something a user can act on; one sentence with the remedy
+-- InputError                bad job, file or option              exit code 2 before anything ran
+-- WeightsError              checkpoint not usable
+-- DoesNotFit                the job is larger than the device
+-- KernelUnavailable         an implementation was asked for by name and refuses
+-- NonFiniteOutput           the network produced NaN or Inf
+-- WriteError                a result cannot be written
+-- SearchError               an alignment or template search failed
    +-- NoSearch              the settings name nothing to search in or with; an InputError too
+-- WorkerLost                processes or nodes of a cluster died too often
+-- InternalError             a fault of Foldline's own, or of a library, that ended one job

Stopped is no error: somebody asked the run to end.
"""

import enum
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class ExitCode(enum.IntEnum):
    """Exit codes of the command line."""

    OK = 0
    SOME_FAILED = 1
    BAD_INPUT = 2
    NONE_SUCCEEDED = 3
    INTERRUPTED = 130  # 128 + SIGINT
    TERMINATED = 143  # 128 + SIGTERM


class FoldlineError(Exception):
    """Base class. `code` is a stable machine-readable word for records of failed jobs, `stage` where a job was."""

    code = "error"
    stage = ""

    def __reduce__(self) -> tuple:
        """Travels between processes with its fields, whatever its constructor takes."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[FoldlineError], args: tuple, fields: dict) -> FoldlineError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class InputError(FoldlineError, ValueError):
    """Bad input. `path` is the JSON path or option at fault, `source` the file it came from."""

    code = "bad_input"

    def __init__(self, message: str, *, path: str = "", source: str = "") -> None:
        self.message, self.path, self.source = message, path, source
        place = ": ".join(part for part in (source, path) if part)
        super().__init__(f"{place}: {message}" if place else message)


class WeightsError(FoldlineError):
    """A checkpoint cannot be read, is of an unknown family, or does not match the network."""

    code = "bad_weights"


class DoesNotFit(FoldlineError):
    """The job needs more memory than the device has."""

    code = "does_not_fit"

    def __init__(self, n_token: int, needed: int, available: int, hint: str) -> None:
        self.n_token, self.needed, self.available, self.hint = n_token, needed, available, hint
        super().__init__(
            f"{n_token} tokens need {needed / 2**30:.1f} GiB where {available / 2**30:.1f} GiB are available: {hint}"
        )


class KernelUnavailable(FoldlineError):
    """An op implementation was requested by name and refuses this device, dtype or size."""

    code = "kernel_unavailable"

    def __init__(self, op: str, name: str, reason: str) -> None:
        self.op, self.name, self.reason = op, name, reason
        super().__init__(f"{op}: implementation {name!r} is not available: {reason}")


class NonFiniteOutput(FoldlineError):
    """The network's output holds NaN or Inf; nothing of it is written."""

    code = "non_finite_output"
    stage = "confidence"


class WriteError(FoldlineError):
    """A result cannot be written: the disk is full, or the folder may not be written to."""

    code = "not_written"
    stage = "write"


class SearchError(FoldlineError):
    """An alignment or template search failed."""

    code = "search_failed"


class NoSearch(SearchError, InputError):
    """What the settings name cannot be searched in or with: a database that is missing or broken, or a tool."""


class WorkerLost(FoldlineError):
    """A piece of work was given to several workers of a cluster, and each of them died."""

    code = "worker_lost"


class InternalError(FoldlineError):
    """A job ended in an error that nobody foresaw; `details` is the traceback."""

    code = "internal_error"

    def __init__(self, error: BaseException) -> None:
        self.details = "".join(traceback.format_exception(error))
        super().__init__(f"unforeseen {type(error).__name__}: {' '.join(str(error).split())[:500]}; please report it")


class Stopped(BaseException):
    """The run was asked to end (by a signal, say). Not an Exception, so that nothing takes it for a job's fault."""


@contextmanager
def during(stage: str) -> Iterator[None]:
    """Name the stage in the errors that leave the block, where none inside has named its own."""
    try:
        yield
    except FoldlineError as error:
        error.stage = error.stage or stage
        raise
