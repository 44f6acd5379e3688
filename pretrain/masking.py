"""Corrupt tokens for masked language modelling (BERT, arXiv:1810.04805 §3.1).

Every decision is a hash of (seed, epoch, document, position in the document): no generator has a state, so a
document is masked the same way wherever it is packed, on whichever process, before and after a resume.

N = tokens of a micro-batch, M = tokens to predict, padded to a multiple of `PREDICTION_MULTIPLE`.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from pretrain.packing import IntArray, PackedSequences

IGNORED_LABEL = -100
PREDICTION_MULTIPLE = 64
"""Few different M: a CPU kernel is built for every new shape, and memory grows with them."""
MASK_SHARE, RANDOM_SHARE = 0.8, 0.1
EVALUATION_SEED = 20180411
"""Held-out masks never depend on the recipe, so evaluations of different runs compare."""

Uint64Array = npt.NDArray[np.uint64]


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
    """Mask tokens at random, 80 % as `[MASK]`, 10 % as a random token, 10 % unchanged.

    Args:
        mask_id: the mask token.
        vocabulary_size: random tokens are drawn from it.
        special_ids: tokens that are never drawn.
        seed: seed of the masks.
    """

    def __init__(self, *, mask_id: int, vocabulary_size: int, special_ids: list[int], seed: int) -> None:
        self._mask_id, self._seed = mask_id, seed
        self._ordinary_ids = np.setdiff1d(np.arange(vocabulary_size), special_ids)

    def mask(self, packed: PackedSequences, probability: float) -> MaskedSequences:
        """Choose each token with `probability` and corrupt it; special tokens and padding are never chosen."""
        tokens = np.flatnonzero(packed.document_positions >= 0)
        keys = self._keys(packed, tokens)
        chosen = uniform(keys) < probability
        positions, keys = tokens[chosen], keys[chosen]

        input_ids = packed.input_ids.copy()
        how = uniform(mix(keys + np.uint64(1)))
        input_ids[positions[how < MASK_SHARE]] = self._mask_id
        replaced = (how >= MASK_SHARE) & (how < MASK_SHARE + RANDOM_SHARE)
        drawn = mix(keys[replaced] + np.uint64(2)) % np.uint64(len(self._ordinary_ids))
        input_ids[positions[replaced]] = self._ordinary_ids[drawn.astype(np.int64)]
        return _pad_predictions(input_ids, positions, packed.input_ids[positions])

    def _keys(self, packed: PackedSequences, tokens: IntArray) -> Uint64Array:
        """Return one 64-bit hash a token."""
        seed = mix(np.array([self._seed], dtype=np.uint64))
        document = mix(seed ^ packed.documents[tokens].astype(np.uint64))
        epoch = mix(document ^ packed.epochs[tokens].astype(np.uint64))
        return mix(epoch ^ packed.document_positions[tokens].astype(np.uint64))


def mix(values: Uint64Array) -> Uint64Array:
    """Scramble 64-bit integers one to one (the finalizer of SplitMix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def mix_integers(*values: int) -> int:
    """Return one 63-bit hash of several non-negative integers, for seeds."""
    digest = np.zeros(1, dtype=np.uint64)
    for value in values:
        digest = mix(digest ^ np.array([value], dtype=np.uint64))
    return int(digest[0] >> np.uint64(1))


def uniform(values: Uint64Array) -> npt.NDArray[np.float64]:
    """Turn hashes into numbers in [0, 1)."""
    return (values >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _pad_predictions(input_ids: IntArray, positions: IntArray, labels: IntArray) -> MaskedSequences:
    count = len(positions)
    size = min(len(input_ids), -(-max(count, 1) // PREDICTION_MULTIPLE) * PREDICTION_MULTIPLE)
    padded_positions = np.full(size, len(input_ids) - 1, dtype=np.int64)
    padded_labels = np.full(size, IGNORED_LABEL, dtype=np.int64)
    padded_positions[:count], padded_labels[:count] = positions, labels
    return MaskedSequences(input_ids, padded_positions, padded_labels, count)
