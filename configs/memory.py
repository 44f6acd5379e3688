"""Memory that a training step frees serves the next step, instead of going back to the system and coming again.

glibc returns large blocks at once, and every step of a training on CPUs then faults tens of thousands of fresh pages
in, which the system has to clear: 50,000 faults a step of a 22M encoder, an eighth of its time (docs/experiments.md).
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process keep what it frees; where the C library is not glibc, nothing changes."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGEST_INT)
        set_option(M_TRIM_THRESHOLD, LARGEST_INT)
