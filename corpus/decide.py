"""Third step of a build: what only the whole corpus can tell. Duplicates, the cap per author, what is held out.

One task reads the facts of all posts and writes one byte a post. Every rule looks at hashes and clocks, never at
the order in which posts were read, so the outcome is the same for any number of workers.

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
from corpus.deduplicate import drop_near_duplicates, first_of_each
from corpus.describe import FactArray, read_facts
from corpus.ingest import read_withdrawn
from corpus.minhash import read_pairs
from corpus.vault import Vault

DECISIONS = (
    "train",
    "held_out",
    "erased",
    "duplicate_id",
    "exact_duplicate",
    "near_duplicate",
    "contaminated",
    "author_cap",
    "author_in_held_out",
)
CODES = {name: code for code, name in enumerate(DECISIONS)}
Decisions = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class DecisionRules:
    """The knobs of the decisions, from the recipe."""

    seed: int
    held_out_share: float
    held_out_months: int
    max_posts_per_author: int
    tasks: list[str]
    """Names of the tasks that posts were compared with."""


class Decide(PipelineStep):
    """Decide about all posts in one task.

    Args:
        chunks: folder of the chunks, where each file's task has noted which posts are withdrawn.
        facts: folder of the facts.
        pairs: folder of the verified near-duplicate pairs.
        chunk_sizes: posts per chunk.
        path: where the decisions go, one byte a post in the order of the chunks.
        rules: the knobs.
        vault: opens the facts.
    """

    type = "🫂 - DEDUP"
    name = "decisions"

    def __init__(
        self,
        chunks: Path,
        facts: Path,
        pairs: Path,
        chunk_sizes: Sequence[int],
        path: Path,
        rules: DecisionRules,
        vault: Vault | None,
    ) -> None:
        super().__init__()
        self.chunks, self.facts, self.pairs, self.path, self.rules = chunks, facts, pairs, path, rules
        self.count, self.vault = len(chunk_sizes), vault

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Read all facts, decide, write, count."""
        facts = read_facts(self.facts, self.count, self.vault)
        mark_withdrawn(facts, read_withdrawn(self.chunks))
        decisions, clusters = decide(facts, read_pairs(self.pairs), self.rules)
        write_atomically(self.path, decisions.tobytes())
        for name, code in CODES.items():
            self.stat_update(f"decided_{name}", value=int((decisions == code).sum()))
        found = facts["task"][decisions == CODES["contaminated"]]
        for number, task in enumerate(self.rules.tasks, start=1):
            self.stat_update(f"task:{task}", value=int((found == number).sum()))
        self.stat_update("text_ids_repeated", value=count_repeated_text_ids(facts))
        for size, count in zip(*np.unique(clusters, return_counts=True), strict=True):
            self.stat_update(f"cluster:{size}", value=int(count))
        yield from ()


def count_repeated_text_ids(facts: FactArray) -> int:
    """Return how many texts from elsewhere have the id of another one with other words: these are no versions."""
    texts = facts[["id", "words"]][facts["elsewhere"] > 0]
    different = np.unique(texts)
    return len(different) - len(np.unique(different["id"]))


def mark_withdrawn(facts: FactArray, withdrawn: npt.NDArray[np.uint64], batch: int = 1_000_000) -> None:
    """Mark the posts that another file calls deleted or removed as erased, a batch at a time to bound memory."""
    if not len(withdrawn):
        return
    for start in range(0, len(facts), batch):
        part = facts[start : start + batch]
        places = np.minimum(np.searchsorted(withdrawn, part["id"]), len(withdrawn) - 1)
        part["erased"] |= withdrawn[places] == part["id"]


