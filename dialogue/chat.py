"""`mindshift chat`: talk to a responder in the terminal, or run the safety layer over recorded conversations.

With `--model FOLDER` each line typed is a message; words appear as they are generated, screened on both sides. No
transcript is kept unless `--transcript FILE` asks for one. With `--screen FILE.jsonl` one `{"id", "turns": [...]}` a
line goes in (a turn is a string, the user's, or `{"role", "text"}`) and one `{"id", "route", "reasons"}` a line comes
out, in the same order; nothing else is kept, and no text is ever printed.
"""

import contextlib
import dataclasses
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from configs.errors import UserError
from configs.recipe import load_recipe
from configs.run_folder import write_atomically
from dialogue.conversations import whole_characters
from dialogue.safety import Turn, check_locale, load_encoder, screen_conversation

WELCOME = (
    "This is a program, not a person, a therapist or a crisis service. It makes mistakes, and it diagnoses nothing.\n"
    "Nothing you write is kept{kept}. An empty line ends the conversation; /new starts another one."
)


@dataclasses.dataclass(kw_only=True)
class ChatOptions:
    """Talk to a responder, or route recorded conversations. Not a diagnosis, not a crisis service."""

    model: str | None = None
    """Responder folder of `dialogue/run_dialogue.py`, a Hub id, or `package:smollm2` (untuned)."""
    locale: str | None = None
    """Whose helplines are named, such as `en_GB`; without it those of the system's language settings."""
    transcript: Path | None = None
    """File to keep the conversation in, as JSON lines; without it nothing is kept."""
    screen: Path | None = None
    """JSONL file of conversations to route, one `{"id", "turns": [...]}` a line."""
    output: Path | None = None
    """JSONL file for the routes, one `{"id", "route", "reasons"}` a line; without it they are printed."""

    def __post_init__(self) -> None:
        """Refuse a country without lines here, before anybody in danger could meet the error."""
        check_locale(self.locale)


def screened(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the verdict on every conversation of a file.

    Raises:
        UserError: the file cannot be read, or a line is not a conversation (its number is named, never its text).
    """
    try:
        # Not splitlines: JSON may hold U+2028 and its like as they are. Reading has made "\r\n" a "\n".
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read ({type(error).__name__})", where=path) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            identifier, turns = record["id"], record["turns"]
            if not isinstance(turns, list) or not all(_is_turn(turn) for turn in turns):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise UserError(
                "not a conversation",
                where=f"{path}:{number}",
                fix='Write one {"id": ..., "turns": ["...", {"role": "user", "text": "..."}]} a line.',
            ) from None
        verdict = screen_conversation(turns, load_encoder())
        yield {"id": identifier, "route": verdict.route.value, "reasons": list(verdict.reasons)}


def main(arguments: Sequence[str], program: str) -> None:
    """Talk or screen, as the command line asks."""
    options = load_recipe(ChatOptions, arguments, program)
    if (options.screen is None) == (options.model is None):
        raise UserError("give either --model to talk or --screen to route a file", where=program)
    if options.screen is not None:
        _screen(options.screen, options.output)
        return
    from dialogue.responder import Responder

    assert options.model is not None
    if isinstance(sys.stdin, io.TextIOWrapper):  # a byte that is no UTF-8 must not end a conversation
        sys.stdin.reconfigure(errors="surrogateescape")
    talk(Responder.load(options.model), options, sys.stdin, sys.stdout)


def talk(responder: Any, options: ChatOptions, lines: Iterable[str], output: TextIO) -> None:
    """Read messages line by line and write the answers as they come.

    Args:
        responder: a `dialogue.responder.Responder`.
        options: locale and transcript.
        lines: what the person types.
        output: where the answers go.

    Raises:
        UserError: the transcript cannot be written.
    """
    kept = f" but in {options.transcript}, as you asked" if options.transcript else ""
    with _open_transcript(options.transcript) as transcript:
        output.write(WELCOME.format(kept=kept) + "\n\nyou: ")
        output.flush()
        turns: list[Turn] = []
        for line in lines:
            message = line.strip()
            if not message:
                break
            if message == "/new":
                turns = []
                output.write("-- a new conversation --\n\nyou: ")
                output.flush()
                continue
            turns.append(Turn("user", message))
            output.write("program: ")
            turns.append(Turn("assistant", _answer(responder, turns, options.locale, output)))
            output.write("\n\nyou: ")
            output.flush()
            if transcript is not None:
                rows = [{"role": turn.role, "text": turn.text} for turn in turns[-2:]]
                kept_rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                transcript.write(whole_characters(kept_rows))
                transcript.flush()
    output.write("\n")


def _open_transcript(path: Path | None) -> contextlib.AbstractContextManager[TextIO | None]:
    if path is None:
        return contextlib.nullcontext()
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", where=path) from error


def _answer(responder: Any, turns: Sequence[Turn], locale: str | None, output: TextIO) -> str:
    """Write the answer to the last message, or why it gets none; returns what was written."""
    try:
        pieces = responder.answer(turns, locale)
    except UserError as error:  # too long; it stays in the conversation, whose later screening may need it
        output.write(str(error))
        return str(error)
    return _show(pieces, output)


def _show(pieces: Iterator[Any], output: TextIO) -> str:
    """Write the pieces of one answer; returns what stands in the end."""
    text = ""
    for piece in pieces:
        if piece.kind == "words":
            words = piece.text if text else piece.text.lstrip()
            text += words
            output.write(words)
        else:
            output.write(("\nprogram: " if text else "") + piece.text)
            text = piece.text
        output.flush()
    return text


def _screen(path: Path, output: Path | None) -> None:
    text = whole_characters("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in screened(path)))
    if output is None:
        sys.stdout.write(text)
        return
    try:
        write_atomically(output, text)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"cannot be written ({error.strerror})", where=output) from error


def _is_turn(turn: object) -> bool:
    if isinstance(turn, str):
        return True
    return isinstance(turn, dict) and isinstance(turn.get("text", turn.get("content")), str)
