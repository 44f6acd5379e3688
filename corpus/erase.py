"""`mindshift corpus erase` and `mindshift corpus resync`: take posts out of a finished corpus, for good.

`erase` takes ids, an author's hash, or asks for an author's name; `resync` asks Reddit which posts of the corpus are
gone and erases those.
"""

import dataclasses
import getpass
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from configs.errors import UserError
from configs.folder_lock import locked
from configs.recipe import load_recipe
from corpus.authors import AUTHOR_KEY_NAME, HASHED, hash_author, key_fingerprint, load_author_key
from corpus.document import COMMENT_PREFIX, SUBMISSION_PREFIX
from corpus.erasure import SIGNING_KEY_NAME, Erasure, erase, finish_earlier, read_corpus_manifest
from corpus.shards import DOCUMENTS_SUFFIX, SPLITS, split_folder
from corpus.tombstones import TOMBSTONES_NAME, Tombstones

POST_ID = re.compile(r"(?:t[13]_)?[0-9a-zA-Z]{1,32}|text_[0-9a-zA-Z_-]{1,64}")
RESYNC_POSTS = 50_000
"""Posts asked about, some minutes long, before those that are gone are erased: every erasure rewrites shards."""
MOST_ABSENT = 0.01
"""Share of a corpus that Reddit may purge without notice; more is a closed subreddit or a gap in its answers."""
AUTHOR_HASH = re.compile(r"[0-9a-f]{32}")
logger = logging.getLogger("corpus")


@dataclasses.dataclass(kw_only=True)
class EraseRequest:
    """Erase posts from a finished corpus and see to it that no later build brings them back."""

    corpus: Path
    """Folder of a finished corpus."""
    ids: Path | None = None
    """File with one id a line: t3_… for submissions, t1_… for comments, a bare id for either, text_… for others."""
    author_hash: str | None = None
    """Erase every post with this author_hash (32 hex digits, as in the corpus's tables)."""
    ask_author: bool = False
    """Ask for the name of an author whose posts are to go, at a prompt or as one line on standard input: as an argument
    it would stay in the shell's history. Only its hash is used and kept."""
    keys_dir: Path | None = None
    """Folder of tombstones and signing key. Default: the keys_dir of the corpus's own recipe."""


@dataclasses.dataclass(kw_only=True)
class ResyncRequest:
    """Ask Reddit which posts of a corpus are gone, and erase them."""

    corpus: Path
    """Folder of a finished corpus."""
    erase_absent: bool = False
    """Erase what Reddit does not show at all however much that is: a subreddit that is banned or private for good."""
    keys_dir: Path | None = None
    """Folder of tombstones and signing key. Default: the keys_dir of the corpus's own recipe."""


def main(arguments: Sequence[str], program: str) -> None:
    """Erase by ids or by author."""
    request = load_recipe(EraseRequest, arguments, program)
    if [request.ids is not None, request.author_hash is not None, request.ask_author].count(True) != 1:
        raise UserError("give either --ids FILE, --author_hash HASH or --ask_author true", where=program)
    authors = [request.author_hash] if request.author_hash else []
    if authors and not AUTHOR_HASH.fullmatch(authors[0]):
        raise UserError("an author hash has 32 hex digits", where="author_hash")
    ids = read_ids(request.ids) if request.ids else []
    keys_dir = _keys_dir(request.corpus, request.keys_dir)
    if request.ask_author:
        authors = [hash_author(_author_key(request.corpus, keys_dir), _ask_author())]
    with locked(request.corpus):
        _report(erase(request.corpus, keys_dir, ids=ids, author_hashes=authors))


def resync(arguments: Sequence[str], program: str) -> None:
    """Erase what is gone from Reddit."""
    from corpus.reddit_api import find_gone

    request = load_recipe(ResyncRequest, arguments, program)
    keys_dir = _keys_dir(request.corpus, request.keys_dir)
    # As the build did: what the recipe keeps of deleted accounts is not taken out behind its back.
    accounts = read_corpus_manifest(request.corpus).recipe.get("deleted_accounts") != "keep"
    with locked(request.corpus):
        finish_earlier(request.corpus)
        ids = list_ids(request.corpus)

        def erase_deleted(names: list[str]) -> set[str]:
            """Erase what Reddit shows as deleted; returns what it does not show."""
            absent = set[str]()
            # Millions of questions take days: what is found is erased before the next failure can lose it.
            for start in range(0, len(names), RESYNC_POSTS):
                gone = find_gone(names[start : start + RESYNC_POSTS], accounts=accounts)
                absent |= gone.absent
                if gone.deleted:
                    _report(erase(request.corpus, keys_dir, ids=gone.deleted))
            return absent

        absent = erase_deleted(sorted(erase_deleted(ids)))  # asked twice: an answer may have had a gap
        if len(absent) > MOST_ABSENT * len(ids) and not request.erase_absent:
            raise UserError(
                f"Reddit does not show {len(absent):,} of {len(ids):,} posts at all: they were not erased",
                where=request.corpus,
                fix="Run it again later: an outage and a subreddit that is private for some days look so. Add "
                "--erase_absent true if they are gone for good.",
            )
        if absent:
            logger.info("%s posts are not shown by Reddit at all", f"{len(absent):,}")
            _report(erase(request.corpus, keys_dir, ids=absent))
        logger.info(
            "%s of %s posts were gone from Reddit", f"{len(ids) - len(list_ids(request.corpus)):,}", f"{len(ids):,}"
        )


