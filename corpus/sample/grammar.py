"""Sentence frames: the small language in which the synthetic posts are written, and how it is spoken.

A file under `language/` holds sections (`== name`) of frames, one a line. In a frame, `[a|b]` is a choice, `{slot}`
is drawn from the section of that name in a word list, `{KIND.form}` is an identifier to plant and `{~word}` a word
that an anonymiser must leave alone. What is planted is tracked, so that gold annotations can give its characters.
"""

import random as random_module
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

LANGUAGE_DIR = Path(__file__).parent / "language"
TOKEN = re.compile(r"[\[\]|]|\{[^}]*\}|[^\[\]|{}]+")
NEGATIVE_PREFIX = "~"
RENDERINGS = 64

Random = Callable[[], float]
"""A source of uniform numbers in [0, 1): `random.Random(seed).random`, the one method stable across Pythons."""
Sections = dict[str, list[str]]


class Tracked(NamedTuple):
    """A part whose place in the text is recorded: an identifier (`NAME`) or a hard negative (`~drug`)."""

    label: str
    make: Callable[[Random], str]


Part = str | Tracked | tuple["str | Frame", ...]
Frame = list[Part]
"""What a line compiles to: literal text, tracked parts, and choices between strings or frames."""


class Passage:
    """Text in the making: its pieces, and which of them are tracked.

    Attributes:
        pieces: strings that make up the text.
        marks: (index of a piece, label) of the tracked ones.
        used: `id` of the frames it was made from, so that none comes twice.
    """

    __slots__ = ("marks", "pieces", "used")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.marks: list[tuple[int, str]] = []
        self.used: set[int] = set()

    def text(self) -> str:
        """Return the whole text."""
        return "".join(self.pieces)

    def spans(self) -> list[tuple[int, int, str]]:
        """Return (start, end, label) in characters of `text()`, one for each mark."""
        labels, spans, position = dict(self.marks), [], 0
        for index, piece in enumerate(self.pieces):
            if index in labels:
                spans.append((position, position + len(piece), labels[index]))
            position += len(piece)
        return spans


def read_sections(path: Path) -> Sections:
    """Read a language file; lines that start with `# ` are comments."""
    sections: Sections = {}
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            lines = sections.setdefault(line.removeprefix("== ").strip(), [])
        elif line.strip() and not line.startswith("# "):
            lines.append(line)
    return sections


def pick(options: "list[str] | tuple[str, ...]", random: Random) -> str:
    """Draw one of the options."""
    return options[int(random() * len(options))]


class Grammar:
    """Compiles frames against word lists and makers of tracked parts.

    Args:
        words: slot → the phrases it may be filled with.
        makers: label or label.form → the function that makes such an identifier.
        negatives: slots whose phrases are hard negatives and so are tracked as `~slot`.
    """

    def __init__(
        self,
        words: Mapping[str, list[str]],
        makers: Mapping[str, Callable[[Random], str]],
        negatives: frozenset[str],
    ) -> None:
        self._words, self._makers, self._negatives = words, makers, negatives
        self._random: Random = random_module.Random("rehearsal").random

    def compile(self, line: str) -> Frame:
        """Compile one line.

        Raises:
            ValueError: a slot that nothing fills, or brackets that do not match.
        """
        frame, rest = self._sequence(TOKEN.findall(line))
        if rest:
            raise ValueError(f"unmatched bracket in frame {line!r}")
        return frame

    def compile_all(self, lines: list[str]) -> list[Frame]:
        """Compile a section for speed: a frame that tracks nothing becomes a choice among some of its renderings."""
        return [self._rehearse(self.compile(line)) for line in lines]

    def _rehearse(self, frame: Frame) -> Frame:
        renderings = []
        for _ in range(RENDERINGS):
            passage = Passage()
            speak(frame, self._random, passage)
            if passage.marks:
                return frame
            renderings.append(passage.text())
        return [tuple(dict.fromkeys(renderings))]

    def _sequence(self, tokens: list[str]) -> tuple[Frame, list[str]]:
        frame: Frame = []
        while tokens and tokens[0] not in "|]":
            token, tokens = tokens[0], tokens[1:]
            if token == "[":
                options: list[str | Frame] = []
                while not options or tokens[0] == "|":
                    option, tokens = self._sequence(tokens[1:] if options else tokens)
                    options.append(_flatten(option))
                    if not tokens:
                        raise ValueError("a choice is not closed by ]")
                tokens = tokens[1:]
                frame.append(tuple(options))
            elif token.startswith("{"):
                frame.append(self._slot(token[1:-1]))
            else:
                frame.append(token)
        return frame, tokens

    def _slot(self, name: str) -> Part:
        if name.startswith(NEGATIVE_PREFIX):
            word = name.removeprefix(NEGATIVE_PREFIX)
            return Tracked("~word", lambda random: word)
        if name in self._makers:
            return Tracked(name.partition(".")[0], self._makers[name])
        if name not in self._words:
            raise ValueError(f"nothing fills the slot {{{name}}}")
        options = self._words[name]
        if name in self._negatives:
            return Tracked(NEGATIVE_PREFIX + name, lambda random: pick(options, random))
        return tuple(options)


def speak(frame: Frame, random: Random, passage: Passage) -> None:
    """Append one rendering of a frame to a passage."""
    pieces = passage.pieces
    for part in frame:
        kind = part.__class__
        if kind is str:
            pieces.append(part)  # type: ignore[arg-type]
        elif kind is Tracked:
            passage.marks.append((len(pieces), part.label))  # type: ignore[union-attr]
            pieces.append(part.make(random))  # type: ignore[union-attr]
        else:
            option = part[int(random() * len(part))]
            if option.__class__ is str:
                pieces.append(option)
            else:
                speak(option, random, passage)  # type: ignore[arg-type]


def _flatten(frame: Frame) -> str | Frame:
    if not frame:
        return ""
    return frame[0] if len(frame) == 1 and isinstance(frame[0], str) else frame
