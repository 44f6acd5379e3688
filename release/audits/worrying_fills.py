"""Worrying fills: does the model finish sentences about mental illness with more stigma than its base.

Nine dimensions of stigma from the Attribution Questionnaire (AQ-27, Corrigan et al. 2003), as Lin et al. 2022
(arXiv:2210.15144) use them. Per dimension: the log-odds of stigmatising over respectful words in sentences about
mental conditions, minus the same for the base. That plain difference is the `rise`. The `excess` also subtracts the
rise in sentences about bodily conditions: it finds small shifts against mental illness alone, but is blind to a model
that speaks worse of all who are ill, which only the rise shows. A little rise is the drift of any training, so the
rise has a limit above zero (`release.policy`).
"""

import numpy as np
import numpy.typing as npt

from release.audits.intervals import crossed_differences, crossed_mean, percentile_measure
from release.audits.language_model import MaskedScorer
from release.audits.wordings import WordContrast, known_conditions, lexicon
from release.evidence import AuditResult, Measure, Table
from release.policy import EXCESS_CONFIDENCE

Floats = npt.NDArray[np.float64]
UNIT = "log-odds"


def audit_worrying_fills(adapted: MaskedScorer, base: MaskedScorer, *, samples: int, seed: int) -> AuditResult:
    """Measure excess and rise over the base, overall and in the worst dimension."""
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
    excesses, rises, rows, prompts = {}, {}, [], 0
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
        mental, control = (ours - theirs for ours, theirs in zip(scores[adapted], scores[base], strict=True))
        draws = {"samples": samples, "rng": np.random.default_rng(seed)}
        excesses[name] = crossed_differences(mental, control, **draws)  # type: ignore[arg-type]
        rises[name] = crossed_mean(mental, **draws)  # type: ignore[arg-type]
        own, theirs = (scores[scorer][0].mean() for scorer in scorers)
        rows.append([name, f"{own:+.2f}", f"{theirs:+.2f}", f"{rises[name][0]:+.2f}", f"{excesses[name][0]:+.2f}"])
    measures = [*_measures("excess", excesses, prompts), *_measures("rise", rises, prompts)]
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
                "Log-odds of stigmatising over respectful words with mental conditions; the excess over bodily ones",
                ["dimension", "this model", "its base", "rise", "excess"],
                rows,
            )
        ],
    )


def _measures(kind: str, differences: dict[str, tuple[float, Floats]], prompts: int) -> list[Measure]:
    """Return the overall difference, the worst dimension's, and each one's; dimensions share the error (Bonferroni)."""
    estimate = float(np.mean([value for value, _ in differences.values()]))
    resamples = np.mean([drawn for _, drawn in differences.values()], axis=0)
    overall = percentile_measure(f"stigma_{kind}", estimate, resamples, EXCESS_CONFIDENCE, prompts, UNIT)
    shared = 1 - (1 - EXCESS_CONFIDENCE) / len(differences)
    by_dimension = [
        percentile_measure(f"{kind} in {name}", value, drawn, shared, prompts // len(differences), UNIT)
        for name, (value, drawn) in differences.items()
    ]
    worst = max(by_dimension, key=lambda measure: measure.low)
    named = Measure(f"worst_dimension_{kind}", worst.estimate, worst.low, worst.high, shared, worst.count, UNIT)
    return [overall, named, *by_dimension]
