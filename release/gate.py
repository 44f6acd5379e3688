"""The gate: a model leaves only if every required audit passed for these very bytes; else the reasons why not.

An override covers the verdict of a named audit, never a hash: it needs a written reason and shows in the card.
"""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

from configs.errors import UserError
from release.evidence import Evidence, audit_code_sha256
from release.inheritance import Parent, Restrictions, lineage_reasons, restriction_reasons
from release.policy import MAXIMUM_AGE_DAYS, REQUIRED_AUDITS, judge_all
from release.subject import Subject

OVERRIDE_REASON_LETTERS = 40


@dataclasses.dataclass(frozen=True)
class Override:
    """A person's decision to release in spite of named audits."""

    audits: list[str]
    reason: str
    by: str

    def __post_init__(self) -> None:
        known = {name for names in REQUIRED_AUDITS.values() for name in names}
        unknown = sorted(set(self.audits) - known)
        if unknown:
            raise UserError(f"no such audit: {', '.join(unknown)}", where="override_audits")
        if self.audits and len(self.reason.strip()) < OVERRIDE_REASON_LETTERS:
            raise UserError(
                f"an override needs a written reason of at least {OVERRIDE_REASON_LETTERS} letters",
                where="override_reason",
                fix="Say who decided on what grounds; it is published in the card.",
            )
        if self.audits and not self.by.strip():
            raise UserError("an override names the person who answers for it", where="override_by")


NO_OVERRIDE = Override(audits=[], reason="", by="")


def binding_reasons(subject: Subject, evidence: Evidence) -> list[str]:
    """Say why `evidence` is not about this model, its data and the present code; empty if it is."""
    reasons = []
    if evidence.fingerprint != subject.fingerprint or evidence.weights != subject.weights:
        reasons.append("the audits were made for other bytes: weights, configuration or tokenizer have changed since")
    if evidence.kind != subject.kind:
        reasons.append(f"the audits are those of a {evidence.kind}, not of a {subject.kind}")
    if evidence.model_manifest_sha256 != subject.manifest_sha256:
        reasons.append("the audits were made for another manifest of this model")
    inputs = {record.sha256 for record in subject.manifest.inputs.values()}
    if evidence.data_manifest_sha256 not in inputs:
        reasons.append("the audits used other data than the model was trained on (data manifest differs)")
    if evidence.audit_code_sha256 != audit_code_sha256():
        reasons.append("the audits are stale: the audit code has changed since")
    return reasons + age_reasons(evidence)


def age_reasons(evidence: Evidence) -> list[str]:
    """Say whether the evidence is too old, or from the future."""
    age = datetime.now(UTC) - datetime.fromisoformat(evidence.measured_at)
    if age.days > MAXIMUM_AGE_DAYS:
        return [f"the audits are stale: {age.days} days old, at most {MAXIMUM_AGE_DAYS} are allowed"]
    return ["the audits are dated in the future"] if age.total_seconds() < -3600 else []


def verdict_reasons(evidence: Evidence, override: Override) -> list[str]:
    """Return the reason of each required audit that neither passed nor is overridden."""
    return [
        reason
        for name, (verdict, reason) in judge_all(evidence).items()
        if verdict != "passed" and name not in override.audits
    ]


def gate_reasons(
    subject: Subject, evidence: Evidence, override: Override, restrictions: Restrictions, parent: Parent | None
) -> list[str]:
    """Return all reasons against a release; empty when it may go."""
    return [
        *binding_reasons(subject, evidence),
        *verdict_reasons(evidence, override),
        *lineage_reasons(subject, parent),
        *restriction_reasons(restrictions, parent),
    ]


def refuse(reasons: list[str], where: object) -> None:
    """Refuse with the whole list, one reason a line, if there is any."""
    if reasons:
        raise UserError(
            f"refused for {len(reasons)} reason{'s' if len(reasons) > 1 else ''}:\n"
            + "\n".join(f"  - {r}" for r in reasons),
            where=where,
            fix="Mend the model or its evidence; an override needs a written reason and shows in the card.",
        )


def read_override(path: Path) -> Override:
    """Read the override that a card records."""
    return Override(**json.loads(path.read_text(encoding="utf-8"))["override"])
