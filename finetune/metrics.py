"""How good predictions are: per label and micro/macro precision, recall, F1, ROC-AUC and average precision.

Figures are fractions, not percent. A ranking figure of a label that has no positive (or no negative) example is
None and left out of the macro mean; its F1 counts as 0, as scikit-learn's does.

N = texts, L = labels.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sk

from finetune.tasks import FloatArray, LabelSet, TaskType

BoolArray = npt.NDArray[np.bool_]


def score(
    targets_NL: FloatArray, probabilities_NL: FloatArray, decisions_NL: BoolArray, label_set: LabelSet
) -> dict[str, Any]:
    """Return all figures of one set of predictions, JSON-serialisable.

    Args:
        targets_NL: (N, L) zeros and ones.
        probabilities_NL: (N, L).
        decisions_NL: (N, L), the labels given.
        label_set: names and type.
    """
    truth = targets_NL.astype(bool)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        truth, decisions_NL, average=None, zero_division=0
    )
    aucs, average_precisions = _ranking(truth, probabilities_NL)
    per_label = {
        name: {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
            "roc_auc": aucs[i],
            "average_precision": average_precisions[i],
        }
        for i, name in enumerate(label_set.names)
    }
    figures: dict[str, Any] = {"rows": len(truth), "per_label": per_label}
    for average in ("micro", "macro", "weighted"):
        p, r, f, _ = sk.precision_recall_fscore_support(truth, decisions_NL, average=average, zero_division=0)
        figures[average] = {"precision": float(p), "recall": float(r), "f1": float(f)}
    figures["macro"] |= {"roc_auc": _mean(aucs), "average_precision": _mean(average_precisions)}
    figures["accuracy"] = float((truth == decisions_NL).all(axis=1).mean())
    if label_set.type is TaskType.BINARY:
        figures["positive"] = {"label": label_set.names[label_set.positive_index]}
        figures["positive"] |= per_label[label_set.names[label_set.positive_index]]
    if label_set.ordinal and not label_set.is_multi_label:
        grades, given = truth.argmax(1), decisions_NL.argmax(1)
        figures["mean_absolute_error"] = float(np.abs(grades - given).mean())
        # All grades: without them the distance across a grade that stands nowhere would count as one step.
        every = np.arange(len(label_set.names))
        kappa = sk.cohen_kappa_score(grades, given, labels=every, weights="quadratic")
        figures["quadratic_kappa"] = _finite(kappa)
    return figures


def macro_average_precision(targets_NL: FloatArray, scores_NL: FloatArray) -> float:
    """Return the mean average precision over labels that have a positive and a negative example, or 0."""
    return _mean(_ranking(targets_NL.astype(bool), scores_NL)[1]) or 0.0


def _ranking(truth: BoolArray, scores_NL: FloatArray) -> tuple[list[float | None], list[float | None]]:
    aucs: list[float | None] = []
    average_precisions: list[float | None] = []
    for label in range(truth.shape[1]):
        both = truth[:, label].any() and not truth[:, label].all()
        aucs.append(float(sk.roc_auc_score(truth[:, label], scores_NL[:, label])) if both else None)
        average_precisions.append(
            float(sk.average_precision_score(truth[:, label], scores_NL[:, label])) if both else None
        )
    return aucs, average_precisions


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
