"""The C library's heap: whether it keeps freed small blocks apart, which leaves holes between tensors.

glibc cuts a tensor with its alignment out of a larger block and puts the ends into a cache of the thread, where they
are never joined to what is freed beside them: the next tensor of the same size fits none of the holes.
"""

import ctypes
import os
import sys

SMALL = 600  # bytes of a block that such a cache would take
TRIES = 5  # another thread may ask for memory between two looks


class _Info(ctypes.Structure):
    """What glibc tells of its heap (mallinfo2)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks"),
            *("uordblks", "fordblks", "keepcost"),
        )
    )


def is_glibc() -> bool:
    """Whether the C library is glibc."""
    name = "CS_GNU_LIBC_VERSION"
    return sys.platform == "linux" and name in os.confstr_names and str(os.confstr(name)).startswith("glibc")


def has_caches() -> bool:
    """Whether this process's heap caches small blocks per thread: glibc's does unless it was told not to.

    A freed block goes out of use, or stays in use as glibc counts it. Before 2.33 it does not tell: caches then.
    """
    if not is_glibc():
        return False
    library = ctypes.PyDLL(None)
    if not hasattr(library, "mallinfo2"):
        return True
    library.mallinfo2.restype, library.malloc.restype = _Info, ctypes.c_void_p
    library.malloc_usable_size.restype = ctypes.c_size_t
    return not any(_is_given_back(library) for _ in range(TRIES))


def _is_given_back(library: ctypes.PyDLL) -> bool:
    """Whether a freed block goes back to the heap at once."""
    block, beside = (ctypes.c_void_p(library.malloc(SMALL)) for _ in range(2))
    size = library.malloc_usable_size(block) + ctypes.sizeof(ctypes.c_size_t)
    before = library.mallinfo2().uordblks
    library.free(block)
    given_back = before - library.mallinfo2().uordblks
    library.free(beside)
    return given_back == size
