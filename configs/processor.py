"""What a process that computes on CPUs may use, and what it is told before it begins."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
LARGEST_INT = 2**31 - 1


def usable_cores() -> int:
    """Return how many cores this process may run on: of a node that jobs share, those of its own job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let this process keep what a step frees for the next step; where the C library is not glibc, nothing changes.

    glibc returns large blocks to the system at once, and every step then faults tens of thousands of fresh pages in,
    which the system has to clear: 50,000 faults a step of a 22M encoder, an eighth of its time (docs/experiments.md).
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGEST_INT)
        set_option(M_TRIM_THRESHOLD, LARGEST_INT)


def tell_deepspeed_of_cpus() -> None:
    """Name the processor to DeepSpeed if there is no GPU, here and in child processes; else it guesses and warns."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
