"""Whether two texts are the same or share a run of 13 words (GPT-3's contamination check, arXiv:2005.14165 appendix C).

One rule for the corpus builder, which leaves the texts of tasks out, and for the gate of the benchmark, which looks for
them in corpora: what passes the one passes the other.
"""

import functools
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

RUN_WORDS = 13
WORD = re.compile(r"\w+")
Hashes = npt.NDArray[np.uint64]


def compared_words(text: str) -> list[str]:
    """Return the words of a text as this rule compares them: in lower case, without punctuation."""
    return WORD.findall(text.lower())


def match_keys(text: str) -> Hashes:
    """Return a text's keys: two texts share one if they have the same words, or the same 13 words in a row.

    The keys are the same on every machine. A text without a word has none.
    """
    words = compared_words(text)
    whole = [xxhash.xxh3_64_intdigest("\x1f".join(words).encode())] if words else []
    runs = hash_runs(words, RUN_WORDS) if len(words) >= RUN_WORDS else np.empty(0, dtype=np.uint64)
    return np.concatenate([np.array(whole, dtype=np.uint64), runs])


def hash_runs(words: Sequence[str], length: int) -> Hashes:
    """Return a hash for every run of `length` words, (len(words) - length + 1,); a shorter text is one run."""
    hashes = np.fromiter(map(_hash_word, words), dtype=np.uint64, count=len(words))
    length = min(length, len(words))
    runs = len(words) - length + 1
    mixed = np.zeros(runs, dtype=np.uint64)
    for position in range(length):
        mixed = (mixed + hashes[position : position + runs]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


@functools.lru_cache(maxsize=200_000)
def _hash_word(word: str) -> int:
    return xxhash.xxh3_64_intdigest(word.encode())
