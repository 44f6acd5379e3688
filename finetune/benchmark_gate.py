"""The gate in front of a benchmark: no test text may have been seen, in training or in pretraining."""

import logging
from pathlib import Path

from configs.base_models import resolve_model
from finetune.benchmark_config import BenchmarkRecipe
from finetune.benchmark_runs import cell_recipe, task_name
from finetune.leakage import leaks_between, leaks_from_pretraining, refuse_leaks
from finetune.task_files import Columns, read_task
from finetune.tasks import Task

log = logging.getLogger("benchmark")


def close_gate(recipe: BenchmarkRecipe) -> dict[str, int]:
    """Check every task and model.

    A run trains on one task, so the texts that tasks of one family share do no harm here and are only counted.

    Returns:
        the number of leaks by where they lead from and to, for the record.

    Raises:
        UserError: a test text stands in the train split of its task (unless they are dropped), or in the corpus a
            model was pretrained on.
    """
    tasks = [_read(recipe, task_name(folder)) for folder in recipe.tasks]
    found: dict[str, int] = {}
    for task in tasks:
        own = leaks_between(task, task)
        if recipe.leakage == "refuse":
            refuse_leaks(own, fix="Take them out of train, or set leakage: drop to have that done and counted.")
        for other in tasks:
            leaks = own if other is task else leaks_between(task, other)
            if leaks:
                found[f"{task.name} → {other.name}"] = len({leak.target_id for leak in leaks})
    for name, model in recipe.named_models.items():
        source = resolve_model(model)
        if source.is_local:
            leaks = leaks_from_pretraining(Path(source.name_or_path), tasks)
            refuse_leaks(leaks, fix=f"Adapt {name} again on a corpus without them (corpus decontamination).")
    for pair, count in found.items():
        log.info("leakage: %s, %d test texts", pair, count)
    return found


def _read(recipe: BenchmarkRecipe, name: str) -> Task:
    """Read a task as it is on disk, before any cleaning."""
    settings = cell_recipe(recipe, name)
    columns = Columns(text=settings.text_column, labels=settings.label_columns, id=settings.id_column)
    return read_task(
        settings.task,
        columns,
        validation_fraction=settings.validation_fraction,
        test_fraction=settings.test_fraction,
        seed=settings.seed,
    )
