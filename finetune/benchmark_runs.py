"""Run the cells of a benchmark, each a fine-tuning run in a process of its own, and keep what the tables need.

A cell's figures and test decisions are kept in one file that appears when the run is complete, so a killed
benchmark goes on where it was; the cell that was running resumes from its own checkpoint. The file also says what the
run was made of: by it another benchmark knows it again, and this one sees that a task, model or recipe has changed.
"""

import concurrent.futures
import json
import logging
import os
import queue
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

from configs.base_models import resolve_model
from configs.console import Progress
from configs.errors import UserError
from configs.manifest import CODE_ROOT, record_input
from configs.processor import usable_cores
from configs.recipe import identifying_values, load_recipe
from configs.run_folder import remove_folder, working_folder, write_atomically
from finetune.benchmark_config import BenchmarkRecipe
from finetune.config import FinetuneRecipe
from finetune.fitting import TASK_KEYS

log = logging.getLogger("benchmark")
CELLS, RUNNING = "cells", "running"
REPLACED = ("task", "model", "seed", "train_rows", "validation_rows", "output_dir", "baselines", "drop_leaked")
"""Keys of the fine-tuning recipe that a cell sets itself."""


class Cell(NamedTuple):
    """One run: a task, a model by name, a seed, and how many training rows (None: all)."""

    task: str
    model: str
    seed: int
    train_rows: int | None = None

    @property
    def key(self) -> str:
        """The name of the cell's file."""
        rows = f"-rows-{self.train_rows}" if self.train_rows else ""
        return f"{self.task}--{self.model}--seed-{self.seed}{rows}"


def all_cells(recipe: BenchmarkRecipe) -> list[Cell]:
    """Return every cell; those of one seed come before those of the next, so that a benchmark fills up evenly."""
    tasks = [task_name(folder) for folder in recipe.tasks]
    if len(set(tasks)) != len(tasks):
        raise UserError("two tasks have the same folder name", where="tasks")
    if recipe.frozen_only:
        return []
    return [
        Cell(task, model, seed, rows)
        for seed in recipe.seeds
        for rows in (None, *recipe.train_sizes)
        for task in tasks
        for model in recipe.named_models
    ]


def task_name(folder: str) -> str:
    """Return a task's name in the tables."""
    return Path(folder).resolve().name


def fingerprints(recipe: BenchmarkRecipe) -> dict[str, str]:
    """Return the hash of every task, by its name, and of every local model, as `model NAME`."""
    folders = {task_name(folder): Path(folder) for folder in recipe.tasks if Path(folder).exists()}
    sources = {name: resolve_model(model) for name, model in recipe.named_models.items()}
    folders |= {f"model {name}": Path(source.name_or_path) for name, source in sources.items() if source.is_local}
    return {name: record_input(folder).sha256 for name, folder in folders.items()}


def cell_recipe(recipe: BenchmarkRecipe, task: str, *, seed: int = 1) -> FinetuneRecipe:
    """Return the fine-tuning recipe of a task."""
    arguments = [str(recipe.finetune_recipe)] if recipe.finetune_recipe else []
    folder = next(folder for folder in recipe.tasks if task_name(folder) == task)
    arguments += ["--task", folder, "--output_dir", "unused", "--seed", str(seed)]
    return load_recipe(FinetuneRecipe, arguments, "finetune_recipe")


def reading_of(settings: FinetuneRecipe) -> dict[str, Any]:
    """Return the keys of a fine-tuning recipe that say how its task is read."""
    values = identifying_values(settings)
    return {key: values[key] for key in TASK_KEYS if key in values}


def run_cells(recipe: BenchmarkRecipe, working: Path) -> bool:
    """Run the cells that are missing, or were made of something else than the recipe asks for now.

    Returns:
        whether all cells are there now (not so after `most_new_runs`).

    Raises:
        UserError: a run failed.
    """
    (working / CELLS).mkdir(exist_ok=True)
    cells = all_cells(recipe)
    origins = _origins(recipe, cells)
    missing = [cell for cell in cells if read_made(cell_path(working, cell), origins[cell]) is None]
    taken = _take_over(recipe, working, {cell: origins[cell] for cell in missing})
    missing = [cell for cell in missing if cell not in taken]
    now = missing if recipe.most_new_runs is None else missing[: recipe.most_new_runs]
    threads = max(1, usable_cores() // recipe.jobs)
    free_gpus: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for gpu in gpus_of_jobs(recipe.jobs):
        free_gpus.put(gpu)
    with (
        concurrent.futures.ThreadPoolExecutor(recipe.jobs) as pool,
        Progress(description="benchmark", unit="runs", total=len(cells), initial=len(cells) - len(missing)) as bar,
    ):
        futures = [pool.submit(_run_cell, recipe, working, cell, origins[cell], threads, free_gpus) for cell in now]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                bar.advance(1)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return len(now) == len(missing)


def gpus_of_jobs(jobs: int) -> list[str | None]:
    """Return the GPU of each of the runs at a time, by its name in CUDA_VISIBLE_DEVICES; None where there is no choice.

    Left to themselves, all runs would take the first. Runs share a GPU only where there are fewer GPUs than runs.
    """
    count = torch.cuda.device_count()
    if count < 2:
        return [None] * jobs
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in visible.split(",")] if visible else [str(number) for number in range(count)]
    return [names[job % count] for job in range(jobs)]


def cell_path(working: Path, cell: Cell) -> Path:
    """Return where a finished cell is kept."""
    return working / CELLS / f"{cell.key}.json"


