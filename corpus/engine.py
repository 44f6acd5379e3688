"""Run the steps of a build as datatrove tasks, so that any number of workers gives the same bytes.

A step is a datatrove pipeline and a number of tasks. A finished task leaves a mark and is skipped when the step
runs again; an unfinished one is done anew, and writes its files under temporary names until they are complete.
Two of datatrove's habits do not fit and are changed here: its log prints the values of variables (a post's text)
beside a traceback, and its process pool waits for ever for a worker that was killed.
"""

import fcntl
import json
import logging
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import IO, Any

import loguru
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import Stats

from configs.console import Progress
from configs.errors import UserError

loguru.logger.disable("datatrove")

SECONDS_BETWEEN_CHECKS = 1.0
PRELOADED_MODULES = ["corpus.ingest", "corpus.filters", "corpus.finish", "corpus.decide"]
logger = logging.getLogger("corpus")


class LocalExecutor(LocalPipelineExecutor):
    """datatrove's local executor, on a process pool that notices killed workers.

    Args:
        pipeline: the steps of one task.
        tasks: number of tasks.
        workers: worker processes; 1 runs in this process.
        logging_dir: where completion marks and statistics are kept.
        on_task: called in this process with each task's number when it is complete.
    """

    def __init__(
        self,
        pipeline: list[PipelineStep],
        *,
        tasks: int,
        workers: int,
        logging_dir: Path,
        on_task: Callable[[int], None],
    ) -> None:
        super().__init__(pipeline, tasks=tasks, workers=workers, logging_dir=str(logging_dir))
        self._on_task = on_task

    def run(self) -> None:
        """Run the tasks that are not complete yet.

        Raises:
            UserError: a worker process was killed from outside.
        """
        ranks = self.get_incomplete_ranks()
        if self.workers == 1 or len(ranks) <= 1:
            for rank in ranks:
                _run_task(self.pipeline, self.tasks, self.logging_dir.path, rank)
                self._on_task(rank)
            return
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED_MODULES)  # imported once, not once a worker
        pool = ProcessPoolExecutor(
            max_workers=min(self.workers, len(ranks)),
            mp_context=context,
            initializer=_stop_with_driver,
            initargs=(os.getpid(),),
        )
        with pool:
            futures = {pool.submit(_run_task, self.pipeline, self.tasks, self.logging_dir.path, r): r for r in ranks}
            try:
                for future in as_completed(futures):
                    future.result()
                    self._on_task(futures[future])
            except BrokenProcessPool:
                raise UserError(
                    "a worker process was killed (out of memory?)",
                    fix="Run the same command again: finished work is kept; fewer `workers` need less memory.",
                ) from None
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def run_step(
    name: str, pipeline: list[PipelineStep], *, sizes: list[int], unit: str, workers: int, logging_dir: Path
) -> None:
    """Run one task for each entry of `sizes` (how much it has of `unit`, for the progress bar)."""
    workers = workers or available_cores()
    # datatrove keeps the stack of an executor in its pickles; tasks are told their number and nothing else.
    done = {int(path.name) for path in (logging_dir / "completions").glob("[0-9]*")}
    initial = sum(sizes[rank] for rank in done)
    with Progress(description=name, unit=unit, total=sum(sizes), initial=initial) as bar:
        started, count = time.monotonic(), len(sizes) - len(done)
        executor = LocalExecutor(
            pipeline,
            tasks=len(sizes),
            workers=workers,
            logging_dir=logging_dir,
            on_task=lambda rank: bar.advance(sizes[rank]),
        )
        executor.run()
    if count:
        seconds = max(time.monotonic() - started, 1e-9)
        amount = sum(sizes) - initial
        logger.info("%s: %s %s in %.1f s (%s/s)", name, f"{amount:,}", unit, seconds, f"{amount / seconds:,.0f}")


def step_counts(logging_dir: Path) -> Counter[str]:
    """Return what the tasks of a step counted, summed by label."""
    totals: Counter[str] = Counter()
    for path in sorted((logging_dir / "stats").glob("*.json")):
        for block in json.loads(path.read_text(encoding="utf-8")):
            for label, metric in block["stats"].items():
                totals[label] += int(metric["total"] if isinstance(metric, dict) else metric)
    return totals


def step_seconds(logging_dir: Path) -> float:
    """Return the CPU seconds that the tasks of a step took, summed."""
    return sum(float(path.read_text(encoding="ascii")) for path in (logging_dir / "seconds").glob("[0-9]*"))


def available_cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lock_folder(folder: Path) -> IO[bytes]:
    """Take the folder for this process; the lock goes when the process does, however it ends.

    Raises:
        UserError: another build is at work there.
    """
    file = (folder / ".lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError("another build is at work in this folder", where=folder, fix="Wait for it to end.") from None
    return file


def unlock_folder(folder: Path) -> None:
    """Remove the lock's file, by the process that holds the lock."""
    (folder / ".lock").unlink(missing_ok=True)


def _run_task(pipeline: list[PipelineStep], tasks: int, logging_dir: str, rank: int) -> None:
    started = time.process_time()
    executor: Any = LocalPipelineExecutor(pipeline, tasks=tasks, logging_dir=logging_dir)
    for step in pipeline:
        step.stats = Stats(str(step))  # tasks in one process share the step objects
    executor._run_for_rank(rank, local_rank=1)
    seconds = Path(logging_dir) / "seconds"
    seconds.mkdir(exist_ok=True)
    (seconds / f"{rank:05d}").write_text(f"{time.process_time() - started:.3f}", encoding="ascii")


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
