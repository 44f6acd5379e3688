"""A person's decision to release in spite of named audits; it follows the model into what is built from it."""

import dataclasses

from configs.errors import UserError
from release.policy import REQUIRED_AUDITS

OVERRIDE_REASON_LETTERS = 40


@dataclasses.dataclass(frozen=True)
class Override:
    """Whose verdicts are overridden, why, and who answers for it."""

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


@dataclasses.dataclass(frozen=True)
class EarlierOverride:
    """An override of a release that a model is built from, directly or through others.

    Attributes:
        release: name and version of that release.
        audits, reason, by: as in `Override`; one of an older policy may name audits that are gone.
    """

    release: str
    audits: list[str]
    reason: str
    by: str


def override_reasons(override: Override, earlier: list[EarlierOverride], card: str) -> list[str]:
    """Say which overrides a card keeps from its readers; empty if it shows all.

    Args:
        override: the model's own.
        earlier: those of the releases it is built from.
        card: the text of its README.md.
    """

    def is_shown(found: Override | EarlierOverride) -> bool:
        return not found.audits or (found.reason in card and found.by in card)

    reasons = [] if is_shown(override) else ["the override does not show in the card"]
    hidden = [found for found in earlier if not is_shown(found) or found.release not in card]
    return reasons + [f"the override of {found.release}, which it is built from, is not shown" for found in hidden]