def read_ids(path: Path) -> list[str]:
    """Read a file of post ids.

    Raises:
        UserError: no such file, or a line that is no id.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"not a readable list of ids ({type(error).__name__})", where=path) from error
    ids = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            if not POST_ID.fullmatch(line.strip()):
                raise UserError("not a post id such as t3_abc123", where=f"{path}:{number}")
            ids.append(line.strip())
    return ids


def list_ids(corpus_dir: Path) -> list[str]:
    """Return the full names of all Reddit posts of a corpus: no canaries, no texts from elsewhere."""
    tables = [path for split in SPLITS for path in sorted(split_folder(corpus_dir, split).glob(f"*{DOCUMENTS_SUFFIX}"))]
    ids = [name for path in tables for name in pq.read_table(path, columns=["id"])["id"].to_pylist()]
    return [name for name in ids if name.startswith((SUBMISSION_PREFIX, COMMENT_PREFIX))]


def _keys_dir(corpus_dir: Path, given: Path | None) -> Path:
    """Return the keys folder that this corpus was built with: tombstones anywhere else are read by no later build."""
    manifest = read_corpus_manifest(corpus_dir)
    keys_dir = given if given is not None else Path(manifest.recipe["keys_dir"])
    if not keys_dir.is_dir():
        raise UserError(
            "the keys folder of this corpus is not here",
            where=keys_dir,
            fix="Run the command from where the corpus was built, or name the folder by --keys_dir.",
        )
    fix = "Name the folder that this corpus was built with by --keys_dir."
    present = {name for name in (AUTHOR_KEY_NAME, TOMBSTONES_NAME, SIGNING_KEY_NAME) if (keys_dir / name).exists()}
    if not present:
        raise UserError("this folder holds no keys (no author.key, no tombstones)", where=keys_dir, fix=fix)
    # The author key may have been removed, to cut the link to the names, and a later build may have made another: the
    # list of tombstones stays. A corpus of an earlier version knows its author key only.
    if asked := manifest.counts.get("project"):
        is_ours = asked == Tombstones(keys_dir).fingerprint
    else:
        fingerprint = manifest.counts.get("author_key")
        is_ours = AUTHOR_KEY_NAME not in present or fingerprint in (None, key_fingerprint(load_author_key(keys_dir)))
    if not is_ours:
        raise UserError("this folder holds the keys of other corpora, not of this one", where=keys_dir, fix=fix)
    return keys_dir


def _author_key(corpus_dir: Path, keys_dir: Path) -> bytes:
    """Return the key that this corpus's authors were hashed with."""
    fingerprint = read_corpus_manifest(corpus_dir).counts.get("author_key")
    is_there = (keys_dir / AUTHOR_KEY_NAME).exists()
    if not is_there or fingerprint not in (None, key_fingerprint(load_author_key(keys_dir))):
        raise UserError(
            "the author key of this corpus is not here: no name can be tied to its hashes",
            where=keys_dir / AUTHOR_KEY_NAME,
            fix="Erase by --ids: the author can name the posts.",
        )
    return load_author_key(keys_dir)


def _ask_author() -> str:
    """Return a name, which is not shown as it is typed."""
    name = getpass.getpass("author: ") if sys.stdin.isatty() else sys.stdin.readline()
    name = name.strip().removeprefix("/").removeprefix("u/")
    if not name or HASHED.fullmatch(name):
        raise UserError("no name of an author was given", where="ask_author")
    return name


def _report(erasure: Erasure) -> None:
    logger.info("erased %s posts from %s shards", f"{erasure.posts:,}", f"{len(erasure.shards):,}")
    if erasure.not_found:
        logger.info("%s names were not in this corpus; later builds leave them out too", f"{erasure.not_found:,}")
