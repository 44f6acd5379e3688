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
# A sentence of mourning with so few words beside it ("I lost my father to an overdose") says nothing else.
NOTHING_ELSE = 2


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
    # "Never so badly", "why not", "nothing but" deny nothing.
    is_no_denial = in_context("no_denial", sentence)
    for name, pattern in _rules().harmless:
        if name == "denied" and is_no_denial:
            continue
        sentence, count = pattern.subn(" ", sentence)
        if count:
            removed.append(name)
    return " ".join(sentence.split()), removed


def explained_sentences(sentences: Sequence[str]) -> dict[str, str]:
    """Return the sentences of a message whose grave words a story, a topic, a past or mourning may explain.

    An explanation reaches no further than its sentence, and covers neither the writer's own wish nor what has just
    been done; a past must end well somewhere in the message. Rules cannot tell more: each sentence comes with the text
    by which the readers must judge whether the explanation holds, itself or, for a past, the message.
    """
    message = " . ".join(sentences)
    is_happy_now = in_context("recovered", message)
    if in_context("follows", message):
        return {}
    found: dict[str, str] = {}
    for sentence in sentences:
        if in_context("died_already", sentence) and not _signals_without("died_already", sentence):
            rest = without_context("died_already", sentence)
            found[sentence] = sentence if len(rest.split()) > NOTHING_ELSE else rest
        elif any(signal.name in NEVER_EXPLAINED for signal in explicit_signals(strip_harmless(sentence)[0])):
            continue
        elif (in_context("story", sentence) or in_context("topic", sentence)) and not in_context("own_wish", sentence):
            found[sentence] = sentence
        elif is_happy_now and in_context("past", sentence) and not _signals_without("past_act", sentence):
            found[sentence] = message
    return found


def _signals_without(name: str, sentence: str) -> list[Signal]:
    return explicit_signals(strip_harmless(without_context(name, sentence))[0])


def explicit_signals(sentence: str) -> list[Signal]:
    """Return what the sentence says in so many words, every reason once."""
    return list(dict.fromkeys(signal for signal, pattern in _rules().signals if pattern.search(sentence)))


def has_cue(sentence: str) -> bool:
    """Return whether the sentence touches death, harm, leaving or ending at all."""
    return in_context("cue", sentence)


def is_about_another(sentence: str, message: str = "") -> bool:
    """Return whether the one at risk in a sentence is somebody else than the writer, and only they.

    Somebody must be the subject of what is grave, or the writer must say that they worry; in doubt it is the writer.

    Args:
        sentence: a sentence; one that speaks of `he` or `she` is about whom the message names.
        message: all that was written with it.
    """
    is_named = in_context("third_person", sentence)
    if not is_named and not (in_context("they", sentence) and in_context("third_person", message)):
        return False
    rest = without_context("bystander", sentence)
    if in_context("first_person", rest) or in_context("unsaid_i", rest):
        return False
    return rest != sentence or in_context("their_danger", sentence)


def without_context(name: str, text: str) -> str:
    """Return `text` without what the row `name` of `contexts.tsv` describes."""
    return " ".join(_rules().contexts[name].sub(" ", text).split())
