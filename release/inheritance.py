"""What a derived model owes to the release it was built from: licence, gate, form fields, forbidden uses.

Derived models elsewhere dropped MentalBERT's gate and licence. Here a classifier or adapter cannot be released
without the release of its encoder at hand, and its own terms may only be as strict or stricter.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.manifest import sha256_file
from release.subject import Subject

RELEASE_NAME = "release.json"
REPOSITORY = "repository"


@dataclasses.dataclass(frozen=True)
class Restrictions:
    """The terms a model leaves under; `gate` is always manual."""

    licence: str
    gate: str
    gate_prompt: str
    gate_fields: dict[str, Any]
    forbidden_uses: list[str]


@dataclasses.dataclass(frozen=True)
class Parent:
    """A release that another model is built from."""

    name: str
    version: str
    fingerprint: str
    model_manifest_sha256: str
    release_sha256: str
    restrictions: Restrictions


def read_parent(folder: Path) -> Parent:
    """Read the release in `folder`: a folder of `release build`, or a downloaded repository.

    Raises:
        UserError: there is no release, or it does not state its terms.
    """
    path = next((p for p in (folder / REPOSITORY / RELEASE_NAME, folder / RELEASE_NAME) if p.is_file()), None)
    if path is None:
        raise UserError("no release here (release.json is missing)", where=folder, fix="Build the encoder's first.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Parent(
            name=values["name"],
            version=values["version"],
            fingerprint=values["fingerprint"],
            model_manifest_sha256=values["provenance"]["model_manifest_sha256"],
            release_sha256=sha256_file(path),
            restrictions=Restrictions(**values["restrictions"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"not a release of mindshift ({type(error).__name__})", where=path) from error


def lineage_reasons(subject: Subject, parent: Parent | None) -> list[str]:
    """Say why `subject` may not leave as something built from `parent`; empty if it may."""
    inputs = {record.sha256 for record in subject.manifest.inputs.values()}
    if parent is None:
        if subject.kind == "encoder":
            return []
        return [f"{subject.kind}: the release of the encoder it is built from is not given (parent_dir)"]
    if parent.model_manifest_sha256 not in inputs and parent.release_sha256 not in _input_releases(subject):
        return [f"not built from {parent.name} {parent.version}: its manifest names other inputs"]
    return []


def restriction_reasons(own: Restrictions, parent: Parent | None) -> list[str]:
    """Say in which way a model's terms are weaker than its parent's; empty if in none."""
    reasons = [] if own.gate == "manual" else [f"the gate is {own.gate!r}, not manual"]
    if parent is None:
        return reasons
    theirs = parent.restrictions
    if own.licence != theirs.licence:
        reasons.append(f"the licence is {own.licence}, but {parent.name} is under {theirs.licence}")
    missing_fields = sorted(theirs.gate_fields.keys() - own.gate_fields.keys())
    if missing_fields:
        reasons.append(f"the gate's form lacks fields of {parent.name}: {', '.join(missing_fields)}")
    missing_uses = [use for use in theirs.forbidden_uses if use not in own.forbidden_uses]
    if missing_uses:
        reasons.append(f"{len(missing_uses)} uses that {parent.name} forbids are not forbidden")
    return reasons


def inherit(own: Restrictions, parent: Parent | None) -> Restrictions:
    """Return the terms of a model with its parent's added; the licence is the parent's unless one is stated."""
    if parent is None:
        return own
    theirs = parent.restrictions
    return Restrictions(
        licence=own.licence or theirs.licence,
        gate=own.gate,
        gate_prompt=own.gate_prompt or theirs.gate_prompt,
        gate_fields=theirs.gate_fields | own.gate_fields,
        forbidden_uses=list(dict.fromkeys([*theirs.forbidden_uses, *own.forbidden_uses])),
    )


def _input_releases(subject: Subject) -> set[str]:
    """Hashes of the `release.json` of downloaded repositories among the inputs, where they are still there."""
    paths = [Path(record.path) / RELEASE_NAME for record in subject.manifest.inputs.values()]
    return {sha256_file(path) for path in paths if path.is_file()}
