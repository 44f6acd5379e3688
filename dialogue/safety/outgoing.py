"""Screen a generated reply before it is shown.

A small model trained on what people wrote to each other says what people say: that it is a nurse, that it will tell
nobody, that it sounds like depression, that two tablets helped, that there is a line to call. Each reason has its rows
in `outgoing.tsv`; numbers and addresses pass only if they stand in the table of helplines. A reply that raises a
reason is replaced by fixed words. What is grave in itself (suicide, violence) never leaves either.
"""

import functools
import re
from pathlib import Path

from dialogue.safety.helplines import all_helplines
from dialogue.safety.rules import explicit_signals, read_rules, strip_harmless
from dialogue.safety.spelling import plain_words

OUTGOING_FILE = Path(__file__).parent / "outgoing.tsv"
# Seven digits or more, grouped as in a phone number; or three or more that one is told to call.
PHONE = re.compile(
    r"(?<!\d)(?!(?:19|20)\d\d ?[-\u2013] ?(?:19|20)\d\d\b)\+?\(?\d(?:[ ).\u2010-\u2015-]{0,2}\d){6,}"
    r"|\b(?:call|text|dial|ring|phone|number|line)\b[^.\d]{0,20}(\d(?:[ -]?\d){2,})",
    re.IGNORECASE,
)
ADDRESS = re.compile(
    r"(?<!\S)\S+@\S+|(?:https?://|www\.)\S+|(?<![\w.-])[\w.-]+\.(?:com|org|net|edu|gov|info|io|uk|ca|au)\b",
    re.IGNORECASE,
)


@functools.cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((reason, re.compile(pattern)) for reason, pattern in read_rules(OUTGOING_FILE, 2))


@functools.cache
def _known_contacts() -> tuple[frozenset[str], frozenset[str]]:
    """Digits of the numbers, and hosts, that stand in the table of helplines."""
    lines = all_helplines()
    numbers = {_digits(found) for line in lines for found in re.findall(r"\d[\d -]*", line.contact)}
    addresses = {found for line in lines for text in (line.contact, line.source) for found in ADDRESS.findall(text)}
    return frozenset(numbers), frozenset(_host(address) for address in addresses)


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _host(address: str) -> str:
    return re.sub(r"^(?:https?://)?(?:www\.)?|/.*$|[^\w/]+$", "", address.lower())


def _names_unknown_contact(text: str) -> bool:
    numbers, hosts = _known_contacts()
    written = (_digits(found.group(1) or found.group()) for found in PHONE.finditer(text))
    return not {*written} <= numbers or not {_host(found) for found in ADDRESS.findall(text)} <= hosts


def screen_reply(text: str) -> tuple[str, ...]:
    """Return why a reply must not be shown; nothing if it may be."""
    reasons: dict[str, None] = {}
    if _names_unknown_contact(text):
        reasons.setdefault("unknown_contact")
    for sentence in plain_words(text).split(" . "):
        for reason, pattern in _patterns():
            if pattern.search(sentence):
                reasons.setdefault(reason)
        rest, _ = strip_harmless(sentence)
        if any(signal.label in ("crisis", "harm_others") for signal in explicit_signals(rest)):
            reasons.setdefault("grave_words")
    return tuple(reasons)
