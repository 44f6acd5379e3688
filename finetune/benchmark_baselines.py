"""Score the baselines of a benchmark, and keep their figures with what they were made of."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.base_models import resolve_model
from configs.run_folder import write_atomically
from finetune.baselines import majority, tfidf_logistic_regression
from finetune.benchmark_config import FROZEN, BenchmarkRecipe
from finetune.benchmark_runs import (
    all_cells,
    cell_origins,
    cell_path,
    cell_recipe,
    earlier_files,
    fingerprints,
    read_made,
    reading_of,
    task_name,
)
from finetune.config import FinetuneRecipe
from finetune.fitting import load_task
from finetune.frozen import frozen_encoder_regression
from finetune.tasks import Task

log = logging.getLogger("benchmark")
BASELINES = "baselines"


def score_baselines(recipe: BenchmarkRecipe, working: Path) -> dict[str, dict[str, Any]]:
    """Return the figures of all baselines by task, name and split; each is kept until what it was made of changes."""
    (working / BASELINES).mkdir(exist_ok=True)
    prints = fingerprints(recipe)
    figures: dict[str, dict[str, Any]] = {}
    for task_folder in recipe.tasks:
        name = task_name(task_folder)
        settings = cell_recipe(recipe, name)
        figures[name], task = {}, None
        for system in _baseline_names(recipe):
            path = _baseline_path(working, name, system)
            origin = _baseline_origin(system, recipe, settings, prints)
            made = read_made(path, origin)
            if made is None:
                made = _take_over(recipe, name, system, origin)
                if made is None:
                    started, task = time.monotonic(), task or load_task(settings)
                    metrics = _fit_baseline(system, recipe, settings, task)
                    made = {"origin": origin, "metrics": metrics, "seconds": round(time.monotonic() - started, 1)}
                write_atomically(path, json.dumps(made, ensure_ascii=False))
            figures[name][system] = made["metrics"]
    return figures


def made_of_other(recipe: BenchmarkRecipe, folder: Path) -> list[str]:
    """Return the runs and baselines of a finished benchmark that `recipe` would not make just so.

    Those of benchmarks that did not note yet what they were made of are taken as they are.
    """
    prints, cells = fingerprints(recipe), all_cells(recipe)
    wanted = {cell_path(folder, cell): origin for cell, origin in cell_origins(recipe, cells).items()}
    for task_folder in recipe.tasks:
        name = task_name(task_folder)
        settings = cell_recipe(recipe, name)
        for system in _baseline_names(recipe):
            wanted[_baseline_path(folder, name, system)] = _baseline_origin(system, recipe, settings, prints)
    return [
        path.stem
        for path, origin in wanted.items()
        if not path.is_file() or json.loads(path.read_text(encoding="utf-8")).get("origin", origin) != origin
    ]


def _baseline_path(folder: Path, task: str, system: str) -> Path:
    return folder / BASELINES / f"{task}--{system}.json"


def _baseline_names(recipe: BenchmarkRecipe) -> Iterator[str]:
    yield from ("majority", "tfidf_logistic_regression")
    if recipe.frozen_encoder:
        yield from (f"{FROZEN}{name}" for name in recipe.named_models)


def _baseline_origin(
    system: str, recipe: BenchmarkRecipe, settings: FinetuneRecipe, prints: dict[str, str]
) -> dict[str, Any]:
    """Return what a baseline is made of."""
    name = task_name(settings.task)
    origin: dict[str, Any] = {"task": prints.get(name, name), "recipe": reading_of(settings)}
    if system.startswith(FROZEN):
        model = system.removeprefix(FROZEN)
        origin["model"] = prints.get(f"model {model}", recipe.named_models[model])
        origin["recipe"]["max_seq_length"] = settings.max_seq_length
    return origin


def _take_over(recipe: BenchmarkRecipe, task: str, system: str, origin: dict[str, Any]) -> dict[str, Any] | None:
    """Return the same baseline from an earlier benchmark, which may have called the frozen model by another name."""
    kind = f"{FROZEN}*" if system.startswith(FROZEN) else system
    for folder in recipe.earlier:
        for path in earlier_files(folder, f"{BASELINES}/{task}--{kind}.json"):
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if values.get("origin") == origin:
                log.info("%s--%s is taken over from %s", task, system, path)
                return values
    return None


def _fit_baseline(system: str, recipe: BenchmarkRecipe, settings: FinetuneRecipe, task: Task) -> dict[str, Any]:
    if system == "majority":
        return majority(task)
    if system == "tfidf_logistic_regression":
        return tfidf_logistic_regression(task, seed=settings.seed)
    source = resolve_model(recipe.named_models[system.removeprefix(FROZEN)])
    return frozen_encoder_regression(task, source, max_seq_length=settings.max_seq_length, seed=settings.seed)
