"""Membership inference with reference models (Mireshghallah et al. 2022, arXiv:2203.03929).

Score of a document: how much likelier the model finds it than a reference does. Two references: the base model, and
a shadow model adapted in the same way on other documents, which knows the domain but not the members. An attack can
only be trusted if members and non-members are drawn alike, so a classifier that never sees the model tries to tell
them apart by their words; if it can, the audit is invalid, not passed (Duan et al. 2024, arXiv:2402.07841).

N = documents of a side.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from release.audits.documents import Document
from release.audits.intervals import area_under_curve, true_positive_rate, two_sample_measure
from release.audits.language_model import MaskedScorer
from release.evidence import AuditResult, Measure
from release.policy import ABSOLUTE_CONFIDENCE

Floats = npt.NDArray[np.float64]
FOLDS = 5


def audit_membership(
    adapted: MaskedScorer,
    references: dict[str, MaskedScorer],
    members: list[Document],
    non_members: list[Document],
    *,
    masks: int,
    max_tokens: int,
    samples: int,
    seed: int,
) -> AuditResult:
    """Attack with each reference model and check the design."""
    texts = [document.text for document in (*members, *non_members)]
    options = {"masks": masks, "max_tokens": max_tokens, "seed": seed}
    ours = adapted.text_log_likelihoods(texts, **options).log_likelihood
    is_member, rng = np.arange(len(texts)) < len(members), np.random.default_rng(seed)
    measures = [blind_measure(texts, is_member, author_groups([*members, *non_members]), rng=rng, samples=samples)]
    for name, reference in references.items():
        score = ours - reference.text_log_likelihoods(texts, **options).log_likelihood
        measures += attack_measures(score[is_member], score[~is_member], f"_against_{name}", samples=samples, rng=rng)
    return AuditResult(
        name="membership_inference",
        status="measured",
        measures=measures,
        counts={
            "members": len(members),
            "non_members": len(non_members),
            "known_authors": sum(1 for document in (*members, *non_members) if document.author_hash),
        },
    )


def attack_measures(
    members: Floats, non_members: Floats, suffix: str, *, samples: int, rng: np.random.Generator
) -> list[Measure]:
    """Return AUC and true-positive rate at 1 % false positives of a membership score."""
    options = {"confidence": ABSOLUTE_CONFIDENCE, "samples": samples, "rng": rng}
    return [
        two_sample_measure(f"auc{suffix}", area_under_curve, members, non_members, **options),  # type: ignore[arg-type]
        two_sample_measure(f"tpr{suffix}", true_positive_rate, members, non_members, **options),  # type: ignore[arg-type]
    ]


def blind_measure(
    texts: Sequence[str],
    is_member: npt.NDArray[np.bool_],
    groups: list[str],
    *,
    rng: np.random.Generator,
    samples: int,
) -> Measure:
    """AUC of a bag-of-words classifier that never sees the model, cross-validated over groups of authors."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    words = HashingVectorizer(n_features=2**15, alternate_sign=False).transform(texts)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
    scores = cross_val_predict(
        LogisticRegression(max_iter=300), words, is_member, groups=groups, cv=folds, method="decision_function"
    )
    return two_sample_measure(
        "blind_auc",
        area_under_curve,
        scores[is_member],
        scores[~is_member],
        confidence=ABSOLUTE_CONFIDENCE,
        samples=samples,
        rng=rng,
    )


def author_groups(documents: list[Document]) -> list[str]:
    """Return each document's author, or its own id where the author is unknown."""
    return [document.author_hash or f"document {document.id}" for document in documents]
