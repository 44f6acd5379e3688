"""Words in a stream of token ids: where they begin, and what each weighs when tokens are chosen for masking.

Pieces of a word are known by their spelling: `##x` continues one (WordPiece), a leading `Ġ` or `▁` begins one
(byte-level BPE, SentencePiece). The latter mark spaces, not words: punctuation and line breaks are words of their own
there, and another word begins behind them. A word is looked up by a hash of its ids, so words of several pieces need
no text.

N = tokens of a micro-batch, W = words in it, V = vocabulary.
"""

import dataclasses
import math
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from configs.errors import UserError
from pretrain.hashing import Uint64Array, mix
from pretrain.packing import Documents, IntArray

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
COUNTED_TOKENS = 5_000_000
"""Word frequencies are counted over at most this many tokens of a corpus."""
DOCUMENTS_AT_ONCE = 5_000
SPACE_MARKS = ("Ġ", "▁")


@dataclasses.dataclass(frozen=True)
class WordEdges:
    """Where the tokens of a vocabulary cut a text into words.

    Attributes:
        begins: (V,) whether a word begins with the token.
        ends: (V,) whether a word ends with it, whatever comes behind.
    """

    begins: BoolArray
    ends: BoolArray


def marks_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the space before a word is a part of its first token (byte-level BPE, SentencePiece)."""
    return any(token.startswith(SPACE_MARKS) for token in tokenizer.get_vocab())


def word_edges(tokenizer: PreTrainedTokenizerBase) -> WordEdges:
    """Return where a tokenizer's words begin and end."""
    spelled = [""] * len(tokenizer)
    for token, number in tokenizer.get_vocab().items():
        spelled[number] = token
    if marks_spaces(tokenizer):
        symbols = np.array([_is_symbol(token, tokenizer) for token in spelled])
        bare_spaces = np.array([not token.strip("".join(SPACE_MARKS)) for token in spelled])
        begins = np.array([token.startswith(SPACE_MARKS) for token in spelled]) | symbols
        ends = symbols & ~bare_spaces  # the word of a bare space is still to come
    else:
        begins = np.array([not token.startswith("##") for token in spelled])
        ends = np.zeros(len(spelled), dtype=np.bool_)
    begins[list(tokenizer.get_added_vocab().values())] = True  # whole words, and special tokens
    return WordEdges(begins, ends)


