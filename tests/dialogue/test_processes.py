"""Two processes take the steps that one process takes, on CPU over gloo."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from configs.manifest import CODE_ROOT

PROGRAM = Path(__file__).parent / "programs" / "train_on_processes.py"
LAUNCH = ["-m", "accelerate.commands.launch", "--config_file", str(CODE_ROOT / "launch" / "accelerate" / "cpu_2.yaml")]


def run(*command: object) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CODE_ROOT)}
    line = [sys.executable, *map(str, command)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_two_processes_have_the_gradients_of_one_whatever_the_last_batch_holds(tmp_path: Path) -> None:
    """Batches of 8, micro-batches of 2: of the last 5 one process has two micro-batches, of the last 1 one has none."""
    replies = (13, 9)
    run(PROGRAM, tmp_path / "one", *replies)
    run(*LAUNCH, PROGRAM, tmp_path / "two", *replies)
    for number in replies:
        one, two = (load_file(tmp_path / name / str(number) / "gradients.safetensors") for name in ("one", "two"))
        assert sum(key.endswith("wte.weight") for key in one) == 4
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)
