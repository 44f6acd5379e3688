"""Where tasks run: processes of this machine, SLURM jobs, or a Ray cluster; each is datatrove's executor, mended.

Three of datatrove's habits do not fit and are changed here: its log prints the values of variables (a post's text)
beside a traceback, its process pool waits for ever for a worker that was killed, and its SLURM executor returns
before its jobs have run. All executors run the same tasks and mark them complete in the same way, so a build may
even be resumed by another one.
"""

import contextlib
import json
import logging
import multiprocessing
import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import loguru
from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import PipelineStats, Stats

from configs.errors import UserError
from configs.processor import usable_cores
from configs.run_folder import write_atomically
from corpus.config import CorpusRecipe

loguru.logger.disable("datatrove")

USAGE_FOLDER, JOB_NAME = "usage", "slurm_job"
SECONDS_BETWEEN_CHECKS = 1.0
SECONDS_BETWEEN_QUEUE_CHECKS = 5.0
ABSENCES_BELIEVED = 3
"""Answers in a row without the job before it counts as ended: a restarted controller forgets its queue for a moment."""
PRELOADED_MODULES = ["corpus.ingest", "corpus.filters", "corpus.finish", "corpus.decide"]
RAY_INSTALL = "pip install -e '.[ray]'"
logger = logging.getLogger("corpus")


class TimedTask(PipelineExecutor):
    """What all executors add to a task: it runs where the build was started, and leaves what it used."""

    start_folder: str

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        os.chdir(self.start_folder)
        for step in self.pipeline:
            step.stats = Stats(str(step))  # tasks in one process share the step objects
        started = time.process_time()
        stats = super()._run_for_rank(rank, 1, node_rank)
        usage = {
            "cpu_seconds": round(time.process_time() - started, 3),
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        folder = Path(self.logging_dir.path) / USAGE_FOLDER
        folder.mkdir(exist_ok=True)
        (folder / f"{rank:05d}.json").write_text(json.dumps(usage), encoding="ascii")
        return stats


class LocalTask(TimedTask, LocalPipelineExecutor):
    """One task in this process."""


class SlurmTasks(TimedTask, SlurmPipelineExecutor):
    """All tasks as a job array."""

    def launch_merge_stats(self) -> None:
        """Nothing: the build reads the statistics of the tasks itself."""

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        """Ask for memory only if the recipe does: some clusters do not account for it."""
        arguments: dict[str, Any] = super().get_sbatch_args(max_array)
        if not self.mem_per_cpu_gb:
            del arguments["mem-per-cpu"]
        return arguments


class RayTasks(TimedTask, RayPipelineExecutor):
    """All tasks as Ray actors."""


def run_tasks(
    recipe: CorpusRecipe, pipeline: list[PipelineStep], tasks: int, logging_dir: Path, on_task: Callable[[int], None]
) -> None:
    """Run the tasks of a step that are not complete yet, on the recipe's executor.

    Args:
        recipe: names the executor and its settings.
        pipeline: the steps of one task.
        tasks: number of tasks.
        logging_dir: where completion marks, counts and times of tasks are kept.
        on_task: called in this process with each task's number when it is complete.

    Raises:
        UserError: a worker was killed, jobs ended before their tasks were complete, or the cluster is not there.
    """
    completed = completed_tasks(logging_dir)
    ranks = [rank for rank in range(tasks) if rank not in completed]
    if not ranks:
        return
    run = {"local": _run_locally, "slurm": _run_on_slurm, "ray": _run_on_ray}[recipe.executor]
    run(recipe, pipeline, tasks, logging_dir, ranks, on_task)


def completed_tasks(logging_dir: Path) -> set[int]:
    """Return the numbers of the tasks that are complete."""
    return {int(path.name) for path in (logging_dir / "completions").glob("[0-9]*")}


def _run_locally(
    recipe: CorpusRecipe,
    pipeline: list[PipelineStep],
    tasks: int,
    logging_dir: Path,
    ranks: list[int],
    on_task: Callable[[int], None],
) -> None:
    workers = min(recipe.workers or usable_cores(), len(ranks))
    if workers == 1:
        for rank in ranks:
            _run_task(pipeline, tasks, str(logging_dir), rank)
            on_task(rank)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED_MODULES)  # imported once, not once a worker
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_stop_with_driver, initargs=(os.getpid(),))
    with pool:
        futures = {pool.submit(_run_task, pipeline, tasks, str(logging_dir), rank): rank for rank in ranks}
        try:
            for future in as_completed(futures):
                future.result()
                on_task(futures[future])
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed (out of memory?)",
                fix="Run the same command again: finished work is kept; fewer `workers` need less memory.",
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run_task(pipeline: list[PipelineStep], tasks: int, logging_dir: str, rank: int) -> None:
    task = LocalTask(pipeline, tasks=tasks, logging_dir=logging_dir)
    task.start_folder = str(Path.cwd())
    task._run_for_rank(rank)


