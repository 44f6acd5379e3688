"""The programs `mindshift release card | build | sign | verify | push | access`; `audit` is in `run_audit`."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.manifest import Manifest, now, read_manifest, record_input, verify_folder
from configs.recipe import load_recipe
from configs.run_folder import finish_run_folder, open_run_folder, remove_folder, write_atomically
from release.card_rules import card_reasons
from release.config import AccessRecipe, BuildRecipe, CardRecipe, HubRecipe, PushRecipe, SignRecipe, VerifyRecipe
from release.evidence import EVIDENCE_NAME, Evidence, read_evidence
from release.gate import age_reasons, gate_reasons, refuse, verdict_reasons
from release.inheritance import LICENCE_NAME, RELEASE_NAME, REPOSITORY, Parent, Restrictions, inherit, read_parent
from release.override import EarlierOverride, Override, override_reasons
from release.subject import read_subject

ACTIONS = ("list", "accept", "reject", "revoke", "export")


def card(arguments: Sequence[str], program: str) -> None:
    """Write README.md, LICENSE.txt and card.json."""
    from release.model_card import write_card
    from release.repository import CardRecord
    from release.signing import key_fingerprint

    recipe = load_recipe(CardRecipe, arguments, program)
    started_at = now()
    subject, (evidence, audits) = read_subject(recipe.model_dir), _read_audits(recipe.audit_dir)
    parent = _read_parent(recipe.parent_dir, recipe.parent_public_key)
    override = Override(audits=recipe.override_audits, reason=recipe.override_reason, by=recipe.override_by)
    licence = _read_bytes(recipe.licence_file) if recipe.licence_file else None
    own = Restrictions(
        recipe.licence,
        "manual",
        recipe.gate_prompt,
        dict(recipe.gate_fields),
        recipe.forbidden_uses,
        recipe.licence_name,
        hashlib.sha256(licence).hexdigest() if licence else "",
    )
    restrictions = inherit(own, parent)
    if parent is not None and licence is None and restrictions.licence_sha256:
        licence = _read_bytes(parent.folder / LICENCE_NAME)
    record = CardRecord(
        **{key: getattr(recipe, key) for key in ("name", "version", "base_model", "public_bases", "contact")},
        key_fingerprint=key_fingerprint(recipe.public_key) if recipe.public_key else "",
        restrictions=restrictions,
        override=override,
    )
    text = write_card(recipe, subject, evidence, record, parent)
    refuse(card_reasons(text, contact=recipe.contact), recipe.output_dir)
    folder = open_run_folder(recipe, started_at=started_at)
    write_atomically(folder / "README.md", text)
    if licence is not None:
        write_atomically(folder / LICENCE_NAME, licence)
    write_atomically(folder / "card.json", json.dumps(dataclasses.asdict(record), indent=2, ensure_ascii=False) + "\n")
    inputs = {"model": recipe.model_dir, "audits": recipe.audit_dir}
    inputs |= {"parent": recipe.parent_dir} if recipe.parent_dir else {}
    finish_run_folder(recipe, stage="card", inputs=inputs, counts={})
    if parent is not None and not recipe.parent_public_key:
        print(f"the signature of {parent.name} was NOT checked (parent_public_key)")
    reasons = gate_reasons(subject, evidence, record, parent, audits=audits)
    print(f"wrote {recipe.output_dir / 'README.md'}")
    print("the gate would let it pass" if not reasons else "the gate would refuse:\n  - " + "\n  - ".join(reasons))


def build(arguments: Sequence[str], program: str) -> None:
    """Pass the gate, then fill the repository folder."""
    from release.repository import fill_repository, published_text_reasons, read_card_record, repository_reasons

    recipe = load_recipe(BuildRecipe, arguments, program)
    started_at = now()
    subject, (evidence, audits) = read_subject(recipe.model_dir), _read_audits(recipe.audit_dir)
    verify_folder(recipe.card_dir, stage="card")
    record = read_card_record(recipe.card_dir)
    written = read_manifest(recipe.card_dir)
    made_with = {key: Path(value) for key, value in written.recipe.items() if value and key.startswith("parent_")}
    parent = _read_parent(made_with.get("parent_dir"), made_with.get("parent_public_key"))
    folders = {"model": recipe.model_dir, "audits": recipe.audit_dir}
    folders |= {"parent": made_with["parent_dir"]} if parent else {}
    text = (recipe.card_dir / "README.md").read_text(encoding="utf-8")
    refuse(
        [
            *gate_reasons(subject, evidence, record, parent, audits=audits),
            *_card_binding_reasons(written, folders),
            *card_reasons(text, contact=record.contact),
            *override_reasons(record.override, parent.overrides if parent else [], text),
        ],
        recipe.model_dir,
    )
    folder = open_run_folder(recipe, started_at=started_at)
    remove_folder(folder / REPOSITORY)  # what a killed build left
    fill_repository(folder / REPOSITORY, subject, recipe.audit_dir, recipe.card_dir, evidence, record, parent)
    refuse(published_text_reasons(folder / REPOSITORY, contact=record.contact), folder / REPOSITORY)
    refuse(repository_reasons(folder / REPOSITORY), folder / REPOSITORY)
    inputs = {**folders, "card": recipe.card_dir}
    files = sum(1 for path in (folder / REPOSITORY).rglob("*") if path.is_file())
    finish_run_folder(recipe, stage="release", inputs=inputs, counts={"files": files})
    print(f"built {recipe.output_dir / REPOSITORY} ({files} files); sign it next")


def sign(arguments: Sequence[str], program: str) -> None:
    """Sign the repository folder of a release."""
    from release.signing import create_key_pair, key_fingerprint, sign_folder

    recipe = load_recipe(SignRecipe, arguments, program)
    repository = _built_repository(recipe.release_dir)
    if recipe.create_key and not recipe.private_key.exists():
        print(f"made a key pair; give {create_key_pair(recipe.private_key)} to those who verify")
    stated = _read_release(repository)["key_fingerprint"]
    used = key_fingerprint(recipe.private_key)
    if stated and stated != used:
        raise UserError("the card states another key's fingerprint", where=recipe.private_key, fix="Write it anew.")
    print(f"wrote {sign_folder(repository, recipe.private_key)} with the key sha256:{used}")


def verify(arguments: Sequence[str], program: str) -> None:
    """Check hashes and signature of a release or a download."""
    from release.repository import repository_reasons
    from release.signing import signature_reasons

    recipe = load_recipe(VerifyRecipe, arguments, program)
    folder = recipe.folder / REPOSITORY if (recipe.folder / REPOSITORY).is_dir() else recipe.folder
    if not folder.is_dir():
        raise UserError("no such folder", where=folder)
    reasons = repository_reasons(folder)
    if recipe.public_key:
        reasons += signature_reasons(folder, recipe.public_key)
    refuse(reasons, folder)
    print(
        "every file is as it was released" + ("" if recipe.public_key else "; the signature was NOT checked (no key)")
    )


def push(arguments: Sequence[str], program: str) -> None:
    """Publish a signed release behind a manual gate."""
    from release.hub import Publication, connect
    from release.journal import append_entry, read_journal

    recipe = load_recipe(PushRecipe, arguments, program)
    repository = _built_repository(recipe.release_dir)
    values = _read_release(repository)
    refuse(_push_reasons(repository, recipe.public_key), recipe.release_dir)
    api = connect(recipe.endpoint, _token(recipe))
    read_journal(recipe.journal)
    entry = {
        "repo_id": recipe.repo_id,
        "action": "push",
        "version": values["version"],
        "fingerprint": values["fingerprint"],
    }
    append_entry(recipe.journal, **entry, state="asked")
    tag = f"v{values['version']}"
    try:
        publication = Publication(api, recipe.repo_id, repository, tag=tag, update_existing=recipe.update_existing)
        commit = publication.run()
    except UserError as error:
        append_entry(recipe.journal, **entry, state="failed", error=error.what)
        raise
    append_entry(recipe.journal, **entry, state="done", commit=commit, tag=tag)
    print(f"published {recipe.repo_id} {tag} at {commit[:12]}, behind a manual gate; a stranger is denied")


def access(arguments: Sequence[str], program: str) -> None:
    """List, accept, reject, revoke or export requests for access."""
    from release.access import decide, export_requests, list_requests, request_row
    from release.hub import connect

    words = list(arguments)
    if words and words[0] in ACTIONS:
        words = [*words[1:], "--action", words[0]]
    recipe = load_recipe(AccessRecipe, words, program)
    api = connect(recipe.endpoint, _token(recipe))
    if recipe.action == "list":
        for request in list_requests(api, recipe.repo_id):
            print("  ".join(str(value) for value in request_row(request).values()))
    elif recipe.action == "export":
        print(f"wrote {export_requests(api, recipe)}: personal data, keep it no longer than needed")
    else:
        print(decide(api, recipe))


def _read_audits(audit_dir: Path) -> tuple[Evidence, Manifest]:
    verify_folder(audit_dir, stage="audit")
    return read_evidence(audit_dir / EVIDENCE_NAME), read_manifest(audit_dir)


def _built_repository(release_dir: Path) -> Path:
    verify_folder(release_dir, stage="release")
    return release_dir / REPOSITORY


def _card_binding_reasons(card: Manifest, folders: dict[str, Path]) -> list[str]:
    """Say for what else a card was written than for these folders, by its manifest."""
    words = {"model": "another model", "audits": "other audits", "parent": "another release of its parent"}
    return [
        f"the card was written for {words[name]}"
        for name, folder in folders.items()
        if name not in card.inputs or card.inputs[name].sha256 != record_input(folder).sha256
    ]


def _read_parent(folder: Path | None, public_key: Path | None) -> Parent | None:
    """Read the release that a model is built from; one whose files or signature do not hold is refused."""
    from release.repository import repository_reasons
    from release.signing import signature_reasons

    if folder is None:
        return None
    parent = read_parent(folder)
    reasons = repository_reasons(parent.folder)
    if public_key is not None:
        reasons += signature_reasons(parent.folder, public_key)
    refuse(reasons, parent.folder)
    return parent


def _push_reasons(repository: Path, public_key: Path) -> list[str]:
    """Judge once more from the files that are about to leave."""
    from release.evidence import audit_code_sha256
    from release.repository import repository_reasons
    from release.signing import signature_reasons
    from release.subject import fingerprint

    values = _read_release(repository)
    evidence, override = read_evidence(repository / "audits" / EVIDENCE_NAME), Override(**values["override"])
    earlier = [EarlierOverride(**found) for found in values.get("earlier_overrides", [])]
    reasons = [*repository_reasons(repository), *signature_reasons(repository, public_key)]
    if not evidence.fingerprint == values["fingerprint"] == fingerprint(repository):
        reasons.append("the audits were made for other bytes than those to be published")
    if evidence.audit_code_sha256 != audit_code_sha256():
        reasons.append("the audits are stale: the audit code has changed since")
    text = (repository / "README.md").read_text(encoding="utf-8")
    return [
        *reasons,
        *age_reasons(evidence),
        *verdict_reasons(evidence, override),
        *override_reasons(override, earlier, text),
    ]


def _read_release(repository: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((repository / RELEASE_NAME).read_text(encoding="utf-8"))
    return values


def _token(recipe: HubRecipe) -> str:
    token = os.environ.get(recipe.token_variable, "")
    if not token:
        raise UserError(
            f"no access token in the environment variable {recipe.token_variable}",
            where=recipe.repo_id,
            fix=f"export {recipe.token_variable}=… (a token with write right); never write it into a recipe.",
        )
    return token


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=path) from error
