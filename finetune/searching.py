"""Hyperparameter search: Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) over a recipe's keys.

A trial trains one model and is judged by its best average precision on validation. The best trial's checkpoint is
kept and becomes the classifier without another training; those of the others are removed at once. Trials are kept
in a file, so a killed search goes on with the next one.
"""

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from configs.base_models import resolve_model
from configs.manifest import now, verify_inputs
from configs.recipe import load_recipe, recipe_values
from configs.run_folder import (
    finish_run_folder,
    open_run_folder,
    remove_folder,
    working_folder,
    write_atomically,
)
from finetune.config import FinetuneRecipe
from finetune.fitting import fit_classifier, input_paths, load_task, train_model
from finetune.heads import encoder_width
from finetune.losses import MULTI_LABEL_LOSSES, SINGLE_LABEL_LOSSES
from finetune.multi_task import AuxiliaryTask, read_auxiliary_tasks
from finetune.search_config import SearchRecipe
from finetune.tasks import LabelSet, Task
from finetune.training import automatic_learning_rate

log = logging.getLogger("search")
CLASSIFIER, STUDY_NAME, TRIALS_NAME = "classifier", "study.db", "trials.json"


def search(recipe: SearchRecipe) -> str | None:
    """Run the search.

    Returns:
        the score table of the best classifier, whose folder is OUTPUT_DIR/classifier.
    """
    started_at = now()
    base = base_recipe(recipe)
    inputs = input_paths(base, resolve_model(base.model))
    accepted = verify_inputs(inputs.values(), accept_changes=base.accept_changed_inputs)
    task = load_task(base)
    recipe_file = {"finetune_recipe": recipe.finetune_recipe} if recipe.finetune_recipe else {}
    working = open_run_folder(recipe, inputs | recipe_file, accepted=accepted, started_at=started_at)
    classifier = working / CLASSIFIER
    chosen = dataclasses.replace(base, output_dir=classifier)
    table = None
    if not classifier.is_dir():
        study = _open_study(recipe, working, base)
        auxiliary = read_auxiliary_tasks(base.auxiliary_tasks, task, seed=base.seed)
        _run_trials(recipe, study, base, task, auxiliary, working)
        chosen = dataclasses.replace(chosen, **study.best_params)
        write_atomically(working / TRIALS_NAME, json.dumps(_trial_rows(study), indent=1) + "\n")
        _hand_over(working / f"trial-{study.best_trial.number}", chosen)
        table = fit_classifier(chosen)
    for leftover in (*working.glob("trial-*"), working / STUDY_NAME):
        remove_folder(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    trials = json.loads((working / TRIALS_NAME).read_text(encoding="utf-8"))
    counts = {"trials": len(trials), "best": trials[0]}
    finish_run_folder(recipe, stage="search", inputs=inputs, counts=counts)
    return table


def base_recipe(recipe: SearchRecipe) -> FinetuneRecipe:
    """Return the fine-tuning recipe that the trials vary; a learning rate that is searched is a number in it."""
    arguments = [str(recipe.finetune_recipe)] if recipe.finetune_recipe else []
    arguments += ["--task", recipe.task, "--output_dir", "unused", "--seed", str(recipe.seed)]
    arguments += ["--accept_changed_inputs", "true"] if recipe.accept_changed_inputs else []
    base = load_recipe(FinetuneRecipe, arguments, "finetune_recipe")
    if base.learning_rate is not None or "learning_rate" not in recipe.searched_keys:
        return base
    width = encoder_width(resolve_model(base.model))
    rate = automatic_learning_rate(width, has_adapter=base.adapter != "none")
    return dataclasses.replace(base, learning_rate=rate)


def search_space(label_set: LabelSet, base: FinetuneRecipe) -> dict[str, Callable[[Any], Any]]:
    """Return, by key, a function that takes an Optuna trial and returns the key's value in it.

    What the base recipe holds is always among the values: it is the first trial.
    """
    losses: tuple[str, ...] = MULTI_LABEL_LOSSES if label_set.is_multi_label else SINGLE_LABEL_LOSSES
    losses = tuple(name for name in losses if name != "ordinal" or label_set.ordinal)
    default_loss = base.loss if base.loss == losses[0] else "auto"  # two names of one loss

    def choose(key: str, *known: Any) -> Callable[[Any], Any]:
        choices = tuple(dict.fromkeys((*known, getattr(base, key))))
        return lambda trial: trial.suggest_categorical(key, choices)

    def draw(key: str, low: float, high: float, *, log: bool = False) -> Callable[[Any], Any]:
        own = getattr(base, key)
        bounds = (low, high) if own is None else (min(low, own), max(high, own))
        return lambda trial: trial.suggest_float(key, *bounds, log=log)

    return {
        "learning_rate": draw("learning_rate", 1e-5, 5e-4, log=True),
        "head": choose("head", "cls", "mean", "label_attention"),
        "loss": choose("loss", default_loss, *losses[1:]),
        "sampling": choose("sampling", "uniform", "class_aware"),
        "batch_size": choose("batch_size", 8, 16, 32),
        "hidden_dropout": draw("hidden_dropout", 0.0, 0.3),
        "layer_learning_rate_decay": draw("layer_learning_rate_decay", 0.7, 1.0),
    }


def _open_study(recipe: SearchRecipe, working: Path, base: FinetuneRecipe) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{working / STUDY_NAME}", study_name="search", load_if_exists=True, direction="maximize"
    )
    drawn = len(study.get_trials(deepcopy=False))
    # A sampler begins anew with each attempt: with one seed for all it would draw what it has drawn before.
    study.sampler = optuna.samplers.TPESampler(seed=recipe.seed + drawn, n_startup_trials=5)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.enqueue_trial(trial.system_attrs.get("fixed_params", {}) | trial.params)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # it was killed: its settings come next
    if not drawn:
        study.enqueue_trial({key: recipe_values(base)[key] for key in recipe.searched_keys})
    return study


