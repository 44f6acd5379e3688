"""Talking to a responder: screened on both sides, streamed word by word, nothing kept unless asked."""

import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.errors import UserError
from configs.manifest import CODE_ROOT, now, write_manifest
from dialogue import chat, responder
from dialogue.chat import ChatOptions, talk
from dialogue.config import DialogueRecipe
from dialogue.responder import EMPTY, Piece, Responder
from dialogue.safety import WITHHELD, Route, Turn


class SilentModel:
    """A model that must not be asked."""

    def eval(self) -> "SilentModel":
        return self


def scripted(monkeypatch: pytest.MonkeyPatch, *pieces: str) -> Responder:
    """A responder that generates these pieces, whatever it is told."""
    monkeypatch.setattr(responder, "stream_answer", lambda *_, **__: iter(pieces))
    return Responder(SilentModel(), None)


def shown(pieces: Iterator[Piece]) -> list[tuple[str, str]]:
    return [(piece.kind, piece.text) for piece in pieces]


def test_a_crisis_never_reaches_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(*_: Any, **__: Any) -> Iterator[str]:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(responder, "stream_answer", generate)
    talker = Responder(SilentModel(), None)
    turns = [Turn("user", "I want to kill myself"), Turn("assistant", "..."), Turn("user", "what is the weather?")]
    (piece,) = talker.answer(turns, "en_GB")
    assert (piece.kind, piece.route) == ("fixed", Route.CRISIS)
    assert "116 123" in piece.text


def test_sentences_come_one_by_one_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    talker = scripted(monkeypatch, " That", " sou", "nds ha", 'rd. "Really', '?" he said', ".\nIt took 2", ".5 hours")
    assert shown(talker.answer([Turn("user", "my day was long")])) == [
        ("words", " That sounds hard."),
        ("words", ' "Really?"'),
        ("words", " he said."),
        ("words", "\n"),
        ("words", "It took 2.5 hours"),
    ]


@pytest.mark.parametrize(
    ("pieces", "good"),
    [
        (("I am sorry. You", " may", " have", " depress", "ion.", " Rest", " well."), "I am sorry."),
        (("You", " should", " stop taking", " your", " pills", " now."), ""),
    ],
)
def test_nothing_of_a_bad_sentence_is_shown(
    monkeypatch: pytest.MonkeyPatch, pieces: tuple[str, ...], good: str
) -> None:
    talker = scripted(monkeypatch, *pieces)
    found = shown(talker.answer([Turn("user", "my day was long")]))
    assert found[-1] == ("withheld", WITHHELD)
    assert "".join(text for kind, text in found if kind == "words") == good


