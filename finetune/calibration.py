"""Do probabilities mean what they say? Expected calibration error and the points of a reliability diagram.

Bins hold equally many predictions (Nguyen & O'Connor 2015, arXiv:1508.05154): bins of equal width are nearly empty
where a rare label is likely. Multi-label: every (text, label) pair counts. Classes: the class that was most likely
(Guo et al. 2017, arXiv:1706.04599).

A few hundred texts give even perfect probabilities an error; how large it would be stands beside the one measured.

N = texts, L = labels, M = predictions.
"""

from typing import Any

import numpy as np

from finetune.tasks import FloatArray, LabelSet

BINS = 10
DRAWS = 100


def calibration(probabilities_NL: FloatArray, targets_NL: FloatArray, label_set: LabelSet) -> dict[str, Any]:
    """Return the expected calibration error (a fraction) and the bins it was measured in."""
    if label_set.is_multi_label:
        predicted_M, happened_M = probabilities_NL.ravel(), targets_NL.ravel()
    else:
        rows, likely_N = np.arange(len(probabilities_NL)), probabilities_NL.argmax(axis=1)
        predicted_M, happened_M = probabilities_NL[rows, likely_N], targets_NL[rows, likely_N]
    bins = reliability_bins(predicted_M, happened_M)
    result: dict[str, Any] = {
        "expected_calibration_error": expected_calibration_error(bins),
        "error_if_perfect": error_if_perfect(predicted_M),
        "bins": bins,
    }
    if label_set.is_multi_label:
        result["per_label"] = {
            name: expected_calibration_error(reliability_bins(probabilities_NL[:, label], targets_NL[:, label]))
            for label, name in enumerate(label_set.names)
        }
    return result


def reliability_bins(predicted_M: FloatArray, happened_M: FloatArray) -> list[dict[str, float]]:
    """Return, per bin of about equally many predictions, their count, mean probability and observed rate."""
    order = np.argsort(predicted_M, kind="stable")
    return [
        {"count": len(part), "predicted": float(predicted_M[part].mean()), "observed": float(happened_M[part].mean())}
        for part in np.array_split(order, min(BINS, max(len(order), 1)))
        if len(part)
    ]


def expected_calibration_error(bins: list[dict[str, float]]) -> float:
    """Return the mean distance between probability and rate, each bin weighed by its count."""
    total = sum(part["count"] for part in bins)
    return sum(part["count"] * abs(part["predicted"] - part["observed"]) for part in bins) / max(total, 1)


def error_if_perfect(predicted_M: FloatArray) -> float:
    """Return the mean error if every probability were true, and only the outcomes were left to chance."""
    generator = np.random.default_rng(0)
    return float(
        np.mean(
            [
                expected_calibration_error(
                    reliability_bins(predicted_M, (generator.random(len(predicted_M)) < predicted_M).astype(float))
                )
                for _ in range(DRAWS)
            ]
        )
    )
