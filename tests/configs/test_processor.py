"""Memory that is freed stays with the process; its cores are used; DeepSpeed is told where it runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from configs.processor import LAUNCHER_MARKS, tell_deepspeed_of_cpus, usable_cores, use_own_cores

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


THREADS_PROGRAM = """
import torch
from configs import processor

processor.usable_cores = lambda: 6
processor.use_own_cores()
print("threads", torch.get_num_threads())
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


@pytest.mark.parametrize(
    ("chosen", "options", "threads"),
    [(None, (), 6), ("1", (), 1), (None, ("--num_cpu_threads_per_process", "1"), 1)],
    ids=["by nobody", "by variable", "by option"],
)
def test_a_launched_process_uses_its_cores_unless_the_user_chose_otherwise(tmp_path, chosen, options, threads) -> None:
    script = tmp_path / "threads.py"
    script.write_text(THREADS_PROGRAM)
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"OMP_NUM_THREADS": chosen} if chosen else {}
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", *options, str(script)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split()[-2:] == ["threads", str(threads)]


def test_a_start_without_a_launcher_is_left_alone() -> None:
    environment = {key: value for key, value in os.environ.items() if key not in LAUNCHER_MARKS}
    result = subprocess.run(
        [sys.executable, "-c", THREADS_PROGRAM],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["threads", "1"]


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr("configs.processor.has_launchers_thread", lambda: True)
    monkeypatch.setattr("configs.processor.usable_cores", lambda: 9)
    for processes in ("2", "100"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        use_own_cores()
    assert set_to == [4, 1]