def _run_trials(
    recipe: SearchRecipe,
    study: Any,
    base: FinetuneRecipe,
    task: Task,
    auxiliary: Sequence[AuxiliaryTask],
    working: Path,
) -> None:
    import optuna

    space = search_space(task.label_set, base)
    while True:
        done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        hours = sum(trial.duration.total_seconds() for trial in done) / 3600
        if len(done) >= recipe.trials or (recipe.budget_hours is not None and done and hours >= recipe.budget_hours):
            return
        trial = study.ask()
        settings: dict[str, Any] = {key: space[key](trial) for key in recipe.searched_keys}
        folder = working / f"trial-{trial.number}"
        folder.mkdir(exist_ok=True)
        varied = dataclasses.replace(base, **settings)
        fitted = train_model(
            varied,
            resolve_model(varied.model),
            task.label_set,
            task.splits["train"],
            task.splits["validation"],
            folder,
            auxiliary,
        )
        Accelerator().free_memory()
        study.tell(trial, max(record["validation_average_precision"] for record in fitted.history))
        log.info("trial %d of %d: %s", len(done) + 1, recipe.trials, _shown(settings))
        for other in working.glob("trial-*"):
            if other.name != f"trial-{study.best_trial.number}":
                remove_folder(other)


def _hand_over(trial_folder: Path, chosen: FinetuneRecipe) -> None:
    """Put the best trial's finished checkpoint where the fine-tuning run resumes from: it then trains nothing."""
    open_run_folder(chosen, input_paths(chosen, resolve_model(chosen.model)))
    target = working_folder(chosen.output_dir)
    if trial_folder.is_dir():
        for path in trial_folder.iterdir():
            if not (target / path.name).exists():
                shutil.move(path, target / path.name)


def _trial_rows(study: Any) -> list[dict[str, Any]]:
    rows = [
        {"trial": trial.number, "validation_average_precision": trial.value, "settings": trial.params}
        for trial in study.get_trials(deepcopy=False)
        if trial.value is not None
    ]
    return sorted(rows, key=lambda row: -float(row["validation_average_precision"]))


def _shown(settings: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.2g}" if isinstance(value, float) else f"{key} {value}" for key, value in settings.items()
    )
