"""Rules over one sentence of plain words: what is said outright, and what only sounds like it.

`spelling.plain_words` comes first. `strip_harmless` takes out what an idiom, a denial, an illness or a game explains;
`explicit_signals` names what is left in so many words; `explained_sentences` knows stories, recovered pasts and
mourning; `has_cue` tells whether a sentence touches the subject at all, so that the classifier must be far surer of
one that does not. The expressions stand in three tables beside this file, one a line. They were written from the
clinical screening questions (C-SSRS, ASQ) and the confusions that chat filters are known for; none stems from a
person's post.
"""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from configs.errors import UserError
from dialogue.safety.grammar import read_table

TABLES_DIR = Path(__file__).parent
MACRO = re.compile(r"\$([A-Z_]{2,})")
# Whoever has taken something, bleeds or asks for a means is in danger whatever else the sentence tells.
NEVER_EXPLAINED = frozenset({"overdose_or_injury_now", "self_harm", "method"})


class Signal(NamedTuple):
    """Something a sentence says outright."""

    label: str
    name: str


class _Rules(NamedTuple):
    signals: tuple[tuple[Signal, re.Pattern[str]], ...]
    harmless: tuple[tuple[str, re.Pattern[str]], ...]
    contexts: dict[str, re.Pattern[str]]


@functools.cache
def _macros() -> dict[str, str]:
    return {name: expression for _, name, expression in read_table(TABLES_DIR / "macros.tsv")}


def read_rules(path: Path, columns: int) -> list[list[str]]:
    """Read a table of rules; the last column is a regular expression, `$NAME` in it a list of `macros.tsv`.

    Raises:
        UserError: a line with another number of columns, an unknown list, or an expression that does not compile.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != columns:
            raise UserError(f"expected {columns} tab-separated columns, found {len(cells)}", where=f"{path}:{number}")
        try:
            cells[-1] = MACRO.sub(lambda found: _macros()[found.group(1)], cells[-1])
            re.compile(cells[-1])
        except KeyError as error:
            raise UserError(f"no list {error} in macros.tsv", where=f"{path}:{number}") from error
        except re.error as error:
            raise UserError(f"not a regular expression ({error})", where=f"{path}:{number}") from error
        rows.append(cells)
    return rows


@functools.cache
def _rules() -> _Rules:
    signals = read_rules(TABLES_DIR / "signals.tsv", 3)
    return _Rules(
        tuple((Signal(label, name), re.compile(pattern)) for label, name, pattern in signals),
        tuple((name, re.compile(pattern)) for name, pattern in read_rules(TABLES_DIR / "harmless.tsv", 2)),
        {name: re.compile(pattern) for name, pattern in read_rules(TABLES_DIR / "contexts.tsv", 2)},
    )


def in_context(name: str, text: str) -> bool:
    """Return whether `text` holds what the row `name` of `contexts.tsv` describes."""
    return _rules().contexts[name].search(text) is not None


def strip_harmless(sentence: str) -> tuple[str, list[str]]:
    """Return the sentence without denials, idioms and game talk, and the names of what was taken out."""
    removed: list[str] = []
    for name, pattern in _rules().harmless:
        sentence, count = pattern.subn(" ", sentence)
        if count:
            removed.append(name)
    return " ".join(sentence.split()), removed


def explained_sentences(sentences: Sequence[str]) -> frozenset[str]:
    """Return the sentences of a message whose grave words a story, a topic, a recovered past or mourning explains.

    An explanation reaches no further than its sentence. The rest of the message can only speak against it, but for
    the happy end of a past that the sentence itself dates.
    """
    message = " . ".join(sentences)
    speaks_against = {name: in_context(name, message) for name in ("story_is_mine", "relapse")}
    is_happy_now = in_context("recovered", message)
    found = set()
    for sentence in sentences:
        holds = functools.partial(in_context, text=sentence)
        is_story = holds("story") and not holds("own_wish") and not speaks_against["story_is_mine"]
        is_topic = holds("topic") and not holds("third_person") and not holds("wants")
        has_ended = holds("past") and (holds("recovered") or (is_happy_now and holds("dated_past")))
        if is_story or is_topic or (has_ended and not speaks_against["relapse"]) or _mourns(sentence):
            found.add(sentence)
    return frozenset(found)


def _mourns(sentence: str) -> bool:
    if not in_context("died_already", sentence):
        return False
    return not explicit_signals(strip_harmless(without_context("died_already", sentence))[0])


def explicit_signals(sentence: str) -> list[Signal]:
    """Return what the sentence says in so many words, every reason once."""
    return list(dict.fromkeys(signal for signal, pattern in _rules().signals if pattern.search(sentence)))


def has_cue(sentence: str) -> bool:
    """Return whether the sentence touches death, harm, leaving or ending at all."""
    return in_context("cue", sentence)


def is_about_another(sentence: str, message: str = "") -> bool:
    """Return whether the one at risk in a sentence is somebody else than the writer, and only they.

    Args:
        sentence: a sentence; one that speaks of `he` or `she` is about whom the message names.
        message: all that was written with it.
    """
    is_named = in_context("third_person", sentence)
    if not is_named and not (in_context("they", sentence) and in_context("third_person", message)):
        return False
    return not in_context("first_person", without_context("bystander", sentence))


def without_context(name: str, text: str) -> str:
    """Return `text` without what the row `name` of `contexts.tsv` describes."""
    return " ".join(_rules().contexts[name].sub(" ", text).split())
