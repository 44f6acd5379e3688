"""The evidence behind a classifier's figures: intervals, calibration, confusion, slices, and the errors by id.

No text is kept: whoever may read the data finds a text by its id.

N = texts, L = labels.
"""

from typing import Any

import numpy as np

from finetune.calibration import calibration
from finetune.decisions import Decision, confidence
from finetune.inference import Predictions
from finetune.metrics import BoolArray
from finetune.slices import score_slices
from finetune.tasks import FloatArray, LabelSet, Task
from finetune.uncertainty import clusters_of, f1_intervals

LISTED_ERRORS = 200


def collect_evidence(
    task: Task, split: str, decision: Decision, predictions: Predictions, *, seed: int
) -> dict[str, Any]:
    """Return the evidence on one split, JSON-serialisable."""
    examples, targets_NL = task.splits[split], task.targets(split)
    probabilities_NL, decisions_NL = predictions
    clusters_N = clusters_of(examples)
    intervals = f1_intervals(targets_NL, decisions_NL, clusters_N, seed=seed)
    return {
        "intervals": {name: list(interval) for name, interval in intervals.items()},
        "clusters": int(clusters_N.max()) + 1,
        "calibration": calibration(probabilities_NL, targets_NL, task.label_set),
        "confusion": confusion(targets_NL, decisions_NL, task.label_set),
        "slices": score_slices(examples, targets_NL, decisions_NL),
        "errors": list_errors(task, split, decision, predictions),
    }


def confusion(targets_NL: FloatArray, decisions_NL: BoolArray, label_set: LabelSet) -> dict[str, Any]:
    """Return the confusion matrix of classes (rows: truth), or the four counts of every label."""
    truth_NL = targets_NL > 0.5
    if not label_set.is_multi_label:
        return {"matrix": (truth_NL.T.astype(int) @ decisions_NL.astype(int)).tolist()}
    counts = {
        "true_positive": truth_NL & decisions_NL,
        "false_positive": ~truth_NL & decisions_NL,
        "false_negative": truth_NL & ~decisions_NL,
        "true_negative": ~truth_NL & ~decisions_NL,
    }
    return {
        "per_label": {
            name: {kind: int(hits_NL[:, label].sum()) for kind, hits_NL in counts.items()}
            for label, name in enumerate(label_set.names)
        }
    }


def list_errors(task: Task, split: str, decision: Decision, predictions: Predictions) -> list[dict[str, Any]]:
    """Return the most confident errors: id, labels annotated, labels given, confidence."""
    wrong_N = np.flatnonzero(((task.targets(split) > 0.5) != predictions.decisions_NL).any(axis=1))
    sure_N = confidence(*predictions)
    given = decision.label_names(predictions.decisions_NL)
    worst = wrong_N[np.argsort(-sure_N[wrong_N], kind="stable")][:LISTED_ERRORS]
    return [
        {
            "id": task.splits[split][row].id,
            "annotated": sorted(task.splits[split][row].labels),
            "given": sorted(given[row]),
            "confidence": round(float(sure_N[row]), 4),
        }
        for row in worst
    ]
