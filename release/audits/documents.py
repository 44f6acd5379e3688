"""Read what the corpus stage leaves: documents by split, and the canaries of its sealed folder.

Texts stay in memory and go nowhere: an audit hands out numbers.
"""

import dataclasses
import hashlib
import heapq
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs.errors import UserError
from configs.manifest import read_manifest

CANARY_FILE = Path("sealed") / "canaries.jsonl"
WORD = re.compile(r"\w+")


@dataclasses.dataclass(frozen=True)
class Canary:
    """A random sentence and how often the corpus stage planted it."""

    id: str
    text: str
    repeats: int


@dataclasses.dataclass(frozen=True)
class Document:
    """A de-identified document; `author_hash` is empty if its author is unknown."""

    id: str
    text: str
    author_hash: str

    @property
    def digest(self) -> bytes:
        """The `text_digest` of its text."""
        return text_digest(self.text)


@dataclasses.dataclass(frozen=True)
class AuditedData:
    """A corpus that a model was trained on, or a classifier's task; only a corpus has documents.

    Attributes:
        folder: where it lies.
        everything: the folders of all that the model was trained on, this one among them. What one of them holds out
            may be in the training part of another, and then it is no text that the model has not seen.
        share_read: the share of its training part that the model was trained on at the least; None if nobody knows.
        gone: names of corpora that the model was trained on, too, and that cannot be read any more.
    """

    folder: Path
    everything: tuple[Path, ...]
    share_read: float | None = None
    gone: tuple[str, ...] = ()

    def canaries(self) -> list[Canary]:
        """Return its canaries."""
        return read_canaries(self.folder)

    def training(self) -> Iterator[Document]:
        """Yield the documents of its training part."""
        return read_documents(self.folder, "train")

    def held_out(self) -> Iterator[Document]:
        """Yield the held-out documents that no other corpus has in its training part, by id or by text.

        Reddit's ids are the same everywhere; other texts are numbered by the corpus that they came into.
        """
        others = [folder for folder in self.everything if folder != self.folder]
        seen: set[str | bytes] = set()
        for folder in others:
            for document in read_documents(folder, "train"):
                seen |= {document.id, document.digest}
        for document in read_documents(self.folder, "held_out"):
            if document.id not in seen and document.digest not in seen:
                yield document

    def authors_trained_on(self) -> frozenset[str]:
        """Return who has a document in any training part."""
        documents = (document for folder in self.everything for document in read_documents(folder, "train"))
        return frozenset(document.author_hash for document in documents if document.author_hash)


def text_digest(text: str) -> bytes:
    """Return a hash of the words in lower case: the same for one text with other spaces, capitals or punctuation."""
    return hashlib.blake2b(" ".join(WORD.findall(text.casefold())).encode(), digest_size=16).digest()


def check_together(folders: Sequence[Path]) -> None:
    """Refuse corpora of one model that cannot be audited side by side.

    Raises:
        UserError: two of them planted the same sentences, or hashed their authors with different keys.
    """
    owner: dict[str, Path] = {}
    for folder in folders:
        for canary in read_canaries(folder):
            if owner.setdefault(canary.text, folder) != folder:
                raise UserError(
                    f"has planted the same canaries as {owner[canary.text]}: the model saw them more often than either "
                    "corpus says",
                    where=folder,
                    fix="Build one of them anew, and train on that: each build draws canaries of its own.",
                )
    keys = {folder: read_manifest(folder).counts.get("author_key") for folder in folders}
    known = {folder: key for folder, key in keys.items() if key}
    if len(set(known.values())) > 1:
        first, other = next((a, b) for a, b in itertools.pairwise(known) if known[a] != known[b])
        raise UserError(
            f"its authors were hashed with another key than those of {first}: whether one wrote in both cannot be told",
            where=other,
            fix="Build all corpora of a model with one keys_dir.",
        )


def read_canaries(corpus_dir: Path) -> list[Canary]:
    """Return the canaries of a corpus; none if it was built without."""
    path = corpus_dir / CANARY_FILE
    if CANARY_FILE.as_posix() not in read_manifest(corpus_dir).outputs:
        return []
    canaries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            values = json.loads(line)
            canaries.append(Canary(str(values["id"]), str(values["text"]), int(values["repeats"])))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"not a canary ({type(error).__name__})", where=f"{path}:{number}") from error
    return canaries


def read_documents(corpus_dir: Path, split: str) -> Iterator[Document]:
    """Yield the documents of `train` or `held_out`: of the files in the corpus's manifest, as others may lie beside."""
    import zstandard

    folder = corpus_dir / "documents" / split
    listed = (corpus_dir / name for name in sorted(read_manifest(corpus_dir).outputs))
    paths = [path for path in listed if path.parent == folder and path.name.endswith(".jsonl.zst")]
    if not paths:
        raise UserError(f"no documents of split {split!r}", where=folder, fix="Run `mindshift corpus build`.")
    for path in paths:
        with path.open("rb") as raw, zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(raw) as stream:
            for number, line in enumerate(io.TextIOWrapper(stream, encoding="utf-8"), start=1):
                try:
                    values = json.loads(line)
                    text = f"{values.get('title') or ''} {values['text']}".strip()
                    yield Document(str(values["id"]), text, str(values.get("author_hash") or ""))
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(f"not a document ({type(error).__name__})", where=f"{path}:{number}") from error


def sample_documents(
    documents: Iterator[Document], count: int, *, seed: int, without_authors: frozenset[str] = frozenset()
) -> list[Document]:
    """Return `count` documents at random, at most one of each author; the same ones for the same seed.

    Args:
        documents: all of a split, in any order.
        count: how many to keep; fewer if there are no more.
        seed: of the draw.
        without_authors: authors whose documents are left out.
    """
    heap: list[tuple[int, str, Document]] = []
    best_of_author: dict[str, int] = {}
    for document in documents:
        author = document.author_hash
        if author and author in without_authors:
            continue
        key = int.from_bytes(hashlib.blake2b(f"{seed}:{document.id}".encode(), digest_size=8).digest())
        if author and best_of_author.setdefault(author, key) < key:
            continue
        if author:
            best_of_author[author] = key
        heapq.heappush(heap, (-key, document.id, document))
        if len(heap) > 2 * count + 64:  # room for earlier documents of an author that a later one replaces
            heapq.heappop(heap)
    kept = [
        document
        for key, _, document in sorted(heap, key=lambda entry: -entry[0])
        if not document.author_hash or best_of_author[document.author_hash] == -key
    ]
    return kept[:count]