def test_a_model_that_fails_says_so(tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talker = Responder.load(tiny_decoder)

    def fail(**_: Any) -> None:
        raise IndexError("index out of range")

    monkeypatch.setattr(talker._model, "generate", fail)
    with pytest.raises(UserError, match=r"no answer \(IndexError\)"):
        list(talker.answer([Turn("user", "my day was long")]))
    output = io.StringIO()
    talk(talker, ChatOptions(), ["my day was long", "it rained"], output)
    assert output.getvalue().count("program: the model gave no answer (IndexError)") == 2
    monkeypatch.setattr("dialogue.generation.SECONDS_WITHOUT_TOKEN", 0.01)
    monkeypatch.setattr(talker._model, "generate", lambda **_: time.sleep(1))
    with pytest.raises(UserError, match=r"no answer \(Empty\)"):
        list(talker.answer([Turn("user", "my day was long")]))


def test_a_template_that_wants_the_person_first_gets_it(tiny_decoder: Path) -> None:
    talker = Responder.load(tiny_decoder)
    plain = talker._tokenizer.chat_template
    talker._tokenizer.chat_template = (
        "{% for message in messages %}{% if loop.index0 > 0 and "
        "(message['role'] == 'user') != (loop.index0 % 2 == 1) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + plain
    )
    turns = [Turn("assistant" if n % 2 else "user", f"it rained {n} times") for n in range(11)]
    assert list(talker.answer(turns))
    with pytest.raises(UserError, match="roles must alternate"):
        list(talker.answer([Turn("user", "it rained"), Turn("user", "again")]))


def test_a_folder_answers_within_the_limits_of_its_recipe(
    tiny_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = tmp_path / "responder", []
    shutil.copytree(tiny_decoder, folder)
    recipe = DialogueRecipe(
        output_dir=folder, conversations=["jsonl:x"], context_turns=3, max_seq_length=200, max_new_tokens=5
    )
    write_manifest(folder, stage="dialogue", recipe=recipe, inputs={}, counts={}, started_at=now())

    def generate(_model: Any, _tokenizer: Any, context: Any, **limits: int) -> Iterator[str]:
        asked.append((len(context), limits))
        return iter(["I see."])

    monkeypatch.setattr(responder, "stream_answer", generate)
    turns = [Turn("assistant" if n % 2 else "user", f"it rained {n} times") for n in range(11)]
    for name in (folder, tiny_decoder):
        list(Responder.load(name).answer(turns))
    assert asked == [
        (3, {"max_new_tokens": 5, "longest_prompt": 200}),
        (7, {"max_new_tokens": 60, "longest_prompt": 512}),
    ]


def test_an_empty_answer_is_not_shown_as_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(scripted(monkeypatch, " ").answer([Turn("user", "hello")]))[-1] == ("withheld", EMPTY)


@pytest.mark.parametrize("message", ["", "   ", "x" * 5000])
def test_no_message_or_a_huge_one_is_refused(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    with pytest.raises(UserError):
        scripted(monkeypatch).answer([Turn("user", message)])


def test_a_crisis_gets_helplines_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "my day was long. " * 300 + "I want to kill myself."
    (piece,) = scripted(monkeypatch).answer([Turn("user", message)], "en_GB")
    assert (piece.kind, piece.route) == ("fixed", Route.CRISIS)


def test_the_conversation_goes_on_after_a_message_that_is_too_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output, transcript = io.StringIO(), tmp_path / "kept.jsonl"
    options = ChatOptions(locale="en_US", transcript=transcript)
    talk(scripted(monkeypatch, "I", " see."), options, ["x" * 5000 + "\n", "my day was long\n", "\n"], output)
    assert "program: this message is too long\n  Keep it under 4,000 characters.\n" in output.getvalue()
    assert "program: I see.\n" in output.getvalue()
    rows = [json.loads(line) for line in transcript.read_text(encoding="utf-8").splitlines()]
    assert [row["role"] for row in rows] == ["user", "assistant"] * 2


def test_a_byte_that_is_no_utf_8_ends_no_conversation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_decoder: Path
) -> None:
    transcript, output = tmp_path / "kept.jsonl", io.StringIO()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"my caf\xe9 was cold\nit rained\n\n"), "utf-8"))
    monkeypatch.setattr("sys.stdout", output)
    chat.main(["--model", str(tiny_decoder), "--transcript", str(transcript)], "mindshift chat")
    rows = [json.loads(line) for line in transcript.read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows if row["role"] == "user"] == ["my caf? was cold", "it rained"]


def test_a_character_that_the_terminal_lacks_ends_no_conversation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_decoder: Path
) -> None:
    shown_bytes = io.BytesIO()
    monkeypatch.setattr("sys.stdin", io.StringIO("my day was long\nit rained\n"))
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown_bytes, "latin-1", write_through=True))
    monkeypatch.setattr(responder, "stream_answer", lambda *_, **__: iter(["That’s hard."]))
    chat.main(["--model", str(tiny_decoder)], "mindshift chat")
    assert shown_bytes.getvalue().count(b"program: That?s hard.") == 2


