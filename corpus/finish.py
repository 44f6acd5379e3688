"""Last step of a build: de-identify the posts that stay, tokenize them, write documents and token shards.

Labelled tasks publish masked texts: what is one only now that its names are masked goes now.

One task a chunk; chunk number and shard number are the same.
"""

import dataclasses
import functools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from tokenizers import Tokenizer

from corpus.canaries import planted_rows
from corpus.chunks import read_rows, write_rows
from corpus.decide import CODES
from corpus.decontaminate import load_index
from corpus.deidentify import Deidentifier, MaskedPost, mask_posts
from corpus.shards import SPLITS, TokenizedDocument, documents_path, split_folder, write_shard
from corpus.vault import Vault

BATCH_DOCUMENTS = 256


@dataclasses.dataclass(frozen=True)
class FinishSettings:
    """What the last step needs from the recipe."""

    decisions: Path
    chunk_starts: list[int]
    tokenizer_dir: Path
    deidentifier: str
    output: Path
    canaries: Path | None
    """The sealed canaries, None for none."""
    task_index: Path | None
    """A saved `TaskIndex`, None for no decontamination."""
    vault: Vault | None
    """Opens the chunks."""


class Finish(PipelineStep):
    """De-identify, tokenize and write one chunk per task."""

    type = "💽 - WRITER"
    name = "shards"

    def __init__(self, chunks: list[Path], settings: FinishSettings) -> None:
        super().__init__()
        self.chunks, self.settings = chunks, settings

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Write the shards of both splits; a split without posts in this chunk gets none."""
        rows = list(read_rows(self.chunks[rank], self.settings.vault))
        start = self.settings.chunk_starts[rank]
        decisions = np.fromfile(self.settings.decisions, dtype=np.uint8, offset=start, count=len(rows))
        counts: Counter[str] = Counter()
        for split in SPLITS:
            kept = [row for row, code in zip(rows, decisions, strict=True) if code == CODES[split]]
            planted = self._canaries(rank) if split == "train" else []
            if not kept and not planted:
                continue
            kept, posts = self._mask(kept, counts)
            if not kept and not planted:
                continue
            texts = posts + [("", canary["text"]) for canary in planted]
            counts[f"documents_{split}"] += len(kept)
            counts.update(f"month:{row['month'] or 'unknown'}" for row in kept)
            counts.update(f"subreddit:{row['subreddit'] or 'unknown'}" for row in kept)
            kept += planted
            tokenizer = load_tokenizer(self.settings.tokenizer_dir)
            documents = tokenize(tokenizer, kept, texts)
            write_rows(documents_path(self.settings.output, split, rank), map(_published_row, kept, texts))
            folder = split_folder(self.settings.output, split)
            tokens = write_shard(folder, rank, documents, tokenizer.get_vocab_size())
            counts[f"tokens_{split}"] += tokens
            counts["canary_copies"] += len(planted)
            counts.update(f"length:{_length_band(document)}" for document in documents)
        for label, count in sorted(counts.items()):
            self.stat_update(label, value=count)
        yield from ()

    def _canaries(self, chunk: int) -> list[dict[str, Any]]:
        path = self.settings.canaries
        return planted_rows(path, chunk, len(self.chunks)) if path else []

    def _mask(
        self, rows: list[dict[str, Any]], counts: Counter[str]
    ) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
        """Return the rows that stay, and what is published of each: title and body."""
        deidentifier = load_deidentifier(self.settings.deidentifier)
        index = load_index(self.settings.task_index) if self.settings.task_index else None
        posts: list[MaskedPost] = []
        for first in range(0, len(rows), BATCH_DOCUMENTS):
            batch = [(row["title"], row["text"]) for row in rows[first : first + BATCH_DOCUMENTS]]
            posts += mask_posts(deidentifier, batch)
        kept, texts = [], []
        for row, post in zip(rows, posts, strict=True):
            # A post in which nothing was found has been compared as it is.
            task = index.find(post.title, post.text) if index and post.labels else -1
            if index and task >= 0:
                counts.update(("contaminated", f"task:{index.tasks[task]}"))
                continue
            counts.update(f"identifier:{label}" for label in post.labels)
            kept.append(row)
            texts.append((post.title, post.text))
        return kept, texts


@functools.cache
def load_deidentifier(backend: str) -> Deidentifier:
    """Return this process's de-identifier; models are loaded once."""
    return Deidentifier(backend)


@functools.cache
def load_tokenizer(folder: Path) -> Tokenizer:
    """Return this process's tokenizer, without the truncation and padding that a saved one may carry."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokenize(tokenizer: Tokenizer, rows: list[dict[str, Any]], texts: list[tuple[str, str]]) -> list[TokenizedDocument]:
    """Return the posts as token ids, title first, without special tokens."""
    titles = tokenizer.encode_batch([title for title, _ in texts], add_special_tokens=False)
    bodies = tokenizer.encode_batch([text for _, text in texts], add_special_tokens=False)
    return [
        TokenizedDocument(
            id=row["id"],
            token_ids=[*title.ids, *body.ids],
            title_length=len(title.ids),
            subreddit=row["subreddit"],
            month=row["month"],
            author_hash=row["author_hash"],
        )
        for row, title, body in zip(rows, titles, bodies, strict=True)
    ]


def _published_row(row: dict[str, Any], text: tuple[str, str]) -> dict[str, Any]:
    fields = {name: row[name] for name in ("id", "subreddit", "month", "author_hash")}
    return {"id": fields.pop("id"), "title": text[0], "text": text[1], **fields}


def _length_band(document: TokenizedDocument) -> int:
    """Return the power of two at or below the length in tokens."""
    return 1 << max(len(document.token_ids).bit_length() - 1, 0)
