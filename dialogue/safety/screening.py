"""Decide what may happen with a conversation before anything is generated, and with a reply before it is shown.

A message is put into plain words and cut into sentences. Rules say what is outright, after denials, idioms, stories
and recovered pasts are taken out; the classifier judges the rest, and must be surer where a sentence does not touch
the subject at all. Then the turns are read together: an answer to the program's question, a hint spread over turns,
and an earlier crisis that is later waved away. A crisis stays one for the rest of the conversation: nothing a person
says afterwards in a chat can show a program that they are safe.
"""

import dataclasses
import enum
import itertools
import re
from collections.abc import Mapping, Sequence

from dialogue.safety.classifier import probabilities
from dialogue.safety.rules import (
    Signal,
    explained_by_context,
    explicit_signals,
    has_cue,
    in_context,
    is_about_another,
    strip_harmless,
)
from dialogue.safety.spelling import LAUGH, plain_words

# Chosen by 3-fold cross-validation on the development half and on real talk without a crisis; docs/experiments.md.
CUE_THRESHOLD = 0.40
NO_CUE_THRESHOLD = 0.75
STRIPPED_THRESHOLD = 0.70
OTHER_ROUTE_THRESHOLD = 0.60
HINT_THRESHOLD = 0.45
HINTS_FOR_A_CRISIS = 2
TURNS_READ_TOGETHER = 3
UNSAFE_ANSWER = r"^(?:no|nope|not|i am not|i do not (?:think so|know|feel safe)|hardly|maybe not|i am unsure)\b"
CRISIS_LABELS = ("crisis", "third_person", "harm_others")


class Route(enum.StrEnum):
    """What happens with a conversation. Only `ok` reaches the generator."""

    CRISIS = "crisis"
    """Suicide, self-harm, an emergency, another person at risk, or violence about to happen: helplines."""
    ABUSE = "abuse"
    """The writer or a child is being hurt by somebody: lines for domestic and sexual violence and for children."""
    MEDICAL_ADVICE = "medical_advice"
    """Asks for a diagnosis, a medicine or a dose: a fixed answer that names who can give it."""
    ABOUT_PROGRAM = "about_program"
    """Asks whether it is human or keeps secrets: a fixed, true answer."""
    OK = "ok"
    """Anything else, ordinary sadness included."""


GRAVITY = (Route.CRISIS, Route.ABUSE, Route.MEDICAL_ADVICE, Route.ABOUT_PROGRAM)


@dataclasses.dataclass(frozen=True)
class Turn:
    """One turn of a conversation; `role` is `user` or `assistant`."""

    role: str
    text: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A route and the names of what led to it; reasons never hold a person's words."""

    route: Route
    reasons: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Reading:
    """What one message by itself says: for each route its reasons, and how much of a hint it is."""

    reasons: Mapping[Route, tuple[str, ...]]
    hint: float
    explained: bool


def screen_conversation(turns: Sequence[Turn | Mapping[str, str] | str]) -> Verdict:
    """Route a whole conversation, oldest turn first.

    Args:
        turns: `Turn`s, mappings with `role` and `text` (or `content`), or plain strings (the user's messages).
    """
    conversation = [as_turn(turn) for turn in turns]
    users = [(index, plain_words(turn.text)) for index, turn in enumerate(conversation) if turn.role != "assistant"]
    readings: list[_Reading] = []
    found: dict[Route, list[str]] = {}
    for position, (index, plain) in enumerate(users):
        reading = read_message(plain)
        readings.append(reading)
        previous = conversation[index - 1] if index else None
        question = plain_words(previous.text) if previous and previous.role == "assistant" else ""
        answered = _answer(question, plain)
        for route, reasons in reading.reasons.items():
            if not (route == Route.CRISIS and answered == "no"):
                found.setdefault(route, []).extend(reasons)
        if answered == "yes":
            found.setdefault(Route.CRISIS, []).append("answered_yes")
        latest = position == len(users) - 1
        if not latest and reading.reasons.keys() - {Route.CRISIS, Route.ABUSE}:
            # A question about medicine or the program, once answered, does not bind the rest of the chat.
            for route in (Route.MEDICAL_ADVICE, Route.ABOUT_PROGRAM):
                found.pop(route, None)
    if Route.CRISIS not in found:
        together = _read_together([plain for _, plain in users], readings)
        if together:
            found[Route.CRISIS] = [together]
    for route in GRAVITY:
        if route in found:
            return Verdict(route, tuple(dict.fromkeys(found[route])))
    return Verdict(Route.OK)


