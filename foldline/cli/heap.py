"""The C library's heap as a run on a CPU wants it: set before a process starts, so a command starts anew, once."""

import os
import sys
from contextlib import suppress

from foldline.heap import is_glibc

SETTING = "glibc.malloc.tcache_count=0"
ADDED = 'export GLIBC_TUNABLES="${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}$0"; exec "$@"'
MARK = "foldline-restarted"  # of python -X, which no child inherits


def restart_without_caches() -> None:
    """Start `foldline predict` again, in this process, with a heap that has no caches of small blocks per thread.

    With them (see `foldline.heap`) networks of real widths held 60 to 240 MB of holes, and no two runs the same;
    without them few, in the same time.

    Nothing happens for other commands, under other C libraries and where it was done.
    """
    if sys.argv[1:2] == ["predict"] and MARK not in sys._xoptions and sys.executable and is_glibc():
        command = [sys.executable, "-X", MARK, *sys.orig_argv[1:]]
        with suppress(OSError):  # no shell: it goes on as it is
            os.execv("/bin/sh", ["sh", "-c", ADDED, SETTING, *command])