def _is_symbol(token: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a token's text has neither letter nor digit, nor a part of one.

    A byte-level token may be a part of a character, which is decoded to U+FFFD and may belong to a letter.
    """
    text = tokenizer.convert_tokens_to_string([token])
    return not any(sign == "\ufffd" or unicodedata.category(sign)[0] in "LNM" for sign in text)


@dataclasses.dataclass(frozen=True)
class Words:
    """The words of a micro-batch; special tokens and padding belong to none.

    Attributes:
        starts: (W,) index of each word's first token.
        word_of: (N,) number of the word each token belongs to, −1 for none.
    """

    starts: IntArray
    word_of: IntArray


def find_words(input_ids: IntArray, document_positions: IntArray, edges: WordEdges) -> Words:
    """Return the words of a flat micro-batch; a word never reaches over a sequence's end.

    Args:
        input_ids: (N,) tokens before corruption.
        document_positions: (N,) −1 for special tokens and padding.
        edges: from `word_edges`.
    """
    ordinary = document_positions >= 0
    first_of_sequence = ordinary & ~np.concatenate([[False], ordinary[:-1]])
    behind_an_end = np.concatenate([[False], edges.ends[input_ids[:-1]]])
    begins = ordinary & (edges.begins[input_ids] | behind_an_end | first_of_sequence)
    return Words(np.flatnonzero(begins), np.where(ordinary, np.cumsum(begins) - 1, -1))


def hash_words(input_ids: IntArray, words: Words) -> Uint64Array:
    """Return (W,): one 64-bit hash a word, the same for the same pieces in the same order anywhere."""
    inside = np.flatnonzero(words.word_of >= 0)
    owner = words.word_of[inside]
    place = inside - words.starts[owner]
    pieces = mix(input_ids[inside].astype(np.uint64) ^ (place.astype(np.uint64) << np.uint64(32)))
    digests = np.zeros(len(words.starts), dtype=np.uint64)
    np.add.at(digests, owner, pieces)
    return digests


class WordWeights:
    """How much more often than others a word is chosen for masking.

    Args:
        digests: (K,) hashes of the words that are listed.
        weights: (K,) their weights; a word that is not listed weighs 1.
        mean_weight: the corpus's mean over its tokens, which leaves the overall masking rate as the recipe has it.
    """

    def __init__(self, digests: Uint64Array, weights: FloatArray, mean_weight: float) -> None:
        order = np.argsort(digests)
        self._digests, self._weights, self._mean = digests[order], weights[order], mean_weight

    def of(self, digests: Uint64Array) -> FloatArray:
        """Return (W,): weights over the corpus's mean."""
        return look_up(digests, self._digests, self._weights) / self._mean


def look_up(digests: Uint64Array, listed: Uint64Array, weights: FloatArray) -> FloatArray:
    """Return the weight of each digest; `listed` is sorted, a digest not in it weighs 1."""
    if len(listed) == 0:
        return np.ones(len(digests))
    place = np.minimum(np.searchsorted(listed, digests), len(listed) - 1)
    return np.where(listed[place] == digests, weights[place], 1.0)


def read_lexicon(path: Path, tokenizer: PreTrainedTokenizerBase, default: float) -> dict[int, float]:
    """Return hash → weight of a lexicon: one word a line, a tab and a weight behind it if it has its own.

    Raises:
        UserError: no such file, an empty one, or a weight that is no positive number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the lexicon ({type(error).__name__})", where=path) from error
    edges = word_edges(tokenizer)
    found: dict[int, float] = {}
    for number, line in enumerate(lines, start=1):
        word, _, given = line.partition("\t")
        if not word.strip() or word.startswith("#"):
            continue
        try:
            weight = float(given) if given.strip() else default
        except ValueError:
            weight = -1.0
        if not 0 < weight < math.inf:
            raise UserError("the weight behind the tab is no positive number", where=f"{path}:{number}")
        for spelling in (word, " " + word):  # byte-level BPE writes a word inside a sentence differently
            token_ids = np.array(tokenizer(spelling, add_special_tokens=False)["input_ids"], dtype=np.int64)
            words = find_words(token_ids, np.arange(len(token_ids)), edges)
            if len(words.starts) == 1:
                found[int(hash_words(token_ids, words)[0])] = weight
    if not found:
        raise UserError("the lexicon holds no word that this tokenizer knows as one word", where=path)
    return found


def count_words(documents: Documents, edges: WordEdges) -> tuple[Uint64Array, IntArray]:
    """Return (hashes, tokens) of a split's words, hashes ascending, over about `COUNTED_TOKENS` of its tokens.

    A word is counted by its tokens, so that means over these counts are means over tokens. Of a larger split every
    so many documents count: shards follow the dumps' files, so the first of them are of few subreddits.
    """
    total = max(1, int(documents.lengths.sum(dtype=np.int64)))
    count = -(-len(documents) * min(total, COUNTED_TOKENS) // total)
    counted = np.arange(count) * len(documents) // max(1, count)
    found = []
    for first in range(0, count, DOCUMENTS_AT_ONCE):
        # A separator before each document, as a special token would stand there.
        numbers = counted[first : first + DOCUMENTS_AT_ONCE].tolist()
        parts = [np.concatenate([[-1], documents[number].astype(np.int64)]) for number in numbers]
        token_ids = np.concatenate(parts)
        words = find_words(np.maximum(token_ids, 0), token_ids, edges)
        found.append(hash_words(token_ids, words)[words.word_of[words.word_of >= 0]])
    digests, counts = np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *found]), return_counts=True)
    return digests, counts


def difference_weights(
    domain: tuple[Uint64Array, IntArray], general: tuple[Uint64Array, IntArray], largest: float
) -> Mapping[int, float]:
    """Return hash → weight: words more frequent here than in general text weigh up to `largest`.

    In the spirit of Difference-Masking (Wilf et al., arXiv:2305.14577), whose TF-ICF singles out words that set a
    domain apart: the weight rises with the logarithm of the ratio of smoothed frequencies, reaching `largest` at 100.

    Args:
        domain: (hashes, tokens) of the corpus, from `count_words`.
        general: the same of general text.
        largest: weight of the words that set the domain apart most, over 1.
    """
    digests, counts = domain
    listed, general_counts = general
    elsewhere = look_up(digests, listed, general_counts.astype(np.float64))
    elsewhere[~np.isin(digests, listed)] = 0.0
    here = (counts + 1.0) / (counts.sum() + len(counts))
    there = (elsewhere + 1.0) / (general_counts.sum() + len(counts))
    share = np.clip(np.log(here / there) / math.log(100.0), 0.0, 1.0)
    special = (share > 0) & (counts >= 5)  # a rare word's ratio is noise
    weights = 1.0 + (largest - 1.0) * share
    return dict(zip(digests[special].tolist(), weights[special].tolist(), strict=True))


def weigh(listed: Mapping[int, float], domain: tuple[Uint64Array, IntArray]) -> WordWeights:
    """Return weights normalised by the corpus's own word frequencies."""
    digests = np.array(sorted(listed), dtype=np.uint64)
    weights = np.array([listed[int(digest)] for digest in digests], dtype=np.float64)
    found, counts = domain
    mean = float(np.average(look_up(found, digests, weights), weights=counts)) if len(found) else 1.0
    return WordWeights(digests, weights, mean)