def _stop_with_driver(driver: int) -> None:
    """End this worker when the build's process is gone: after a SIGKILL nobody else would."""

    def watch() -> None:
        while True:
            time.sleep(SECONDS_BETWEEN_CHECKS)
            try:
                os.kill(driver, 0)
            except OSError:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_on_slurm(
    recipe: CorpusRecipe,
    pipeline: list[PipelineStep],
    tasks: int,
    logging_dir: Path,
    ranks: list[int],
    on_task: Callable[[int], None],
) -> None:
    executor = SlurmTasks(
        pipeline,
        tasks=tasks,
        time=recipe.slurm_time,
        partition=recipe.slurm_partition,
        mem_per_cpu_gb=recipe.task_memory_gb,
        workers=recipe.workers or -1,
        job_name=f"mindshift-{logging_dir.name}",
        qos=recipe.slurm_qos,
        env_command=recipe.slurm_setup,
        logging_dir=str(logging_dir.resolve()),
        mail_type="NONE",
        srun_args={"export": "ALL"},
    )
    executor.start_folder = str(Path.cwd())
    logging_dir.mkdir(parents=True, exist_ok=True)
    noted = logging_dir / JOB_NAME
    job = noted.read_text(encoding="ascii") if noted.exists() else ""
    if job and _in_queue(job):  # its tasks would be done twice, at the same time and in the same files
        logger.info("%s: job %s of the interrupted build waits or runs and is waited for", logging_dir.name, job)
    else:
        job = _submit(executor)
        write_atomically(noted, job)
    with _report_completions(logging_dir, set(ranks), on_task) as left:
        absent = 0
        while left() and absent < ABSENCES_BELIEVED:
            absent = 0 if _in_queue(job) else absent + 1
            time.sleep(SECONDS_BETWEEN_QUEUE_CHECKS)
        time.sleep(SECONDS_BETWEEN_CHECKS)  # a shared file system may show the last marks late
    if missing := set(ranks) - completed_tasks(logging_dir):
        raise UserError(
            f"{len(missing)} of {len(ranks)} tasks ended without being complete",
            where=logging_dir / "slurm_logs",
            fix="Look at the log, then run the same command again: finished tasks are kept.",
        )


def _submit(executor: SlurmTasks) -> str:
    """Submit the tasks that are not complete; returns the number of the job, the last one of several."""
    try:
        executor.launch_job()
    except FileNotFoundError:
        raise _no_slurm("sbatch") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or b"").decode(errors="replace").strip() or f"exit code {error.returncode}"
        raise UserError(
            f"sbatch refused the job ({reason})", where="executor", fix="Check the slurm_ keys of the recipe."
        ) from None
    return str(executor.job_id)


def _in_queue(job: str) -> bool:
    """Whether a job waits or runs; a controller that is busy or down does not say that it has ended."""
    try:
        queue = subprocess.run(["squeue", "--noheader", "--jobs", job], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise _no_slurm("squeue") from None
    if queue.returncode:
        return "Invalid job id" not in queue.stderr  # what SLURM says of a job that it has forgotten
    return bool(queue.stdout.strip())


def _no_slurm(command: str) -> UserError:
    return UserError(f"no SLURM here ({command} is not found)", where="executor", fix="Use executor: local.")


def _run_on_ray(
    recipe: CorpusRecipe,
    pipeline: list[PipelineStep],
    tasks: int,
    logging_dir: Path,
    ranks: list[int],
    on_task: Callable[[int], None],
) -> None:
    # Ray would report its use to its makers: no network unless asked.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError("executor ray needs Ray", where="executor", fix=RAY_INSTALL) from None
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False)
    executor = RayTasks(
        pipeline,
        tasks=tasks,
        workers=recipe.workers or -1,
        mem_per_cpu_gb=recipe.task_memory_gb,
        logging_dir=str(logging_dir.resolve()),
    )
    executor.start_folder = str(Path.cwd())
    with _report_completions(logging_dir, set(ranks), on_task):
        executor.run()
    if missing := set(ranks) - completed_tasks(logging_dir):
        raise UserError(
            f"{len(missing)} of {len(ranks)} tasks ended without being complete",
            where="ray",
            fix="Look at `ray logs`, then run the same command again: finished tasks are kept.",
        )


@contextlib.contextmanager
def _report_completions(
    logging_dir: Path, waiting: set[int], on_task: Callable[[int], None]
) -> Iterator[Callable[[], Any]]:
    """Report tasks that others complete, from a thread; gives a function that tells whether any is left."""
    stopped = threading.Event()

    def report() -> None:
        for rank in sorted(waiting & completed_tasks(logging_dir)):
            waiting.discard(rank)
            on_task(rank)

    def watch() -> None:
        while not stopped.wait(SECONDS_BETWEEN_CHECKS):
            report()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: bool(waiting)
    finally:
        stopped.set()
        thread.join()
        report()
