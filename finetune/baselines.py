"""What a classifier must beat: the majority, and TF-IDF with logistic regression, tuned like the classifier.

Both are chosen and thresholded on validation and scored on test by the same functions as the classifier.
"""

from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from finetune.linear_models import SCORED_SPLITS, best_regression
from finetune.metrics import score
from finetune.tasks import Task

STRENGTHS = (0.5, 2.0, 8.0)
LARGEST_VOCABULARY = 60_000


def majority(task: Task) -> dict[str, dict[str, Any]]:
    """Score the answer that ignores the text, per split: the most frequent class, or every label at once.

    F1 of never giving a label is 0, so for multi-label tasks "always positive" is the stronger of the two.
    """
    rates_L = task.targets("train").mean(axis=0)
    figures = {}
    for split in SCORED_SPLITS:
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
    features |= {split: vectorizer.transform(task.texts(split)) for split in SCORED_SPLITS}
    return best_regression(features, task, strengths=STRENGTHS, seed=seed, description="TF-IDF baseline")
