"""Read empathetic conversations in their published layouts, and split them by conversation.

- `empathetic_dialogues`: the CSV of EmpatheticDialogues (arXiv:1811.00207), a file or the folder with train.csv,
  valid.csv and test.csv. The first speaker tells, the second listens; `prompt` is the situation, `context` the emotion.
- `esconv`: the JSON of ESConv (arXiv:2106.01144). The supporter is the responder; `emotion_type` and `situation`.
- `counsel_chat`: counsel-chat as CSV or JSONL. A question and its answers; answers to one question stay together.
- `jsonl`: `{"id", "turns": [{"role": "user" | "assistant", "text"}], "emotion"?, "situation"?, "split"?, "group"?}`
  a line, or `{"id", "context": [texts], "response": text, ...}`, whose last context turn is the user's; earlier replies
  stand in rows of their own.

Unreadable records are counted by reason and line, never quoted.
"""

import csv
import dataclasses
import hashlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from configs.errors import UserError
from configs.recipe import nearest

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {"train": "train", "valid": "validation", "validation": "validation", "dev": "validation", "test": "test"}
MAX_QUARANTINED_SHARE = 0.5
FORMATS_IN_FOLDERS = ("empathetic_dialogues",)


class Utterance(NamedTuple):
    """One turn; `role` is `user` (who tells) or `assistant` (who answers)."""

    role: str
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversation:
    """A conversation and what is known about it.

    Attributes:
        id: its name in the data set.
        group: what must not be torn between splits.
        turns: what was said, oldest first.
        emotion: the data set's label, if it has one.
        situation: the data set's description, if it has one.
        split: the official split, if there is one.
        answers_last_only: whether its earlier replies stand in conversations of their own.
    """

    id: str
    group: str
    turns: tuple[Utterance, ...]
    emotion: str = ""
    situation: str = ""
    split: str = ""
    answers_last_only: bool = False


@dataclasses.dataclass
class Reading:
    """The conversations of one data set, and why records were left out."""

    conversations: list[Conversation] = dataclasses.field(default_factory=list)
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)


def read_conversations(specification: str) -> Reading:
    """Read one `FORMAT:PATH`.

    Raises:
        UserError: an unknown format, an absent or foreign file, a folder instead of a file, or more than half of
            the records unreadable.
    """
    name, separator, rest = specification.partition(":")
    if not separator or name not in READERS:
        raise UserError(
            f"unknown conversation format {name!r}{nearest(name, READERS)}",
            where=specification,
            fix=f"Write FORMAT:PATH with one of {', '.join(READERS)}.",
        )
    path = Path(rest).expanduser()
    if not path.exists():
        raise UserError("no such file or folder", where=path)
    if not path.is_file() and name not in FORMATS_IN_FOLDERS:
        raise UserError(f"is no file, and {name} is read from a file", where=path, fix="Name the file in it.")
    reading = Reading()
    try:
        for conversation in READERS[name](path, reading.left_out):
            if not _is_unicode(conversation):
                reading.left_out["half a character (a lone surrogate)"] += 1
                continue
            turns = tuple(Utterance(turn.role, " ".join(turn.text.split())) for turn in conversation.turns)
            turns = tuple(turn for turn in turns if turn.text)
            if not any(turn.role == "assistant" for turn in from_the_person(turns)):
                reading.left_out["no reply to anything"] += 1
                continue
            reading.conversations.append(dataclasses.replace(conversation, turns=turns))
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise UserError(f"cannot be read as {name} ({type(error).__name__})", where=path) from error
    count = len(reading.conversations)
    if count == 0 or sum(reading.left_out.values()) > MAX_QUARANTINED_SHARE * (count + reading.left_out.total()):
        reasons = ", ".join(f"{reason}: {number}" for reason, number in reading.left_out.most_common(3)) or "empty"
        raise UserError(f"does not look like {name} ({count} conversations; left out: {reasons})", where=path)
    return reading


def from_the_person(context: Sequence[Utterance]) -> tuple[Utterance, ...]:
    """Return the turns from the person's first on: many chat templates refuse a conversation that begins otherwise."""
    return tuple(itertools.dropwhile(lambda turn: turn.role == "assistant", context))


