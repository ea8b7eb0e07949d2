"""Keeping the memory that was freed, so that the next image does not pay for it again.

glibc hands blocks of some hundred KiB and the top of its heap back to the kernel as soon as they are freed. A program that
reads, decodes and measures image after image then gets every page back as a fresh one, zeroed at its first touch: a page
fault for each 4 KiB, which took more time than reading the file did.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # their numbers in malloc.h
TRIM = 1 << 30  # bytes that may lie free at the top of the heap
MMAP = (1 << 30, 1 << 25)  # from which size a block is mapped by itself; glibc before 2.35 takes at most 32 MiB


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB that it freed, for blocks of any usual size; whether that was possible.

    mallopt(3) with M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, as the environment variables MALLOC_TRIM_THRESHOLD_ and
    MALLOC_MMAP_THRESHOLD_ do before a process starts. It raises no peak by itself: it only delays giving back. Processes
    started by this one (unless forked) call it themselves. False, and nothing done, where there is no mallopt: macOS,
    Windows, musl.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # no such library, no name for it (Windows), no such function
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(M_TRIM_THRESHOLD, TRIM)) and any(mallopt(M_MMAP_THRESHOLD, size) for size in MMAP)