def test_an_empty_line_ends_no_conversation_and_quit_does(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    lines = ["my day was long", "", "  ", "i want to die", "/quit", "it rained"]
    talk(scripted(monkeypatch, "I see."), ChatOptions(locale="en_US"), lines, output)
    assert output.getvalue().count("program: ") == 2
    assert "988" in output.getvalue()


# What a person at a terminal types reaches the conversation whole; a terminal's own line ends after 4,095 bytes.
AT_A_TERMINAL = """
import sys
from dialogue import chat
from dialogue.responder import Responder
class Answers:
    def answer(self, turns, locale):
        return iter([])
Responder.load = lambda name: Answers()
chat.main(["--model", "x", "--transcript", sys.argv[1]], "mindshift chat")
"""


def test_a_terminal_cuts_no_message_and_a_pasted_text_is_one(tmp_path: Path) -> None:
    transcript = tmp_path / "kept.jsonl"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", AT_A_TERMINAL, str(transcript)]
    environment = os.environ | {"PYTHONPATH": str(CODE_ROOT), "HOME": str(tmp_path), "TERM": "xterm"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True, cwd=tmp_path
    )
    os.close(theirs)

    def until(pattern: bytes) -> None:
        printed = b""
        while not re.search(pattern, printed):
            printed += os.read(ours, 4096)

    answered = rb"program: \s*\S*you: "
    long = "my day was long " * 400 + "and this is its end"
    pasted = "it rained\n\nand then it snowed"
    until(b"you: ")
    for start in range(0, len(long), 500):
        os.write(ours, long[start : start + 500].encode())
        os.read(ours, 65536)
    os.write(ours, b"\r")
    until(answered)
    os.write(ours, f"\x1b[200~{pasted}\x1b[201~\r".encode())
    until(answered)
    os.write(ours, b"/quit\r")
    assert process.wait(timeout=60) == 0
    os.close(ours)
    rows = [json.loads(line) for line in transcript.read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows if row["role"] == "user"] == [long, pasted]
    assert [path.name for path in tmp_path.iterdir()] == ["kept.jsonl"]  # no history


def test_half_a_character_reaches_no_tokenizer_and_hides_no_crisis(tiny_decoder: Path) -> None:
    talker = Responder.load(tiny_decoder)
    assert list(talker.answer([Turn("user", "my day was \ud83d long")]))
    (piece,) = talker.answer([Turn("user", "i want to ki\ud83dll myself")])
    assert piece.route == Route.CRISIS


def test_a_transcript_that_cannot_be_written_is_told_before_the_welcome(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = io.StringIO()
    options = ChatOptions(transcript=tmp_path / "absent" / "kept.jsonl")
    with pytest.raises(UserError, match="cannot be written"):
        talk(scripted(monkeypatch, "I see."), options, ["my day was long\n"], output)
    assert output.getvalue() == ""


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_only_a_line_end_ends_a_conversation_of_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line_end: str
) -> None:
    """JSON may hold the line separators of Unicode as they are."""
    monkeypatch.setattr(chat, "load_encoder", lambda: None)
    path = tmp_path / "recorded.jsonl"
    turns = ["my day\u2028was\u2029so\u0085long"]
    rows = [json.dumps({"id": name, "turns": turns}, ensure_ascii=False) for name in "ab"]
    path.write_bytes(line_end.join([*rows, "", "{}"]).encode())
    found = chat.screened(path)
    assert [next(found)["id"], next(found)["id"]] == ["a", "b"]
    with pytest.raises(UserError, match=r"recorded\.jsonl:4"):
        next(found)


def test_a_conversation_in_the_terminal_keeps_nothing_unless_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    output = io.StringIO()
    talker = scripted(monkeypatch, "I", " see.")
    talk(
        talker, ChatOptions(locale="en_US"), ["my day was long\n", "i want to die\n", "/new\n", "hello\n", "\n"], output
    )
    text = output.getvalue()
    assert text.count("I see.") == 2
    assert "988" in text
    assert "not a person" in text
    assert list(tmp_path.iterdir()) == []
    transcript = tmp_path / "kept.jsonl"
    talk(talker, ChatOptions(transcript=transcript), ["my day was long\n", "\n"], io.StringIO())
    rows = [json.loads(line) for line in transcript.read_text(encoding="utf-8").splitlines()]
    assert rows == [{"role": "user", "text": "my day was long"}, {"role": "assistant", "text": "I see."}]


def test_a_real_decoder_streams(tiny_decoder: Path) -> None:
    pieces = list(Responder.load(tiny_decoder).answer([Turn("user", "my day was long")]))
    assert pieces
    assert all(piece.route == Route.OK for piece in pieces)


@pytest.mark.parametrize("arguments", [[], ["--model", "x", "--screen", "y"]])
def test_talk_or_screen_not_both(arguments: list[str]) -> None:
    with pytest.raises(UserError, match="either --model"):
        chat.main(arguments, "mindshift chat")
