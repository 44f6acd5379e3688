"""The responder behind its safety layer: what both the terminal and the studio talk to.

Every message is screened with all that came before it; only an `ok` conversation reaches the model. The answer comes
sentence by sentence, each screened with those before it; at the first that says what it must not, fixed words take the
place of the answer. Nothing is written anywhere.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from configs.errors import UserError
from configs.manifest import MANIFEST_NAME, read_manifest
from dialogue.base_responders import load_responder, processor_has_bf16
from dialogue.conversations import Utterance, whole_characters
from dialogue.generation import stream_answer
from dialogue.safety import WITHHELD, Route, Turn, fixed_reply, load_encoder, screen_conversation, screen_reply

MAX_TURN_CHARACTERS = 4000
EMPTY = "I am here. Would you like to tell me a little more?"
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|\n+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a model reads and says; the names are those of the recipe."""

    context_turns: int = 7
    """Turns that it reads, the person's last one included."""
    max_seq_length: int = 512
    """Longest prompt, in tokens."""
    max_new_tokens: int = 60
    """Longest answer, in tokens."""

    @classmethod
    def of(cls, folder: Path | None) -> "Limits":
        """Return those that a responder folder was trained and measured with; others have the defaults."""
        if folder is None or not (folder / MANIFEST_NAME).is_file():
            return cls()
        recipe = read_manifest(folder).recipe
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: recipe[name] for name in names if name in recipe})


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of an answer to show.

    Attributes:
        kind: `words`, a sentence to add; `fixed` for the whole fixed reply of a route; `withheld` to put in place of
            all words shown so far, none of which was bad.
        text: what to show.
        route: the route of the message.
    """

    kind: Literal["words", "fixed", "withheld"]
    text: str
    route: Route


class Responder:
    """A responder folder, loaded, and its safety layer.

    Args:
        model: a causal LM in evaluation mode.
        tokenizer: its tokenizer.
        limits: how much it reads and says.
    """

    def __init__(self, model: Any, tokenizer: Any, limits: Limits | None = None) -> None:
        self._model, self._tokenizer, self._limits = model.eval(), tokenizer, limits or Limits()

    @classmethod
    def load(cls, name: str | Path) -> "Responder":
        """Load a folder of `dialogue/run_dialogue.py`, a Hub id or `package:smollm2`, in bfloat16 where that is faster.

        Raises:
            UserError: there is no causal language model.
        """
        base = load_responder(str(name))
        model = base.model.bfloat16() if processor_has_bf16() else base.model
        return cls(model, base.tokenizer, Limits.of(base.folder))

    def answer(self, turns: Sequence[Turn], locale: str | None = None) -> Iterator[Piece]:
        """Yield the answer to a conversation whose last turn is the person's.

        Args:
            turns: the whole conversation, oldest first; a crisis anywhere in it stays one.
            locale: whose helplines to name, such as `en_GB`; without it the system's.

        Raises:
            UserError: no message, one that is too long for the model, or a model that fails.
        """
        fixed = answer_without_model(turns, locale)
        if fixed is not None:  # first of all: whoever is in danger gets helplines, however much they write
            return iter([fixed])
        return self.answer_screened(turns)

    def answer_screened(self, turns: Sequence[Turn]) -> Iterator[Piece]:
        """Yield the answer to a conversation that `answer_without_model` has just let pass.

        Raises:
            UserError: as `answer` does.
        """
        if not turns or turns[-1].role != "user" or not turns[-1].text.strip():
            raise UserError("there is no message to answer", fix="Write something first.")
        if len(turns[-1].text) > MAX_TURN_CHARACTERS:
            raise UserError("this message is too long", fix=f"Keep it under {MAX_TURN_CHARACTERS:,} characters.")
        return self._generate(turns)

    def _generate(self, turns: Sequence[Turn]) -> Iterator[Piece]:
        # Only now: the screening leaves half a character out, so that it hides no word.
        texts = [(turn.role, whole_characters(turn.text)) for turn in turns[-self._limits.context_turns :]]
        context = [Utterance(role, " ".join(text.split())) for role, text in texts]
        pieces = stream_answer(
            self._model,
            self._tokenizer,
            context,
            max_new_tokens=self._limits.max_new_tokens,
            longest_prompt=self._limits.max_seq_length,
        )
        shown = ""
        for words in _whole_sentences(pieces):
            if screen_reply(shown + words):
                yield Piece("withheld", WITHHELD, Route.OK)
                with contextlib.suppress(UserError):  # let the generating thread come to its end
                    for _ in pieces:
                        pass
                return
            shown += words
            yield Piece("words", words, Route.OK)
        if not shown.strip():
            yield Piece("withheld", EMPTY, Route.OK)


def answer_without_model(turns: Sequence[Turn], locale: str | None = None) -> Piece | None:
    """Return the fixed words where the safety layer forbids a generated answer, else None."""
    verdict = screen_conversation(turns, load_encoder())
    return None if verdict.route == Route.OK else Piece("fixed", fixed_reply(verdict, locale), verdict.route)


def _whole_sentences(pieces: Iterator[str]) -> Iterator[str]:
    """Regroup pieces so that a sentence is judged, and shown, only when it is complete."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        while end := SENTENCE_END.search(waiting):
            yield waiting[: end.end()]
            waiting = waiting[end.end() :]
    if waiting:
        yield waiting