def split_conversations(
    conversations: list[Conversation], *, validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[Conversation]]:
    """Keep official splits; put the rest into splits by a hash of seed and group, so no group is torn apart.

    A group that several official splits claim goes to the first of them in `SPLITS`: what is trained on is no test.
    """
    official: dict[str, str] = {}
    for conversation in conversations:
        claims = {conversation.split, official.get(conversation.group, "")}
        official[conversation.group] = next((name for name in SPLITS if name in claims), "")
    splits: dict[str, list[Conversation]] = {name: [] for name in SPLITS}
    for conversation in conversations:
        split = official[conversation.group]
        if not split:
            digest = hashlib.sha256(f"{seed} {conversation.group}".encode()).digest()
            place = int.from_bytes(digest[:8]) / 2**64
            is_test = place < test_fraction
            split = "test" if is_test else "validation" if place < test_fraction + validation_fraction else "train"
        splits[split].append(conversation)
    empty = [name for name in SPLITS if not splits[name]]
    if empty:
        raise UserError(
            f"no conversation in {', '.join(empty)}", where="conversations", fix="Give more data or larger fractions."
        )
    return splits


def choose(conversations: list[Conversation], count: int | None, seed: int) -> list[Conversation]:
    """Return `count` conversations chosen by seed, whole groups together, in their first order."""
    if count is None or count >= len(conversations):
        return conversations
    groups = sorted({conversation.group for conversation in conversations})
    random.Random(seed).shuffle(groups)
    sizes = Counter(conversation.group for conversation in conversations)
    totals = itertools.accumulate(sizes[group] for group in groups)
    kept = {group for group, total in zip(groups, totals, strict=True) if total <= count}
    return [conversation for conversation in conversations if conversation.group in kept]


def _empathetic_dialogues(path: Path, left_out: Counter[str]) -> Iterator[Conversation]:
    files = [path / f"{name}.csv" for name in ("train", "valid", "test")] if path.is_dir() else [path]
    files = [file for file in files if file.is_file()]
    if not files:
        raise UserError("holds none of train.csv, valid.csv, test.csv", where=path)
    for file in files:
        with file.open(encoding="utf-8", newline="") as lines:
            # The published files do not quote: a quotation mark is an ordinary character there.
            rows = csv.DictReader(lines, quoting=csv.QUOTE_NONE)
            _need_columns(rows.fieldnames, ("conv_id", "utterance_idx", "context", "prompt", "utterance"), file)
            for identifier, group in itertools.groupby(rows, key=lambda row: row["conv_id"]):
                turns = sorted(group, key=lambda row: _number(row["utterance_idx"]))
                if any(not _is_number(row["utterance_idx"]) or row["utterance"] is None for row in turns):
                    left_out["no utterance number"] += 1
                    continue
                yield Conversation(
                    id=identifier,
                    group=f"empathetic_dialogues {identifier}",
                    turns=tuple(
                        Utterance("assistant" if index % 2 else "user", _commas(row["utterance"]))
                        for index, row in enumerate(turns)
                    ),
                    emotion=turns[0]["context"] or "",
                    situation=_commas(turns[0]["prompt"] or ""),
                    split=SPLIT_NAMES.get(file.stem, ""),
                )


def _esconv(path: Path, left_out: Counter[str]) -> Iterator[Conversation]:
    records = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(records, list):
        raise UserError("is no list of conversations", where=path)
    for number, record in enumerate(records):
        try:
            turns = [
                # "sys"/"usr" in the re-published copies
                Utterance("assistant" if turn["speaker"] in ("supporter", "sys") else "user", _text(turn))
                for turn in record["dialog"]
            ]
        except (KeyError, TypeError):
            left_out["no dialog of speaker and content"] += 1
            continue
        yield Conversation(
            id=f"esconv-{number}",
            group=f"esconv {number}",
            turns=tuple(_joined(turns)),
            emotion=str(record.get("emotion_type", "")),
            situation=str(record.get("situation", "")),
            split=SPLIT_NAMES.get(str(record.get("split", "")), ""),
        )


