"""Second step of a build: describe every post by a few numbers, so that the third can decide about all of them.

One task a chunk writes an array of facts, and the MinHash signatures if near duplicates are to be found.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from corpus.chunks import read_content, read_rows, write_content
from corpus.decontaminate import load_index
from corpus.deduplicate import hash_string, hash_words, words_that_count
from corpus.document import OTHER_PREFIX
from corpus.minhash import sign, write_signatures
from corpus.tombstones import Tombstones
from corpus.vault import Vault

FACTS = np.dtype(
    [
        ("id", "<u8"),  # 64-bit hashes
        ("words", "<u8"),
        ("author", "<u8"),  # 0: unknown
        ("created", "<i8"),  # seconds, UNDATED if unknown
        ("retrieved", "<i8"),  # seconds, of the version of the post; 0 if unknown
        ("month", "<i4"),  # year * 12 + month - 1, -1 if unknown
        ("task", "<u2"),  # 1 + the task whose text it holds, 0: none
        ("erased", "u1"),  # 1: the post or its author was erased
        ("elsewhere", "u1"),  # 1: no post of Reddit, so no version of one either
    ]
)
FactArray = npt.NDArray[np.void]
UNDATED = np.iinfo(np.int64).max


class Describe(PipelineStep):
    """Write the facts of one chunk per task.

    Args:
        chunks: the chunks of all dumps.
        folder: where facts and signatures go.
        signatures: whether to write MinHash signatures.
        task_index: a saved `TaskIndex`, None for no decontamination.
        keys_dir: where the tombstones of erased posts are.
        vault: opens the chunks and locks the facts; the signatures are open, since they are mapped.
    """

    type = "🫂 - DEDUP"
    name = "facts"

    def __init__(
        self,
        chunks: list[Path],
        folder: Path,
        *,
        signatures: bool,
        task_index: Path | None,
        keys_dir: Path,
        vault: Vault | None,
    ) -> None:
        super().__init__()
        self.chunks, self.folder, self.signatures = chunks, folder, signatures
        self.task_index, self.keys_dir, self.vault = task_index, keys_dir, vault

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Read a chunk and describe its posts."""
        facts, signatures = [], []
        tombstones = Tombstones(self.keys_dir)
        index = load_index(self.task_index) if self.task_index else None
        for row in read_rows(self.chunks[rank], self.vault):
            words = words_that_count(row["title"], row["text"])
            created, month = row["created_utc"], row["month"]
            facts.append(
                (
                    hash_string(row["id"]),
                    hash_words(words),
                    hash_string(row["author_hash"]),
                    UNDATED if created is None else created,
                    row["retrieved"] or 0,
                    int(month[:4]) * 12 + int(month[5:]) - 1 if month else -1,
                    1 + index.find(row["title"], row["text"]) if index else 0,
                    row["id"] in tombstones or row["author_hash"] in tombstones,
                    row["id"].startswith(OTHER_PREFIX),
                )
            )
            if self.signatures:
                signatures.append(sign(words))
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.signatures:
            write_signatures(self.folder / f"{rank:05d}.signatures", signatures)
        write_content(self.folder / f"{rank:05d}.facts", np.array(facts, dtype=FACTS).tobytes(), self.vault)
        self.stat_update("described", value=len(facts))
        yield from ()


class MarkErased(PipelineStep):
    """Look up the posts of one chunk again, per task, when posts were erased after they had been described.

    Args:
        chunks: the chunks of all dumps.
        folder: the facts, which are changed in place; a task that is killed may be run again.
        keys_dir: where the tombstones are.
        vault: opens the chunks and the facts.
    """

    type = "🫂 - DEDUP"
    name = "tombstones"

    def __init__(self, chunks: list[Path], folder: Path, keys_dir: Path, vault: Vault | None) -> None:
        super().__init__()
        self.chunks, self.folder, self.keys_dir, self.vault = chunks, folder, keys_dir, vault

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Mark what was erased since."""
        tombstones, path = Tombstones(self.keys_dir), self.folder / f"{rank:05d}.facts"
        rows = read_rows(self.chunks[rank], self.vault)
        erased = [row["id"] in tombstones or row["author_hash"] in tombstones for row in rows]
        facts = np.frombuffer(read_content(path, self.vault), dtype=FACTS).copy()
        facts["erased"] |= np.array(erased, dtype=np.uint8)
        write_content(path, facts.tobytes(), self.vault)
        yield from ()


def read_facts(folder: Path, chunks: int, vault: Vault | None) -> FactArray:
    """Return the facts of all posts, (N,), in the order of the chunks."""
    contents = (read_content(folder / f"{chunk:05d}.facts", vault) for chunk in range(chunks))
    parts = [np.frombuffer(content, dtype=FACTS) for content in contents]
    return np.concatenate(parts) if parts else np.empty(0, dtype=FACTS)
