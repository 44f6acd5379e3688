"""What a classifier must beat: the majority, and TF-IDF with logistic regression, tuned like the classifier.

Both are chosen and thresholded on validation and scored on test by the same functions as the classifier.

N = texts, L = labels, V = vocabulary.
"""

import itertools
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from configs.console import progress
from finetune.decisions import Decision, tune_thresholds
from finetune.metrics import score
from finetune.tasks import FloatArray, Task

REGULARISATIONS = (0.5, 2.0, 8.0)
CLASS_WEIGHTS = (None, "balanced")
LARGEST_VOCABULARY = 60_000


def majority(task: Task) -> dict[str, dict[str, Any]]:
    """Score the answer that ignores the text, per split: the most frequent class, or the better of all and nothing.

    For multi-label tasks a label is always given where that has the better F1 on validation; since F1 of never
    giving a label is 0, this is the "always positive" baseline.
    """
    rates_L = task.targets("train").mean(axis=0)
    figures = {}
    for split in ("validation", "test"):
        targets_NL = task.targets(split)
        probabilities_NL = np.tile(rates_L, (len(targets_NL), 1))
        decisions_NL = np.ones(targets_NL.shape, dtype=bool)
        if not task.label_set.is_multi_label:
            decisions_NL = np.tile(np.arange(len(rates_L)) == rates_L.argmax(), (len(targets_NL), 1))
        figures[split] = score(targets_NL, probabilities_NL, decisions_NL, task.label_set)
    return figures


def tfidf_logistic_regression(task: Task, *, seed: int) -> dict[str, dict[str, Any]]:
    """Score TF-IDF word 1-2-grams with logistic regression, per split; C and class weights chosen on validation."""
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=LARGEST_VOCABULARY, token_pattern=r"(?u)\b\w+\b"
    )
    try:
        features = {"train": vectorizer.fit_transform(task.texts("train"))}
    except ValueError:  # too few or too short texts for any n-gram to stand in two of them
        return majority(task)
    features |= {split: vectorizer.transform(task.texts(split)) for split in ("validation", "test")}
    targets_NL = task.targets("train")
    best: tuple[float, dict[str, dict[str, Any]]] | None = None
    grid = list(itertools.product(REGULARISATIONS, CLASS_WEIGHTS))
    for strength, class_weight in progress(grid, description="TF-IDF baseline", unit="settings"):
        probabilities = _fit_predict(features, targets_NL, task, strength, class_weight, seed)
        validation = task.targets("validation")
        decision = Decision(task.label_set, tune_thresholds(probabilities["validation"], validation, task.label_set))
        figures = {
            split: score(task.targets(split), values, decision.decide(values), task.label_set)
            for split, values in probabilities.items()
        }
        quality = figures["validation"]["macro"]["f1"]
        if best is None or quality > best[0]:
            best = (quality, figures)
    assert best is not None  # the grid is not empty
    return best[1]


def _fit_predict(
    features: dict[str, Any], targets_NL: FloatArray, task: Task, strength: float, class_weight: str | None, seed: int
) -> dict[str, FloatArray]:
    """Fit one regression a label (or one over the classes) and return probabilities (N, L) of validation and test."""
    splits = ("validation", "test")

    def fit(targets_N: Any) -> Any:
        solver = "liblinear" if len(np.unique(targets_N)) == 2 else "lbfgs"
        model = LogisticRegression(
            C=strength, class_weight=class_weight, solver=solver, max_iter=300, random_state=seed
        )
        return model.fit(features["train"], targets_N)

    if task.label_set.is_multi_label:
        columns: dict[str, list[Any]] = {split: [] for split in splits}
        for label in range(targets_NL.shape[1]):
            constant = len(np.unique(targets_NL[:, label])) == 1
            model = None if constant else fit(targets_NL[:, label])
            for split in splits:
                rows = features[split].shape[0]
                columns[split].append(
                    np.full(rows, targets_NL[0, label]) if model is None else model.predict_proba(features[split])[:, 1]
                )
        return {split: np.column_stack(columns[split]) for split in splits}
    model = fit(targets_NL.argmax(axis=1))
    probabilities = {}
    for split in splits:
        full = np.zeros((features[split].shape[0], targets_NL.shape[1]))
        full[:, model.classes_] = model.predict_proba(features[split])
        probabilities[split] = full
    return probabilities
