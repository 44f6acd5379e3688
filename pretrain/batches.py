"""From a corpus folder to the micro-batches that a model reads.

M = predictions, N = tokens of a micro-batch.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pretrain.config import PretrainRecipe
from pretrain.hashing import Uint64Array
from pretrain.last_layer import Asked
from pretrain.masking import MaskedSequences, Masker, MaskingKind
from pretrain.packing import Documents, IntArray, PackedSequences, SequencePacker, cut_sequences
from pretrain.words import WordWeights, word_edges


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
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    kind: MaskingKind = "token",
    weights: WordWeights | None = None,
    document_keys: Uint64Array | None = None,
) -> Masker:
    """Return the masker of a tokenizer's vocabulary; see `Masker` for the rest."""
    needs_words = kind != "token" or weights is not None
    return Masker(
        mask_id=tokenizer.mask_token_id,
        vocabulary_size=len(tokenizer),
        special_ids=tokenizer.all_special_ids,
        seed=seed,
        kind=kind,
        edges=word_edges(tokenizer) if needs_words else None,
        weights=weights,
        document_keys=document_keys,
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