def _counsel_chat(path: Path, left_out: Counter[str]) -> Iterator[Conversation]:
    for number, row in _rows(path, left_out):
        # The CSV says questionTitle, the published JSONL question_title.
        row = {key.replace("_", "").lower(): value for key, value in row.items() if key}
        title, text = str(row.get("questiontitle") or ""), str(row.get("questiontext") or "")
        answer = str(row.get("answertext") or row.get("answer") or "")
        if not answer or not (title or text):
            left_out["no question or no answer"] += 1
            continue
        question = text if text.lower().startswith(title.lower()) else f"{title} {text}".strip()
        group = str(row.get("questionid") or _short_hash(f"{title}\n{text}"))
        yield Conversation(
            id=str(row.get("id") or f"counsel-chat-{number}"),
            group=f"counsel_chat {group}",
            turns=(Utterance("user", question), Utterance("assistant", answer)),
            split=SPLIT_NAMES.get(str(row.get("split") or ""), ""),
        )


def _jsonl(path: Path, left_out: Counter[str]) -> Iterator[Conversation]:
    for number, row in _rows(path, left_out):
        in_rows = _context_and_response(row)
        turns = in_rows or _generic_turns(row)
        if turns is None:
            left_out["neither turns nor context and response"] += 1
            continue
        identifier = str(row.get("id", number))
        yield Conversation(
            id=identifier,
            # Rows of one conversation may stand apart; their common start tells them, as ids need not.
            group=str(row.get("group") or f"{path.name} {_short_hash(turns[0].text)}"),
            turns=turns,
            emotion=str(row.get("emotion") or ""),
            situation=str(row.get("situation") or ""),
            split=SPLIT_NAMES.get(str(row.get("split") or ""), ""),
            answers_last_only=in_rows is not None,
        )


def _context_and_response(row: dict[str, Any]) -> tuple[Utterance, ...] | None:
    context, response = row.get("context"), row.get("response")
    if not isinstance(context, list) or not context or not isinstance(response, str) or not response.strip():
        return None
    texts = [str(text) for text in context]
    roles = ["assistant" if (len(texts) - index) % 2 == 0 else "user" for index in range(len(texts))]
    return (*map(Utterance, roles, texts), Utterance("assistant", response))


def _generic_turns(row: dict[str, Any]) -> tuple[Utterance, ...] | None:
    turns = row.get("turns")
    if not isinstance(turns, list) or not turns:
        return None
    if not all(isinstance(turn, dict) and isinstance(turn.get("text"), str) for turn in turns):
        return None
    if not all(turn.get("role") in ("user", "assistant") for turn in turns):
        return None
    return tuple(Utterance(turn["role"], turn["text"]) for turn in turns)


def _rows(path: Path, left_out: Counter[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the numbered records of a CSV or JSONL file."""
    with path.open(encoding="utf-8", newline="") as lines:
        if path.suffix.lower() == ".csv":
            yield from enumerate(csv.DictReader(lines), start=2)
            return
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            if isinstance(row, dict):
                yield number, row
            else:
                left_out["not a JSON object"] += 1


def _joined(turns: list[Utterance]) -> Iterator[Utterance]:
    """Join neighbouring turns of one speaker."""
    for role, group in itertools.groupby(turns, key=lambda turn: turn.role):
        yield Utterance(role, " ".join(turn.text for turn in group))


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def whole_characters(text: str) -> str:
    """Return `text` with `?` for half a character (a lone surrogate), which no tokenizer and no file takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _is_unicode(conversation: Conversation) -> bool:
    """Whether UTF-8 can hold it: JSON can spell a lone surrogate, which no tokenizer takes."""
    texts = [conversation.id, conversation.group, conversation.emotion, conversation.situation]
    try:
        "".join(texts + [turn.text for turn in conversation.turns]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(turn: dict[str, Any]) -> str:
    return str(turn["content"] if "content" in turn else turn["text"])


def _commas(text: str) -> str:
    return text.replace("_comma_", ",")


def _is_number(value: str | None) -> bool:
    return value is not None and value.isdigit()


def _number(value: str | None) -> int:
    return int(value) if value is not None and value.isdigit() else -1


def _need_columns(found: Any, needed: tuple[str, ...], path: Path) -> None:
    missing = [column for column in needed if column not in (found or ())]
    if missing:
        raise UserError(f"has no column {', '.join(missing)}", where=path)


READERS: dict[str, Callable[[Path, Counter[str]], Iterator[Conversation]]] = {
    "empathetic_dialogues": _empathetic_dialogues,
    "esconv": _esconv,
    "counsel_chat": _counsel_chat,
    "jsonl": _jsonl,
}
