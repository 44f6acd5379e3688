"""The gate in front of a benchmark: no test text may have been seen, in training or in pretraining."""

import json
import logging
from pathlib import Path

from configs.base_models import resolve_model
from configs.errors import UserError
from configs.run_folder import working_folder, write_atomically
from finetune.benchmark_config import BenchmarkRecipe
from finetune.benchmark_runs import cell_recipe, fingerprints, reading_of, task_name
from finetune.fitting import further_inputs, load_task, read_recipe_task
from finetune.leakage import leaks_between, leaks_from_pretraining, refuse_leaks

log = logging.getLogger("benchmark")
GATE_NAME = "gate.json"
Counts = dict[str, int]


def close_gate(recipe: BenchmarkRecipe) -> Counts:
    """Check every task and model.

    A run trains on one task, so the texts that tasks of one family share do no harm here and are only counted.

    Returns:
        the number of leaks by where they lead from and to, for the record.

    Raises:
        UserError: a test text stands in the train split of its task (unless they are dropped), or in the corpus a
            model was pretrained on; or a task has no more training rows than one of `train_sizes`.
    """
    # As they are on disk, before any cleaning.
    tasks = [read_recipe_task(cell_recipe(recipe, task_name(folder))) for folder in recipe.tasks]
    leaks = leaks_between(tasks)
    if recipe.leakage == "refuse":
        for task in tasks:
            fix = "Take them out of train, or set leakage: drop to have that done and counted."
            refuse_leaks(leaks.get((task.name, task.name), []), fix=fix)
    found = {f"{source} → {target}": len({leak.target_id for leak in some}) for (source, target), some in leaks.items()}
    settings = cell_recipe(recipe, task_name(recipe.tasks[0]))
    filler = further_inputs(settings).get("augmentation_model")  # what it has read it writes into training texts
    models = recipe.named_models | ({"augmentation_model": str(filler)} if filler else {})
    located = {name: resolve_model(model) for name, model in models.items()}
    folders = {name: Path(source.name_or_path) for name, source in located.items() if source.is_local}
    for name, seen in leaks_from_pretraining(folders, tasks).items():
        refuse_leaks(seen, fix=f"Adapt {name} again on a corpus without them (corpus decontamination).")
    if not recipe.frozen_only:
        _refuse_large_sizes(recipe)
    for pair, count in found.items():
        log.info("leakage: %s, %d test texts", pair, count)
    return found


def _refuse_large_sizes(recipe: BenchmarkRecipe) -> None:
    """Refuse points of a learning curve that would stand at more rows than a run of them trains on."""
    for folder in recipe.tasks if recipe.train_sizes else []:
        rows = len(load_task(cell_recipe(recipe, task_name(folder))).splits["train"])
        if max(recipe.train_sizes) >= rows:
            raise UserError(
                f"{max(recipe.train_sizes):,} of train_sizes: {task_name(folder)} trains on {rows:,} rows in all",
                where="train_sizes",
                fix="Leave it out, or the task. All rows are a point of every curve anyway.",
            )


def close_gate_once(recipe: BenchmarkRecipe) -> tuple[Counts, str]:
    """Check, unless an earlier piece of this benchmark has checked the very same tasks, read alike, and models.

    Returns:
        the counts, and what to write into the run folder for the next piece.
    """
    names = [task_name(folder) for folder in recipe.tasks]
    asked = {
        "inputs": fingerprints(recipe),
        "reading": {name: reading_of(cell_recipe(recipe, name)) for name in names},
    }
    path = working_folder(recipe.output_dir) / GATE_NAME
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if {key: earlier.get(key) for key in asked} == asked:
            return earlier["leaks"], json.dumps(earlier)
    found = close_gate(recipe)
    return found, json.dumps(asked | {"leaks": found}, ensure_ascii=False)


def keep_gate(working: Path, record: str) -> None:
    """Write down that the gate was passed, and with what."""
    write_atomically(working / GATE_NAME, record)
