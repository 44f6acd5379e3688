"""What a derived model owes to the release it was built from: licence, gate, form fields, forbidden uses.

Derived models elsewhere dropped MentalBERT's gate and licence. Here a classifier or adapter cannot be released
without the release of its encoder at hand, nor an encoder that went on from a released one without that release, and
its own terms may only be as strict or stricter.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from configs.base_models import PACKAGED_MODELS
from configs.errors import UserError
from configs.lineage import trace_lineage
from configs.manifest import InputRecord, record_input, sha256_file
from release.override import EarlierOverride
from release.subject import Subject, fingerprint

RELEASE_NAME = "release.json"
REPOSITORY = "repository"
LICENCE_NAME = "LICENSE.txt"


@dataclasses.dataclass(frozen=True)
class Restrictions:
    """The terms a model leaves under; `gate` is always manual."""

    licence: str
    gate: str
    gate_prompt: str
    gate_fields: dict[str, Any]
    forbidden_uses: list[str]
    licence_name: str = ""
    """Name of the licence, if it is `other`."""
    licence_sha256: str = ""
    """Of its text, if one is published."""


@dataclasses.dataclass(frozen=True)
class Parent:
    """A release that another model is built from."""

    folder: Path
    """Where its repository lies."""
    name: str
    version: str
    base_model: str
    fingerprint: str
    key_fingerprint: str
    model_manifest_sha256: str
    data_sha256: list[str]
    release_sha256: str
    restrictions: Restrictions
    overrides: list[EarlierOverride]
    """Its own override, if there is one, then those of the releases that it was built from itself."""
    ancestors: list[str]
    """Names and versions of the releases that it was built from itself."""

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


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
        restrictions = Restrictions(**values["restrictions"])
        licence = path.with_name(LICENCE_NAME)
        if not restrictions.licence_sha256 and licence.is_file():  # older releases do not state it
            restrictions = dataclasses.replace(restrictions, licence_sha256=sha256_file(licence))
        return Parent(
            folder=path.parent,
            name=values["name"],
            version=values["version"],
            base_model=values["base_model"],
            fingerprint=values["fingerprint"],
            key_fingerprint=values["key_fingerprint"],
            model_manifest_sha256=values["provenance"]["model_manifest_sha256"],
            data_sha256=list(values["provenance"]["data_sha256"]),
            release_sha256=sha256_file(path),
            restrictions=restrictions,
            overrides=_read_overrides(values),
            ancestors=list(values.get("ancestors", [])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"not a release of mindshift ({type(error).__name__})", where=path) from error


def _read_overrides(release: dict[str, Any]) -> list[EarlierOverride]:
    own = release["override"]
    first = [EarlierOverride(f"{release['name']} {release['version']}", **own)] if own["audits"] else []
    return first + [EarlierOverride(**found) for found in release.get("earlier_overrides", [])]


def lineage_reasons(
    subject: Subject, parent: Parent | None, *, audited: Collection[str], public_bases: Mapping[str, str]
) -> list[str]:
    """Say why `subject` may not leave as something built from `parent`; empty if it may.

    What the parent had seen is the matter of the parent's own release. What was trained on since must be among the
    data of the subject's audits.

    Args:
        subject: the model.
        parent: the release it says it is built from.
        audited: sha256 of all data that its audits used.
        public_bases: Hub id → sha256 of the weights, of the public models it is said to come from.
    """
    since = trace_lineage(subject.manifest, stop_at=frozenset() if parent is None else {parent.model_manifest_sha256})
    reasons = []
    if parent is None and subject.kind != "encoder":
        reasons.append(f"{subject.kind}: the release of the encoder it is built from is not given (parent_dir)")
    # Of a model of the Hub no manifest has a hash, but its configuration names the release.
    origins = [] if parent is None else [parent.title, *parent.ancestors]
    if parent is not None and not (
        any(is_release(record, parent) for record in since.ancestors.values()) or subject.comes_from == parent.title
    ):
        reasons.append(f"not built from {parent.title}: its manifests name other models")
    if subject.comes_from and subject.comes_from not in origins:
        reasons.append(f"its configuration says that it comes from the release {subject.comes_from} (parent_dir)")
    for sha256, record in since.data.items():
        if sha256 not in audited:
            mend = "audit it, too (further_data_dirs)" if sha256 in since.corpora else "leave it out (auxiliary_tasks)"
            how = f"{mend}, or give the release of the model that was trained on it as parent_dir"
            reasons.append(f"no audit covers {Path(record.path).name}, which it was trained on: {how}")
    for record in since.ancestors.values():
        folder = Path(record.path)
        if record.has_manifest or (parent is not None and is_release(record, parent)):
            continue
        if not folder.exists():
            reasons.append(f"{folder.name}, which it comes from, is gone: whether that was a release cannot be told")
        elif (folder / RELEASE_NAME).is_file():
            reasons.append(f"it comes from the release in {folder.name}, which is not the one in parent_dir")
        else:
            reasons += _origin_reasons(record, public_bases)
    for sha256, record in since.vocabularies.items():
        if sha256 not in audited:
            reasons.append(
                f"no audit covers {Path(record.path).name}, whose words its tokenizer publishes: take the vocabulary "
                "from a corpus that it is trained on"
            )
    return reasons


def _origin_reasons(record: InputRecord, public_bases: Mapping[str, str]) -> list[str]:
    """Say why a model folder without a manifest cannot be taken for a public model; empty if it can.

    It may as well be a checkpoint that has read the audited corpus. Which public model it is must have been declared,
    by the hash of its weights: the card shows both, and everybody can compare them with what the Hub shows.
    """
    folder = Path(record.path)
    if record_input(folder).sha256 != record.sha256:
        return [f"{folder.name}, which it comes from, has changed since"]
    weights = weights_sha256(folder)
    if weights and weights in {model.weights_sha256 for model in PACKAGED_MODELS.values()} | set(public_bases.values()):
        return []
    return [
        f"{folder.name}, which it comes from, has no manifest: if it is a copy of a public model, declare which "
        f"(public_bases: OWNER/NAME: {weights})"
    ]


def weights_sha256(folder: Path) -> str:
    """Return the sha256 of a model's weights as the Hub shows it; of several files joined by `+`, in their order."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    return "+".join(map(sha256_file, files))