def read_cell(working: Path, cell: Cell) -> dict[str, Any]:
    """Return a finished cell: `metrics` and the test `decisions` (label names by id)."""
    values: dict[str, Any] = json.loads(cell_path(working, cell).read_text(encoding="utf-8"))
    return values


def read_made(path: Path, origin: dict[str, Any]) -> dict[str, Any] | None:
    """Return a finished cell or baseline, or None where there is none that was made of `origin`."""
    if not path.is_file():
        return None
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if values.get("origin") == origin:
        return values
    log.info("%s was made of another task, model or recipe than there is now: it is made anew", path.stem)
    return None


def _origins(recipe: BenchmarkRecipe, cells: list[Cell]) -> dict[Cell, dict[str, Any]]:
    """Return what each cell is made of: two cells of equal origin are the same run."""
    prints = fingerprints(recipe)
    settings = {task: identifying_values(cell_recipe(recipe, task)) for task in sorted({cell.task for cell in cells})}
    return {
        cell: {
            "task": prints.get(cell.task, cell.task),
            "model": prints.get(f"model {cell.model}", recipe.named_models[cell.model]),
            "seed": cell.seed,
            "train_rows": cell.train_rows or settings[cell.task]["train_rows"],
            "validation_rows": _validation_rows(cell, settings[cell.task]["validation_rows"]),
            "recipe": {key: value for key, value in settings[cell.task].items() if key not in REPLACED},
        }
        for cell in cells
    }


def _validation_rows(cell: Cell, cap: int | None) -> int | None:
    """Return how many rows a cell may be stopped and tuned on: who has few labels has no more to validate with."""
    return cap if cell.train_rows is None else min(cell.train_rows, cap or cell.train_rows)


def _take_over(recipe: BenchmarkRecipe, working: Path, origins: dict[Cell, dict[str, Any]]) -> set[Cell]:
    """Copy the cells of earlier benchmarks that are the same runs as missing ones, and return which."""
    missing = {json.dumps(origin, sort_keys=True): cell for cell, origin in origins.items()}
    taken = set()
    for folder in recipe.earlier:
        found = earlier_files(folder, f"{CELLS}/*.json")
        if not found:
            log.warning("earlier: %s holds no run of a benchmark", folder)
        for path in found:
            content = path.read_text(encoding="utf-8")
            cell = missing.pop(json.dumps(json.loads(content).get("origin"), sort_keys=True), None)
            if cell is not None:
                log.info("%s is taken over from %s", cell.key, path)
                write_atomically(cell_path(working, cell), content)
                taken.add(cell)
    return taken


def earlier_files(folder: Path, pattern: str) -> list[Path]:
    """Return what an earlier benchmark, finished or not, holds under `pattern`."""
    return [*folder.glob(pattern), *working_folder(folder).glob(pattern)]


def _forget_other_run(output: Path, origin: dict[str, Any]) -> Path:
    """Remove what an interrupted run left if it noted another origin, or none, and note the origin of this one.

    Its checkpoint would go on with weights of a model, or rows of a task, that are no longer there.

    Returns:
        the note.
    """
    path = output.with_name(f"{output.name}.origin.json")
    if not path.is_file() or json.loads(path.read_text(encoding="utf-8")) != origin:
        remove_folder(output)
        remove_folder(working_folder(output))
        write_atomically(path, json.dumps(origin, ensure_ascii=False))
    return path


def _run_cell(
    recipe: BenchmarkRecipe,
    working: Path,
    cell: Cell,
    origin: dict[str, Any],
    threads: int,
    free_gpus: queue.SimpleQueue[str | None],
) -> None:
    output = working / RUNNING / cell.key
    output.parent.mkdir(exist_ok=True)
    origin_path = _forget_other_run(output, origin)
    if not output.is_dir():
        folder = next(folder for folder in recipe.tasks if task_name(folder) == cell.task)
        command = [sys.executable, "-m", "finetune.run_classifier"]
        command += [str(recipe.finetune_recipe.resolve())] if recipe.finetune_recipe else []
        command += ["--task", folder, "--model", recipe.named_models[cell.model], "--seed", str(cell.seed)]
        command += ["--output_dir", str(output), "--baselines", "false", "--drop_leaked", "true"]
        for key in ("train_rows", "validation_rows") if cell.train_rows else ():
            command += [f"--{key}", str(origin[key])]
        log_path = output.with_name(f"{cell.key}.log")
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": _import_path()}
        gpu = free_gpus.get()
        environment |= {"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {}
        try:
            with log_path.open("w") as log_file:
                done = subprocess.run(command, stdout=log_file, stderr=log_file, env=environment, check=False)
        finally:
            free_gpus.put(gpu)
        code = done.returncode
        if code != 0:
            raise UserError(f"the run {cell.key} ended with code {code}", where=log_path, fix="Its log says why.")
        log_path.unlink()
    lines = (output / "predictions" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    values = {
        "origin": origin,
        "metrics": json.loads((output / "metrics.json").read_text(encoding="utf-8")),
        "decisions": {record["id"]: record["labels"] for record in records},
    }
    write_atomically(cell_path(working, cell), json.dumps(values, ensure_ascii=False))
    remove_folder(output)
    remove_folder(working_folder(output))
    origin_path.unlink()


def _import_path() -> str:
    """Let the child import this checkout, wherever it was started from."""
    return os.pathsep.join(part for part in (str(CODE_ROOT), os.environ.get("PYTHONPATH", "")) if part)
