"""The held-out texts of a corpus as every evaluation reads them, whatever is trained.

Which texts are read, and where their masks lie, depends on their ids alone: not on the recipe, on what else is held
out, or on the corpus's shards. So figures of different runs compare, and those of a corpus that was built anew.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from configs.errors import UserError
from corpus.shards import DOCUMENTS_SUFFIX, TokenShards, split_folder
from pretrain.batches import MicroBatch, build_masker, build_packer, to_device
from pretrain.config import PretrainRecipe
from pretrain.hashing import Uint64Array
from pretrain.masking import EVALUATION_SEED
from pretrain.packing import Draw, IntArray, best_fit

EVALUATION_MLM_PROBABILITY = 0.15
WINDOW = 512
"""Sequences packed together at a time."""


class HeldOutTexts:
    """The held-out part of one corpus, but for what stands in a training part.

    Args:
        corpus: its folder.
        tokenizer: the corpus's.
        recipe: the length of sequences, the size of micro-batches, and `eval_max_tokens`; nothing else counts.
        trained: training parts of other corpora that a model may have read; posts bear the same ids there.

    Attributes:
        subreddits: of each document.

    Raises:
        UserError: nothing is held out, or nothing that is in no training part.
    """

    def __init__(
        self,
        corpus: Path,
        tokenizer: PreTrainedTokenizerBase,
        recipe: PretrainRecipe,
        trained: Iterable[TokenShards] = (),
    ) -> None:
        documents = _UnseenDocuments(_held_out_shards(corpus), trained)
        digests = np.array([_digest(name) for name in documents.ids], dtype=np.uint64)
        self.subreddits = documents.subreddits
        self._size = recipe.micro_batch_tokens
        self._packer = build_packer(documents, tokenizer, recipe)
        self._masker = build_masker(tokenizer, EVALUATION_SEED, document_keys=digests)
        self._chosen = self._choose(digests, recipe.eval_max_tokens)
        self._ids = documents.ids

    def _choose(self, digests: Uint64Array, most_tokens: int | None) -> IntArray:
        """Return the sequences that are read, ascending: all if they fit, else those of the smallest digests.

        Shards follow the dumps' files, one subreddit or month behind the other, so the first of them are no sample.
        What a larger cap reads holds what a smaller one does; the last sequence may exceed it.
        """
        lengths = self._packer.sequence_lengths
        if most_tokens is None or int(lengths.sum()) <= most_tokens:
            return np.arange(len(lengths))
        order = np.argsort(digests[self._packer.sequence_documents], kind="stable")
        enough = int(np.searchsorted(np.cumsum(lengths[order]), most_tokens)) + 1
        return np.sort(order[:enough])

    @property
    def ids(self) -> set[str]:
        """The ids of the documents that are read."""
        return {self._ids[document] for document in self._packer.sequence_documents[self._chosen]}

    def batches(self, *, rank: int, world_size: int, device: torch.device) -> Iterator[MicroBatch]:
        """Yield a process's share of the micro-batches: each gets as many, the last may be of padding alone."""
        lengths, waiting, number = self._packer.sequence_lengths, self._chosen.tolist(), 0
        while waiting:
            window = waiting[:WINDOW]
            bins, left_over = best_fit(lengths[window], 1, self._size)
            waiting = [window[item] for item in left_over] + waiting[WINDOW:]
            if number % world_size == rank:
                yield self._build([window[item] for item in sorted(bins[0])], device)
            number += 1
        if 0 < number % world_size <= rank:  # a sharded model has to be called as often on every process
            yield self._build([], device)

    def _build(self, sequences: list[int], device: torch.device) -> MicroBatch:
        packed = self._packer.pack([Draw(0, sequence) for sequence in sequences], self._size)
        return to_device(packed, self._masker.mask(packed, EVALUATION_MLM_PROBABILITY), device)


class _UnseenDocuments:
    """Held-out documents that stand in no training part: corpora built with other shares hold out other authors."""

    def __init__(self, held_out: TokenShards, trained: Iterable[TokenShards]) -> None:
        ids = set(held_out.ids)
        seen = {name for shards in trained for name in ids.intersection(shards.ids)}
        self._documents = held_out
        self._kept = np.flatnonzero([name not in seen for name in held_out.ids])
        if len(self._kept) == 0 < len(ids):
            raise UserError(
                "every held-out document stands in the training part of another corpus of this run",
                where="corpus",
                fix="Build the corpora with the same seed, keys_dir and held_out_share.",
            )
        self.lengths = held_out.lengths[self._kept]
        self.ids = [held_out.ids[document] for document in self._kept]
        self.subreddits = [held_out.subreddits[document] for document in self._kept]

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, document: int) -> npt.NDArray[Any]:
        return self._documents[int(self._kept[document])]


def _digest(document_id: str) -> int:
    text = f"{EVALUATION_SEED}:{document_id}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _held_out_shards(corpus: Path) -> TokenShards:
    if not any(split_folder(corpus, "held_out").glob(f"*{DOCUMENTS_SUFFIX}")):
        raise UserError(
            "the corpus has no held-out part, on which pretraining measures its loss",
            where=corpus,
            fix="Build it with a held_out_share over 0, such as 0.01.",
        )
    return TokenShards(corpus, "held_out")