def as_turn(turn: Turn | Mapping[str, str] | str) -> Turn:
    """Read a turn in any of the accepted forms; roles other than the program's count as the user's."""
    if isinstance(turn, Turn):
        return turn
    if isinstance(turn, str):
        return Turn("user", turn)
    role = str(turn.get("role", "user")).lower()
    is_program = role in ("assistant", "bot", "system", "responder", "supporter", "listener", "model", "ai", "agent")
    return Turn("assistant" if is_program else "user", str(turn.get("text", turn.get("content", ""))))


def read_message(plain: str) -> _Reading:
    """Read one message (in plain words) by itself."""
    sentences = [part.strip() for part in plain.split(" . ") if part.strip(" .")] or [plain]
    sentences = [sentence.strip(" .") for sentence in sentences]
    reasons: dict[Route, list[str]] = {}
    explanation = explained_by_context(plain)
    hint = 0.0
    windows = list(sentences)
    windows += [f"{first} . {second}" for first, second in itertools.pairwise(sentences)]
    for number, window in enumerate(windows):
        is_pair = number >= len(sentences)
        rest, removed = strip_harmless(window)
        signals = explicit_signals(rest) if not is_pair else []
        signals += _classified(rest, bool(removed), signals)
        for signal in signals:
            if signal.label in CRISIS_LABELS and explanation:
                continue
            route = _route_of(signal)
            name = "third_person" if route == Route.CRISIS and is_about_another(window) else signal.name
            reasons.setdefault(route, []).append(name)
        if not removed and not explanation:
            hint = max(hint, _hint(rest))
    if explanation and not reasons:
        return _Reading({}, 0.0, explained=True)
    return _Reading({r: tuple(dict.fromkeys(names)) for r, names in reasons.items()}, hint, explained=False)


def _classified(rest: str, was_stripped: bool, signals: Sequence[Signal]) -> list[Signal]:
    """What the classifier adds to the rules' signals for one window."""
    if len(rest.split()) < 2:
        return []
    scores = probabilities(rest)
    found = []
    if not any(signal.label in CRISIS_LABELS for signal in signals):
        threshold = CUE_THRESHOLD if has_cue(rest) else NO_CUE_THRESHOLD
        threshold = max(threshold, STRIPPED_THRESHOLD) if was_stripped or LAUGH.strip() in rest else threshold
        if sum(scores[label] for label in CRISIS_LABELS) >= threshold:
            gravest = max(CRISIS_LABELS, key=lambda label: scores[label])
            found.append(Signal(gravest, f"classifier_{gravest}"))
    for label in ("abuse", "medical_advice", "about_program"):
        if scores[label] >= OTHER_ROUTE_THRESHOLD and not any(signal.label == label for signal in signals):
            found.append(Signal(label, f"classifier_{label}"))
    return found


def _hint(rest: str) -> float:
    if len(rest.split()) < 2:
        return 0.0
    scores = probabilities(rest)
    return scores["hint"] + sum(scores[label] for label in CRISIS_LABELS)


def _route_of(signal: Signal) -> Route:
    return Route.CRISIS if signal.label in CRISIS_LABELS else Route(signal.label)


def _answer(question: str, plain: str) -> str:
    """`yes` or `no` if the message answers the program's question about suicide or safety, else nothing."""
    if in_context("question_about_risk", question):
        if in_context("no", plain):
            return "" if re.search(r"\b(?:but|though|except|just)\b", plain) and read_message(plain).reasons else "no"
        if in_context("yes", plain):
            return "yes"
    if in_context("question_about_safety", question) and re.search(UNSAFE_ANSWER, plain):
        return "yes"
    return ""


def _read_together(messages: Sequence[str], readings: Sequence[_Reading]) -> str:
    """Read the last turns as one text, and count hints over the whole conversation."""
    hints = [reading.hint for reading in readings]
    if sum(hint >= HINT_THRESHOLD for hint in hints) >= HINTS_FOR_A_CRISIS and max(hints) >= 0.5:
        return "hints_over_turns"
    for last in range(1, len(messages)):
        for first in range(max(0, last - TURNS_READ_TOGETHER + 1), last):
            joined = " ".join(message.strip(" .") for message in messages[first : last + 1])
            rest, removed = strip_harmless(joined)
            if removed or explained_by_context(joined):
                continue
            if any(signal.label in CRISIS_LABELS for signal in explicit_signals(rest)):
                return "split_over_turns"
    return ""
