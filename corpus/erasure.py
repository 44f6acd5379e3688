"""Remove posts from a finished corpus: every shard they are in, those shards only, with a signed proof.

Reddit's terms ask that deleted content be deleted here too. The order makes it safe to kill: tombstones first, so
no later build brings the posts back; then the new shards beside the old ones; then a plan, which is the point of no
return; then renames and the manifest. A run that finds a plan carries it out. The card and the Croissant description
of what is left are part of it.
"""

import base64
import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tokenizers import Tokenizer

from configs.errors import UserError
from configs.manifest import MANIFEST_NAME, Manifest, now, read_manifest, sha256_file
from configs.run_folder import remove_folder, write_atomically
from corpus.authors import write_private
from corpus.card import CARD_NAME, CROISSANT_NAME, correct_card, render_croissant
from corpus.chunks import read_rows, write_rows
from corpus.document import COMMENT_PREFIX, OTHER_PREFIX, SUBMISSION_PREFIX
from corpus.shards import (
    DOCUMENTS_SUFFIX,
    SPLITS,
    TOKENS_SUFFIX,
    TokenizedDocument,
    documents_path,
    read_shard,
    split_folder,
    write_shard,
)
from corpus.tombstones import Tombstones

STAGING_NAME, PLAN_NAME = ".erasure", "plan.json"
SIGNING_KEY_NAME = "signing.key"
INSTALL = "pip install -e '.[vault]'"


@dataclasses.dataclass(frozen=True)
class Erasure:
    """What an erasure did."""

    posts: int
    shards: list[str]
    not_found: int


def erase(corpus_dir: Path, keys_dir: Path, *, ids: Iterable[str] = (), author_hashes: Iterable[str] = ()) -> Erasure:
    """Erase posts from a corpus.

    Args:
        corpus_dir: a finished corpus.
        keys_dir: where tombstones and the signing key are kept.
        ids: full names (`t3_…`, `t1_…`), or bare ids, which mean both.
        author_hashes: every post of these authors.

    Raises:
        UserError: no corpus, or the signing library is absent.
    """
    read_corpus_manifest(corpus_dir)
    sign = _load_signer(keys_dir)
    finish_earlier(corpus_dir)
    manifest = read_corpus_manifest(corpus_dir)  # an earlier erasure that was finished now has changed it
    names = {name for identifier in ids for name in full_names(identifier)}
    authors = {value for value in author_hashes if value}
    Tombstones(keys_dir).add(names | authors)
    touched = find_shards(corpus_dir, names, authors)
    if not touched:
        return Erasure(0, [], len(names))
    staging = corpus_dir / STAGING_NAME
    staging.mkdir(exist_ok=True)
    files: dict[str, str | None] = {}
    erased, tokens, found = 0, dict.fromkeys(SPLITS, 0), set[str]()
    counts = dict.fromkeys(SPLITS, 0)
    for split, number in touched:
        gone, gone_tokens = _stage_shard(corpus_dir, staging, split, number, names, authors, files)
        found |= gone
        erased += len(gone)
        counts[split] += len(gone)
        tokens[split] += gone_tokens
    shards = [f"{split}/{number:05d}" for split, number in touched]
    record: dict[str, Any] = {
        "erased_at": now(),
        "posts": erased,
        "shards": shards,
        "documents": counts,
        "tokens": tokens,
    }
    _stage_descriptions(corpus_dir, staging, manifest, record, files)
    record |= {
        "before": {name: manifest.outputs[name].sha256 for name in files if name in manifest.outputs},
        "after": files,
        "manifest_before": sha256_file(corpus_dir / MANIFEST_NAME),
    }
    plan = {"files": files, "record": sign(record)}
    write_atomically(staging / PLAN_NAME, json.dumps(plan))
    _carry_out(corpus_dir, plan)
    return Erasure(erased, shards, len(names - found) if names else 0)


