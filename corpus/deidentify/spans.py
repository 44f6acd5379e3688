"""Spans of personal information, and the placeholders that take their place.

Placeholders are lower-case English words in brackets, `[name]`, then `[name2]` for the second name of a document:
a BERT vocabulary has `[`, `]` and every one of these words as single pieces, so a placeholder costs three or four
tokens and its middle still means something to the model. The same surface keeps its placeholder all through a
document, so "Anna ... Anna ... Ben" stays a story about two people.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

PLACEHOLDER_WORDS = {
    "NAME": "name",
    "USERNAME": "user",
    "EMAIL": "email",
    "PHONE": "phone",
    "URL": "link",
    "ADDRESS": "address",
    "POSTCODE": "zip",
    "PLACE": "place",
    "ORGANISATION": "organization",
    "DATE_OF_BIRTH": "birthday",
    "DATE": "date",
    "ID_NUMBER": "number",
}
LABELS = tuple(PLACEHOLDER_WORDS)

# What earlier cleaning left behind, ours or a source's: never masked again, and its word is taken in this document.
_WORDS = "|".join(sorted({*PLACEHOLDER_WORDS.values(), "url", "deleted", "removed"}))
PROTECTED = re.compile(rf"(?<![A-Za-z0-9])u/\[user\]|\[(?:(?:{_WORDS})\d{{0,5}}|NAME|RELIGION)\]", re.ASCII)


class Span(NamedTuple):
    """Characters `[start, end)` of a text (Python `str` indices) and what kind of information they are."""

    start: int
    end: int
    label: str


def mask(text: str, spans: Iterable[Span]) -> str:
    """Return `text` with every span replaced by a placeholder; everything else stays character for character.

    Args:
        text: the text the spans were found in.
        spans: non-overlapping spans, in any order.

    Raises:
        ValueError: spans that overlap or leave the text.
    """
    taken = {found.removeprefix("u/") for found in PROTECTED.findall(text)}
    placeholders: dict[tuple[str, str], str] = {}
    pieces: list[str] = []
    position = 0
    for span in sorted(spans):
        if not position <= span.start < span.end <= len(text):
            raise ValueError(f"span {span.start}:{span.end} overlaps another one or leaves the text")
        key = (span.label, " ".join(text[span.start : span.end].casefold().split()))
        if key not in placeholders:
            placeholders[key] = _next_placeholder(PLACEHOLDER_WORDS[span.label], taken)
        pieces += (text[position : span.start], placeholders[key])
        position = span.end
    pieces.append(text[position:])
    return "".join(pieces)


def resolve(candidates: Iterable[tuple[Span, int]], protected: Sequence[tuple[int, int]] = ()) -> list[Span]:
    """Turn overlapping candidates into sorted, non-overlapping spans.

    Candidates that overlap become one span over all of them, so that nothing a recognizer found is left
    readable; its label is that of the strongest candidate (highest priority, then the longest).

    Args:
        candidates: pairs of span and priority.
        protected: stretches no span may touch; candidates are cut there.
    """
    pieces = [(part, rank) for span, rank in candidates for part in _outside(span, protected)]
    pieces.sort(key=lambda piece: (piece[0].start, -piece[0].end))
    merged: list[tuple[Span, tuple[int, int]]] = []
    for span, rank in pieces:
        strength = (rank, span.end - span.start)
        if merged and span.start < merged[-1][0].end:
            last, last_strength = merged[-1]
            label = span.label if strength > last_strength else last.label
            merged[-1] = (Span(last.start, max(last.end, span.end), label), max(strength, last_strength))
        else:
            merged.append((span, strength))
    return [span for span, _ in merged]


def _outside(span: Span, protected: Sequence[tuple[int, int]]) -> list[Span]:
    parts, start = [], span.start
    for low, high in protected:
        if high <= start or low >= span.end:
            continue
        if low > start:
            parts.append(Span(start, low, span.label))
        start = max(start, high)
    if start < span.end:
        parts.append(Span(start, span.end, span.label))
    return parts


def _next_placeholder(word: str, taken: set[str]) -> str:
    number = 1
    while (placeholder := f"[{word}{number if number > 1 else ''}]") in taken:
        number += 1
    taken.add(placeholder)
    return placeholder
