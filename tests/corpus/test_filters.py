import inspect
from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document
from hypothesis import given
from hypothesis import strategies as st

from corpus import filters
from corpus.config import CorpusRecipe
from corpus.document import document_from_row, parse_record, stored_row
from corpus.filters import Rule, RuleChain, rules_of
from corpus.language import is_foreign
from tests.corpus.conftest import make_post

BODY = "tonight i finally told my sister how bad the panic has been and she just listened to me"
RECIPE = CorpusRecipe(
    inputs=["x"], tokenizer="x", output_dir=Path("x"), subreddits=["Anxiety"], since="2020-01", until="2020-12",
    over_18="drop",
)  # fmt: skip


def post(**changes: Any) -> Document:
    defaults = {"selftext": BODY, "title": "a long night", "subreddit": "anxiety", "over_18": False}
    return parse_record(make_post(1, **(defaults | changes)))


def reasons_of(document: Document, recipe: CorpusRecipe = RECIPE) -> list[str]:
    return [rule.reason for rule in rules_of(recipe) if not rule.keep(document)]


# One row a case: what is changed in a good post, and the reason it is dropped for ("" if it is kept).
CASES: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"subreddit": "ANXIETY"}, ""),
    ({"subreddit": "cooking"}, "other_subreddit"),
    ({"created_utc": 1_577_836_799}, "outside_months"),
    ({"created_utc": 1_577_836_800}, ""),
    ({"created_utc": 1_609_459_200}, "outside_months"),
    ({"created_utc": None}, ""),
    ({"selftext": "[deleted]"}, "deleted"),
    ({"selftext": " [Deleted by user] "}, "deleted"),
    ({"title": "[deleted by user]"}, "deleted"),
    ({"removed_by_category": "deleted"}, "deleted"),
    ({"selftext": "[removed]"}, "removed"),
    ({"selftext": "[ Removed by Reddit ]"}, "removed"),
    ({"removed_by_category": "moderator"}, "removed"),
    ({"removal_reason": "legal"}, "removed"),
    ({"banned_by": "someone"}, "removed"),
    ({"removed_by_category": None, "banned_by": None}, ""),
    ({"selftext": f"{BODY} and then they said [removed] to me"}, ""),
    ({"_meta": {"was_deleted_later": True}}, "restored"),
    ({"_meta": {"was_initially_deleted": True}}, "restored"),
    ({"_meta": {"removal_type": "deleted"}}, "restored"),
    ({"_meta": {"is_edited": True}}, ""),
    ({"_meta": None}, ""),
    ({"author": "[deleted]"}, "deleted_account"),
    ({"author": None}, ""),
    ({"author": ...}, ""),
    ({"crosspost_parent": "t3_abc"}, "crosspost"),
    ({"crosspost_parent_list": [{"id": "abc"}]}, "crosspost"),
    ({"crosspost_parent": None, "crosspost_parent_list": []}, ""),
    ({"distinguished": "moderator"}, "distinguished"),
    ({"distinguished": None}, ""),
    ({"stickied": True}, "stickied"),
    ({"stickied": False}, ""),
    ({"over_18": True}, "over_18"),
    ({"over_18": ...}, ""),
    ({"author": "AutoModerator"}, "bot"),
    ({"author": "HaikuBot"}, "bot"),
    ({"author": "grammar_bot_2"}, "bot"),
    ({"author": "RemindMeBot"}, "bot"),
    ({"author": "talbot"}, ""),
    ({"author": "Abbott"}, ""),
    ({"author": "botany_lover"}, ""),
    ({"selftext": f"{BODY}. I am a bot, and this action was performed automatically."}, "bot"),
    ({"selftext": f"{BODY}. sometimes i feel like i am a bot going through the day"}, ""),
    ({"selftext": "too few", "title": "words"}, "too_short"),
    ({"selftext": "😭😭😭😭 https://example.org/a/b/c/d", "title": ""}, "too_short"),
    ({"selftext": "i am so tired today", "title": ""}, ""),
    ({"selftext": "", "title": "does anyone else wake up at four"}, ""),
    ({"selftext": BODY * 1200}, "too_long"),
    ({"selftext": BODY + " " + "a" * 400}, "character_run"),
    ({"selftext": BODY + " nooooooooooooooo whyyyyyyyyyy 😭😭😭😭😭😭😭😭😭"}, ""),
    ({"selftext": "please look " + "https://example.org/x " * 8}, "links"),
    ({"selftext": f"{BODY} https://example.org/x"}, ""),
    ({"selftext": "use my code NOW for 50% off everything, link in bio, free shipping for all of you"}, "promotion"),
    ({"promoted": True}, "promotion"),
    ({"selftext": f"{BODY} and i got 20% off my therapy session which was nice of them"}, ""),
    (
        {"selftext": "heute abend habe ich meiner schwester endlich gesagt wie schlimm die angst wirklich ist"},
        "language",
    ),
    ({"selftext": "hoy por fin le dije a mi hermana lo mal que me siento y ella me escuchó toda la noche"}, "language"),
    ({"subreddit": "u_writer_1"}, "other_subreddit"),
]


