"""What only the whole corpus can tell: duplicates, the cap per author, and which posts are held out.

The second step describes every post by a few numbers (one task a chunk); the third reads all of them and decides
(one task). Every rule looks at hashes and clocks, never at the order in which posts were read, so the outcome is
the same for any number of workers.

N = posts of all chunks.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.run_folder import write_atomically
from corpus.chunks import read_rows
from corpus.deduplicate import compared_words, first_of_each, hash_string, hash_words
from corpus.document import document_from_row

FACTS = np.dtype(
    [
        ("id", "<u8"),  # 64-bit hashes
        ("words", "<u8"),
        ("author", "<u8"),  # 0: unknown
        ("created", "<i8"),  # seconds, UNDATED if unknown
        ("month", "<i4"),  # year * 12 + month - 1, -1 if unknown
    ]
)
FactArray = npt.NDArray[np.void]
UNDATED = np.iinfo(np.int64).max
DECISIONS = (
    "train",
    "held_out",
    "duplicate_id",
    "exact_duplicate",
    "near_duplicate",
    "contaminated",
    "author_cap",
    "author_in_held_out",
)
CODES = {name: code for code, name in enumerate(DECISIONS)}


@dataclasses.dataclass(frozen=True)
class SplitRule:
    """How the held-out part is drawn."""

    seed: int
    share: float
    months: int
    max_posts_per_author: int


class Describe(PipelineStep):
    """Write the facts of one chunk per task as a NumPy array."""

    type = "🫂 - DEDUP"
    name = "facts"

    def __init__(self, chunks: list[Path], folder: Path) -> None:
        super().__init__()
        self.chunks, self.folder = chunks, folder

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Read a chunk and describe its posts."""
        facts = []
        for row in read_rows(self.chunks[rank]):
            document = document_from_row(row)
            created, month = row["created_utc"], row["month"]
            facts.append(
                (
                    hash_string(document.id),
                    hash_words(compared_words(document)),
                    hash_string(row["author_hash"]),
                    UNDATED if created is None else created,
                    int(month[:4]) * 12 + int(month[5:]) - 1 if month else -1,
                )
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / f"{rank:05d}.facts", np.array(facts, dtype=FACTS).tobytes())
        self.stat_update("described", value=len(facts))
        yield from ()


class Decide(PipelineStep):
    """Decide about all posts in one task; writes one byte a post, in the order of the chunks."""

    type = "🫂 - DEDUP"
    name = "decisions"

    def __init__(self, facts_folder: Path, chunk_sizes: Sequence[int], path: Path, rule: SplitRule) -> None:
        super().__init__()
        self.facts_folder, self.chunk_sizes, self.path, self.rule = facts_folder, list(chunk_sizes), path, rule

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Read all facts, decide, write, count."""
        parts = [read_facts(self.facts_folder, chunk) for chunk in range(len(self.chunk_sizes))]
        decisions = decide(np.concatenate(parts) if parts else np.empty(0, dtype=FACTS), self.rule)
        write_atomically(self.path, decisions.tobytes())
        for name, code in CODES.items():
            self.stat_update(f"decided_{name}", value=int((decisions == code).sum()))
        yield from ()


def read_facts(folder: Path, chunk: int) -> FactArray:
    """Return the facts of one chunk."""
    return np.fromfile(folder / f"{chunk:05d}.facts", dtype=FACTS)


def decide(facts: FactArray, rule: SplitRule) -> npt.NDArray[np.uint8]:
    """Return the code of what happens to each of N posts."""
    decisions = np.full(len(facts), CODES["train"], dtype=np.uint8)
    # The earliest post wins; posts of the same second are ordered by the hash of their id.
    priority = np.empty(len(facts), dtype=np.int64)
    priority[np.lexsort((facts["id"], facts["created"]))] = np.arange(len(facts))

    def drop_repeats(keys: npt.NDArray[np.uint64], reason: str) -> None:
        alive = np.flatnonzero(decisions == CODES["train"])
        decisions[alive[~first_of_each(keys[alive], priority[alive])]] = CODES[reason]

    drop_repeats(facts["id"], "duplicate_id")
    drop_repeats(facts["words"], "exact_duplicate")
    _cap_authors(facts, decisions, rule)
    _hold_out(facts, decisions, rule)
    return decisions


def _cap_authors(facts: FactArray, decisions: npt.NDArray[np.uint8], rule: SplitRule) -> None:
    if not rule.max_posts_per_author:
        return
    rows = np.flatnonzero((decisions == CODES["train"]) & (facts["author"] != 0))
    rows = rows[np.lexsort((_mix(facts["id"][rows], rule.seed), facts["author"][rows]))]
    authors = facts["author"][rows]
    starts = np.flatnonzero(np.r_[True, authors[1:] != authors[:-1]]) if len(rows) else np.empty(0, dtype=np.int64)
    position = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    decisions[rows[position >= rule.max_posts_per_author]] = CODES["author_cap"]


def _hold_out(facts: FactArray, decisions: npt.NDArray[np.uint8], rule: SplitRule) -> None:
    """Hold out whole authors by hash, or the latest months; no author is on both sides."""
    alive = decisions == CODES["train"]
    if rule.months:
        dated = alive & (facts["month"] >= 0)
        latest = int(facts["month"][dated].max(initial=-1))
        held = dated & (facts["month"] > latest - rule.months)
        authors = np.unique(facts["author"][held & (facts["author"] != 0)])
        decisions[alive & ~held & np.isin(facts["author"], authors)] = CODES["author_in_held_out"]
        decisions[held] = CODES["held_out"]
        return
    unit = np.where(facts["author"] != 0, facts["author"], facts["id"])
    bound = np.uint64(min(int(rule.share * 2**64), 2**64 - 1))
    decisions[alive & (_mix(unit, rule.seed) < bound)] = CODES["held_out"]


def _mix(values: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """Return pseudo-random 64-bit numbers of hashes (the finalizer of splitmix64), different for every seed."""
    salt = int.from_bytes(hashlib.sha256(f"split {seed}".encode()).digest()[:8], "little")
    mixed = values + np.uint64(salt)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
