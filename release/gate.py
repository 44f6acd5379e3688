"""The gate: a model leaves only if every required audit passed for these very bytes; else the reasons why not.

An override covers the verdict of a named audit, never a hash: it needs a written reason and shows in the card.
"""

from datetime import UTC, datetime

from configs.base_models import PACKAGE_PREFIX
from configs.errors import UserError
from configs.lineage import Lineage, recorded_manifest, trace_lineage
from configs.manifest import Manifest
from release.evidence import Evidence, audit_code_sha256
from release.inheritance import Parent, is_release, lineage_reasons, restriction_reasons
from release.override import Override
from release.policy import MAXIMUM_AGE_DAYS, judge_all
from release.repository import CardRecord
from release.subject import Subject


def binding_reasons(subject: Subject, evidence: Evidence, lineage: Lineage) -> list[str]:
    """Say why `evidence` is not about this model, its data and the present code; empty if it is."""
    reasons = []
    if evidence.fingerprint != subject.fingerprint or evidence.weights != subject.weights:
        reasons.append("the audits were made for other bytes: weights, configuration or tokenizer have changed since")
    if evidence.kind != subject.kind:
        reasons.append(f"the audits are those of a {evidence.kind}, not of a {subject.kind}")
    if evidence.model_manifest_sha256 != subject.manifest_sha256:
        reasons.append("the audits were made for another manifest of this model")
    if not evidence.data_sha256 or not lineage.data.keys() >= set(evidence.data_sha256):
        reasons.append("the audits used other data than the model was trained on (data manifest differs)")
    if evidence.audit_code_sha256 != audit_code_sha256():
        reasons.append("the audits are stale: the audit code has changed since")
    return reasons + age_reasons(evidence)


def base_reasons(subject: Subject, evidence: Evidence, lineage: Lineage, parent: Parent | None) -> list[str]:
    """Say why the base that the audits compared with tells nothing; empty if it does.

    Compared with itself, or with a checkpoint that has seen the same data, every model passes.
    """
    if evidence.base_fingerprint == subject.fingerprint:
        return ["the audits compared the model with itself"]
    base = lineage.ancestors.get(evidence.base_sha256)
    if base is None:
        is_known = not evidence.base_sha256 and evidence.base_model in lineage.public_names
        return [] if is_known else [f"the audits compared with {evidence.base_model}, which it does not come from"]
    manifest = recorded_manifest(base) if base.has_manifest else None
    seen = set() if manifest is None else set(trace_lineage(manifest).data)
    if parent is not None and is_release(base, parent):
        seen |= set(parent.data_sha256)
    if seen & set(evidence.data_sha256):
        return [f"the audits compared with {evidence.base_model}, which was trained on the audited data itself"]
    return []


def base_name_reasons(card: CardRecord, lineage: Lineage, parent: Parent | None) -> list[str]:
    """Say why the base that the card names, and so the Hub, is not the model's; empty if it is, or nobody knows."""
    name = card.base_model
    if parent is not None:
        if name not in {parent.base_model, *lineage.public_names} or name.rpartition("/")[2] == parent.name:
            return []
        return [f"the card names {name} as its base, but it is built from {parent.name}: name that one's repository"]
    known = {base for base in lineage.public_names if not base.startswith(PACKAGE_PREFIX)} | set(card.public_bases)
    # The Hub also finds its oldest models without their owner.
    if not known or any(name == base or name.endswith(f"/{base}") for base in known):
        return []
    return [f"the card names {name} as its base, but it comes from {', '.join(sorted(known))}"]


def changed_input_reasons(subject: Subject, audits: Manifest, lineage: Lineage) -> list[str]:
    """Say what was made from inputs that no longer matched their manifests: its own hashes then prove nothing."""
    made = {"the model": subject.manifest, "the audit folder": audits}
    names = [*(name for name, manifest in made.items() if manifest.accepted), *lineage.changed]
    return [f"{name} was made from inputs that had changed (accept_changed_inputs)" for name in names]


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
    subject: Subject,
    evidence: Evidence,
    card: CardRecord,
    parent: Parent | None,
    *,
    audits: Manifest,
) -> list[str]:
    """Return all reasons against a release; empty when it may go.

    Args:
        subject: the model.
        evidence: what its audits measured.
        card: what its card states: the terms it is to leave under, verdicts that a person answers for, public bases.
        parent: the release it is built from, if there is one.
        audits: manifest of the folder that the evidence lies in.
    """
    lineage = trace_lineage(subject.manifest)
    return [
        *binding_reasons(subject, evidence, lineage),
        *base_reasons(subject, evidence, lineage, parent),
        *changed_input_reasons(subject, audits, lineage),
        *(f"its lineage cannot be followed: {gap}" for gap in lineage.gaps),
        *verdict_reasons(evidence, card.override),
        *lineage_reasons(subject, parent, audited=evidence.data_sha256, public_bases=card.public_bases),
        *base_name_reasons(card, lineage, parent),
        *restriction_reasons(card.restrictions, parent),
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
