"""The last act of every job: `python3 -m launch.job_end CODE`, called by `launch/slurm/env.sh` when its script ends.

It notes the exit code where `mindshift launch status` looks, and requeues the job when that is the cure: the stage
asked for it (it saved because the time limit is near), a node of the job no longer answers, or SLURM ended the stage
though it had not failed (a node that restarted does that). Standard library only: it runs on the batch node, outside
any container.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from launch.on_node import REQUEUE_EXIT_CODE, SIGNAL_EXIT_CODE, outcome_note

PROBE_SECONDS = 20


def main(code: int, environment: Mapping[str, str]) -> int:
    """Note the exit code of this job, requeue it if that helps, and return the code the job is to end with."""
    folder = environment.get("MINDSHIFT_LAUNCH_FOLDER", ".")
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    # By this name, as the last task of an array has the array's own id: a requeue by that id is one of all tasks.
    job = f"{array}_{task}" if array else environment["SLURM_JOB_ID"]
    note = outcome_note(folder, environment)
    ended_itself = note.is_file()
    if ended_itself:
        code = int(note.read_text(encoding="utf-8"))  # srun reports the highest code, often a neighbour's 143
    is_running = _is_running(job)  # else SLURM is ending the job itself, and says why
    lost = lost_nodes(environment) if is_running and code not in (0, REQUEUE_EXIT_CODE) else []
    record = {"job_id": job, "exit_code": code, "nodes": environment["SLURM_JOB_NODELIST"], "lost_nodes": lost}
    _write(Path(folder) / f"{job}.exit.json", json.dumps(record) + "\n")
    was_ended = code == SIGNAL_EXIT_CODE + signal.SIGTERM and not ended_itself
    if is_running and (code == REQUEUE_EXIT_CODE or lost or was_ended):
        print(_reason(lost=lost, was_ended=was_ended), "requeueing this job", file=sys.stderr, flush=True)
        subprocess.run(["scontrol", "requeue", job], check=False)
    return code


def lost_nodes(environment: Mapping[str, str]) -> list[str]:
    """Return the nodes of this job on which no program can be started any more."""
    nodes = environment["SLURM_JOB_NODELIST"]
    names = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=False)
    lost = []
    for name in names.stdout.split():
        probe = ["srun", "--overlap", "--nodes=1", "--ntasks=1", f"--nodelist={name}", "--quiet", "true"]
        try:
            answered = subprocess.run(probe, capture_output=True, timeout=PROBE_SECONDS, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            answered = False
        if not answered:
            lost.append(name)
    return lost


def _reason(*, lost: list[str], was_ended: bool) -> str:
    """Return what `launch.diagnosis` reads in the log."""
    if lost:
        return f"error: node {','.join(lost)} does not answer\n"
    return "SLURM ended the stage:" if was_ended else "the stage saved and asks to go on:"


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _is_running(job: str) -> bool:
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=False)
    return "JobState=RUNNING" in shown.stdout


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), os.environ))
