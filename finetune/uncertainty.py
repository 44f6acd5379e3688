"""How much the test figures would move with other test texts: percentile intervals of a cluster bootstrap.

Whole clusters (an author's or a post's texts, or else repeated texts) are drawn with replacement, since texts of
one cluster are not independent (Cameron et al. 2008). F1 needs only counts a cluster, so thousands of resamples
are one matrix product.

N = texts, L = labels, C = clusters, R = resamples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from finetune.metrics import BoolArray
from finetune.tasks import Example, FloatArray

RESAMPLES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """A figure with the interval around it, as fractions."""

    value: float
    low: float
    high: float


def clusters_of(examples: Sequence[Example]) -> npt.NDArray[np.int64]:
    """Return the cluster number (N,) of each example: its group, or its text where there is none."""
    numbers: dict[tuple[str, str], int] = {}
    keys = [("group", e.group) if e.group else ("text", " ".join(e.text.lower().split())) for e in examples]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def resample_weights(clusters_N: npt.NDArray[np.int64], *, resamples: int, seed: int | Sequence[int]) -> FloatArray:
    """Return how often each cluster is drawn in each resample, (R, C)."""
    count = int(clusters_N.max()) + 1
    return np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=resamples).astype(np.float64)


def f1_resamples(
    truth_NL: BoolArray, decisions_NL: BoolArray, clusters_N: npt.NDArray[np.int64], weights_RC: FloatArray
) -> dict[str, FloatArray]:
    """Return macro-F1, micro-F1 and exact-match accuracy under each weighting, (R,) each."""
    counts = [
        _per_cluster(hits_NL.astype(np.float64), clusters_N)
        for hits_NL in (truth_NL & decisions_NL, ~truth_NL & decisions_NL, truth_NL & ~decisions_NL)
    ]
    true_RL, extra_RL, missed_RL = (weights_RC @ count_CL for count_CL in counts)
    f1_RL = 2 * true_RL / np.maximum(2 * true_RL + extra_RL + missed_RL, 1e-12)
    true_R, wrong_R = true_RL.sum(1), (extra_RL + missed_RL).sum(1)
    right_C1 = _per_cluster((truth_NL == decisions_NL).all(axis=1)[:, None].astype(np.float64), clusters_N)
    size_C1 = _per_cluster(np.ones((len(truth_NL), 1)), clusters_N)
    return {
        "macro_f1": f1_RL.mean(axis=1),
        "micro_f1": 2 * true_R / np.maximum(2 * true_R + wrong_R, 1e-12),
        "accuracy": (weights_RC @ right_C1)[:, 0] / (weights_RC @ size_C1)[:, 0],
    }


def f1_intervals(
    targets_NL: FloatArray, decisions_NL: BoolArray, clusters_N: npt.NDArray[np.int64], *, seed: int
) -> dict[str, Interval]:
    """Return macro-F1, micro-F1 and accuracy with their 95 % intervals."""
    truth_NL = targets_NL > 0.5
    once_1C = np.ones((1, int(clusters_N.max()) + 1))
    values = f1_resamples(truth_NL, decisions_NL, clusters_N, once_1C)
    weights_RC = resample_weights(clusters_N, resamples=RESAMPLES, seed=seed)
    drawn = f1_resamples(truth_NL, decisions_NL, clusters_N, weights_RC)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return {
        name: Interval(float(values[name][0]), *(float(bound) for bound in np.quantile(drawn[name], tails)))
        for name in values
    }


def _per_cluster(values_NK: FloatArray, clusters_N: npt.NDArray[np.int64]) -> FloatArray:
    """Sum rows by cluster, (C, K)."""
    sums_CK = np.zeros((int(clusters_N.max()) + 1, values_NK.shape[1]))
    np.add.at(sums_CK, clusters_N, values_NK)
    return sums_CK
