"""What the C library and OpenMP read before a program starts: a command that wants it otherwise starts anew, once."""

import os
import sys
from contextlib import suppress

from foldline.heap import is_glibc
from foldline.limits import SPINS

HEAP = "glibc.malloc.tcache_count=0"  # no caches of small blocks per thread
ADDED = (
    'export GLIBC_TUNABLES="${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}$0"; '
    '[ "${OMP_WAIT_POLICY+set}${GOMP_SPINCOUNT+set}" ] || export GOMP_SPINCOUNT="$1"; shift; exec "$@"'
)
MARK = "foldline-restarted"  # of python -X, which no child inherits


def restart_prepared() -> None:
    """Start `foldline predict` again, in this process, with its heap and its waiting threads as CPUs want them.

    With caches of small blocks per thread (see `foldline.heap`) networks of real widths held 60 to 240 MB of holes,
    and no two runs the same; without them few, in the same time.

    Threads that have done their part spin for the others, by default for milliseconds. Where another program has
    some of the cores they take the time of those they wait for: two commands on two cores took 34 s, with short
    spinning 14 s (`benchmarks/crowded.py`). What the user set (OMP_WAIT_POLICY, GOMP_SPINCOUNT) stays.

    Nothing happens for other commands, under other C libraries and where it was done.
    """
    if sys.argv[1:2] == ["predict"] and MARK not in sys._xoptions and sys.executable and is_glibc():
        command = [sys.executable, "-X", MARK, *sys.orig_argv[1:]]
        with suppress(OSError):  # no shell: it goes on as it is
            os.execv("/bin/sh", ["sh", "-c", ADDED, HEAP, SPINS, *command])
