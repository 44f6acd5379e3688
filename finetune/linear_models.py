"""Logistic regression over given features, tuned on validation and thresholded like the classifier it is compared to.

N = texts, L = labels.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from configs.console import progress
from finetune.decisions import Decision, tune_thresholds
from finetune.metrics import score
from finetune.tasks import FloatArray, Task

CLASS_WEIGHTS = (None, "balanced")
SCORED_SPLITS = ("validation", "test")


def best_regression(
    features: dict[str, Any], task: Task, *, strengths: Sequence[float], seed: int, description: str
) -> dict[str, dict[str, Any]]:
    """Return the figures, per split, of the setting with the best macro-F1 on validation.

    Args:
        features: split → matrix (N, anything), sparse or dense.
        task: the targets.
        strengths: values of C (inverse regularisation) to try, each with and without balanced class weights.
        seed: of the solver.
        description: for the progress bar.
    """
    best: tuple[float, dict[str, dict[str, Any]]] | None = None
    grid = list(itertools.product(strengths, CLASS_WEIGHTS))
    for strength, class_weight in progress(grid, description=description, unit="settings"):
        probabilities = _fit_predict(features, task, strength, class_weight, seed)
        thresholds = tune_thresholds(probabilities["validation"], task.targets("validation"), task.label_set)
        decide = Decision(task.label_set, thresholds).decide
        figures = {
            split: score(task.targets(split), values, decide(values), task.label_set)
            for split, values in probabilities.items()
        }
        quality = figures["validation"]["macro"]["f1"]
        if best is None or quality > best[0]:
            best = (quality, figures)
    assert best is not None  # the grid is not empty
    return best[1]


def _fit_predict(
    features: dict[str, Any], task: Task, strength: float, class_weight: str | None, seed: int
) -> dict[str, FloatArray]:
    """Fit one regression a label (or one over the classes); return probabilities (N, L) of validation and test."""
    targets_NL = task.targets("train")

    def fit(targets_N: Any) -> Any:
        solver = "liblinear" if len(np.unique(targets_N)) == 2 else "lbfgs"
        model = LogisticRegression(
            C=strength, class_weight=class_weight, solver=solver, max_iter=300, random_state=seed
        )
        return model.fit(features["train"], targets_N)

    if not task.label_set.is_multi_label:
        classes_N = targets_NL.argmax(axis=1)
        if (classes_N == classes_N[0]).all():  # no solver takes one class
            return {split: np.tile(targets_NL[0], (features[split].shape[0], 1)) for split in SCORED_SPLITS}
        model = fit(classes_N)
        probabilities = {}
        for split in SCORED_SPLITS:
            full = np.zeros((features[split].shape[0], targets_NL.shape[1]))
            full[:, model.classes_] = model.predict_proba(features[split])
            probabilities[split] = full
        return probabilities
    columns: dict[str, list[Any]] = {split: [] for split in SCORED_SPLITS}
    for label in range(targets_NL.shape[1]):
        constant = len(np.unique(targets_NL[:, label])) == 1
        model = None if constant else fit(targets_NL[:, label])
        for split in SCORED_SPLITS:
            rows = features[split].shape[0]
            known = np.full(rows, targets_NL[0, label])
            columns[split].append(known if model is None else model.predict_proba(features[split])[:, 1])
    return {split: np.column_stack(columns[split]) for split in SCORED_SPLITS}