def is_release(record: InputRecord, parent: Parent) -> bool:
    """Say whether a model's input is a release: the folder it was built from, or a downloaded repository."""
    if record.has_manifest:
        return record.sha256 == parent.model_manifest_sha256
    path = Path(record.path) / RELEASE_NAME
    if not path.is_file() or sha256_file(path) != parent.release_sha256:
        return False
    return fingerprint(path.parent) == parent.fingerprint  # other weights may lie beside a release's own record


def restriction_reasons(own: Restrictions, parent: Parent | None) -> list[str]:
    """Say in which way a model's terms are weaker than its parent's; empty if in none."""
    reasons = [] if own.gate == "manual" else [f"the gate is {own.gate!r}, not manual"]
    if parent is None:
        return reasons
    theirs = parent.restrictions
    if own.licence != theirs.licence:
        reasons.append(f"the licence is {own.licence}, but {parent.name} is under {theirs.licence}")
    elif own.licence_sha256 != theirs.licence_sha256 or own.licence_name != (theirs.licence_name or own.licence_name):
        reasons.append(f"the licence has another name or text than that of {parent.name}")
    if theirs.gate_prompt not in own.gate_prompt:
        reasons.append(f"who asks for access does not agree to what {parent.name} asks for (gate_prompt)")
    other_types = [f for f in own.gate_fields if own.gate_fields[f] != theirs.gate_fields.get(f, own.gate_fields[f])]
    if other_types:
        reasons.append(f"fields of the gate's form have other types than {parent.name}'s: {', '.join(other_types)}")
    missing_fields = sorted(theirs.gate_fields.keys() - own.gate_fields.keys())
    if missing_fields:
        reasons.append(f"the gate's form lacks fields of {parent.name}: {', '.join(missing_fields)}")
    missing_uses = [use for use in theirs.forbidden_uses if use not in own.forbidden_uses]
    if missing_uses:
        reasons.append(f"{len(missing_uses)} uses that {parent.name} forbids are not forbidden")
    return reasons


def inherit(own: Restrictions, parent: Parent | None) -> Restrictions:
    """Return the terms of a model with its parent's added; the licence is the parent's unless another is stated."""
    if parent is None:
        return own
    theirs = parent.restrictions
    licence = theirs if own.licence in ("", theirs.licence) and not own.licence_sha256 else own
    prompts = [own.gate_prompt] if theirs.gate_prompt in own.gate_prompt else [theirs.gate_prompt, own.gate_prompt]
    return Restrictions(
        licence=licence.licence,
        licence_name=licence.licence_name,
        licence_sha256=licence.licence_sha256,
        gate=own.gate,
        gate_prompt="\n\n".join(filter(None, prompts)),
        gate_fields=theirs.gate_fields | own.gate_fields,
        forbidden_uses=list(dict.fromkeys([*theirs.forbidden_uses, *own.forbidden_uses])),
    )
