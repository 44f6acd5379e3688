"""Where a launch stands: what SLURM, the jobs' own notes and the output folders say, one line a stage."""

import collections
import dataclasses
from pathlib import Path

from configs.manifest import MANIFEST_NAME
from launch.diagnosis import attempt_reasons
from launch.journal import Launch, LaunchedStage
from launch.scheduler import ENDED_BADLY, JobState, NoAnswerError, job_states, lost_nodes

LIVE = frozenset({"waiting", "pending", "running"})
NO_ANSWER = "no answer"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """Where one stage stands."""

    stage: LaunchedStage
    state: str
    """`done`, `running`, `pending`, `waiting`, `failed`, `cancelled`, `not started`, `unknown`, or `no answer` where
    SLURM gives none."""
    detail: str = ""


def standings(launch: Launch) -> list[Standing]:
    """Return where each stage of a launch stands, in the chain's order."""
    found: dict[str, Standing] = {}
    for stage in launch.stages:
        if stage.is_done:
            standing = Standing(stage=stage, state="done")
        elif launch.where == "local":
            standing = _local(stage)
        else:
            standing = _on_slurm(launch, stage)
        blocked = [name for name in stage.after if found[name].state in ("failed", "cancelled", "not started")]
        if blocked and standing.state != "done":
            standing = Standing(stage=stage, state="not started", detail=f"{blocked[0]} did not finish")
        found[stage.stage] = standing
    return list(found.values())


def show(launch: Launch) -> str:
    """Return a launch's standing as text, one line a stage, with the reason below one that failed."""
    lines = [f"{str(launch.folder).removesuffix('.launch')} on {launch.where}, launched {launch.launched_at}"]
    for standing in standings(launch):
        stage = standing.stage
        jobs = f"job {', '.join(stage.job_ids)}" if stage.job_ids else ""
        lines.append(f"  {stage.stage:<9} {standing.state:<11} {jobs:<9} {stage.output_dir}")
        lines += [f"            {line}" for line in standing.detail.splitlines()]
    return "\n".join(lines)


def _local(stage: LaunchedStage) -> Standing:
    if stage.exit_code is None:
        return Standing(stage=stage, state="unknown", detail="it ran here and was interrupted; launch it again")
    return Standing(stage=stage, state="failed", detail=f"exit code {stage.exit_code}; its message was on the terminal")


def _on_slurm(launch: Launch, stage: LaunchedStage) -> Standing:
    try:
        states = [state for job_id in stage.job_ids for state in job_states(job_id)]
    except NoAnswerError as error:
        return Standing(stage=stage, state=NO_ANSWER, detail=error.what)
    if stage.runs > 1:
        return _of_array(launch, stage, states)
    if not states:
        return _forgotten(launch, stage)
    job = states[0]
    reasons = attempt_reasons(launch.log(stage.job_ids[0], stage.stage))
    if job.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "CONFIGURING"):
        waits = job.reason == "Dependency" and bool(stage.after)
        detail = f"waits for {', '.join(stage.after)}" if waits else _pending_detail(job)
        return Standing(
            stage=stage, state="waiting" if waits else "pending", detail=detail + _restarts(job, reasons[-1:])
        )
    if job.state in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"):
        return Standing(stage=stage, state="running", detail=f"on {job.nodes}" + _restarts(job, reasons[-2:-1]))
    return _ended(launch, stage, job, reasons)


def _ended(launch: Launch, stage: LaunchedStage, job: JobState, reasons: list[str]) -> Standing:
    log = launch.log(stage.job_ids[0], stage.stage)
    if job.state == "CANCELLED" and not launch.exit_record(stage.job_ids[0]):
        return Standing(stage=stage, state="cancelled")
    reason = (reasons or [""])[-1] or job.state.lower().replace("_", " ")
    state = "cancelled" if job.state == "CANCELLED" else "failed" if job.state in ENDED_BADLY else "unknown"
    return Standing(stage=stage, state=state, detail=f"exit code {job.exit_code}: {reason}\nlog: {log}")


def _forgotten(launch: Launch, stage: LaunchedStage) -> Standing:
    """Judge a job that SLURM no longer knows by what it noted itself."""
    job_id = stage.job_ids[0]
    record, log = launch.exit_record(job_id), launch.log(job_id, stage.stage)
    if not record:
        return Standing(stage=stage, state="unknown", detail=f"SLURM no longer knows job {job_id}; log: {log}")
    reason = (attempt_reasons(log) or [""])[-1] or "the log does not say why"
    return Standing(stage=stage, state="failed", detail=f"exit code {record['exit_code']}: {reason}\nlog: {log}")


def _of_array(launch: Launch, stage: LaunchedStage, states: list[JobState]) -> Standing:
    done = len(list(Path(stage.output_dir).glob(f"*/{MANIFEST_NAME}")))
    counts = collections.Counter(state.state.lower() for state in states if state.state != "COMPLETED")
    details = [f"{done} of {stage.runs} runs done", *(f"{count} {name}" for name, count in sorted(counts.items()))]
    detail = ", ".join(details)
    bad = [state for state in states if state.state in ENDED_BADLY]
    for state in bad[:5]:
        reason = (attempt_reasons(launch.log(state.job_id, stage.stage)) or [""])[-1] or state.state.lower()
        detail += f"\nrun {state.job_id}: exit code {state.exit_code}: {reason}"
    live = any(state.state in ("PENDING", "RUNNING", "COMPLETING") for state in states)
    ended = "done" if done == stage.runs else "failed" if bad else "unknown"
    return Standing(stage=stage, state="running" if live else ended, detail=detail)


def _pending_detail(job: JobState) -> str:
    down = lost_nodes()
    silent = f"; nodes that are down: {', '.join(sorted(down))}" if down else ""
    return f"in the queue ({job.reason})" + silent


def _restarts(job: JobState, reasons: list[str]) -> str:
    if not job.restarts:
        return ""
    times = "once" if job.restarts == 1 else f"{job.restarts} times"
    return f"; requeued {times}" + (f" ({reasons[0]})" if reasons and reasons[0] else "")
