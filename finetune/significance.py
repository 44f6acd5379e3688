"""Is one model better than another, or luckier? Paired tests over seeds, tasks and test texts.

The same seed of two models makes a pair. Per task, a bootstrap draws clusters of test texts and seeds anew and
asks how often the difference keeps its sign; Holm's method (1979) corrects for the number of tasks. Pooled, the same
bootstrap draws texts and seeds of every task on its own, and signs of the paired differences are flipped at random
(approximate randomization, Noreen 1989). Flipping takes the seeds of a task for independent although they share its
test texts, and alone would find a difference too easily: the larger of the two p-values counts.

S = seeds, R = resamples, D = paired differences.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from finetune.tasks import FloatArray

FLIPS = 20_000
EXACT_FLIPS_UP_TO = 14  # 2^14 sign patterns are fewer than FLIPS


class Difference(NamedTuple):
    """A mean difference, its 95 % interval and its two-sided p-value."""

    mean: float
    low: float
    high: float
    p_value: float


def resample_differences(ours_SR: FloatArray, theirs_SR: FloatArray, *, seed: int | Sequence[int]) -> FloatArray:
    """Return (1 + R,) mean differences of two models on one task: as measured, then with texts and seeds drawn anew.

    Means of S values that are drawn from S values scatter less than means of S new seeds would, by a factor of
    sqrt((S - 1) / S), which matters for the few seeds that anybody trains: that part is widened accordingly.

    Args:
        ours_SR: (S, 1 + R) the figure of each seed: on the test split, then on R resamples of its clusters.
        theirs_SR: the other model's; column r holds the same resample for both.
        seed: draws the seeds; another one for every task of a mean, or all would draw the same seeds.
    """
    difference_SR = ours_SR - theirs_SR
    seeds, columns = difference_SR.shape
    drawn = np.random.default_rng(seed).integers(0, seeds, size=(seeds, columns - 1))
    by_text_R = difference_SR[:, 1:].mean(axis=0)
    by_seed_R = np.take_along_axis(difference_SR[:, 1:], drawn, axis=0).mean(axis=0) - by_text_R
    widened = math.sqrt(seeds / max(1, seeds - 1))
    return np.concatenate([[difference_SR[:, 0].mean()], by_text_R + widened * by_seed_R])


def difference_of(differences_R: FloatArray) -> Difference:
    """Sum up what `resample_differences` returned, or the mean of several tasks' of one length."""
    resampled_R = differences_R[1:]
    below, above = (resampled_R <= 0).sum(), (resampled_R >= 0).sum()
    p_value = min(1.0, 2 * (min(below, above) + 1) / (len(resampled_R) + 1))
    low, high = np.quantile(resampled_R, [0.025, 0.975])
    return Difference(float(differences_R[0]), float(low), float(high), float(p_value))


def randomization_test(differences_D: FloatArray, *, seed: int) -> float:
    """Return the two-sided p-value of a mean of paired differences under random signs (exact for few pairs)."""
    pairs = len(differences_D)
    observed = abs(differences_D.mean())
    if pairs <= EXACT_FLIPS_UP_TO:
        patterns = (np.arange(2**pairs)[:, None] >> np.arange(pairs)) & 1
        means = (differences_D * (1 - 2 * patterns)).mean(axis=1)
        return float((np.abs(means) >= observed - 1e-12).mean())
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(FLIPS, pairs))
    extreme = (np.abs((signs * differences_D).mean(axis=1)) >= observed - 1e-12).sum()
    return float((extreme + 1) / (FLIPS + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method, in their order."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.zeros(len(p_values))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected.tolist()
