"""The last act of every job: `python3 -m launch.job_end CODE`, called by `launch/slurm/env.sh` when its script ends.

It notes the exit code where `mindshift launch status` looks, and requeues the job when that is the cure: the stage
asked for it (it saved because the time limit is near), or a node of the job no longer answers. Standard library
only: it runs on the batch node, outside any container.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from launch.on_node import REQUEUE_EXIT_CODE

PROBE_SECONDS = 20


def main(code: int, environment: Mapping[str, str]) -> None:
    """Note the exit code of this job and requeue it if that helps."""
    job = environment["SLURM_JOB_ID"]
    lost = lost_nodes(environment) if code not in (0, REQUEUE_EXIT_CODE) else []
    if lost:
        print(f"error: node {', '.join(lost)} does not answer", file=sys.stderr)
    record = {"job_id": job, "exit_code": code, "nodes": environment["SLURM_JOB_NODELIST"], "lost_nodes": lost}
    folder = environment.get("MINDSHIFT_LAUNCH_FOLDER")
    if folder:
        name = "_".join(filter(None, [job, environment.get("SLURM_ARRAY_TASK_ID")]))
        path = Path(folder) / f"{name}.exit.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")
        temporary.replace(path)
    if (code == REQUEUE_EXIT_CODE or lost) and _is_running(job):
        print("requeueing this job; it goes on from its last checkpoint", file=sys.stderr, flush=True)
        subprocess.run(["scontrol", "requeue", job], check=False)


def lost_nodes(environment: Mapping[str, str]) -> list[str]:
    """Return the nodes of this job on which no program can be started any more."""
    job, nodes = environment["SLURM_JOB_ID"], environment["SLURM_JOB_NODELIST"]
    if not _is_running(job):
        return []  # SLURM is ending the job itself and says why
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


def _is_running(job: str) -> bool:
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=False)
    return "JobState=RUNNING" in shown.stdout


if __name__ == "__main__":
    main(int(sys.argv[1]), os.environ)
