"""Screen a generated reply before it is shown.

A small model trained on what people wrote to each other says what people say: that it is a nurse, that it will tell
nobody, that it sounds like depression, that two tablets helped. Each reason has its rows in `outgoing.tsv`; a reply
that raises one is replaced by fixed words. What is grave in itself (suicide, violence) never leaves either.
"""

import functools
import re
from pathlib import Path

from dialogue.safety.rules import explicit_signals, read_rules, strip_harmless
from dialogue.safety.spelling import plain_words

OUTGOING_FILE = Path(__file__).parent / "outgoing.tsv"


@functools.cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((reason, re.compile(pattern)) for reason, pattern in read_rules(OUTGOING_FILE, 2))


def screen_reply(text: str) -> tuple[str, ...]:
    """Return why a reply must not be shown; nothing if it may be."""
    reasons: dict[str, None] = {}
    for sentence in plain_words(text).split(" . "):
        for reason, pattern in _patterns():
            if pattern.search(sentence):
                reasons.setdefault(reason)
        rest, _ = strip_harmless(sentence)
        if any(signal.label in ("crisis", "harm_others") for signal in explicit_signals(rest)):
            reasons.setdefault("grave_words")
    return tuple(reasons)
