"""Which language a post is in, by CLD2 (naive Bayes over character 4-grams; 30,000 posts a second).

Short, slangy, emoji-laden posts must not be lost to a guess: a post is dropped only when the detector itself
calls its answer reliable and most of the text is in a language that is not asked for.
"""

import re

import pycld2

MIN_LETTERS = 40  # below that even a reliable answer is often wrong ("omg im so ded rn ngl")
FOREIGN_PERCENT = 60  # of the text, in languages not asked for
MAX_CHARACTERS = 1_000
# CLD2 refuses control characters and a few others that are valid UTF-8.
REFUSED = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\U0001fffe-\U0001ffff]")
LINKS = re.compile(r"https?://\S+|\bu/\w+|\br/\w+")


def is_foreign(text: str, languages: tuple[str, ...]) -> bool:
    """Whether `text` is reliably in languages other than `languages` (ISO 639-1)."""
    text = LINKS.sub(" ", text[:MAX_CHARACTERS])
    if len(text) < 5 * MIN_LETTERS and sum(map(str.isalpha, text)) < MIN_LETTERS:
        return False
    try:
        reliable, _, guesses = pycld2.detect(text)
    except pycld2.error:
        try:
            reliable, _, guesses = pycld2.detect(REFUSED.sub(" ", text))
        except pycld2.error:
            return False
    if not reliable:
        return False
    foreign = sum(percent for _, code, percent, _ in guesses if code not in ("un", *languages))
    return bool(foreign >= FOREIGN_PERCENT)