def decide(
    facts: FactArray, pairs: npt.NDArray[np.int64], rules: DecisionRules
) -> tuple[Decisions, npt.NDArray[np.int64]]:
    """Decide what happens to each of N posts.

    Args:
        facts: (N,) what `Describe` wrote.
        pairs: (pairs, 2) near duplicates.
        rules: the knobs.

    Returns:
        (N,) codes of `DECISIONS`, and the sizes of the clusters of near duplicates.
    """
    facts = facts.copy()
    decisions = np.full(len(facts), CODES["train"], dtype=np.uint8)
    # The earliest post wins; posts of the same second are ordered by the hash of their id.
    priority = np.empty(len(facts), dtype=np.int64)
    priority[np.lexsort((facts["id"], facts["created"]))] = np.arange(len(facts))

    def drop_repeats(keys: npt.NDArray[np.uint64], first: npt.NDArray[np.int64], reason: str) -> None:
        alive = np.flatnonzero(decisions == CODES["train"])
        decisions[alive[~first_of_each(keys[alive], first[alive])]] = CODES[reason]

    decisions[_erased(facts, pairs)] = CODES["erased"]
    # Of the versions of an edited post the latest stays: what its author has taken out of it is not brought back.
    version = np.empty(len(facts), dtype=np.int64)
    version[np.lexsort((priority, facts["words"], -facts["retrieved"]))] = np.arange(len(facts))
    drop_repeats(facts["id"], version, "duplicate_id")
    del version
    _spread_contamination(facts, pairs)
    decisions[(decisions == CODES["train"]) & (facts["task"] > 0)] = CODES["contaminated"]
    drop_repeats(facts["words"], priority, "exact_duplicate")
    dropped, clusters = drop_near_duplicates(pairs, priority, decisions == CODES["train"])
    decisions[dropped] = CODES["near_duplicate"]
    _cap_authors(facts, decisions, rules)
    _hold_out(facts, decisions, rules)
    return decisions, clusters


def _erased(facts: FactArray, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Mark erased posts and their copies: else a repost that was a duplicate would take the erased post's place."""
    erased = facts["erased"] > 0
    erased |= np.isin(facts["words"], facts["words"][erased])
    near = pairs[erased[pairs].any(axis=1)]
    erased[near] = True
    return erased


def _spread_contamination(facts: FactArray, pairs: npt.NDArray[np.int64]) -> None:
    """A near duplicate of a contaminated post is contaminated too."""
    tasks = facts["task"].copy()  # as they were found: what is spread here is not spread on
    both = np.concatenate([pairs, pairs[:, ::-1]])
    found = tasks[both[:, 0]]
    spread = both[(found > 0) & (tasks[both[:, 1]] == 0)]
    # In the order of tasks, so that the outcome does not hang on the order of the pairs.
    for number in sorted(set(found[found > 0].tolist()), reverse=True):
        facts["task"][spread[tasks[spread[:, 0]] == number][:, 1]] = number


def _cap_authors(facts: FactArray, decisions: Decisions, rules: DecisionRules) -> None:
    if not rules.max_posts_per_author:
        return
    rows = np.flatnonzero((decisions == CODES["train"]) & (facts["author"] != 0))
    rows = rows[np.lexsort((mix(facts["id"][rows], rules.seed), facts["author"][rows]))]
    authors = facts["author"][rows]
    starts = np.flatnonzero(np.r_[True, authors[1:] != authors[:-1]]) if len(rows) else np.empty(0, dtype=np.int64)
    position = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    decisions[rows[position >= rules.max_posts_per_author]] = CODES["author_cap"]


def _hold_out(facts: FactArray, decisions: Decisions, rules: DecisionRules) -> None:
    """Hold out whole authors by hash, or the latest months; no author is on both sides."""
    alive = decisions == CODES["train"]
    if rules.held_out_months:
        dated = alive & (facts["month"] >= 0)
        latest = int(facts["month"][dated].max(initial=-1))
        held = dated & (facts["month"] > latest - rules.held_out_months)
        authors = np.unique(facts["author"][held & (facts["author"] != 0)])
        decisions[alive & ~held & np.isin(facts["author"], authors)] = CODES["author_in_held_out"]
        decisions[held] = CODES["held_out"]
        return
    unit = np.where(facts["author"] != 0, facts["author"], facts["id"])
    bound = np.uint64(min(int(rules.held_out_share * 2**64), 2**64 - 1))
    decisions[alive & (mix(unit, rules.seed) < bound)] = CODES["held_out"]


def mix(values: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """Return pseudo-random 64-bit numbers of hashes (the finalizer of splitmix64), different for every seed."""
    salt = int.from_bytes(hashlib.sha256(f"split {seed}".encode()).digest()[:8], "little")
    mixed = values + np.uint64(salt)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
