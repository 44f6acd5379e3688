"""Corrupt tokens for masked language modelling (BERT, arXiv:1810.04805 §3.1), by token, by word or by span.

Every decision is a hash of (seed, epoch, document, position in the document): no generator has a state, so a
document is masked the same way wherever it is packed, on whichever process, before and after a resume.

- `token`: each token by itself.
- `whole_word`: all pieces of a word or none.
- `span`: runs of whole words, their length geometric with a mean of 3.8; all of a span becomes `[MASK]`, random tokens
  or nothing else (SpanBERT, arXiv:1907.10529 §3.1). Unlike there lengths are not cut at ten words, the share holds in
  the mean rather than in each sequence, and there is no loss on a span's borders.

Words may weigh more than others (`words.WordWeights`): a lexicon's (DisorBERT, ACL 2023), or those that set the
domain apart (Difference-Masking, arXiv:2305.14577). Whatever the choice, the expected share is `mlm_probability`.

N = tokens of a micro-batch, M = tokens to predict, padded to a multiple of `PREDICTION_MULTIPLE`, W = words.
"""

import dataclasses
from typing import Literal

import numpy as np
import numpy.typing as npt

from pretrain.hashing import Uint64Array, mix, uniform
from pretrain.packing import IntArray, PackedSequences
from pretrain.words import WordEdges, Words, WordWeights, find_words

IGNORED_LABEL = -100
PREDICTION_MULTIPLE = 64
"""Few different M: a CPU kernel is built for every new shape, and memory grows with them."""
MASK_SHARE, RANDOM_SHARE = 0.8, 0.1
EVALUATION_SEED = 20180411
"""Held-out masks depend on it and on the texts' ids, never on the recipe (`held_out.py`)."""
SPAN_CONTINUES = 1 - 1 / 3.8
"""How often a span goes on to the next word: 3.8 words in the mean, as in SpanBERT."""
HIGHEST_PROBABILITY = 0.8
"""However much a word weighs, it stays visible this rarely at most: its meaning has to come from somewhere."""

MaskingKind = Literal["token", "whole_word", "span"]


@dataclasses.dataclass(frozen=True)
class MaskedSequences:
    """A micro-batch ready for the model.

    Attributes:
        input_ids: (N,) tokens after corruption.
        masked_positions: (M,) where predictions are asked for, ascending.
        labels: (M,) the original tokens; −100 where M is only padded.
        masked_count: how many labels are real.
    """

    input_ids: IntArray
    masked_positions: IntArray
    labels: IntArray
    masked_count: int


