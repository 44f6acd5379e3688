"""From a corpus folder to the micro-batches a process trains on, and to those it evaluates on.

M = predictions, N = tokens of a micro-batch.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pretrain.config import PretrainRecipe
from pretrain.last_layer import Asked
from pretrain.masking import EVALUATION_SEED, MaskedSequences, Masker, MaskingKind
from pretrain.packing import Documents, Draw, IntArray, PackedSequences, SequencePacker, best_fit, cut_sequences
from pretrain.words import WordWeights, word_edges

EVALUATION_MLM_PROBABILITY = 0.15
EVALUATION_WINDOW = 512
"""Held-out sequences packed together at a time."""


@dataclasses.dataclass(frozen=True)
class MicroBatch:
    """What the model needs, on its device.

    Attributes:
        input_ids, position_ids: (N,) tokens.
        lengths: tokens of each sequence.
        asked: the M positions to predict.
        labels: (M,) the original tokens; −100 is padding.
        documents: (M,) document of each prediction, for figures by subreddit.
        masked_count: labels that are real.
        real_tokens: tokens that are no padding.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: list[int]
    asked: Asked
    labels: Tensor
    documents: Tensor
    masked_count: int
    real_tokens: int


def build_packer(documents: Documents, tokenizer: PreTrainedTokenizerBase, recipe: PretrainRecipe) -> SequencePacker:
    """Return the packer of a split, with the tokenizer's special tokens."""
    table = cut_sequences(documents.lengths, recipe.max_seq_length - 2, recipe.long_documents)
    return SequencePacker(
        documents,
        table,
        prefix_ids=[tokenizer.cls_token_id],
        suffix_ids=[tokenizer.sep_token_id],
        pad_id=tokenizer.pad_token_id,
        max_seq_length=recipe.max_seq_length,
    )


def build_masker(
    tokenizer: PreTrainedTokenizerBase, seed: int, kind: MaskingKind = "token", weights: WordWeights | None = None
) -> Masker:
    """Return the masker of a tokenizer's vocabulary; see `Masker` for the rest."""
    return Masker(
        mask_id=tokenizer.mask_token_id,
        vocabulary_size=len(tokenizer),
        special_ids=tokenizer.all_special_ids,
        seed=seed,
        kind=kind,
        edges=word_edges(tokenizer),
        weights=weights,
    )


def to_device(packed: PackedSequences, masked: MaskedSequences, device: torch.device) -> MicroBatch:
    """Move a masked micro-batch to the model's device."""

    def move(array: IntArray) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    owners = np.searchsorted(np.cumsum(packed.lengths), masked.masked_positions, side="right")
    counts = np.bincount(owners, minlength=len(packed.lengths)).tolist()
    return MicroBatch(
        input_ids=move(masked.input_ids),
        position_ids=move(packed.position_ids),
        lengths=packed.lengths,
        asked=Asked(move(masked.masked_positions), counts),
        labels=move(masked.labels),
        documents=move(packed.documents[masked.masked_positions]),
        masked_count=masked.masked_count,
        real_tokens=packed.real_tokens,
    )


def choose_held_out(packer: SequencePacker, ids: Sequence[str], most_tokens: int | None) -> IntArray:
    """Return the sequences that an evaluation reads, ascending: the same ones whatever is trained, all if they fit.

    Documents are taken by a fixed hash of their ids. Shards follow the dumps' files, one subreddit or month behind
    the other, so the first of them are no sample. What a larger cap reads holds what a smaller one does.

    Args:
        packer: of the held-out documents.
        ids: of the same documents, one each.
        most_tokens: the last sequence may exceed it; None reads all.
    """
    lengths = packer.sequence_lengths
    if most_tokens is None or int(lengths.sum()) <= most_tokens:
        return np.arange(len(lengths))
    digests = np.array([_held_out_digest(name) for name in ids], dtype=np.uint64)
    order = np.argsort(digests[packer.sequence_documents], kind="stable")
    enough = int(np.searchsorted(np.cumsum(lengths[order]), most_tokens)) + 1
    return np.sort(order[:enough])


def _held_out_digest(document_id: str) -> int:
    text = f"{EVALUATION_SEED}:{document_id}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def held_out_batches(
    packer: SequencePacker,
    masker: Masker,
    recipe: PretrainRecipe,
    *,
    chosen: IntArray,
    rank: int,
    world_size: int,
    device: torch.device,
) -> Iterator[MicroBatch]:
    """Yield this process's share of the held-out micro-batches: the same masks whatever the recipe's own.

    Every process gets as many; the last may be of padding alone.

    `masker` must have been built with `EVALUATION_SEED`; `chosen` are the sequences from `choose_held_out`.
    """
    size, lengths = recipe.micro_batch_tokens, packer.sequence_lengths
    waiting = chosen.tolist()
    number = 0
    while waiting:
        window = waiting[:EVALUATION_WINDOW]
        bins, left_over = best_fit(lengths[window], 1, size)
        waiting = [window[item] for item in left_over] + waiting[EVALUATION_WINDOW:]
        if number % world_size == rank:
            packed = packer.pack([Draw(0, window[item]) for item in sorted(bins[0])], size)
            yield to_device(packed, masker.mask(packed, EVALUATION_MLM_PROBABILITY), device)
        number += 1
    if 0 < number % world_size <= rank:  # a sharded model has to be called as often on every process
        packed = packer.pack([], size)
        yield to_device(packed, masker.mask(packed, EVALUATION_MLM_PROBABILITY), device)


def evaluation_masker(tokenizer: PreTrainedTokenizerBase) -> Masker:
    """Return the masker of held-out evaluations: fixed masks."""
    return build_masker(tokenizer, EVALUATION_SEED)
