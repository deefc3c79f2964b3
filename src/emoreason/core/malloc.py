"""Keep glibc from holding on to freed memory. With other C libraries, these functions do nothing."""

import ctypes
from contextlib import suppress

ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
ARENAS = 2


def share_arenas() -> None:
    """Let all threads share two heaps. Call it before any thread starts.

    By default, glibc creates up to eight heaps per core; each keeps up to 64 MiB at its end, which no call releases."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(ARENA_MAX, ARENAS)


def give_back_memory() -> None:
    """Return freed memory to the system: glibc keeps blocks of up to 32 MiB, and a model consists of such blocks."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
