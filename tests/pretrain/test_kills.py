"""SIGKILL at random moments: the same command finishes the run with exactly the weights of an undisturbed one."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pretrain.run_mlm import main

ROOT = Path(__file__).resolve().parents[2]


# A server that has imported everything and started no thread: its forks begin at once.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pretrain.training_loop", "transformers.models.bert.modeling_bert", "pretrain.run_mlm"])


def fork(arguments: list[str]) -> multiprocessing.process.BaseProcess:
    process = FORKS.Process(target=main, args=(arguments, "mindshift pretrain"))
    process.start()
    return process


def start(arguments: list[str]) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "pretrain" / "run_mlm.py"), *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def newest_step(run: Path) -> str:
    folders = sorted((run.with_name(run.name + ".partial") / "checkpoints").glob("step-*"))
    return folders[-1].name if folders else ""


def kill_after_progress(arguments: list[str], run: Path, delay_seconds: float) -> bool:
    """Start, wait for a new checkpoint, wait a little, kill. Returns whether there was anything left to kill."""
    before, process = newest_step(run), fork(arguments)
    while process.is_alive() and newest_step(run) == before:
        time.sleep(0.005)
    time.sleep(delay_seconds)
    killed = process.is_alive()
    process.kill()
    process.join()
    return killed


def kill_repeatedly(workspace, *, kills: int, steps: int) -> None:
    """Kill a run that saves at every step `kills` times, finish it, and compare with an undisturbed one."""
    settings = {"max_steps": steps, "save_steps": 1, "logging_steps": 1}
    main(workspace.arguments("whole", **settings), "mindshift pretrain")
    arguments, run = workspace.arguments("killed", **settings), workspace.folder / "killed"
    generator = random.Random(0)
    killed = sum(kill_after_progress(arguments, run, generator.uniform(0, 0.1)) for _ in range(kills))
    assert killed == kills
    process = fork(arguments)
    process.join()
    assert process.exitcode == 0
    one, other = (load_file(workspace.folder / name / "model.safetensors") for name in ("whole", "killed"))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    metrics = [(workspace.folder / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "killed")]
    assert len(metrics[0]) == len(metrics[1]) == steps


def test_three_kills_change_nothing(workspace):
    kill_repeatedly(workspace, kills=3, steps=40)


@pytest.mark.slow
def test_twenty_kills_change_nothing(workspace):
    kill_repeatedly(workspace, kills=20, steps=250)


def test_sigterm_saves_and_exits_with_the_requeue_code(workspace):
    arguments, run = workspace.arguments("stopped", max_steps=100_000, save_steps=5), workspace.folder / "stopped"
    process = start(arguments)
    while process.poll() is None and not newest_step(run):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output.decode()[-2000:]
    assert b"told to stop: saved step" in output
