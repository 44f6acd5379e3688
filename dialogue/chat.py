"""`mindshift chat --screen FILE.jsonl`: run the safety layer alone over recorded conversations.

One `{"id", "turns": [...]}` a line goes in; a turn is a string (the user's) or `{"role", "text"}`. One `{"id",
"route", "reasons"}` a line comes out, in the same order. Nothing else is kept, and no text is ever printed.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.recipe import load_recipe
from configs.run_folder import write_atomically
from dialogue.safety import screen_conversation


@dataclasses.dataclass(kw_only=True)
class ChatOptions:
    """Route recorded conversations through the safety layer. Not a diagnosis, not a crisis service."""

    screen: Path
    """JSONL file of conversations, one `{"id", "turns": [...]}` a line; a turn is a string or `{"role", "text"}`."""
    output: Path | None = None
    """JSONL file to write, one `{"id", "route", "reasons"}` a line; without it they are printed."""


def screened(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the verdict on every conversation of a file.

    Raises:
        UserError: the file cannot be read, or a line is not a conversation (its number is named, never its text).
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
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
        verdict = screen_conversation(turns)
        yield {"id": identifier, "route": verdict.route.value, "reasons": list(verdict.reasons)}


def main(arguments: Sequence[str], program: str) -> None:
    """Screen a file from the command line."""
    options = load_recipe(ChatOptions, arguments, program)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in screened(options.screen))
    if options.output is None:
        sys.stdout.write(text)
        return
    try:
        write_atomically(options.output, text)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"cannot be written ({error.strerror})", where=options.output) from error


def _is_turn(turn: object) -> bool:
    if isinstance(turn, str):
        return True
    return isinstance(turn, dict) and isinstance(turn.get("text", turn.get("content")), str)
