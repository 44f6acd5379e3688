"""Where a differentially private run may start: from no encoder that has read the people it protects.

What a base has read, its weights may show; the run's ε counts none of it. Manifests tell what a base of our own was
trained on, generation by generation. What was read elsewhere, a public base's past, nobody here can check.
"""

from pathlib import Path
from typing import NoReturn

from configs.errors import UserError
from configs.lineage import recorded_manifest, trace_lineage
from configs.manifest import MANIFEST_NAME, InputRecord, read_manifest
from corpus.shards import TokenShards

ANOTHER_BASE = "Start from a base that has not read these posts, such as google-bert/bert-base-uncased."


def refuse_base_that_read(corpus: Path, base: Path) -> None:
    """Refuse a base that was trained on posts or authors of `corpus`, or of which that cannot be told.

    Args:
        corpus: whose training documents are to be protected.
        base: a model folder; without a manifest it is taken for a public one.
    """
    if not (base / MANIFEST_NAME).is_file():
        return
    lineage = trace_lineage(read_manifest(base))
    tasks = [Path(task.path).name for task in lineage.tasks.values()]
    for reason in [*lineage.gaps, *(f"it was fine-tuned on {name}, which names no authors" for name in tasks)]:
        _refuse(f"it cannot be told whether this base has read the protected corpus: {reason}", base)
    protected = TokenShards(corpus, "train")
    ids, authors = set(protected.ids), set(protected.read_author_hashes()) - {""}
    for record in lineage.corpora.values():
        folder = _recorded_folder(record, corpus, base)
        read = TokenShards(folder, "train")
        posts = len(ids.intersection(read.ids))
        people = len(authors.intersection(read.read_author_hashes()))
        if posts or people:
            _refuse(
                f"this base has read {posts:,} documents and {people:,} authors of the protected corpus without their "
                f"protection, in {folder}; ε would promise what is not so",
                base,
            )


def _recorded_folder(record: InputRecord, corpus: Path, base: Path) -> Path:
    """Return where a corpus that the base has read lies, if its posts and authors can be compared."""
    folder, manifest, reason = Path(record.path), recorded_manifest(record), None
    if manifest is None:
        reason = "is gone or has another manifest now"
    elif manifest.counts.get("author_key") != read_manifest(corpus).counts.get("author_key"):
        reason = "has ids and author hashes of another key (keys_dir)"
    if reason is not None:
        _refuse(
            f"it cannot be told whether this base has read the protected corpus: {folder}, on which it or an ancestor "
            f"was trained, {reason}",
            base,
        )
    return folder


def _refuse(what: str, base: Path) -> NoReturn:
    raise UserError(what, where=base, fix=ANOTHER_BASE)