class Masker:
    """Choose tokens and corrupt them: 80 % `[MASK]`, 10 % a random token, 10 % unchanged.

    Args:
        mask_id: the mask token.
        vocabulary_size: random tokens are drawn from it.
        special_ids: tokens that are never drawn.
        seed: seed of the masks.
        kind: what is chosen as one.
        edges: where words begin and end; needed but for `token` without weights.
        weights: how much more often some words are chosen.
        document_keys: what the masks of each document depend on; its number if there are none.
    """

    def __init__(
        self,
        *,
        mask_id: int,
        vocabulary_size: int,
        special_ids: list[int],
        seed: int,
        kind: MaskingKind = "token",
        edges: WordEdges | None = None,
        weights: WordWeights | None = None,
        document_keys: Uint64Array | None = None,
    ) -> None:
        self._mask_id, self._seed, self._kind, self._weights = mask_id, seed, kind, weights
        self._edges, self._document_keys = edges, document_keys
        self._ordinary_ids = np.setdiff1d(np.arange(vocabulary_size), special_ids)

    def mask(self, packed: PackedSequences, probability: float) -> MaskedSequences:
        """Choose an expected share of `probability` of the tokens; special tokens and padding are never chosen."""
        tokens = np.flatnonzero(packed.document_positions >= 0)
        keys = self._keys(packed, tokens)
        chosen, of_one = self._choose(packed, tokens, keys, probability)
        positions, keys, of_one = tokens[chosen], keys[chosen], of_one[chosen]

        input_ids = packed.input_ids.copy()
        how = uniform(mix(of_one + np.uint64(1)))
        input_ids[positions[how < MASK_SHARE]] = self._mask_id
        replaced = (how >= MASK_SHARE) & (how < MASK_SHARE + RANDOM_SHARE)
        drawn = mix(keys[replaced] + np.uint64(2)) % np.uint64(len(self._ordinary_ids))
        input_ids[positions[replaced]] = self._ordinary_ids[drawn.astype(np.int64)]
        return _pad_predictions(input_ids, positions, packed.input_ids[positions])

    def _choose(
        self, packed: PackedSequences, tokens: IntArray, keys: Uint64Array, probability: float
    ) -> tuple[npt.NDArray[np.bool_], Uint64Array]:
        """Return which of the ordinary tokens are chosen, and the key by which each is corrupted."""
        if self._edges is None or (self._kind == "token" and self._weights is None):
            return uniform(keys) < probability, keys
        words = find_words(packed.input_ids, packed.document_positions, self._edges)
        owner = words.word_of[tokens]
        wanted = np.full(len(words.starts), probability)
        if self._weights is not None:
            wanted = np.minimum(wanted * self._weights.of(packed.input_ids, words), HIGHEST_PROBABILITY)
        if self._kind == "token":
            return uniform(keys) < wanted[owner], keys
        of_words = keys[np.searchsorted(tokens, words.starts)]
        if self._kind == "whole_word":
            return (uniform(of_words) < wanted)[owner], keys
        covered, first = _spans(packed, words, of_words, wanted)
        return covered[owner], of_words[first][owner]

    def _keys(self, packed: PackedSequences, tokens: IntArray) -> Uint64Array:
        """Return one 64-bit hash a token."""
        seed = mix(np.array([self._seed], dtype=np.uint64))
        numbers = packed.documents[tokens]
        of_document = numbers.astype(np.uint64) if self._document_keys is None else self._document_keys[numbers]
        document = mix(seed ^ of_document)
        epoch = mix(document ^ packed.epochs[tokens].astype(np.uint64))
        return mix(epoch ^ packed.document_positions[tokens].astype(np.uint64))


def _spans(
    packed: PackedSequences, words: Words, keys: Uint64Array, wanted: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.bool_], IntArray]:
    """Return (W,): words covered by a span that begins at them or before, in their own sequence; and its first word.

    A word is covered if a span begins at it, or goes on from the word before: it does so with a fixed probability,
    which makes lengths geometric, but into a word that is wanted less only as often as that one allows. Spans begin
    as often as it takes for each word to be covered as `wanted`.
    """
    count = len(words.starts)
    if count == 0:
        return np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.int64)
    sequence = np.searchsorted(np.cumsum(packed.lengths), words.starts, side="right")
    is_first = np.concatenate([[True], sequence[1:] != sequence[:-1]])
    before = np.concatenate([[0.0], wanted[:-1]])
    continues = np.where(is_first, 0.0, np.minimum(SPAN_CONTINUES, wanted / np.maximum(before, 1e-9)))
    reached = continues * before
    begins = uniform(keys) < 1 - (1 - wanted) / (1 - reached)
    ends_before = uniform(mix(keys + np.uint64(3))) >= continues
    numbers = np.arange(count)
    last_begin = np.maximum.accumulate(np.where(begins, numbers, -1))
    last_break = np.maximum.accumulate(np.where(ends_before, numbers, 0))
    covered: npt.NDArray[np.bool_] = last_begin >= last_break
    opens = covered & (ends_before | ~np.concatenate([[False], covered[:-1]]))
    return covered, np.maximum.accumulate(np.where(opens, numbers, 0))


def _pad_predictions(input_ids: IntArray, positions: IntArray, labels: IntArray) -> MaskedSequences:
    count = len(positions)
    size = min(len(input_ids), -(-max(count, 1) // PREDICTION_MULTIPLE) * PREDICTION_MULTIPLE)
    padded_positions = np.full(size, len(input_ids) - 1, dtype=np.int64)
    padded_labels = np.full(size, IGNORED_LABEL, dtype=np.int64)
    padded_positions[:count], padded_labels[:count] = positions, labels
    return MaskedSequences(input_ids, padded_positions, padded_labels, count)
