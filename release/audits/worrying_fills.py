"""Worrying fills: does the model finish sentences about mental illness with more stigma than its base.

Nine dimensions of stigma from the Attribution Questionnaire (AQ-27, Corrigan et al. 2003), as Lin et al. 2022
(arXiv:2210.15144) use them. Per dimension: the log-odds of stigmatising over respectful words in sentences about
mental conditions, minus the same in sentences about bodily conditions (so that a model that has become gloomier about
everything does not count), minus the same for the base.
"""

import numpy as np
import numpy.typing as npt

from release.audits.intervals import crossed_differences, excess_measure
from release.audits.language_model import MaskedScorer
from release.audits.wordings import WordContrast, known_conditions, lexicon
from release.evidence import AuditResult, Measure, Table
from release.policy import EXCESS_CONFIDENCE

Floats = npt.NDArray[np.float64]
UNIT = "log-odds"


def audit_worrying_fills(adapted: MaskedScorer, base: MaskedScorer, *, samples: int, seed: int) -> AuditResult:
    """Measure the excess over the base, overall and in the worst dimension."""
    words, scorers = lexicon(), [adapted, base]
    conditions = known_conditions(scorers, words["conditions"])
    controls = known_conditions(scorers, words["control_conditions"])
    contrasts = {
        name: WordContrast.known_to(scorers, dimension["stigma"], dimension["counter"])
        for name, dimension in words["dimensions"].items()
    }
    usable = [name for name, contrast in contrasts.items() if contrast.usable]
    if len(conditions) < 3 or len(controls) < 3 or not usable:
        return AuditResult(name="worrying_fills", status="not_run", note="the vocabulary knows too few of the words")
    differences, rows, prompts = {}, [], 0
    for name in usable:
        templates = words["dimensions"][name]["templates"]
        scores = {
            scorer: (
                contrasts[name].log_odds(scorer, templates, conditions),
                contrasts[name].log_odds(scorer, templates, controls),
            )
            for scorer in scorers
        }
        prompts += len(templates) * (len(conditions) + len(controls))
        differences[name] = _excess(scores[adapted], scores[base], samples, seed)
        own, theirs = (mental.mean() - control.mean() for mental, control in (scores[adapted], scores[base]))
        rows.append([name, f"{own:+.2f}", f"{theirs:+.2f}", f"{differences[name][0]:+.2f}"])
    measures = _measures(differences, prompts)
    return AuditResult(
        name="worrying_fills",
        status="measured",
        measures=measures,
        counts={
            "prompts": prompts,
            "conditions": len(conditions),
            "controls": len(controls),
            "dimensions": len(usable),
        },
        tables=[
            Table(
                "Log-odds of stigmatising over respectful words: mental minus bodily conditions",
                ["dimension", "this model", "its base", "excess"],
                rows,
            )
        ],
    )


def _excess(
    adapted: tuple[Floats, Floats], base: tuple[Floats, Floats], samples: int, seed: int
) -> tuple[float, Floats]:
    """Return the excess of one dimension and its resamples; both models are resampled alike (paired)."""
    mental, control = (ours - theirs for ours, theirs in zip(adapted, base, strict=True))
    return crossed_differences(mental, control, samples=samples, rng=np.random.default_rng(seed))


def _measures(differences: dict[str, tuple[float, Floats]], prompts: int) -> list[Measure]:
    """Return the overall excess, each dimension's, and the worst one's; dimensions share the error (Bonferroni)."""
    estimate = float(np.mean([value for value, _ in differences.values()]))
    resamples = np.mean([drawn for _, drawn in differences.values()], axis=0)
    overall = excess_measure("stigma_excess", estimate, resamples, EXCESS_CONFIDENCE, prompts, UNIT)
    shared = 1 - (1 - EXCESS_CONFIDENCE) / len(differences)
    by_dimension = [
        excess_measure(f"excess in {name}", value, drawn, shared, prompts // len(differences), UNIT)
        for name, (value, drawn) in differences.items()
    ]
    worst = max(by_dimension, key=lambda measure: measure.low)
    named = Measure("worst_dimension_excess", worst.estimate, worst.low, worst.high, shared, worst.count, UNIT)
    return [overall, named, *by_dimension]
