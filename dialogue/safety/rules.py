"""Rules over one sentence of plain words: what is said outright, and what only sounds like it.

`spelling.plain_words` comes first. `strip_harmless` takes out what an idiom, a denial, an illness or a game explains;
`explicit_signals` names what is left in so many words; `explained_by_context` knows stories, recovered pasts and
mourning; `has_cue` tells whether a sentence touches the subject at all, so that the classifier must be far surer of
one that does not. The expressions stand in three tables beside this file, one a line. They were written from the
clinical screening questions (C-SSRS, ASQ) and the confusions that chat filters are known for; none stems from a
person's post.
"""

import functools
import re
from pathlib import Path
from typing import NamedTuple

from configs.errors import UserError

TABLES_DIR = Path(__file__).parent


class Signal(NamedTuple):
    """Something a sentence says outright."""

    label: str
    name: str


class _Rules(NamedTuple):
    signals: tuple[tuple[Signal, re.Pattern[str]], ...]
    harmless: tuple[tuple[str, re.Pattern[str]], ...]
    contexts: dict[str, re.Pattern[str]]


def read_rules(path: Path, columns: int) -> list[list[str]]:
    """Read a table of rules; the last column is a regular expression.

    Raises:
        UserError: a line with another number of columns, or an expression that does not compile.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != columns:
            raise UserError(f"expected {columns} tab-separated columns, found {len(cells)}", where=f"{path}:{number}")
        try:
            re.compile(cells[-1])
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


def explained_by_context(message: str) -> str:
    """Return `story`, `topic`, `recovered` or `bereaved` if the whole message explains grave words away, else ''."""
    if in_context("story", message) and not in_context("story_is_mine", message):
        return "story"
    if in_context("topic", message) and not in_context("third_person", message) and not in_context("wants", message):
        return "topic"
    if in_context("past", message) and in_context("recovered", message) and not in_context("relapse", message):
        return "recovered"
    if in_context("died_already", message):
        rest = _rules().contexts["died_already"].sub(" ", message)
        if not explicit_signals(strip_harmless(rest)[0]):
            return "bereaved"
    return ""


def explicit_signals(sentence: str) -> list[Signal]:
    """Return what the sentence says in so many words; of each label the first reason only."""
    found: dict[str, Signal] = {}
    for signal, pattern in _rules().signals:
        if signal.label not in found and pattern.search(sentence):
            found[signal.label] = signal
    return list(found.values())


def has_cue(sentence: str) -> bool:
    """Return whether the sentence touches death, harm, leaving or ending at all."""
    return in_context("cue", sentence)


def is_about_another(sentence: str) -> bool:
    """Return whether the one at risk is somebody else than the writer."""
    return in_context("third_person", sentence)
