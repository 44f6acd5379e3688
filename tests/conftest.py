"""One thread a process, here and in the processes that tests start.

Sums are rounded differently with another number of threads, so tests that compare runs bit for bit need the same
number everywhere; and the suite's many processes would crowd a small machine. Two tests at a time (`-n 2 --dist
loadgroup`) use its cores instead: a file's tests stay together, as do all that need the one SLURM.

No test is timed, generated examples neither: a busy machine is no defect.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed")
settings.load_profile("untimed")
os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, which is after this


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal tests to processes by file; the SLURM ones all to one, and first, since they take longest."""
    slurm = Path(__file__).parent / "slurm"
    items.sort(key=lambda item: not item.path.is_relative_to(slurm))
    for item in items:
        name = "slurm" if item.path.is_relative_to(slurm) else str(item.path.relative_to(slurm.parent))
        item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """Let the next test choose its own precision: accelerate keeps the first choice for the life of the process."""
    yield
    if "accelerate.state" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
