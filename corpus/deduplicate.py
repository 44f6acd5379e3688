"""Exact duplicates: the same words, whatever the case, punctuation and spacing, and whatever the title.

A repost often has a new title, so a body that can stand alone is compared alone.
"""

import re
import unicodedata

import numpy as np
import numpy.typing as npt
import xxhash
from datatrove.data import Document

WORD = re.compile(r"\w+")
BODY_STANDS_ALONE_WORDS = 8
Words = list[str]


def normalized_words(text: str) -> Words:
    """Return the words of a text as duplicates are compared: compatibility forms folded, lower case."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def compared_words(document: Document) -> Words:
    """Return the words that make two posts the same: the body's, or with a short body the title's too."""
    body = normalized_words(document.text)
    if len(body) >= BODY_STANDS_ALONE_WORDS:
        return body
    return normalized_words(document.metadata["title"]) + body


def hash_words(words: Words) -> int:
    """Return a 64-bit hash of a list of words."""
    return xxhash.xxh3_64_intdigest("\x1f".join(words).encode())


def hash_string(value: str) -> int:
    """Return a 64-bit hash of a string, 0 for an empty one."""
    return xxhash.xxh3_64_intdigest(value.encode()) if value else 0


def first_of_each(keys: npt.NDArray[np.uint64], priority: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Mark the row of lowest priority number among those with the same key; the order of rows does not matter."""
    order = np.lexsort((priority, keys))
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = keys[order][1:] != keys[order][:-1]
    marks = np.empty(len(keys), dtype=bool)
    marks[order] = is_first
    return marks
