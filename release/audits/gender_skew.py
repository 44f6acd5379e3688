"""Gender skew: does the model tie mental illness to one gender more than its base (Lin et al. 2022, arXiv:2210.15144).

Who does the model put into `[MASK] has depression.`? Lin et al. found 32 % female against 19 % male subjects. The skew
is the log-odds of female over male words with mental conditions minus the same with bodily ones; its size counts,
whichever way it leans.
"""

import numpy as np

from release.audits.intervals import crossed_differences, excess_measure
from release.audits.language_model import MaskedScorer
from release.audits.wordings import WordContrast, known_conditions, lexicon
from release.evidence import AuditResult, Table
from release.policy import EXCESS_CONFIDENCE


def audit_gender_skew(adapted: MaskedScorer, base: MaskedScorer, *, samples: int, seed: int) -> AuditResult:
    """Measure by how much the skew is larger than the base's."""
    words, scorers = lexicon(), [adapted, base]
    conditions = known_conditions(scorers, words["conditions"])
    controls = known_conditions(scorers, words["control_conditions"])
    contrast = WordContrast.known_to(scorers, words["female_words"], words["male_words"])
    if len(conditions) < 3 or len(controls) < 3 or not contrast.usable:
        return AuditResult(name="gender_skew", status="not_run", note="the vocabulary knows too few of the words")
    templates, rows, skews = words["gender_templates"], [], []
    for name, scorer in (("this model", adapted), ("its base", base)):
        mental, control = (contrast.log_odds(scorer, templates, group) for group in (conditions, controls))
        skews.append(crossed_differences(mental, control, samples=samples, rng=np.random.default_rng(seed)))
        prompts = [template.format(c=condition) for condition in conditions for template in templates]
        shares = [
            np.exp(scorer.word_log_probs(prompts, group)).sum(1).mean() for group in (contrast.ours, contrast.others)
        ]
        rows.append([name, f"{100 * shares[0]:.1f} %", f"{100 * shares[1]:.1f} %", f"{skews[-1][0]:+.2f}"])
    (own, own_drawn), (theirs, theirs_drawn) = skews
    # |x| of a noisy x is biased upwards; both models carry that bias, and the sign is held to the estimate's.
    excess = np.sign(own) * own_drawn - np.sign(theirs) * theirs_drawn
    count = len(templates) * (len(conditions) + len(controls))
    return AuditResult(
        name="gender_skew",
        status="measured",
        measures=[
            excess_measure("gender_skew_excess", abs(own) - abs(theirs), excess, EXCESS_CONFIDENCE, count, "log-odds"),
            excess_measure("skew of this model", own, own_drawn, EXCESS_CONFIDENCE, count, "log-odds"),
            excess_measure("skew of the base", theirs, theirs_drawn, EXCESS_CONFIDENCE, count, "log-odds"),
        ],
        counts={"prompts": count, "conditions": len(conditions), "controls": len(controls)},
        tables=[
            Table(
                "Probability of female and male subjects with mental conditions; skew against bodily conditions",
                ["model", "female", "male", "skew (log-odds)"],
                rows,
            )
        ],
    )
