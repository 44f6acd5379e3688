"""Where a differentially private run may start: from no encoder that has read the people it protects.

What a base has read, its weights may show; the run's ε counts none of it. Manifests tell what a base of our own was
trained on, generation by generation. What was read elsewhere, a public base's past, nobody here can check.

Documents are compared by author and by id. Only Reddit's ids are the same in every corpus.
"""

import logging
from pathlib import Path
from typing import NoReturn

from configs.errors import UserError
from configs.lineage import is_checkpoint, recorded_manifest, trace_lineage
from configs.manifest import MANIFEST_NAME, InputRecord, read_manifest
from corpus.shards import TokenShards

log = logging.getLogger(__name__)
REDDIT_IDS = ("t1_", "t3_")
ANOTHER_BASE = "Start from a base that has not read these posts, such as google-bert/bert-base-uncased."


def refuse_base_that_read(corpus: Path, base: Path) -> int:
    """Refuse a base that was trained on posts or authors of `corpus`, or of which that cannot be told.

    Args:
        corpus: whose training documents are to be protected.
        base: a model folder; without a manifest it is taken for a public one, and a log line says so.

    Returns:
        How many documents it has read that name no author: none of them is in the corpus, but an author of it may have
        written them.
    """
    if not (base / MANIFEST_NAME).is_file():
        if is_checkpoint(base):
            _refuse("this is a checkpoint: no manifest says whether it has read the protected corpus", base)
        log.info("%s has no manifest: it is taken for a public model, which nobody here has trained", base)
        return 0
    lineage = trace_lineage(read_manifest(base))
    tasks = [Path(task.path).name for task in lineage.tasks.values()]
    for reason in [*lineage.gaps, *(f"it was fine-tuned on {name}, which names no authors" for name in tasks)]:
        _refuse(f"it cannot be told whether this base has read the protected corpus: {reason}", base)
    protected = TokenShards(corpus, "train")
    protected_authors = protected.read_author_hashes()
    if lineage.corpora:
        _refuse_incomparable(protected.ids, protected_authors, corpus, base)
    ids, authors, without_author = set(protected.ids), set(protected_authors) - {""}, 0
    for record in lineage.corpora.values():
        folder = _recorded_folder(record, corpus, base)
        read = TokenShards(folder, "train")
        read_authors = read.read_author_hashes()
        posts, people = len(ids.intersection(read.ids)), len(authors.intersection(read_authors))
        if posts or people:
            _refuse(
                f"this base has read {posts:,} documents and {people:,} authors of the protected corpus without their "
                f"protection, in {folder}; ε would promise what is not so",
                base,
            )
        _refuse_incomparable(read.ids, read_authors, folder, base)
        without_author += read_authors.count("")
    return without_author


def _refuse_incomparable(ids: list[str], authors: list[str], folder: Path, base: Path) -> None:
    """Refuse if some documents have neither an author nor an id that other corpora would have given them, too."""
    count = sum(not author and not name.startswith(REDDIT_IDS) for name, author in zip(ids, authors, strict=True))
    if count:
        _refuse(
            "it cannot be told whether this base has read the protected corpus: "
            f"{count:,} documents of {folder} have no author and no id of Reddit's to compare",
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
