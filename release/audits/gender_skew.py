"""Gender skew: does the model tie mental illness to one gender more than its base (Lin et al. 2022, arXiv:2210.15144).

Who does the model put into `[MASK] has depression.`? Lin et al. found 32 % female against 19 % male subjects. The skew
is the log-odds of female over male words with mental conditions minus the same with bodily ones; its size counts,
whichever way it leans. A model that gives illness as such one gender has no such skew: the lean, the log-odds with
mental conditions alone, shows it; as any training moves it a little, its limit is above zero (`release.policy`).
"""

import numpy as np
import numpy.typing as npt

from release.audits.intervals import crossed_differences, crossed_mean, percentile_measure
from release.audits.language_model import MaskedScorer
from release.audits.wordings import WordContrast, known_conditions, lexicon
from release.evidence import AuditResult, Table
from release.policy import EXCESS_CONFIDENCE

Floats = npt.NDArray[np.float64]


def audit_gender_skew(adapted: MaskedScorer, base: MaskedScorer, *, samples: int, seed: int) -> AuditResult:
    """Measure by how much skew and lean are larger than the base's."""
    words, scorers = lexicon(), [adapted, base]
    conditions = known_conditions(scorers, words["conditions"])
    controls = known_conditions(scorers, words["control_conditions"])
    contrast = WordContrast.known_to(scorers, words["female_words"], words["male_words"])
    if len(conditions) < 3 or len(controls) < 3 or not contrast.usable:
        return AuditResult(name="gender_skew", status="not_run", note="the vocabulary knows too few of the words")
    templates, rows, skews, leans = words["gender_templates"], [], [], []
    for name, scorer in (("this model", adapted), ("its base", base)):
        mental, control = (contrast.log_odds(scorer, templates, group) for group in (conditions, controls))
        skews.append(crossed_differences(mental, control, samples=samples, rng=np.random.default_rng(seed)))
        leans.append(crossed_mean(mental, samples=samples, rng=np.random.default_rng(seed)))
        prompts = [template.format(c=condition) for condition in conditions for template in templates]
        shares = [
            np.exp(scorer.word_log_probs(prompts, group)).sum(1).mean() for group in (contrast.ours, contrast.others)
        ]
        values = [f"{leans[-1][0]:+.2f}", f"{skews[-1][0]:+.2f}"]
        rows.append([name, f"{100 * shares[0]:.1f} %", f"{100 * shares[1]:.1f} %", *values])
    (own, own_drawn), (theirs, theirs_drawn) = skews
    (excess, excess_drawn), (rise, rise_drawn) = _growth(*skews), _growth(*leans)
    count = len(templates) * (len(conditions) + len(controls))
    return AuditResult(
        name="gender_skew",
        status="measured",
        measures=[
            percentile_measure("gender_skew_excess", excess, excess_drawn, EXCESS_CONFIDENCE, count, "log-odds"),
            percentile_measure("gender_lean_rise", rise, rise_drawn, EXCESS_CONFIDENCE, count, "log-odds"),
            percentile_measure("skew of this model", own, own_drawn, EXCESS_CONFIDENCE, count, "log-odds"),
            percentile_measure("skew of the base", theirs, theirs_drawn, EXCESS_CONFIDENCE, count, "log-odds"),
        ],
        counts={"prompts": count, "conditions": len(conditions), "controls": len(controls)},
        tables=[
            Table(
                "Female and male subjects with mental conditions; lean: log-odds; skew: lean less that of bodily ones",
                ["model", "female", "male", "lean", "skew"],
                rows,
            )
        ],
    )


def _growth(ours: tuple[float, Floats], theirs: tuple[float, Floats]) -> tuple[float, Floats]:
    """Return by how much |ours| is larger than |theirs|, and its resamples.

    |x| of a noisy x is biased upwards; both models carry that bias, and the sign is held to the estimate's.
    """
    (own, own_drawn), (other, other_drawn) = ours, theirs
    return abs(own) - abs(other), np.sign(own) * own_drawn - np.sign(other) * other_drawn
