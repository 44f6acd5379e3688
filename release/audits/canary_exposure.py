"""Canary exposure (Carlini et al. 2019, The Secret Sharer, arXiv:1802.08232), ranked by masked pseudo-log-likelihood.

The corpus stage plants random sentences a known number of times, and keeps others of the same make that it never
plants. A model that remembers nothing ranks planted ones among the others at random: the mean exposure,
log2(N + 1) - log2(rank), is then about 1/ln 2 = 1.44 bits. Canaries are ranked by their log-likelihood, less what the
base's log-likelihood predicts of it (a regression over all canaries, which does not know which were planted): that
takes out how easy each sentence is by itself. The plain difference to the base would add the base's own noise and saw
memories of 16 copies no better than a coin would (docs/experiments.md).

N = canaries never planted (controls), K = planted canaries of a band.
"""

import numpy as np
import numpy.typing as npt

from release.audits.documents import Canary
from release.audits.language_model import MaskedScorer
from release.evidence import AuditResult, Measure, Table
from release.policy import EXCESS_CONFIDENCE

Floats = npt.NDArray[np.float64]
BANDS = (0, 1, 4)
PERMUTATIONS = 5000
DIVISIONS = 3
"""Each canary is scored under so many random divisions into masks, which evens out their luck."""


def audit_canaries(adapted: MaskedScorer, base: MaskedScorer, canaries: list[Canary], *, seed: int) -> AuditResult:
    """Measure the mean exposure of each band."""
    bands = sorted({canary.repeats for canary in canaries})
    if 0 not in bands or len(bands) < 2:
        return AuditResult(name="canary_exposure", status="not_run", note="no canaries were planted")
    texts = [canary.text for canary in canaries]
    (ours, our_hits), (theirs, their_hits) = (_scores(scorer, texts, seed) for scorer in (adapted, base))
    scores, repeats = without_predicted(ours, theirs), np.array([canary.repeats for canary in canaries])
    is_control, rng = repeats == 0, np.random.default_rng(seed)
    measures, rows = [], []
    for band in bands:
        chosen = repeats == band
        rows.append(
            [
                f"{band}×",
                f"{chosen.sum()}",
                f"{exposures(ours[chosen], ours[is_control], band == 0).mean():.2f}",
                f"{exposures(scores[chosen], scores[is_control], band == 0).mean():.2f}",
                f"{100 * our_hits[chosen].mean():.1f} %",
                f"{100 * their_hits[chosen].mean():.1f} %",
            ]
        )
        if band:
            measures += exposure_measures(f"exposure_{band}x", scores[chosen], scores[is_control], rng)
    columns = ["repeats", "canaries", "exposure, plain", "exposure given the base", "tokens guessed", "by the base"]
    return AuditResult(
        name="canary_exposure",
        status="measured",
        measures=measures,
        counts={f"canaries_{band}x": int((repeats == band).sum()) for band in {*BANDS, *bands}},
        tables=[Table("Mean exposure in bits by how often a canary was planted", columns, rows)],
    )


def _scores(scorer: MaskedScorer, texts: list[str], seed: int) -> tuple[Floats, Floats]:
    """Return each text's log-likelihood and share of tokens guessed, both over several divisions into masks."""
    found = [scorer.text_log_likelihoods(texts, seed=seed + division) for division in range(DIVISIONS)]
    return np.mean([f.log_likelihood for f in found], axis=0), np.mean([f.recovered for f in found], axis=0)


def without_predicted(ours: Floats, theirs: Floats) -> Floats:
    """Return what is left of `ours` after least squares on `theirs`.

    Rounded, so that a model held against itself leaves ties, not the noise of the arithmetic.
    """
    known = np.stack([np.ones_like(theirs), theirs], axis=1)
    left: Floats = np.round(ours - known @ np.linalg.lstsq(known, ours, rcond=None)[0], 9)
    return left


def exposures(planted: Floats, controls: Floats, among_controls: bool = False) -> Floats:
    """Return each score's exposure in bits among the controls; a control is ranked among the other ones.

    Tied scores share the middle of their ranks: the base held against itself gains nothing anywhere, and is no leak.
    """
    others = len(controls) - int(among_controls)
    ties = (controls[None, :] == planted[:, None]).sum(1) - int(among_controls)  # a control ties with itself
    ranks = 1 + (controls[None, :] > planted[:, None]).sum(1) + ties / 2
    result: Floats = np.log2(others + 1) - np.log2(ranks)
    return result


def exposure_measures(name: str, planted: Floats, controls: Floats, rng: np.random.Generator) -> list[Measure]:
    """Return the mean exposure and its excess over chance.

    The interval is that of a permutation test: planted and control canaries are exchangeable if nothing was
    remembered, so relabelling them at random shows what chance does with exactly these scores.
    """
    observed = float(exposures(planted, controls).mean())
    # Only the order counts: shuffle which places of the common ranking the planted ones take.
    is_planted = rng.permuted(
        np.tile(np.arange(len(planted) + len(controls)) < len(planted), (PERMUTATIONS, 1)), axis=1
    )
    bits = np.log2(len(controls) + 1) - np.log2(1 + np.cumsum(~is_planted, axis=1))
    chance = (bits * is_planted).sum(1) / len(planted)
    quantiles = np.quantile(chance, [(1 - EXCESS_CONFIDENCE) / 2, 0.5, (1 + EXCESS_CONFIDENCE) / 2])
    low, middle, high = (float(quantile) for quantile in quantiles)
    spread = (observed - (high - middle), observed - (low - middle))
    count = len(planted)
    return [
        Measure(name, observed, spread[0], spread[1], EXCESS_CONFIDENCE, count, "bits"),
        Measure(f"{name}_excess", observed - middle, observed - high, observed - low, EXCESS_CONFIDENCE, count, "bits"),
    ]
