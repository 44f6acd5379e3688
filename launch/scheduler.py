"""Talk to SLURM by its own commands: submit, look, cancel. Works with and without its accounting database."""

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.errors import UserError

SLURM_FOLDER = Path(__file__).resolve().parent / "slurm"
ENDED_BADLY = frozenset(
    {"FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "PREEMPTED"}
)

UNKNOWN_JOB = "Invalid job id"
ENDED_JOB = (UNKNOWN_JOB, "already completing or completed")


class NoAnswerError(UserError):
    """SLURM does not answer, which says nothing about its jobs."""

    def __init__(self, command: str) -> None:
        super().__init__("SLURM does not answer", where=command, fix="Try again when its controller is back (`sinfo`).")


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobState:
    """What SLURM says about a job (of an array: about one task)."""

    job_id: str
    state: str
    """`PENDING`, `RUNNING`, `COMPLETED`, `FAILED`, …; empty when SLURM no longer knows the job."""
    reason: str = ""
    nodes: str = ""
    exit_code: int | None = None
    restarts: int = 0


def batch_command(options: Sequence[str], job_file: Path, arguments: Sequence[str]) -> list[str]:
    """Return the sbatch command that submits a job file."""
    return ["sbatch", "--parsable", *options, str(job_file), *arguments]


def submit(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Submit a job and return its id.

    Raises:
        UserError: there is no SLURM here, or it refuses the job.
    """
    require_slurm()
    done = subprocess.run(list(command), env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = " ".join(line.removeprefix("sbatch: error: ") for line in done.stderr.strip().splitlines())
        raise UserError(
            f"SLURM refuses the job: {reason}",
            where="sbatch",
            fix="Correct launch/site.yaml (partition, account, limits), or give --site FILE.",
        )
    return done.stdout.strip().partition(";")[0]


def job_states(job_id: str) -> list[JobState]:
    """Return what SLURM knows of a job: one entry, or one for each task of an array; none when it forgot it.

    `scontrol` remembers ended jobs for minutes (MinJobAge); where accounting is on, `sacct` remembers the rest.

    Raises:
        NoAnswerError: neither says anything.
    """
    shown = _run(["scontrol", "show", "job", job_id, "--oneliner"])
    states = [_parse(line) for line in shown.stdout.splitlines() if line.startswith("JobId=")] if shown else []
    has_answered = shown is not None and (shown.returncode == 0 or UNKNOWN_JOB in shown.stderr)
    if states:
        return states
    rows = _run(["sacct", "-X", "-n", "-P", "-j", job_id, "-o", "JobID,State,Reason,NodeList,ExitCode"])
    fields = [row.split("|") for row in rows.stdout.splitlines() if row.count("|") == 4] if rows else []
    if not fields and not has_answered:
        raise NoAnswerError("scontrol")
    return [
        JobState(job_id=name, state=state.split()[0], reason=reason, nodes=nodes, exit_code=int(code.partition(":")[0]))
        for name, state, reason, nodes, code in fields
    ]


def cancel(job_ids: Sequence[str]) -> None:
    """Cancel jobs; those that have ended already are left as they are.

    Raises:
        UserError: SLURM does not cancel them all.
    """
    require_slurm()
    done = _run(["scancel", *job_ids])
    if done is None:
        raise NoAnswerError("scancel")
    problems = [line for line in done.stderr.splitlines() if not any(ended in line for ended in ENDED_JOB)]
    if done.returncode != 0 and problems:
        reason = " ".join(line.removeprefix("scancel: error: ").strip() for line in problems)
        raise UserError(f"SLURM does not cancel: {reason}", where="scancel")


def largest_array() -> int:
    """Return how many tasks the cluster allows in one array."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _output(["scontrol", "show", "config"]))
    return max(1, int(found.group(1)) - 1) if found else 1000


def lost_nodes() -> dict[str, str]:
    """Return node → why, for nodes that are down, failing or silent."""
    rows = _output(["sinfo", "--noheader", "--Node", "--states=down,fail", "--format=%N|%E"])
    return {name.strip(): reason for name, _, reason in (row.partition("|") for row in rows.splitlines())}


def require_slurm() -> None:
    """Refuse to go on where there is no SLURM.

    Raises:
        UserError: sbatch is not on the PATH.
    """
    if shutil.which("sbatch") is None:
        raise UserError(
            "there is no SLURM on this machine (no sbatch)",
            fix="Run this on the cluster's login node, use --on local, or look at the jobs with --dry-run.",
        )


def _parse(line: str) -> JobState:
    values = dict(re.findall(r"(\S+?)=(\S*)", line))
    task = values.get("ArrayTaskId")
    name = f"{values['ArrayJobId']}_{task}" if task else values["JobId"]
    nodes = values.get("NodeList", "")
    return JobState(
        job_id=name,
        state=values["JobState"],
        reason="" if values.get("Reason") == "None" else values.get("Reason", ""),
        nodes="" if nodes == "(null)" else nodes,
        exit_code=int(values.get("ExitCode", "0:0").partition(":")[0]),
        restarts=int(values.get("Restarts", "0")),
    )


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    """Run a command of SLURM's; None if there is no such command, or it hangs."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None


def _output(command: list[str]) -> str:
    done = _run(command)
    return done.stdout if done else ""
