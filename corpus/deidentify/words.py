"""Word lists: what is never masked on its own, and what is everyday English.

`keep_words.txt` holds the words of these communities (diagnoses, drugs, therapies, Reddit's own) that a model takes
for names. `common_words.txt` holds words that Reddit comments write in lower case again and again; it is made by
`corpus.deidentify.training.word_lists`, which says from what; `ordinary_words.txt` by `…training.ordinary_words`.
"""

import difflib
import functools
import re
from pathlib import Path

FOLDER = Path(__file__).parent
ALSO_NAMES = "words that are also names"
SHORTEST_MISSPELT, MISSPELT_SIMILARITY = 6, 0.8
_DERIVED = re.compile(
    r"....(?:tions?|sions?|ness|nesses|ments?|ically|ologist|ologists|ology|ability|ously|ingly|fully|isms?|tive|tional)$"
)


@functools.cache
def _sections() -> dict[str, frozenset[str]]:
    sections: dict[str, set[str]] = {}
    for line in (FOLDER / "keep_words.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            words = sections.setdefault(line.strip("[]"), set())
        elif line and not line.startswith("#"):
            words.update(word.lower() for word in line.split())
    return {name: frozenset(words) for name, words in sections.items()}


@functools.cache
def keep_words() -> frozenset[str]:
    """Return the words to keep in any case, in lower case."""
    return frozenset().union(*(words for name, words in _sections().items() if name != ALSO_NAMES))


def also_names() -> frozenset[str]:
    """Return the words to keep in lower case only."""
    return _sections()[ALSO_NAMES]


@functools.cache
def _drugs() -> tuple[str, ...]:
    return tuple(sorted(word for word in _sections()["drugs"] if len(word) >= SHORTEST_MISSPELT))


@functools.lru_cache(maxsize=1 << 14)
def is_misspelt_drug(word: str) -> bool:
    """Say whether a word is a drug's name with a slip or two ("Welbutrin", "vysanse", "Lamectal")."""
    lowered = word.lower()
    if len(lowered) < SHORTEST_MISSPELT:
        return False
    alike = (drug for drug in _drugs() if drug[0] == lowered[0])
    return bool(difflib.get_close_matches(lowered, alike, n=1, cutoff=MISSPELT_SIMILARITY))


@functools.cache
def common_words() -> frozenset[str]:
    """Return the common words, all in lower case."""
    return frozenset((FOLDER / "common_words.txt").read_text(encoding="utf-8").split())


@functools.cache
def ordinary_words() -> frozenset[str]:
    """Return further words that are no names in lower case."""
    return frozenset((FOLDER / "ordinary_words.txt").read_text(encoding="utf-8").split())


def is_kept(word: str) -> bool:
    """Say whether a word is on the keep list in the case it is written in."""
    lowered = word.lower().replace("’", "'")
    return lowered in keep_words() or (word == lowered and lowered in also_names())


@functools.lru_cache(maxsize=1 << 16)
def is_common(word: str) -> bool:
    """Say whether a word is everyday English or on the keep list, in whatever case."""
    lowered = word.lower()
    return len(lowered) < 2 or lowered in common_words() or lowered in keep_words() or lowered in also_names()


@functools.lru_cache(maxsize=1 << 16)
def is_ordinary(word: str) -> bool:
    """Say whether a lower-case word is common or built from one: "hallucinations", "overthinking", "unloved"."""
    if is_common(word) or word in ordinary_words() or _DERIVED.search(word):
        return True
    stem = word.removeprefix("un").removeprefix("re").removeprefix("over")
    for suffix in ("s", "es", "ed", "ing", "er", "ers", "ly", "ish", "less", "ful", "able", "'s"):
        base = stem.removesuffix(suffix)
        if len(base) >= 4 - (suffix in ("s", "ing", "ed")) and base != word and _is_base(base):
            return True
    return _squeeze(word) in common_words()


def _is_base(base: str) -> bool:
    doubled = len(base) >= 4 and base[-1] == base[-2] and base[:-1] in common_words()
    return doubled or any(one in common_words() or one in ordinary_words() for one in (base, f"{base}e"))


def _squeeze(word: str) -> str:
    """Return "so" for "sooooo": stretched words are feeling, not names."""
    return re.sub(r"(.)\1{2,}", r"\1", word)
