"""The tables of a benchmark: mean ± SD over seeds, paired tests, ranks, learning curves. All on test macro-F1.

S = seeds, R = resamples.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.benchmark_config import BenchmarkRecipe
from finetune.benchmark_runs import Cell, cell_recipe, read_cell, task_name
from finetune.fitting import load_task
from finetune.significance import difference_of, holm, randomization_test, resample_differences
from finetune.tasks import FloatArray, Task
from finetune.uncertainty import clusters_of, f1_resamples, resample_weights

FEWEST_RESAMPLES, RESAMPLES_A_COMPARISON = 1000, 100
"""A bootstrap of R resamples finds no p-value below 2 / (R + 1), and Holm's correction multiplies the smallest by the
number of comparisons: at this many it stays below .02, whatever their number."""
TFIDF = "tfidf_logistic_regression"


def summarize(recipe: BenchmarkRecipe, working: Path, baselines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return everything the benchmark found, JSON-serialisable; every cell must be there."""
    tasks = [task_name(folder) for folder in recipe.tasks]
    models = [] if recipe.frozen_only else list(recipe.named_models)
    scores = {task: {model: _scores(recipe, working, task, model, None) for model in models} for task in tasks}
    comparisons = {size: _comparisons(recipe, working, tasks, size) for size in (None, *recipe.train_sizes) if models}
    _correct([comparison for found in comparisons.values() for comparison in found])
    return {
        "metric": "test macro-F1",
        "seeds": recipe.seeds,
        "scores": {
            task: {model: _mean_sd(values) for model, values in by_model.items()} for task, by_model in scores.items()
        },
        "figures": {task: {model: _figures(recipe, working, task, model) for model in models} for task in tasks},
        "baselines": {task: _macro_f1(baselines[task], "test") for task in tasks},
        "baselines_on_validation": {task: _macro_f1(baselines[task], "validation") for task in tasks},
        "loses_to_tfidf": [
            f"{model} on {task}"
            for task in tasks
            for model, values in scores[task].items()
            if statistics.fmean(values) <= baselines[task][TFIDF]["test"]["macro"]["f1"]
        ],
        "ranks": _ranks(scores),
        "comparisons": comparisons.get(None, []),
        "few_label_comparisons": {str(size): found for size, found in comparisons.items() if size is not None},
        "learning_curves": _learning_curves(recipe, working, tasks) if models else {},
    }


def _macro_f1(by_system: dict[str, Any], split: str) -> dict[str, float]:
    return {system: figures[split]["macro"]["f1"] for system, figures in by_system.items()}


def _scores(recipe: BenchmarkRecipe, working: Path, task: str, model: str, rows: int | None) -> list[float]:
    cells = [read_cell(working, Cell(task, model, seed, rows)) for seed in recipe.seeds]
    return [cell["metrics"]["test"]["classifier"]["macro"]["f1"] for cell in cells]


def _figures(recipe: BenchmarkRecipe, working: Path, task: str, model: str) -> dict[str, Any]:
    """Return mean ± SD of the figures besides macro-F1."""
    tests = [read_cell(working, Cell(task, model, seed))["metrics"]["test"]["classifier"] for seed in recipe.seeds]
    columns = {
        "macro F1 at .5": [test["macro_f1_at_default_thresholds"] for test in tests],
        "micro F1": [test["micro"]["f1"] for test in tests],
        "weighted F1": [test["weighted"]["f1"] for test in tests],
        "macro average precision": [test["macro"]["average_precision"] for test in tests],
        "ROC-AUC": [test["macro"]["roc_auc"] for test in tests],
        "calibration error": [test["expected_calibration_error"] for test in tests],
        "calibration error if perfect": [test.get("calibration_error_if_perfect") for test in tests],
    }
    if all("positive" in test for test in tests):
        columns["F1 of the positive class"] = [test["positive"]["f1"] for test in tests]
    return {name: _mean_sd(values) for name, values in columns.items() if None not in values}


def _mean_sd(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else 0.0}


def _ranks(scores: dict[str, dict[str, list[float]]]) -> dict[str, float]:
    """Return each model's mean rank over tasks (1 is best)."""
    ranks: dict[str, list[int]] = {}
    for by_model in scores.values():
        ordered = sorted(by_model, key=lambda model: -statistics.fmean(by_model[model]))
        for rank, model in enumerate(ordered, 1):
            ranks.setdefault(model, []).append(rank)
    return {model: statistics.fmean(values) for model, values in ranks.items()}


