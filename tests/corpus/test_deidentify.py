"""The interface of the de-identifier: spans, masks, backends."""

import pickle

import pytest

from configs.errors import UserError
from corpus.deidentify import Deidentifier, Span, mask
from corpus.deidentify.deidentifier import combine


def test_mask_keeps_the_rest_and_numbers_distinct_surfaces():
    text = "u/one_a wrote to u/two_b, then u/one_a left"
    spans = Deidentifier("rules").find([text])[0]
    assert mask(text, spans) == "[user] wrote to [user2], then [user] left"


def test_placeholders_of_earlier_cleaning_stay_and_keep_their_number():
    text = "u/[user] and [email] told u/some_one"
    spans = Deidentifier("rules").find([text])[0]
    assert mask(text, spans) == "u/[user] and [email] told [user2]"


def test_overlapping_spans_are_refused():
    with pytest.raises(ValueError, match="overlaps"):
        mask("abcdef", [Span(0, 3, "NAME"), Span(2, 4, "NAME")])


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Springfield 12345 Springfield", "[place] [zip] [place]"),
        ("Springfield 3000 AB-1234 Springfield", "[place] [zip] [place]"),
    ],
)
def test_a_number_between_two_places_is_one_postcode(text, masked):
    places = [Span(0, 11, "PLACE"), Span(len(text) - 11, len(text), "PLACE")]
    assert mask(text, combine(text, places)) == masked


def test_unknown_backend_is_a_user_error():
    with pytest.raises(UserError, match="nope"):
        Deidentifier("nope")


def test_pickled_deidentifier_finds_the_same():
    texts = ["mail me: a.b@example.org"]
    deidentifier = Deidentifier()
    assert pickle.loads(pickle.dumps(deidentifier)).find(texts) == deidentifier.find(texts) == [[Span(9, 24, "EMAIL")]]
