"""Intervals: bootstrap over the things that could have been others (documents, conditions, templates, canaries).

B = resamples.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from release.evidence import Measure

Floats = npt.NDArray[np.float64]


def bootstrap_mean(
    name: str,
    values: Floats,
    *,
    confidence: float,
    samples: int,
    rng: np.random.Generator,
    clusters: list[str] | None = None,
    unit: str = "",
) -> Measure:
    """Percentile interval of a mean; with `clusters`, whole clusters are drawn (values within one go together)."""
    values = np.asarray(values, dtype=np.float64)
    if clusters is None:
        clusters = [str(number) for number in range(len(values))]
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(index, values, len(names)), np.bincount(index, minlength=len(names))
    weights = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), samples)
    means = (weights @ sums) / np.maximum(weights @ counts, 1e-12)
    return percentile_measure(name, float(values.mean()), means, confidence, len(values), unit)


def crossed_differences(
    mental: Floats, control: Floats, *, samples: int, rng: np.random.Generator
) -> tuple[float, Floats]:
    """Return mean(mental) - mean(control) and (B,) resamples of it.

    Conditions and templates are drawn independently of each other (the pigeonhole bootstrap of Owen 2007, which
    errs on the wide side): an effect must hold for other conditions and for other wordings, not only for more
    prompts of the same kind.

    Args:
        mental: (conditions, templates) scores.
        control: (control conditions, the same templates) scores.
        samples: B.
        rng: draws the resamples; pass generators of equal state to pair two models.
    """
    templates = _draw(rng, samples, mental.shape[1])
    means = []
    for scores in (mental, control):
        conditions = _draw(rng, samples, scores.shape[0])
        means.append(np.einsum("bc,ct,bt->b", conditions, scores, templates))
    return float(mental.mean() - control.mean()), means[0] - means[1]


def crossed_mean(scores: Floats, *, samples: int, rng: np.random.Generator) -> tuple[float, Floats]:
    """Return the mean of (conditions, templates) scores and (B,) resamples of it, drawn as in `crossed_differences`."""
    conditions, templates = (_draw(rng, samples, size) for size in scores.shape)
    return float(scores.mean()), np.einsum("bc,ct,bt->b", conditions, scores, templates)


def area_under_curve(positives: Floats, negatives: Floats) -> float:
    """Probability that a positive scores above a negative; ties count half (Mann and Whitney)."""
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, "left") + np.searchsorted(ordered, positives, "right")
    return float(below.mean() / (2 * len(negatives)))


def true_positive_rate(positives: Floats, negatives: Floats, false_positive_rate: float = 0.01) -> float:
    """Share of positives above the threshold that this share of negatives exceeds."""
    threshold = np.quantile(negatives, 1 - false_positive_rate, method="higher")
    return float((positives > threshold).mean())


def two_sample_measure(
    name: str,
    statistic: Callable[[Floats, Floats], float],
    positives: Floats,
    negatives: Floats,
    *,
    confidence: float,
    samples: int,
    rng: np.random.Generator,
) -> Measure:
    """Bootstrap interval of a statistic of two independent samples."""
    drawn = np.array(
        [
            statistic(rng.choice(positives, len(positives)), rng.choice(negatives, len(negatives)))
            for _ in range(samples)
        ]
    )
    count = len(positives) + len(negatives)
    return percentile_measure(name, statistic(positives, negatives), drawn, confidence, count, "")


def _draw(rng: np.random.Generator, samples: int, size: int) -> Floats:
    return rng.multinomial(size, np.full(size, 1 / size), samples) / size


def percentile_measure(name: str, estimate: float, drawn: Floats, confidence: float, count: int, unit: str) -> Measure:
    """Return a measure with the percentile interval of its (B,) resamples."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Measure(name, float(estimate), float(low), float(high), confidence, count, unit)