def _comparisons(recipe: BenchmarkRecipe, working: Path, tasks: list[str], rows: int | None) -> list[dict[str, Any]]:
    """Compare every model with every reference: per task by bootstrap, with Holm's correction, and pooled.

    Pooled means every task counts alike. Its interval draws test texts and seeds anew within each task; its p-value is
    the larger of the bootstrap's and of the one that flips signs over tasks and seeds. Whether it would hold for
    another task, the p-value across tasks says: one sign for each task, whose seeds share their test texts.
    """
    resampled = {task: _resampled(recipe, working, task, rows) for task in tasks} if recipe.pairs else {}
    comparisons: list[dict[str, Any]] = []
    for model, reference in recipe.pairs:
        drawn = {
            task: resample_differences(by_model[model], by_model[reference], seed=[recipe.seed, number])
            for number, (task, by_model) in enumerate(resampled.items())
        }
        differences = [difference_of(drawn_R) for drawn_R in drawn.values()]
        corrected = holm([difference.p_value for difference in differences])
        by_task = [by_model[model][:, 0] - by_model[reference][:, 0] for by_model in resampled.values()]
        pairs = np.concatenate(by_task)
        pooled = difference_of(np.mean(list(drawn.values()), axis=0))
        comparisons.append(
            {
                "model": model,
                "reference": reference,
                "tasks": {
                    task: difference._asdict() | {"holm_p_value": p_value}
                    for task, difference, p_value in zip(tasks, differences, corrected, strict=True)
                },
                "pooled_mean": float(pairs.mean()),
                "pooled_low": pooled.low,
                "pooled_high": pooled.high,
                "pooled_p_value": max(pooled.p_value, randomization_test(pairs, seed=recipe.seed)),
                "across_tasks_p_value": randomization_test(np.array([d.mean() for d in by_task]), seed=recipe.seed),
            }
        )
    return comparisons


def _correct(comparisons: list[dict[str, Any]]) -> None:
    """Add Holm's correction for all pooled comparisons of a benchmark, those of few labels among them."""
    corrected = holm([comparison["pooled_p_value"] for comparison in comparisons])
    for comparison, p_value in zip(comparisons, corrected, strict=True):
        comparison["pooled_holm_p_value"] = p_value


def resamples_of(recipe: BenchmarkRecipe) -> int:
    """Return how many resamples the comparisons of a benchmark need."""
    corrected_together = max(len(recipe.pairs) * (1 + len(recipe.train_sizes)), len(recipe.tasks))
    return max(FEWEST_RESAMPLES, RESAMPLES_A_COMPARISON * corrected_together)


def _resampled(recipe: BenchmarkRecipe, working: Path, name: str, rows: int | None) -> dict[str, FloatArray]:
    """Return per model the macro-F1 (S, 1 + R) on test and on resamples of its clusters, the same for all models."""
    task: Task = load_task(cell_recipe(recipe, name))
    number = [task_name(folder) for folder in recipe.tasks].index(name)
    truth_NL = task.targets("test") > 0.5
    clusters_N = clusters_of(task.splits["test"])
    drawn_RC = resample_weights(clusters_N, resamples=resamples_of(recipe), seed=[recipe.seed, number])
    weights_RC = np.vstack([np.ones((1, drawn_RC.shape[1])), drawn_RC])
    found: dict[str, list[FloatArray]] = {}
    for model in recipe.named_models:
        for seed in recipe.seeds:
            decisions = read_cell(working, Cell(name, model, seed, rows))["decisions"]
            given_NL = task.label_set.multi_hot([decisions[e.id] for e in task.splits["test"]]) > 0.5
            found.setdefault(model, []).append(f1_resamples(truth_NL, given_NL, clusters_N, weights_RC)["macro_f1"])
    return {model: np.array(values) for model, values in found.items()}


def _learning_curves(recipe: BenchmarkRecipe, working: Path, tasks: list[str]) -> dict[str, Any]:
    if not recipe.train_sizes:
        return {}
    return {
        task: {
            model: {
                str(size or "all"): _mean_sd(_scores(recipe, working, task, model, size))
                for size in (*recipe.train_sizes, None)
            }
            for model in recipe.named_models
        }
        for task in tasks
    }
