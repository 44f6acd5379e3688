"""Run one step of a build: its tasks, a progress bar, what they counted and how long they took."""

import json
import logging
import time
from collections import Counter
from pathlib import Path

from datatrove.pipeline.base import PipelineStep

from configs.console import Progress
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