def erase_entombed(corpus_dir: Path, keys_dir: Path) -> None:
    """Erase the posts of a corpus that are on the list of tombstones; an erasure that was killed is finished first."""
    finish_earlier(corpus_dir)
    tombstones = Tombstones(keys_dir)
    ids, authors = set[str](), set[str]()
    for path in (corpus_dir / "tokens").glob(f"*/*{DOCUMENTS_SUFFIX}"):
        table = pq.read_table(path, columns=["id", "author_hash"])
        ids.update(name for name in table["id"].to_pylist() if name in tombstones)
        authors.update(name for name in set(table["author_hash"].to_pylist()) if name in tombstones)
    if ids or authors:
        erase(corpus_dir, keys_dir, ids=ids, author_hashes=authors)


def read_corpus_manifest(corpus_dir: Path) -> Manifest:
    """Read the manifest of a corpus.

    Raises:
        UserError: there is none, or another stage wrote it.
    """
    manifest = read_manifest(corpus_dir)
    if manifest.stage != "corpus":
        raise UserError(f"holds the output of stage {manifest.stage!r}, not of 'corpus'", where=corpus_dir)
    return manifest


def full_names(identifier: str) -> list[str]:
    """Return the full names that an id means: itself, or as a submission and as a comment."""
    if identifier.startswith((SUBMISSION_PREFIX, COMMENT_PREFIX, OTHER_PREFIX)):
        return [identifier]
    return [SUBMISSION_PREFIX + identifier, COMMENT_PREFIX + identifier]


def find_shards(corpus_dir: Path, ids: set[str], author_hashes: set[str]) -> list[tuple[str, int]]:
    """Return split and number of the shards that hold any of these posts; reads two columns of the tables."""
    found = []
    for split in SPLITS:
        for path in sorted(split_folder(corpus_dir, split).glob(f"*{DOCUMENTS_SUFFIX}")):
            table = pq.read_table(path, columns=["id", "author_hash"])
            if not (
                ids.isdisjoint(table["id"].to_pylist()) and author_hashes.isdisjoint(table["author_hash"].to_pylist())
            ):
                found.append((split, int(path.name.removesuffix(DOCUMENTS_SUFFIX))))
    return found


