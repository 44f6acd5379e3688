"""The repository folder: exactly the files that are published, each with its SHA-256 in `release.json`.

`release.json` says what the model is, which audits it passed, the terms it leaves under, and by hash the manifests
it came from; no path of the machine that made it.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.manifest import now, sha256_file
from release.card_rules import privacy_reasons
from release.evidence import EVIDENCE_NAME, Evidence
from release.inheritance import LICENCE_NAME, RELEASE_NAME, Parent, Restrictions
from release.override import Override
from release.policy import judge_all
from release.sbom import SBOM_NAME, write_sbom
from release.subject import RELEASE_KEY, Subject, path_keys, unsafe_files

SIGNATURE_NAME = "model.sig"
ADDED_BY_HUB = (".gitattributes",)
DOWNLOAD_CACHE = ".cache/"


@dataclasses.dataclass(frozen=True)
class CardRecord:
    """The contents of `card.json`: what a card states, for programs."""

    name: str
    version: str
    base_model: str
    contact: str
    public_bases: dict[str, str]
    """Hub id → sha256 of the weights, of the public models that local folders it comes from are copies of."""
    key_fingerprint: str
    restrictions: Restrictions
    override: Override


def read_card_record(folder: Path) -> CardRecord:
    """Read the `card.json` of a card folder."""
    path = folder / "card.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["restrictions"] = Restrictions(**values["restrictions"])
        values["override"] = Override(**values["override"])
        return CardRecord(**values)
    except FileNotFoundError:
        raise UserError("no card here", where=folder, fix="Run `mindshift release card` first.") from None
    except (ValueError, KeyError, TypeError) as error:
        fix = "Write it anew with `mindshift release card`; that of an older version lacks what is asked for now."
        raise UserError(f"not a card of this version ({type(error).__name__})", where=path, fix=fix) from error


def fill_repository(
    target: Path,
    subject: Subject,
    audit_dir: Path,
    card_dir: Path,
    evidence: Evidence,
    card: CardRecord,
    parent: Parent | None,
) -> None:
    """Copy model, card and audits into `target`, write bill of materials and `release.json`."""
    target.mkdir(parents=True, exist_ok=True)
    for name, path in subject.files.items():
        _copy_released(path, target / name, base_model=card.base_model, release=f"{card.name} {card.version}")
    for name in ("README.md", LICENCE_NAME):
        if (card_dir / name).is_file():
            shutil.copyfile(card_dir / name, target / name)
    audits = target / "audits"
    audits.mkdir(exist_ok=True)
    for path in sorted(audit_dir.iterdir()):
        if path.name in (EVIDENCE_NAME, "report.html") or path.suffix == ".png":
            shutil.copyfile(path, audits / path.name)
    write_sbom(target / SBOM_NAME, subject, name=card.name, version=card.version, licence=card.restrictions.licence)
    record = release_record(target, subject, audit_dir, evidence, card, parent)
    (target / RELEASE_NAME).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def release_record(
    target: Path, subject: Subject, audit_dir: Path, evidence: Evidence, card: CardRecord, parent: Parent | None
) -> dict[str, Any]:
    """Return the contents of `release.json`."""
    return {
        "name": card.name,
        "version": card.version,
        "kind": subject.kind,
        "built_at": now(),
        "base_model": card.base_model,
        "public_bases": card.public_bases,
        "fingerprint": subject.fingerprint,
        "weights": subject.weights,
        "key_fingerprint": card.key_fingerprint,
        "restrictions": dataclasses.asdict(card.restrictions),
        "override": dataclasses.asdict(card.override),
        "earlier_overrides": [] if parent is None else [dataclasses.asdict(found) for found in parent.overrides],
        "verdicts": {name: verdict for name, (verdict, _) in judge_all(evidence).items()},
        "built_from": None
        if parent is None
        else {"name": parent.name, "version": parent.version, "release_sha256": parent.release_sha256},
        "ancestors": [] if parent is None else [parent.title, *parent.ancestors],
        "provenance": {
            "model_manifest_sha256": subject.manifest_sha256,
            "data_sha256": evidence.data_sha256,
            "evidence_sha256": sha256_file(audit_dir / EVIDENCE_NAME),
            "recipe_sha256": subject.manifest.recipe_sha256,
            "code_revision": subject.manifest.code_revision,
            "code_sha256": subject.manifest.code_sha256,
            "inputs": {name: record.sha256 for name, record in subject.manifest.inputs.items()},
        },
        "files": file_records(target),
    }


def file_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return sha256 and size of every file of a repository but `release.json`, the signature and the Hub's own."""
    left_out = {RELEASE_NAME, SIGNATURE_NAME, *ADDED_BY_HUB}
    paths = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file() or p.is_symlink()}
    return {
        name: {"sha256": sha256_file(path), "size_bytes": path.stat().st_size}
        for name, path in paths.items()
        if name not in left_out and not name.startswith(DOWNLOAD_CACHE)
    }


def repository_reasons(folder: Path) -> list[str]:
    """Compare a repository with its `release.json`: what is changed, missing, added or unsafe.

    Raises:
        UserError: it is the Hub client's download cache, whose files are links.
    """
    if folder.resolve().parent.name == "snapshots" and any(path.is_symlink() for path in folder.iterdir()):
        raise UserError(
            "this is the Hub's download cache, whose files are links",
            where=folder,
            fix="Download it as plain files: hf download OWNER/NAME --local-dir FOLDER",
        )
    try:
        listed = json.loads((folder / RELEASE_NAME).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return [f"{RELEASE_NAME} is missing"]
    except (ValueError, KeyError, TypeError):
        return [f"{RELEASE_NAME} is damaged"]
    found = file_records(folder)
    reasons = [f"{name} is missing" for name in sorted(listed.keys() - found.keys())]
    reasons += [f"{name} was added" for name in sorted(found.keys() - listed.keys())]
    reasons += [f"{name} has changed" for name in sorted(found.keys() & listed.keys()) if found[name] != listed[name]]
    return reasons + unsafe_files(folder)


def published_text_reasons(folder: Path, *, contact: str) -> list[str]:
    """Look for private things in every text file of a repository but the tokenizer's vocabulary."""
    reasons = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        vocabulary = path.name in ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", SBOM_NAME)
        if path.is_file() and path.suffix in (".json", ".md", ".txt", ".html") and not vocabulary:
            reasons += privacy_reasons(path.read_text(encoding="utf-8"), contact=contact, where=name)
    return reasons


def _copy_released(source: Path, target: Path, *, base_model: str, release: str) -> None:
    """Copy a file; a configuration names the release, and the public base model instead of a local folder."""
    values = json.loads(source.read_text(encoding="utf-8")) if source.suffix == ".json" else {}
    recorded = [key for key in path_keys(source.name) if key in values] if isinstance(values, dict) else []
    origins = dict.fromkeys(recorded, base_model) | ({RELEASE_KEY: release} if source.name == "config.json" else {})
    if not origins:
        shutil.copyfile(source, target)
        return
    values |= origins
    target.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
