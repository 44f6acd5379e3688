"""From a corpus folder to the micro-batches a process trains on, and to those it evaluates on.

M = predictions, N = tokens of a micro-batch.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pretrain.config import PretrainRecipe
from pretrain.last_layer import Asked
from pretrain.masking import EVALUATION_SEED, MaskedSequences, Masker, MaskingKind
from pretrain.packing import Documents, Draw, IntArray, PackedSequences, SequencePacker, best_fit, cut_sequences
from pretrain.words import WordWeights, starting_ids

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
        starts_word=starting_ids(tokenizer),
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


def held_out_batches(
    packer: SequencePacker, masker: Masker, recipe: PretrainRecipe, *, rank: int, world_size: int, device: torch.device
) -> Iterator[MicroBatch]:
    """Yield this process's share of the held-out micro-batches: the same masks whatever the recipe's own.

    Every process gets as many; the last may be of padding alone.

    `masker` must have been built with `EVALUATION_SEED`.
    """
    size, lengths = recipe.micro_batch_tokens, packer.sequence_lengths
    read = np.cumsum(lengths)
    limit = len(lengths) if recipe.eval_max_tokens is None else int(np.searchsorted(read, recipe.eval_max_tokens)) + 1
    waiting = list(range(min(limit, len(lengths))))
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
