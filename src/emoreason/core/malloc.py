"""What glibc keeps of freed memory. Other C libraries have neither of these calls, and nothing happens there."""

import ctypes
from contextlib import suppress

ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
ARENAS = 2


def share_arenas() -> None:
    """Threads share two heaps. To be called before there are threads.

    Left alone, glibc makes up to eight a core, each keeps up to 64 MiB at its end, and no call gives those back."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(ARENA_MAX, ARENAS)


def give_back_memory() -> None:
    """What was freed goes back to the system: glibc keeps pieces of up to 32 MiB, and a model consists of those."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
