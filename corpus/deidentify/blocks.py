"""Put the parts of an address together: street, unit, town, region and postcode are one thing to mask.

People write addresses over several lines and in any order, so a recognizer finds pieces of one. Pieces that only
punctuation, spaces, a state's letters or a postcode-like number keep apart become one ADDRESS; the number that
follows a town's name becomes a POSTCODE.
"""

import re

from corpus.deidentify.spans import Span

_GAP = r"[\s,;>?|.]{0,12}"
_UNIT = r"(?:(?:apt|apartment|suite|ste|unit|flat|room|rm|floor|fl|\#)\.?[ ]?\#?)\s?\w{1,6}\b"
_POSTCODE = (
    r"(?:\d{3}[ ]\d{2}|\d{4}[ ][A-Z]{2}|(?-i:[A-Z]{1,2})[- ]?\d{3,6}|[A-Z]\d[A-Z][ ]?\d[A-Z]\d|\d{3,6}(?:-\d{2,4})?)\b"
)
_NUMBER_BEFORE = re.compile(r"(?<![\w.,$£€/-])\d{1,5}[a-zA-Z]?(?:[ ]\d{1,5})?(?:,?[ ])$")
_AFTER_STREET = re.compile(
    rf"(?:(?:,?[ ]|{_GAP})(?:{_UNIT}|\d{{1,5}}[a-z]?(?![\w%]|[.,]\d|[ ](?:years?|days?|weeks?|months?|am|pm|mg|min)))"
    rf"|{_GAP}(?:(?-i:[A-Z]{{2}})\b|nan\b)|{_GAP}{_POSTCODE})",
    re.IGNORECASE,
)
_AFTER_PLACE = re.compile(
    rf"(?:,?[ ]+(?:[A-Z]{{2}}[ ]+)?|\n[ ]*)(?P<it>(?!(?:19|20)\d\d\b){_POSTCODE})(?![\w%:/]|[.,]\d)"
)
_BEFORE_PLACE = re.compile(r"(?<![\w.,$£€/-])(?:[A-Z]{1,2}-)?\d{4,5}[ ]$")
_JOINS = re.compile(rf"{_GAP}(?:(?:[A-Z]{{2}}|nan){_GAP})?$")
_CORNER_OF = re.compile(r"\b(?:the[ ])?corner[ ]of[ ]$", re.IGNORECASE)
_STARTS_AT_CORNER = re.compile(r"(?:the[ ])?corner[ ]of[ ]", re.IGNORECASE)
_AND = re.compile(r"(?:,?[ ](?:and|&)|,)[ ]")
_PARTS = frozenset(("ADDRESS", "PLACE", "POSTCODE"))


def join_addresses(text: str, spans: list[Span], limits: list[tuple[int, int]]) -> list[Span]:
    """Return the spans with address parts joined; sorted and non-overlapping as they came.

    Args:
        text: the text.
        spans: sorted, non-overlapping spans.
        limits: protected stretches, which nothing may grow into.
    """
    if not any(span.label in _PARTS or span.label == "ORGANISATION" for span in spans):
        return spans
    walls = sorted([(span.start, span.end) for span in spans] + limits)
    grown = [_grow(text, span, walls) for span in spans]
    joined: list[Span] = []
    for span in (piece for pieces in grown for piece in pieces):
        # Two neighbours may have taken the same number: "Springfield 12345 Springfield".
        if joined and (span.start < joined[-1].end or _belongs(text, joined[-1], span)):
            label = joined[-1].label if joined[-1].label == span.label else "ADDRESS"
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end), label)
        else:
            joined.append(span)
    return joined


def _belongs(text: str, before: Span, span: Span) -> bool:
    gap = text[before.end : span.start]
    if before.label == span.label == "ORGANISATION":  # "Stone, Hill and Sons"
        return _AND.fullmatch(gap) is not None
    if before.label == "ADDRESS" and span.label in ("ADDRESS", "NAME") and gap in (" and ", " & "):
        return span.label == "ADDRESS" or _STARTS_AT_CORNER.match(text, before.start) is not None
    if before.label not in _PARTS or span.label not in _PARTS or "ADDRESS" not in (before.label, span.label):
        return before.label in _PARTS and span.label in _PARTS and before.end == span.start
    return _JOINS.match(gap) is not None


def _grow(text: str, span: Span, walls: list[tuple[int, int]]) -> list[Span]:
    """Return the span with the numbers that belong to it."""
    low = max((end for _, end in walls if end <= span.start), default=0)
    high = min((start for start, _ in walls if start >= span.end), default=len(text))
    if span.label == "ADDRESS":
        before = _NUMBER_BEFORE.search(text[max(low, span.start - 16) : span.start])
        start = span.start - len(before.group()) if before else span.start
        corner = _CORNER_OF.search(text[max(low, start - 16) : start])
        start -= len(corner.group()) if corner else 0
        end = span.end
        while (after := _AFTER_STREET.match(text, end, high)) is not None:
            end = after.end()
        return [Span(start, end, "ADDRESS")]
    if span.label == "PLACE":
        after = _AFTER_PLACE.match(text, span.end, high)
        if after is not None:
            return [span, Span(after.start("it"), after.end("it"), "POSTCODE")]
        before = _BEFORE_PLACE.search(text[max(low, span.start - 10) : span.start])
        if before is not None and not re.match(r"(?:19|20)\d\d[ ]", before.group()):
            return [Span(span.start - len(before.group()), span.start - 1, "POSTCODE"), span]
    return [span]
