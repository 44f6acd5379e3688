"""The responder behind its safety layer: what both the terminal and the studio talk to.

Every message is screened with all that came before it; only an `ok` conversation reaches the model. The answer is
screened word by word before a word is shown, and the moment it would say what it must not, all of it is replaced by
fixed words. Nothing is written anywhere.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from configs.errors import UserError
from dialogue.base_responders import load_responder, processor_has_bf16
from dialogue.conversations import Utterance, whole_characters
from dialogue.generation import stream_answer
from dialogue.safety import WITHHELD, Route, Turn, fixed_reply, load_encoder, screen_conversation, screen_reply

MAX_NEW_TOKENS = 60
LONGEST_PROMPT = 512
CONTEXT_TURNS = 8
MAX_TURN_CHARACTERS = 4000
EMPTY = "I am here. Would you like to tell me a little more?"


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of an answer to show.

    Attributes:
        kind: `words` to add; `fixed` for the whole fixed reply of a route; `withheld` to put in place of all words
            shown so far.
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
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model.eval(), tokenizer

    @classmethod
    def load(cls, name: str | Path) -> "Responder":
        """Load a folder of `dialogue/run_dialogue.py`, a Hub id or `package:smollm2`, in bfloat16 where that is faster.

        Raises:
            UserError: there is no causal language model.
        """
        base = load_responder(str(name))
        model = base.model.bfloat16() if processor_has_bf16() else base.model
        return cls(model, base.tokenizer)

    def answer(self, turns: Sequence[Turn], locale: str | None = None) -> Iterator[Piece]:
        """Yield the answer to a conversation whose last turn is the person's.

        Args:
            turns: the whole conversation, oldest first; a crisis anywhere in it stays one.
            locale: whose helplines to name, such as `en_GB`; without it the system's.

        Raises:
            UserError: no message, or one that is too long for the model.
        """
        if not turns or turns[-1].role != "user" or not turns[-1].text.strip():
            raise UserError("there is no message to answer", fix="Write something first.")
        fixed = answer_without_model(turns, locale)
        if fixed is not None:  # first of all: whoever is in danger gets helplines, however much they write
            return iter([fixed])
        if len(turns[-1].text) > MAX_TURN_CHARACTERS:
            raise UserError("this message is too long", fix=f"Keep it under {MAX_TURN_CHARACTERS:,} characters.")
        return self._generate(turns)

    def _generate(self, turns: Sequence[Turn]) -> Iterator[Piece]:
        # Only now: the screening leaves half a character out, so that it hides no word.
        texts = [(turn.role, whole_characters(turn.text)) for turn in turns[-CONTEXT_TURNS:]]
        context = [Utterance(role, " ".join(text.split())) for role, text in texts]
        pieces = stream_answer(
            self._model, self._tokenizer, context, max_new_tokens=MAX_NEW_TOKENS, longest_prompt=LONGEST_PROMPT
        )
        shown = ""
        for words in _whole_words(pieces):
            if screen_reply(shown + words):
                yield Piece("withheld", WITHHELD, Route.OK)
                for _ in pieces:  # let the generating thread come to its end
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


def _whole_words(pieces: Iterator[str]) -> Iterator[str]:
    """Regroup pieces so that a word is judged, and shown, only when it is complete."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        head, space, tail = waiting.rpartition(" ")
        if space and head:
            yield head
            waiting = space + tail
    if waiting:
        yield waiting
