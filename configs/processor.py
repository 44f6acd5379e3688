"""What a process that computes on CPUs may use, and what it is told before it begins."""

import ctypes
import os
import sys

LAUNCHER_MARKS = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")
"""What `accelerate launch` and torchrun leave in the environment of the processes they start."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
LARGEST_INT = 2**31 - 1


def usable_cores() -> int:
    """Return how many cores this process may run on: of a node that jobs share, those of its own job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_own_cores() -> None:
    """Let torch use this process's share of the cores where a launcher allows it one thread that nobody asked for.

    `accelerate launch` and torchrun set OMP_NUM_THREADS=1 for their processes, which suits GPUs; on CPUs all other
    cores would idle. Whatever the user has set, and any start without a launcher, is left alone.
    """
    import torch

    if not torch.cuda.is_available() and has_launchers_thread():
        torch.set_num_threads(max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def has_launchers_thread() -> bool:
    """Return whether OMP_NUM_THREADS=1 is a launcher's own default, not the user's choice.

    The launcher passes a 1 of the user's on as it does its own; only what it was started with tells them apart.
    """
    if os.environ.get("OMP_NUM_THREADS") != "1" or not any(mark in os.environ for mark in LAUNCHER_MARKS):
        return False
    import psutil

    try:
        launcher = psutil.Process().parent()
        if launcher is None:
            return False
        given = launcher.environ()  # as it was when the launcher began
        asked = any("num_cpu_threads" in word.replace("-", "_") for word in launcher.cmdline())
    except (psutil.Error, OSError):
        return False
    return "OMP_NUM_THREADS" not in given and not asked


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
