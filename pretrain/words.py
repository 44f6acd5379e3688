"""Words in a stream of token ids: where they begin, and what each weighs when tokens are chosen for masking.

Pieces of a word are known by their spelling: `##x` continues one (WordPiece), a leading `Ġ` or `▁` begins one
(byte-level BPE, SentencePiece). The latter mark spaces, not words: punctuation and line breaks are words of their own
there, and another word begins behind them. A word is looked up by a hash of its ids, so words of several pieces need
no text. What a lexicon lists may be several words to a tokenizer, such as `self-harm`: a run of them is looked up.

N = tokens of a micro-batch, W = words in it, V = vocabulary, K = words or runs that are listed.
"""

import dataclasses
import logging
import math
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers.models import WordPiece
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
Listed = Mapping[int, Mapping[int, float]]
"""Weights by the hash of a run of words (`hash_runs`), by how many words it has."""

log = logging.getLogger(__name__)


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
    """Return whether the space before a word is a part of its first token (byte-level BPE, SentencePiece).

    A WordPiece vocabulary may hold a token that looks like it: the signs of these marks are letters, too.
    """
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    return not isinstance(model, WordPiece) and any(token.startswith(SPACE_MARKS) for token in tokenizer.get_vocab())


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


def hash_runs(digests: Uint64Array, follows: BoolArray, length: int) -> tuple[Uint64Array, BoolArray]:
    """Return (W,): one hash for each word and the `length` − 1 behind it, and whether they stand in one text.

    A run of one word has the word's own hash.

    Args:
        digests: (W,) from `hash_words`.
        follows: (W,) whether each word stands right behind the one before.
        length: words of a run.
    """
    hashes, whole = digests.copy(), np.ones(len(digests), dtype=np.bool_)
    for place in range(1, length):
        hashes[:-place] = mix(hashes[:-place]) ^ digests[place:]
        whole[:-place] &= follows[place:]
        whole[-place:] = False
    return hashes, whole


class WordWeights:
    """How much more often than others a word is chosen for masking.

    Args:
        listed: from `read_lexicon` or `difference_weights`; a word that is in nothing listed weighs 1.
        mean_weight: the corpus's mean over its tokens, which leaves the overall masking rate as the recipe has it.
    """

    def __init__(self, listed: Listed, mean_weight: float = 1.0) -> None:
        self._listed = {
            length: (np.array(sorted(found), dtype=np.uint64), np.array([found[digest] for digest in sorted(found)]))
            for length, found in listed.items()
            if found
        }
        self._mean = mean_weight

    def of(self, input_ids: IntArray, words: Words) -> FloatArray:
        """Return (W,): weights over the corpus's mean; of all that a word is in the weightiest counts."""
        digests, weights = hash_words(input_ids, words), np.zeros(len(words.starts))
        follows = np.concatenate([[False], words.word_of[words.starts[1:] - 1] == np.arange(len(words.starts) - 1)])
        for length, (listed, of_listed) in self._listed.items():
            hashes, whole = hash_runs(digests, follows[: len(digests)], length)
            found = np.where(whole, look_up(hashes, listed, of_listed, otherwise=0.0), 0.0)
            for place in range(length):
                np.maximum(weights[place:], found[: max(0, len(found) - place)], out=weights[place:])
        return np.where(weights == 0.0, 1.0, weights) / self._mean


def look_up(digests: Uint64Array, listed: Uint64Array, weights: FloatArray, *, otherwise: float) -> FloatArray:
    """Return the weight of each digest, `otherwise` where it is not in `listed`, which is sorted."""
    if len(listed) == 0:
        return np.full(len(digests), otherwise)
    place = np.minimum(np.searchsorted(listed, digests), len(listed) - 1)
    return np.where(listed[place] == digests, weights[place], otherwise)


