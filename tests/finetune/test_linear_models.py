"""Baselines from logistic regression where the training rows leave little to fit."""

import numpy as np

from finetune.linear_models import best_regression
from finetune.tasks import Example, LabelSet, Task, TaskType


def test_one_class_in_train_is_predicted_throughout() -> None:
    label_set = LabelSet(TaskType.MULTI_CLASS, ("a", "b"))
    rows = {"train": ["a"] * 4, "validation": ["a", "b", "a"], "test": ["a", "b"]}
    splits = {split: [Example(str(n), "x", (name,)) for n, name in enumerate(names)] for split, names in rows.items()}
    features = {split: np.eye(4)[: len(names)] for split, names in rows.items()}
    task = Task("task", label_set, splits)
    figures = best_regression(features, task, strengths=(1.0,), seed=0, description="regression")
    assert figures["test"]["accuracy"] == 0.5
    assert figures["test"]["per_label"]["b"]["f1"] == 0
