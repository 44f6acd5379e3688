"""What must hold for any text at all."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.deidentify import LABELS, Deidentifier, Span, mask
from corpus.deidentify.deidentifier import combine
from corpus.deidentify.spans import PROTECTED, resolve

PIECES = st.sampled_from(
    [
        *("u/some_one", "@jane", "555-867-5309", "a@b.org", "[user]", "[name2]", "u/[user]", "12 Oak Street"),
        *("Springfield", "Anna Smith", "anna", "12345", "https://x.org/a", "4 July 2020", "\n", " ", ", ", "is", "😭"),
        *("soooo", "İ", "ß", "\ud800", "\x00", "e\u0301", "\u200d", "Straße", "名前", "مرحبا", "½", "١٢٣٤٥٦٧"),
        *("Lexapro", "I'm", "’s", "#1234"),
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=12).map(" ".join), st.lists(PIECES, max_size=12).map("".join))


@pytest.fixture(scope="module", params=["rules", "default"])
def deidentifier(request):
    return Deidentifier(request.param)


def check_spans(text: str, spans: list[Span]) -> None:
    assert spans == sorted(spans)
    assert all(0 <= span.start < span.end <= len(text) and span.label in LABELS for span in spans)
    assert all(before.end <= after.start for before, after in itertools.pairwise(spans))
    protected = [match.span() for match in PROTECTED.finditer(text)]
    assert not any(span.start < high and low < span.end for span in spans for low, high in protected)


@settings(max_examples=150)
@given(text=TEXTS)
def test_spans_and_mask(deidentifier, text):
    spans = deidentifier.find([text])[0]
    check_spans(text, spans)
    masked = mask(text, spans)
    # Outside the spans not a character changes: the kept pieces stand in the masked text, around placeholders.
    edges = [0, *(edge for span in spans for edge in span[:2]), len(text)]
    kept = [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    assert re.fullmatch(r"\[[a-z]+\d*\]".join(re.escape(piece) for piece in kept), masked, re.DOTALL)
    # What was masked once is left alone the second time.
    check_spans(masked, deidentifier.find([masked])[0])
    # One surface, one placeholder; one placeholder, one surface.
    placeholders = {}
    position, pattern = 0, re.compile(r"\[[a-z]+\d*\]")
    for piece, span in zip(kept, spans, strict=False):
        position += len(piece)
        found = pattern.match(masked, position)
        surface = (span.label, " ".join(text[span.start : span.end].casefold().split()))
        assert placeholders.setdefault(surface, found.group()) == found.group()
        position = found.end()
    assert len(set(placeholders.values())) == len(placeholders)


@settings(max_examples=50)
@given(text=TEXTS)
def test_masking_twice_changes_nothing_more_for_exact_kinds(text):
    rules = Deidentifier("rules")
    masked = mask(text, rules.find([text])[0])
    again = mask(masked, rules.find([masked])[0])
    assert mask(again, rules.find([again])[0]) == again


@settings(max_examples=100)
@given(
    spans=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10), st.sampled_from(LABELS), st.integers(0, 9))),
    walls=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5))),
)
def test_resolved_spans_cover_exactly_what_the_candidates_cover(spans, walls):
    candidates = [(Span(start, start + length, label), rank) for start, length, label, rank in spans]
    protected = sorted({(low, low + length) for low, length in walls})
    protected = [wall for n, wall in enumerate(protected) if n == 0 or wall[0] >= protected[n - 1][1]]
    covered = {i for span, _ in candidates for i in range(span.start, span.end)}
    covered -= {i for low, high in protected for i in range(low, high)}
    resolved = resolve(candidates, protected)
    assert {i for span in resolved for i in range(span.start, span.end)} == covered
    assert all(before.end <= after.start for before, after in itertools.pairwise(resolved))


@settings(max_examples=300)
@given(
    words=st.lists(
        st.tuples(
            st.sampled_from(["Springfield", "12 Oak Street", "12345", "3000 AB", "AB-1234", "IL", "and", "corner of"]),
            st.sampled_from(["", "", "PLACE", "PLACE", "ADDRESS", "NAME"]),
        ),
        max_size=8,
    )
)
def test_spans_stay_apart_whatever_a_tagger_finds(words):
    text, tagged = "", []
    for word, label in words:
        if label:
            tagged.append(Span(len(text), len(text) + len(word), label))
        text += f"{word} "
    spans = combine(text, tagged)
    check_spans(text, spans)
    covered = {i for span in spans for i in range(span.start, span.end)}
    assert all(covered.issuperset(range(span.start, span.end)) for span in tagged)
    mask(text, spans)


def test_results_do_not_depend_on_the_batch(deidentifier):
    texts = [
        f"My friend {name} moved to {place} with Dr. {name}sson, {n} times."
        for n, (name, place) in enumerate(
            [("Anna", "Leeds"), ("Jorge", "El Paso"), ("Wei", "Chengdu"), ("mike", "ohio"), ("Fatima", "Rabat")] * 5
        )
    ]
    together = deidentifier.find(texts)
    assert together == [deidentifier.find([text])[0] for text in texts]
    assert together == deidentifier.find(list(reversed(texts)))[::-1]