def verify_proof(record: dict[str, Any]) -> bool:
    """Whether the record of an erasure, as it stands in the manifest, bears a valid Ed25519 signature."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    unsigned = {key: value for key, value in record.items() if key != "signature"}
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(record["public_key"]))
        key.verify(base64.b64decode(record["signature"]), _canonical(unsigned))
    except (InvalidSignature, KeyError, ValueError):
        return False
    return True


def _stage_shard(
    corpus_dir: Path,
    staging: Path,
    split: str,
    number: int,
    ids: set[str],
    author_hashes: set[str],
    files: dict[str, str | None],
) -> tuple[set[str], int]:
    """Write one shard without the erased posts into the staging folder; returns what is gone."""
    gone, kept, gone_tokens = set[str](), list[TokenizedDocument](), 0
    for document in read_shard(corpus_dir, split, number):
        if document.id in ids or document.author_hash in author_hashes:
            gone.add(document.id)
            gone_tokens += len(document.token_ids)
        else:
            kept.append(document)
    rows = [row for row in read_rows(documents_path(corpus_dir, split, number)) if row["id"] not in gone]
    if kept:
        folder = split_folder(staging, split)
        tokenizer = Tokenizer.from_file(str(corpus_dir / "tokenizer" / "tokenizer.json"))
        write_shard(folder, number, kept, tokenizer.get_vocab_size())
        write_rows(documents_path(staging, split, number), rows)
    for path in (
        split_folder(staging, split) / f"{number:05d}{TOKENS_SUFFIX}",
        split_folder(staging, split) / f"{number:05d}{DOCUMENTS_SUFFIX}",
        documents_path(staging, split, number),
    ):
        files[path.relative_to(staging).as_posix()] = sha256_file(path) if kept else None
    return gone, gone_tokens


def _stage_descriptions(
    corpus_dir: Path, staging: Path, manifest: Manifest, record: dict[str, Any], files: dict[str, str | None]
) -> None:
    """Write the card and the Croissant description of what is left into the staging folder, where there are any."""
    counts = _counts_after(manifest.counts, record)
    outputs = {name: output.sha256 for name, output in manifest.outputs.items()} | files
    tables = {name: digest for name, digest in outputs.items() if digest and name.endswith(DOCUMENTS_SUFFIX)}
    if (card := corpus_dir / CARD_NAME).is_file():
        corrected = correct_card(card.read_text(encoding="utf-8"), manifest.counts, counts)
        write_atomically(staging / CARD_NAME, corrected)
        files[CARD_NAME] = sha256_file(staging / CARD_NAME)
    if (corpus_dir / CROISSANT_NAME).is_file():
        write_atomically(staging / CROISSANT_NAME, render_croissant(tables, counts["kept"], manifest.started_at))
        files[CROISSANT_NAME] = sha256_file(staging / CROISSANT_NAME)


def finish_earlier(corpus_dir: Path) -> None:
    """Carry out the plan of an interrupted erasure, or clear away what came before one."""
    plan = corpus_dir / STAGING_NAME / PLAN_NAME
    if plan.is_file():
        _carry_out(corpus_dir, json.loads(plan.read_text(encoding="utf-8")))
    remove_folder(corpus_dir / STAGING_NAME)


def _carry_out(corpus_dir: Path, plan: dict[str, Any]) -> None:
    staging = corpus_dir / STAGING_NAME
    for name, digest in plan["files"].items():
        if digest is None:
            (corpus_dir / name).unlink(missing_ok=True)
        elif (staging / name).exists():
            (staging / name).replace(corpus_dir / name)
    manifest = read_manifest(corpus_dir)
    earlier = manifest.counts.get("erasures", [])
    if plan["record"] not in earlier:
        write_atomically(corpus_dir / MANIFEST_NAME, _updated_manifest(corpus_dir, manifest, plan))
    remove_folder(staging)


def _updated_manifest(corpus_dir: Path, manifest: Manifest, plan: dict[str, Any]) -> str:
    values = dataclasses.asdict(manifest)
    for name, digest in plan["files"].items():
        if digest is None:
            values["outputs"].pop(name, None)
        else:
            values["outputs"][name] = {"sha256": digest, "size_bytes": (corpus_dir / name).stat().st_size}
    counts = _counts_after(manifest.counts, plan["record"])
    values["counts"] = counts | {"erasures": [*counts.get("erasures", []), plan["record"]]}
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _counts_after(counts: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Return the counts of a corpus without what was erased."""
    left = {
        kind: {split: count - record[kind].get(split, 0) for split, count in counts[kind].items()}
        for kind in ("documents", "tokens")
    }
    return counts | left | {"kept": counts["kept"] - record["posts"]}


def _load_signer(keys_dir: Path) -> Any:
    """Return a function that signs a record with the project's Ed25519 key, which is made if there is none."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise UserError("the proof of an erasure needs the vault extra", fix=INSTALL) from None
    path = keys_dir / SIGNING_KEY_NAME
    if not path.exists():
        keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, Ed25519PrivateKey.generate().private_bytes_raw().hex() + "\n")
    try:
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text(encoding="ascii").strip()))
    except ValueError as error:
        raise UserError("not a signing key", where=path, fix="Set --keys_dir to the right folder.") from error
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    def sign(record: dict[str, Any]) -> dict[str, Any]:
        named = record | {"public_key": base64.b64encode(public).decode()}
        return named | {"signature": base64.b64encode(key.sign(_canonical(named))).decode()}

    return sign


def _canonical(record: dict[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).digest()
