"""Decide what may happen with a conversation before anything is generated, and with a reply before it is shown.

A message is put into plain words and cut into sentences. Rules say what is outright, after denials, idioms, stories
and recovered pasts are taken out; the classifier judges the rest, and must be surer where a sentence does not touch
the subject at all. Then the turns are read together: an answer to the program's question, a hint spread over turns,
and an earlier crisis that is later waved away. A crisis stays one for the rest of the conversation: nothing a person
says afterwards in a chat can show a program that they are safe.
"""

import dataclasses
import enum
import functools
import itertools
import re
from collections.abc import Mapping, Sequence

from dialogue.safety.classifier import LABELS, probabilities
from dialogue.safety.encoder import Encoder
from dialogue.safety.rules import (
    Signal,
    explained_sentences,
    explicit_signals,
    has_cue,
    in_context,
    is_about_another,
    strip_harmless,
    without_context,
)
from dialogue.safety.spelling import LAUGH, plain_words

# Chosen on cases that the readers had not learnt from, and on real talk without a crisis; docs/experiments.md.
MESSAGE_THRESHOLD = 0.40
MESSAGE_THRESHOLD_WITH_ENCODER = 0.30
PART_THRESHOLD = 0.75
STRIPPED_THRESHOLD = 0.50
WITHOUT_CUE = 0.15
OTHER_ROUTE_THRESHOLD = 0.60
HINT_THRESHOLD = 0.45
HINTS_FOR_A_CRISIS = 2
TURNS_READ_TOGETHER = 3
UNSAFE_ANSWER = r"^(?:no|nope|not|i am not|i do not (?:think so|know|feel safe)|hardly|maybe not|i am unsure)\b"
SHORTEST_TEXT = 2
MESSAGES_REMEMBERED = 256
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


def screen_conversation(turns: Sequence[Turn | Mapping[str, str] | str], encoder: Encoder | None = None) -> Verdict:
    """Route a whole conversation, oldest turn first.

    Args:
        turns: `Turn`s, mappings with `role` and `text` (or `content`), or plain strings (the user's messages).
        encoder: of `load_encoder`, a second reader beside the n-grams; without it they judge alone.
    """
    conversation = [as_turn(turn) for turn in turns]
    users = [(index, plain_words(turn.text)) for index, turn in enumerate(conversation) if turn.role != "assistant"]
    readings: list[_Reading] = []
    found: dict[Route, list[str]] = {}
    for position, (index, plain) in enumerate(users):
        previous = conversation[index - 1] if index else None
        question = plain_words(previous.text) if previous and previous.role == "assistant" else ""
        # A denial answers the question; whatever follows it speaks for itself.
        reading = read_message(_what_follows_a_denial(question, plain), encoder)
        readings.append(reading)
        for route, reasons in reading.reasons.items():
            found.setdefault(route, []).extend(reasons)
        if _is_yes(question, plain):
            found.setdefault(Route.CRISIS, []).append("answered_yes")
        latest = position == len(users) - 1
        if not latest and reading.reasons.keys() - {Route.CRISIS, Route.ABUSE}:
            # A question about medicine or the program, once answered, does not bind the rest of the chat.
            for route in (Route.MEDICAL_ADVICE, Route.ABOUT_PROGRAM):
                found.pop(route, None)
    if Route.CRISIS not in found:
        together = _read_together([plain for _, plain in users], readings, encoder)
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


# A conversation is screened anew at every message; its older ones read as they did. Forgotten with the process.
@functools.lru_cache(maxsize=MESSAGES_REMEMBERED)
def read_message(plain: str, encoder: Encoder | None = None) -> _Reading:
    """Read one message (in plain words) by itself.

    What a story, a topic, a past or mourning explains is explained for its own sentence only, and is left out of what
    is read together; what has just been done, or is asked for, no sentence explains.
    """
    sentences = _sentences(plain)
    explained = _explained(sentences, encoder)
    pairs = [pair for pair in itertools.pairwise(sentences) if not explained.intersection(pair)]
    together = " . ".join(sentence for sentence in sentences if sentence not in explained)
    joined = [" . ".join(pair) for pair in pairs] + [together] * bool(together)
    windows = list(dict.fromkeys([*sentences, *joined]))
    stripped = [strip_harmless(window) for window in windows]
    # The encoder reads what was written; the n-grams what is left of it.
    scored = _scored(windows, [rest for rest, _ in stripped], encoder)
    whole = _message_threshold(encoder)
    own = frozenset(sentences)
    reasons: dict[Route, list[str]] = {}
    hint = 0.0
    for window, (rest, removed), scores in zip(windows, stripped, scored, strict=True):
        signals = explicit_signals(rest) if window in own else []
        threshold = _threshold(rest, whole if window == together else PART_THRESHOLD, was_stripped=bool(removed))
        signals += _classified(window, scores, threshold, signals)
        for signal in signals:
            if signal.label not in CRISIS_LABELS or window not in explained:
                reasons.setdefault(_route_of(signal), []).append(_reason(signal, window, plain))
        if not removed and window not in explained:
            hint = max(hint, _hint(scores))
    return _Reading({r: tuple(dict.fromkeys(names)) for r, names in reasons.items()}, hint)


