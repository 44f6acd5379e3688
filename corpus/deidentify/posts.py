"""Mask a post's title and body together, so that both share their placeholders."""

from collections.abc import Sequence
from typing import NamedTuple

from corpus.deidentify.deidentifier import Deidentifier
from corpus.deidentify.spans import Span, mask

SEPARATOR = "\n\x1f\n"


class MaskedPost(NamedTuple):
    """A post with placeholders, and the kind of each thing that was found in it."""

    title: str
    text: str
    labels: list[str]


def mask_posts(deidentifier: Deidentifier, posts: Sequence[tuple[str, str]]) -> list[MaskedPost]:
    """Return posts, (title, body) each, with what identifies a person masked."""
    joined = [title.replace("\x1f", " ") + SEPARATOR + text.replace("\x1f", " ") for title, text in posts]
    masked = []
    for text, spans in zip(joined, deidentifier.find(joined), strict=True):
        title, _, body = mask(text, _keep_off_separator(text, spans)).partition(SEPARATOR)
        masked.append(MaskedPost(title, body, [span.label for span in spans]))
    return masked


def _keep_off_separator(joined: str, spans: list[Span]) -> list[Span]:
    low = joined.index(SEPARATOR)
    high = low + len(SEPARATOR)
    if not any(span.start < high and span.end > low for span in spans):
        return spans
    parts = [Span(span.start, min(span.end, low), span.label) for span in spans]
    parts += [Span(max(span.start, high), span.end, span.label) for span in spans]
    return sorted({part for part in parts if part.start < part.end})