@pytest.mark.parametrize(("changes", "reason"), CASES)
def test_each_rule(changes: dict[str, Any], reason: str) -> None:
    found = reasons_of(post(**changes))
    assert (found[0] if found else "") == reason


def test_profiles_are_dropped_by_their_own_rule() -> None:
    assert filters.UserProfile().keep(post()) is True
    assert filters.UserProfile().keep(post(subreddit="u_writer_1")) is False


def test_every_rule_has_a_case_a_reason_of_its_own_and_a_row_in_the_docs() -> None:
    rules = [
        rule for _, rule in inspect.getmembers(filters, inspect.isclass) if issubclass(rule, Rule) and rule != Rule
    ]
    reasons = {rule.reason for rule in rules}
    assert len(reasons) == len(rules)
    assert reasons - {"user_profile"} == {reason for _, reason in CASES if reason}
    docs = (Path(__file__).parents[2] / "docs" / "corpus.md").read_text()
    assert [reason for reason in sorted(reasons) if f"| `{reason}` |" not in docs] == []


def test_policies_are_the_recipe_s() -> None:
    recipe = CorpusRecipe(
        inputs=["x"], tokenizer="x", output_dir=Path("x"), deleted_accounts="keep", languages=[], min_words=0
    )
    kept = post(author="[deleted]", over_18=True, selftext="heute war es schlimm", title="", subreddit="cooking")
    assert reasons_of(kept, recipe) == []


def test_the_chain_counts_each_post_once_and_agrees_with_the_rules_alone() -> None:
    documents = [post(**changes) for changes, _ in CASES]
    chain = RuleChain(rules_of(RECIPE))
    kept = list(chain.run(iter(documents)))
    assert len(kept) == sum(not reason for _, reason in CASES)
    for reason in {reason for _, reason in CASES if reason}:
        expected = sum(reason == wanted for _, wanted in CASES)
        assert chain.stats.stats[f"dropped_{reason}"].total == expected
    one = next(rule for rule in rules_of(RECIPE) if rule.reason == "removed")
    kept_alone = list(one.run(iter([post(), post(selftext="[removed]")])))  # as any datatrove pipeline runs it
    assert len(kept_alone) == 1
    assert one.stats.stats["dropped_removed"].total == 1


EXPRESSIVE = st.lists(
    st.sampled_from(
        [
            "😭",
            "👩🏽‍⚕️",
            "❤️",
            "noooooo",
            "WHY",
            "wtf",
            "fuck",
            "shit",
            "i",
            "caaan't",
            "¯\\_(ツ)_/¯",
            ":(",
            "…",
            "!!!",
            "ok",
        ]
    ),
    min_size=12,
    max_size=40,
)


@given(EXPRESSIVE, st.sampled_from([" ", "\n", "  ", " \t"]))
def test_emoji_elongation_casing_and_profanity_survive_byte_for_byte(words: list[str], space: str) -> None:
    text = f"{BODY}{space}{space.join(words)}"
    document = post(selftext=text)
    kept = list(RuleChain(rules_of(RECIPE)).run(iter([document])))
    assert [found.text for found in kept] == [text]
    document.metadata["author_hash"] = ""
    assert document_from_row(stored_row(kept[0])).text.encode() == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "lol",
        "idk 😭😭😭",
        "HELP",
        "no no no no",
        "omg im so ded rn ngl",
        "ok ok ok",
        "\x07\x00 \ufffe strange",
        "xD " * 20,
        "",
    ],
)
def test_what_cannot_be_told_is_not_foreign(text: str) -> None:
    assert not is_foreign(text, ("en",))


def test_a_language_that_was_asked_for_is_not_foreign() -> None:
    text = "heute abend habe ich meiner schwester endlich gesagt wie schlimm die angst wirklich ist"
    assert is_foreign(text, ("en",))
    assert not is_foreign(text, ("en", "de"))
