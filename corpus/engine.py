"""Run one step of a build: its tasks, a progress bar, what they counted and how long they took."""

import contextlib
import fcntl
import json
import logging
import os
import time
from collections import Counter
from pathlib import Path
from typing import IO

from datatrove.pipeline.base import PipelineStep

from configs.console import Progress
from configs.errors import UserError
from configs.manifest import LOCK_NAME
from corpus.config import CorpusRecipe
from corpus.executors import USAGE_FOLDER, completed_tasks, run_tasks

logger = logging.getLogger("corpus")


def run_step(
    name: str,
    pipeline: list[PipelineStep],
    *,
    sizes: list[int],
    unit: str,
    recipe: CorpusRecipe,
    logging_dir: Path,
) -> None:
    """Run one task for each entry of `sizes` (how much it has of `unit`, for the progress bar)."""
    done = completed_tasks(logging_dir)
    initial, started = sum(sizes[rank] for rank in done), time.monotonic()
    with Progress(description=name, unit=unit, total=sum(sizes), initial=initial) as bar:
        run_tasks(recipe, pipeline, len(sizes), logging_dir, lambda rank: bar.advance(sizes[rank]))
    if len(done) < len(sizes):
        seconds, amount = max(time.monotonic() - started, 1e-9), sum(sizes) - initial
        logger.info("%s: %s %s in %.1f s (%s/s)", name, f"{amount:,}", unit, seconds, f"{amount / seconds:,.0f}")


def step_counts(logging_dir: Path) -> Counter[str]:
    """Return what the tasks of a step counted, summed by label."""
    totals: Counter[str] = Counter()
    for path in sorted((logging_dir / "stats").glob("*.json")):
        for block in json.loads(path.read_text(encoding="utf-8")):
            for label, metric in block["stats"].items():
                totals[label] += int(metric["total"] if isinstance(metric, dict) else metric)
    return totals


def forget_tasks(logging_dir: Path, ranks: list[int]) -> None:
    """Have tasks of a step done anew by its next run."""
    for rank in ranks:
        (logging_dir / "completions" / f"{rank:05d}").unlink(missing_ok=True)
        (logging_dir / "stats" / f"{rank:05d}.json").unlink(missing_ok=True)


def step_usage(logging_dir: Path) -> tuple[float, int]:
    """Return the CPU seconds of a step's tasks, summed, and the peak memory in MB of the process that took most."""
    usages = [json.loads(path.read_text(encoding="ascii")) for path in (logging_dir / USAGE_FOLDER).glob("*.json")]
    peak = max((usage["peak_memory_mb"] for usage in usages), default=0)
    return round(sum(usage["cpu_seconds"] for usage in usages), 1), peak


def lock_folder(folder: Path) -> IO[bytes]:
    """Take the folder for this process; the lock goes when the process does, however it ends, and with a rename.

    Raises:
        UserError: another process is at work there.
    """
    path = folder / LOCK_NAME
    while True:
        file = path.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            fix = "Wait for it to end."
            raise UserError("another program is at work in this folder", where=folder, fix=fix) from None
        # Whoever held it may have removed the file since it was opened here: that one keeps nobody out.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def unlock_folder(folder: Path) -> None:
    """Remove the lock's file, by the process that holds the lock."""
    (folder / LOCK_NAME).unlink(missing_ok=True)
