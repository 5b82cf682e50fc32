"""Whether the heap caches small blocks: told of this process's own, whatever other threads do beside it."""

import ctypes
import subprocess
import sys

import pytest

from foldline import heap

GLIBC = pytest.mark.skipif(not heap.is_glibc(), reason="another C library")
PROGRAM = """
import sys, threading
import torch
from foldline.heap import has_caches
ended = threading.Event()
def other():
    while not ended.is_set():
        torch.empty(3_000), bytes(5_000)
threads = [threading.Thread(target=other) for _ in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
print(*{has_caches() for _ in range(50)})
ended.set()
"""


@GLIBC
@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize(("setting", "caches"), [("tcache_count=0", False), ("tcache_count=7", True)])
def test_it_tells_what_the_heap_was_told(setting: str, caches: bool, threads: int) -> None:
    words = ["env", f"GLIBC_TUNABLES=glibc.malloc.{setting}", sys.executable, "-c", PROGRAM, str(threads)]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == f"{caches}\n"


def test_another_c_library_has_none_and_an_old_glibc_is_taken_to_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "is_glibc", lambda: True)
    monkeypatch.setattr(ctypes, "PyDLL", lambda name: object())
    assert heap.has_caches()
    monkeypatch.setattr(heap, "is_glibc", lambda: False)
    assert not heap.has_caches()