def read_lexicon(path: Path, tokenizer: PreTrainedTokenizerBase, default: float) -> Listed:
    """Return a lexicon's weights: a word or several a line, a tab and a weight behind them if they have their own.

    Raises:
        UserError: no such file, an empty one, or a weight that is no positive number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the lexicon ({type(error).__name__})", where=path) from error
    edges = word_edges(tokenizer)
    found: dict[int, dict[int, float]] = {}
    unknown = []
    for number, line in enumerate(lines, start=1):
        entry, _, given = line.partition("\t")
        entry = entry.strip()
        if not entry or entry.startswith("#"):
            continue
        try:
            weight = float(given) if given.strip() else default
        except ValueError:
            weight = -1.0
        if not 0 < weight < math.inf:
            raise UserError("the weight behind the tab is no positive number", where=f"{path}:{number}")
        for spelling in (entry, " " + entry):  # byte-level BPE writes a word inside a sentence differently
            token_ids = np.array(tokenizer(spelling, add_special_tokens=False)["input_ids"], dtype=np.int64)
            if len(token_ids) == 0 or tokenizer.unk_token_id in token_ids:
                unknown.append(number)
                break
            words = find_words(token_ids, np.arange(len(token_ids)), edges)
            length = len(words.starts)
            hashes, _ = hash_runs(hash_words(token_ids, words), np.ones(length, dtype=np.bool_), length)
            found.setdefault(length, {})[int(hashes[0])] = weight
    if not found:
        raise UserError("the lexicon holds nothing that this tokenizer knows", where=path)
    if unknown:
        told = ", ".join(str(number) for number in unknown[:10]) + (", …" if len(unknown) > 10 else "")
        log.warning("%s: %d lines are left out, this tokenizer does not know them: %s", path, len(unknown), told)
    return found


def _sampled_words(documents: Documents, edges: WordEdges) -> Iterator[tuple[IntArray, Words]]:
    """Yield tokens and words of about `COUNTED_TOKENS` tokens of a split, many documents at a time.

    Of a larger split every so many documents are read: shards follow the dumps' files, so the first of them are of few
    subreddits.
    """
    total = max(1, int(documents.lengths.sum(dtype=np.int64)))
    count = -(-len(documents) * min(total, COUNTED_TOKENS) // total)
    counted = np.arange(count) * len(documents) // max(1, count)
    for first in range(0, count, DOCUMENTS_AT_ONCE):
        # A separator before each document, as a special token would stand there.
        numbers = counted[first : first + DOCUMENTS_AT_ONCE].tolist()
        parts = [np.concatenate([[-1], documents[number].astype(np.int64)]) for number in numbers]
        token_ids = np.concatenate(parts)
        yield token_ids, find_words(np.maximum(token_ids, 0), token_ids, edges)


def count_words(documents: Documents, edges: WordEdges) -> tuple[Uint64Array, IntArray]:
    """Return (hashes, tokens) of a split's words, hashes ascending, over about `COUNTED_TOKENS` of its tokens.

    A word is counted by its tokens, so that means over these counts are means over tokens.
    """
    found = [
        hash_words(token_ids, words)[words.word_of[words.word_of >= 0]]
        for token_ids, words in _sampled_words(documents, edges)
    ]
    digests, counts = np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *found]), return_counts=True)
    return digests, counts


def difference_weights(
    domain: tuple[Uint64Array, IntArray], general: tuple[Uint64Array, IntArray], largest: float
) -> Listed:
    """Return the weights of words that are more frequent here than in general text: up to `largest`.

    In the spirit of Difference-Masking (Wilf et al., arXiv:2305.14577), whose TF-ICF singles out words that set a
    domain apart: the weight rises with the logarithm of the ratio of smoothed frequencies, reaching `largest` at 100.

    Args:
        domain: (hashes, tokens) of the corpus, from `count_words`.
        general: the same of general text.
        largest: weight of the words that set the domain apart most, over 1.
    """
    digests, counts = domain
    listed, general_counts = general
    elsewhere = look_up(digests, listed, general_counts.astype(np.float64), otherwise=0.0)
    here = (counts + 1.0) / (counts.sum() + len(counts))
    there = (elsewhere + 1.0) / (general_counts.sum() + len(counts))
    share = np.clip(np.log(here / there) / math.log(100.0), 0.0, 1.0)
    special = (share > 0) & (counts >= 5)  # a rare word's ratio is noise
    weights = 1.0 + (largest - 1.0) * share
    return {1: dict(zip(digests[special].tolist(), weights[special].tolist(), strict=True))}


def heavier(one: Listed, other: Listed) -> Listed:
    """Return what either lists, with the larger weight where both do."""
    return {
        length: {
            digest: max(found.get(length, {}).get(digest, 0.0) for found in (one, other))
            for digest in one.get(length, {}).keys() | other.get(length, {}).keys()
        }
        for length in one.keys() | other.keys()
    }


def weigh(listed: Listed, documents: Documents, edges: WordEdges) -> WordWeights:
    """Return weights normalised by their mean over the corpus's tokens."""
    weights, total, count = WordWeights(listed), 0.0, 0
    for token_ids, words in _sampled_words(documents, edges):
        owner = words.word_of[words.word_of >= 0]
        total, count = total + float(weights.of(token_ids, words)[owner].sum()), count + len(owner)
    return WordWeights(listed, total / count if count else 1.0)
