"""How much privacy noised steps cost: the accountant of DP-SGD.

One step adds Gaussian noise to a sum over units that are drawn at random, each with probability q: the sampled Gaussian
mechanism. Its Rényi divergence of order α is that of a mixture from a Gaussian (Mironov, Talwar & Zhang,
arXiv:1908.10530 §3.3), integrated here by the trapezoid rule, which converges geometrically for such integrands. Steps
add up, and the sum becomes (ε, δ) by Balle et al. (arXiv:1905.09982, theorem 21). Orders and conversion are those of
opacus, whose figures the tests compare with; it is no dependency, since its wheel brings a top-level `benchmarks`.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from configs.errors import UserError

FloatArray = npt.NDArray[np.float64]
ORDERS: FloatArray = np.array([1 + tenths / 10 for tenths in range(1, 100)] + list(range(12, 64)), dtype=np.float64)
REACH, POINTS_PER_DEVIATION = 12, 32
LEAST_NOISE, MOST_NOISE = 0.2, 1000.0


def renyi_divergence(noise_multiplier: float, sample_rate: float) -> FloatArray:
    """Return the divergence of one step at each of `ORDERS`.

    Args:
        noise_multiplier: standard deviation of the noise over the largest norm of a unit's part.
        sample_rate: probability q of a unit to be in a step.
    """
    variance = noise_multiplier**2
    if sample_rate == 1.0:
        return ORDERS / (2 * variance)
    width = noise_multiplier / POINTS_PER_DEVIATION
    z = np.arange(-REACH * noise_multiplier, ORDERS[-1] + REACH * noise_multiplier, width)
    log_density = -(z**2) / (2 * variance) - 0.5 * math.log(2 * math.pi * variance)
    log_ratio = np.logaddexp(math.log1p(-sample_rate), math.log(sample_rate) + (2 * z - 1) / (2 * variance))
    log_moments = logsumexp(log_density + ORDERS[:, None] * log_ratio, axis=1) + math.log(width)
    divergence: FloatArray = np.maximum(log_moments, 0.0) / (ORDERS - 1)
    return divergence


def epsilon_of(divergence: FloatArray, steps: int, delta: float) -> float:
    """Return ε after that many steps of the given divergence, at δ."""
    if steps == 0:
        return 0.0
    found = steps * divergence + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float(found.min()))


def describe(privacy: dict[str, Any]) -> str:
    """Return the guarantee of `evaluation.json` in a sentence, and in another what its base leaves open."""
    unknown = privacy.get("base_without_author", 0)
    rest = f". The base had read {unknown:,} documents of unknown authors, whom it does not cover" if unknown else ""
    alone = f", {privacy['without_author']:,} of them lone documents of unknown authors"
    return (
        f"Differential privacy of each {privacy['unit']} of the training texts: ε = {privacy['epsilon']:.3f} at "
        f"δ = {privacy['delta']:.2e} (RDP accountant; noise multiplier {privacy['noise_multiplier']:g}, clipping norm "
        f"{privacy['max_grad_norm']:g}, sampling rate {privacy['sample_rate']:.5f}, {privacy['noised_steps']:,} steps, "
        f"{privacy['units']:,} {privacy['unit']}s{alone if privacy['without_author'] else ''}){rest}"
    )


def noise_for(epsilon: float, *, sample_rate: float, steps: int, delta: float) -> float:
    """Return the smallest noise multiplier, to a thousandth, that spends at most `epsilon`.

    Raises:
        UserError: no reasonable noise does.
    """
    low, high = LEAST_NOISE, MOST_NOISE
    if epsilon_of(renyi_divergence(high, sample_rate), steps, delta) > epsilon:
        raise UserError(
            f"no noise keeps {steps:,} steps within ε = {epsilon:g} at δ = {delta:.1e}",
            where="dp_epsilon",
            fix="Raise it, or train for fewer steps.",
        )
    while high - low > 1e-4:
        middle = (low + high) / 2
        if epsilon_of(renyi_divergence(middle, sample_rate), steps, delta) > epsilon:
            low = middle
        else:
            high = middle
    return math.ceil(high * 1000) / 1000