def _message_threshold(encoder: Encoder | None) -> float:
    return MESSAGE_THRESHOLD if encoder is None else MESSAGE_THRESHOLD_WITH_ENCODER


def _explained(sentences: Sequence[str], encoder: Encoder | None) -> frozenset[str]:
    """Return the sentences that are explained: a rule says so, and the readers see no danger."""
    judged = explained_sentences(sentences)
    texts = list(judged.values())
    scored = _scored(texts, [strip_harmless(text)[0] for text in texts], encoder)
    threshold = _message_threshold(encoder)
    return frozenset(sentence for sentence, scores in zip(judged, scored, strict=True) if _danger(scores) < threshold)


def _danger(scores: Mapping[str, float]) -> float:
    return sum(scores.get(label, 0.0) for label in CRISIS_LABELS)


def _reason(signal: Signal, window: str, plain: str) -> str:
    """The signal's name, or `third_person` where only somebody else is in danger; a method is the asker's."""
    if signal.label == "third_person" and not in_context("unsaid_i", window):
        return "third_person"
    is_anybodys = signal.label in CRISIS_LABELS and signal.name != "method"
    return "third_person" if is_anybodys and is_about_another(window, plain) else signal.name


def _sentences(plain: str) -> list[str]:
    found = [part.strip(" .") for part in plain.split(" . ") if part.strip(" .")]
    return found or [plain.strip(" .")]


def _scored(windows: Sequence[str], rests: Sequence[str], encoder: Encoder | None) -> list[dict[str, float]]:
    """Probabilities of every label for each window of which two words or more are left, else nothing.

    Two readers are joined by the geometric mean of what they say: both must see some danger, neither must be sure.
    """
    scores = [probabilities(rest) if len(rest.split()) >= SHORTEST_TEXT else {} for rest in rests]
    read = [number for number, found in enumerate(scores) if found]
    if encoder is None or not read:
        return scores
    for number, row in zip(read, encoder.probabilities([windows[number] for number in read]).tolist(), strict=True):
        joint = {label: (scores[number][label] * score) ** 0.5 for label, score in zip(LABELS, row, strict=True)}
        total = sum(joint.values())
        scores[number] = {label: value / total for label, value in joint.items()}
    return scores


def _threshold(rest: str, threshold: float, *, was_stripped: bool) -> float:
    """How sure the readers must be: surer where idioms were taken out, and of what does not touch the subject."""
    if was_stripped or LAUGH.strip() in rest:
        threshold = max(threshold, STRIPPED_THRESHOLD)
    return threshold if has_cue(rest) else threshold + WITHOUT_CUE


def _classified(window: str, scores: Mapping[str, float], threshold: float, signals: Sequence[Signal]) -> list[Signal]:
    """What the readers add to the rules' signals for one window."""
    if not scores:
        return []
    found = []
    is_new = not any(signal.label in CRISIS_LABELS for signal in signals)
    if is_new and _danger(scores) >= threshold:
        gravest = max(CRISIS_LABELS, key=lambda label: scores[label])
        found.append(Signal(gravest, f"classifier_{gravest}"))
    for label in ("abuse", "medical_advice", "about_program"):
        if scores[label] >= OTHER_ROUTE_THRESHOLD and not any(signal.label == label for signal in signals):
            if label == "medical_advice" and not in_context("asks", window):
                continue  # "my medication helps" asks for nothing
            found.append(Signal(label, f"classifier_{label}"))
    return found


def _hint(scores: Mapping[str, float]) -> float:
    return scores["hint"] + _danger(scores) if scores else 0.0


def _route_of(signal: Signal) -> Route:
    return Route.CRISIS if signal.label in CRISIS_LABELS else Route(signal.label)


def _what_follows_a_denial(question: str, plain: str) -> str:
    """Return the message without the "no" that answers the program's question about suicide."""
    if in_context("question_about_risk", question):
        return without_context("denial", plain)
    return plain


def _is_yes(question: str, plain: str) -> bool:
    """Whether the message says yes to the program's question about suicide, or no to that about safety."""
    if in_context("question_about_risk", question):
        return in_context("takes_back" if in_context("no", plain) else "yes", plain)
    return in_context("question_about_safety", question) and re.search(UNSAFE_ANSWER, plain) is not None


def _read_together(messages: Sequence[str], readings: Sequence[_Reading], encoder: Encoder | None) -> str:
    """Read the last turns as one text, and count hints over the whole conversation."""
    hints = [reading.hint for reading in readings]
    if sum(hint >= HINT_THRESHOLD for hint in hints) >= HINTS_FOR_A_CRISIS and max(hints) >= 0.5:
        return "hints_over_turns"
    for last in range(1, len(messages)):
        for first in range(max(0, last - TURNS_READ_TOGETHER + 1), last):
            joined = " ".join(message.strip(" .") for message in messages[first : last + 1])
            sentences = _sentences(joined)
            for sentence in sentences:
                rest, removed = strip_harmless(sentence)
                is_grave = not removed and any(signal.label in CRISIS_LABELS for signal in explicit_signals(rest))
                if is_grave and sentence not in _explained(sentences, encoder):
                    return "split_over_turns"
    return ""
