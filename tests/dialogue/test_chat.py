"""Talking to a responder: screened on both sides, streamed word by word, nothing kept unless asked."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.errors import UserError
from dialogue import chat, responder
from dialogue.chat import ChatOptions, talk
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


def test_words_come_one_by_one_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    talker = scripted(monkeypatch, " That", " sou", "nds ha", "rd.")
    assert shown(talker.answer([Turn("user", "my day was long")])) == [
        ("words", " That"),
        ("words", " sounds"),
        ("words", " hard."),
    ]


def test_an_answer_that_turns_bad_is_replaced_before_the_bad_word(monkeypatch: pytest.MonkeyPatch) -> None:
    talker = scripted(monkeypatch, "I am sorry. You", " may", " have", " depress", "ion.", " Rest", " well.")
    found = shown(talker.answer([Turn("user", "my day was long")]))
    assert found[-1] == ("withheld", WITHHELD)
    assert "depression" not in "".join(text for kind, text in found if kind == "words")


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
