"""Memory that is freed stays with the process; DeepSpeed is told where it runs."""

import os
import subprocess
import sys

import pytest
import torch

from configs.processor import tell_deepspeed_of_cpus, usable_cores

PROGRAM = """
import resource, sys
import torch
from configs.processor import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
torch.set_num_threads(1)
for _ in range(15):  # until the heap has its shape
    torch.zeros(16_000_000).add_(1)  # 64 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.zeros(16_000_000).add_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_page_faults(how: str) -> int:
    result = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(result.stdout)


def test_freed_memory_is_used_again() -> None:
    assert count_page_faults("keep") < count_page_faults("give back") / 4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_cores_of_other_jobs_are_not_counted() -> None:
    program = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    program += "; from configs.processor import usable_cores; print(usable_cores())"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(result.stdout) == 1
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_deepspeed_is_told_of_cpus_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    tell_deepspeed_of_cpus()
    assert os.environ["DS_ACCELERATOR"] == "cpu"
    monkeypatch.setenv("DS_ACCELERATOR", "xpu")
    tell_deepspeed_of_cpus()
    assert os.environ["DS_ACCELERATOR"] == "xpu"


def test_deepspeed_is_left_alone_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    tell_deepspeed_of_cpus()
    assert "DS_ACCELERATOR" not in os.environ
