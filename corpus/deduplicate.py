"""Duplicates: the same words, whatever the case, punctuation and spacing, or nearly the same (see `minhash.py`).

A repost often has a new title, so a body that can stand alone is compared alone. Of several posts the earliest stays.
"""

import re
import unicodedata

import numpy as np
import numpy.typing as npt
import xxhash

WORD = re.compile(r"\w+")
BODY_STANDS_ALONE_WORDS = 8
Words = list[str]


def normalized_words(text: str) -> Words:
    """Return the words of a text as duplicates are compared: compatibility forms folded, lower case."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def words_that_count(title: str, text: str) -> Words:
    """Return the words that make two posts the same: the body's, or with a short body the title's too."""
    body = normalized_words(text)
    return body if len(body) >= BODY_STANDS_ALONE_WORDS else normalized_words(title) + body


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


def drop_near_duplicates(
    pairs: npt.NDArray[np.int64], priority: npt.NDArray[np.int64], alive: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Drop every post that is nearly the same as an earlier one that stays.

    Unlike connected components this never chains: A ~ B and B ~ C drop B, and C stays unless it resembles A.

    Args:
        pairs: (pairs, 2) positions of similar posts.
        priority: (N,) rank of each post, the lowest stays.
        alive: (N,) posts that nothing else dropped.

    Returns:
        Positions of the dropped posts, and the sizes of the clusters around the posts that stay.
    """
    pairs = pairs[alive[pairs].all(axis=1)]
    ranks = priority[pairs]
    early = np.where(ranks[:, 0] < ranks[:, 1], pairs[:, 0], pairs[:, 1])
    late = np.where(ranks[:, 0] < ranks[:, 1], pairs[:, 1], pairs[:, 0])
    order = np.lexsort((priority[early], priority[late]))
    stays = alive.copy()
    owners: dict[int, int] = {}
    for first, second in zip(early[order].tolist(), late[order].tolist(), strict=True):
        # Pairs come by their later post, so what happens to the earlier one is settled.
        if stays[first]:
            stays[second] = False
            owners.setdefault(second, first)
    _, sizes = np.unique(np.array(list(owners.values()), dtype=np.int64), return_counts=True)
    return np.array(sorted(owners), dtype=np.int64), sizes.astype(np.int64) + 1
