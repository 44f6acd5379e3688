"""Where the tagger has to look: around words that may be names.

Most sentences of a post hold everyday lower-case words only ("i just want it to stop") and can hold no name that a
tagger finds. A candidate is a word with a capital that neither its place in the sentence nor the keep list explains,
or a lower-case word that is somewhere a given name or a place; the tagger reads candidates with seven words on each
side.
"""

import re
from collections.abc import Iterator

from corpus.deidentify.words import also_names, is_common, is_kept, is_ordinary

WORD = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)*|[^\w\s]|_")
CONTEXT_WORDS = 7
MAX_WORDS = 80
# What follows these is a candidate even when it is a common word in lower case: "my sister's name is rose".
_INTRODUCES = frozenset(("named", "names", "called", "dr", "mr", "mrs", "ms", "street", "avenue", "ave", "blvd"))
_SENTENCE_ENDS = frozenset('.!?:"“”…*>')
_OWN_CAPITAL = frozenset(("I", "Im", "Ive", "Id", "O", "X"))


def stretches(text: str) -> list[tuple[int, int]]:
    """Return the parts of a text to be read, as sorted character ranges of at most `MAX_WORDS` words.

    Ranges of one long stretch overlap by `CONTEXT_WORDS`.
    """
    words = [(match.group(), match.start(), match.end()) for match in WORD.finditer(text)]
    ranges: list[tuple[int, int]] = []
    for index in _candidates(text, words):
        low, high = max(0, index - CONTEXT_WORDS), min(len(words), index + CONTEXT_WORDS + 1)
        if ranges and low <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], high)
        else:
            ranges.append((low, high))
    return [(words[a][1], words[b - 1][2]) for low, high in ranges for a, b in _pieces(low, high)]


def _pieces(low: int, high: int) -> Iterator[tuple[int, int]]:
    while high - low > MAX_WORDS:
        yield low, low + MAX_WORDS
        low += MAX_WORDS - CONTEXT_WORDS
    yield low, high


def _candidates(text: str, words: list[tuple[str, int, int]]) -> Iterator[int]:
    opens, previous_end, introduced = True, 0, False
    for index, (word, start, end) in enumerate(words):
        opens = opens or "\n" in text[previous_end:start]
        if word[0].isalpha() and (introduced or _may_be_name(word, opens=opens)):
            yield index
        introduced = word.lower() in _INTRODUCES
        opens, previous_end = word in _SENTENCE_ENDS, end


def _may_be_name(word: str, *, opens: bool) -> bool:
    stem = word.replace("’", "'").partition("'")[0]
    lowered = stem.lower()
    if stem == lowered:
        return not is_ordinary(lowered)
    if stem in _OWN_CAPITAL or is_kept(stem) or is_kept(word):
        return False
    # "Today" opens a sentence and "SO TIRED" shouts: a common word has its capital from there, if it is no name too.
    return lowered in also_names() or not (is_common(lowered) and (opens or stem.isupper()))
