"""Memory that is freed stays with the process."""

import subprocess
import sys

PROGRAM = """
import resource, sys
import torch
from configs.memory import keep_freed_memory

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
