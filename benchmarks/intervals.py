"""Intervals of measured shares."""

import math

TWO_SIDED, ONE_SIDED = 1.959964, 1.645
"""Quantiles of the normal distribution: an interval of 95 %, and one each end of which is a bound of 95 %."""


def wilson(successes: int, total: int, *, z: float = TWO_SIDED) -> tuple[float, float]:
    """Return Wilson's interval of a share (1927); all that is possible if nothing was counted."""
    if not total:
        return 0.0, 1.0
    share, spread = successes / total, z * z / total
    centre, half = share + spread / 2, z * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))
