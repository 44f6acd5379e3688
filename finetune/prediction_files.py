"""Texts in, predictions out: what `mindshift predict` reads and writes, streamed, the output atomic."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TextIO

from configs.console import Progress
from configs.errors import UserError
from configs.rows import TEXT_COLUMNS, Row, find_column, read_rows, text_rows
from finetune.config import PredictRecipe
from finetune.decisions import Decision
from finetune.metrics import BoolArray
from finetune.tasks import FloatArray

CHUNK_TEXTS = 2048  # sorted by length together
STANDARD = Path("-")
OUTPUT_TYPES = (".jsonl", ".ndjson", ".csv")


class InputText(NamedTuple):
    """One text to classify, and its id as it was given."""

    id: Any
    text: str


class Quarantine:
    """Rows that cannot be read: file, line and reason, in OUTPUT.quarantine.jsonl (or on standard error)."""

    def __init__(self, output: Path | None) -> None:
        self._path = None if output in (None, STANDARD) else Path(f"{output}.quarantine.jsonl")
        self._rows: list[dict[str, Any]] = []

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    @property
    def where(self) -> str:
        """Where they can be read."""
        return "above" if self._path is None else str(self._path)

    def add(self, file: str, line: int, reason: str) -> None:
        """Note one row."""
        self._rows.append({"file": file, "line": line, "reason": reason})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self._rows)
        if self._path is None:
            sys.stderr.write(lines)
        elif lines:
            self._path.write_text(lines, encoding="utf-8")
        else:
            self._path.unlink(missing_ok=True)


def read_inputs(recipe: PredictRecipe, quarantine: Quarantine) -> Iterator[InputText]:
    """Stream the texts a recipe names.

    Raises:
        UserError: texts from two places, no text column, an unreadable file.
    """
    if recipe.text:
        if recipe.input is not None:
            raise UserError("texts come from --text or from --input, not from both", where="mindshift predict")
        yield from (InputText(number, text) for number, text in enumerate(recipe.text))
        return
    if recipe.input in (None, STANDARD):
        where = "standard input"
        if sys.stdin.isatty():
            raise UserError("no texts", fix="Name a file with --input, or pipe texts in.")
        stream = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline="")
        rows = _decoded(text_rows(stream, f".{recipe.input_format}"), where)
    else:
        assert recipe.input is not None  # the branch above took None
        where, rows = str(recipe.input), read_rows(recipe.input)
    yield from _texts(rows, where, recipe, quarantine)


def _decoded(rows: Iterator[Row], where: str) -> Iterator[Row]:
    """Yield rows of standard input, whose bytes may be anything."""
    try:
        yield from rows
    except UnicodeDecodeError as error:
        raise UserError("not UTF-8", where=where, fix="Convert it with iconv.") from error


def _texts(rows: Iterator[Row], where: str, recipe: PredictRecipe, quarantine: Quarantine) -> Iterator[InputText]:
    column: str | None = None
    read = 0
    for row in rows:
        if row.problem is None and column is None:
            column = find_column(row.values, recipe.text_column, TEXT_COLUMNS, key="text_column", where=where)
        text = row.values.get(column) if column is not None else None
        if row.problem is not None or not isinstance(text, str):
            quarantine.add(where, row.line, row.problem or f"no text in column {column!r}")
            continue
        id_column = recipe.id_column or "id"
        if recipe.id_column is not None and id_column not in row.values:
            quarantine.add(where, row.line, f"no column {id_column!r}")
            continue
        yield InputText(row.values.get(id_column, row.line), text)
        read += 1
    if not read:
        raise UserError(f"no readable text ({quarantine.count} unreadable rows)", where=where)


def chunks(texts: Iterable[InputText]) -> Iterator[list[InputText]]:
    """Yield the texts in lists of `CHUNK_TEXTS`."""
    iterator = iter(texts)
    while chunk := list(islice(iterator, CHUNK_TEXTS)):
        yield chunk


def prediction_record(
    decision: Decision, identifier: Any, probabilities_L: FloatArray, decisions_L: BoolArray
) -> dict[str, Any]:
    """Return one prediction: `id`, `probabilities` by label, `labels`, and `send_to_human` if that is on."""
    names = decision.label_set.names
    record = {
        "id": identifier,
        "probabilities": {name: round(float(p), 6) for name, p in zip(names, probabilities_L, strict=True)},
        "labels": [name for name, given in zip(names, decisions_L, strict=True) if given],
    }
    if decision.least_confidence is not None:
        record["send_to_human"] = bool(decision.abstains(probabilities_L[None])[0])
    return record


class PredictionWriter:
    """Writes predictions to a file that appears when it is complete, or to standard output.

    JSON lines hold `prediction_record`s; CSV has a column a label.
    """

    def __init__(self, output: Path | None, decision: Decision) -> None:
        self._decision, self._names = decision, decision.label_set.names
        self._target = None if output in (None, STANDARD) else output
        self._as_csv = False
        self._bar = Progress(description="predict", unit="texts", enabled=self._target is not None)
        if self._target is not None:
            if self._target.suffix.lower() not in OUTPUT_TYPES:
                raise UserError("output is .jsonl or .csv", where=self._target)
            if not self._target.parent.is_dir():
                raise UserError("no such folder", where=self._target.parent, fix="Create it first.")
            self._as_csv = self._target.suffix.lower() == ".csv"
            self._temporary = self._target.with_name(f".{self._target.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Self:
        self._file: TextIO = sys.stdout
        if self._target is not None:
            self._file = self._temporary.open("w", encoding="utf-8", newline="")
        if self._as_csv:
            self._csv = csv.writer(self._file)
            human = ["send_to_human"] if self._decision.least_confidence is not None else []
            self._csv.writerow(["id", "labels", *human, *self._names])
        return self

    def write(self, identifier: Any, probabilities_L: FloatArray, decisions_L: BoolArray) -> None:
        """Write one prediction."""
        record = prediction_record(self._decision, identifier, probabilities_L, decisions_L)
        if self._as_csv:
            human = [record["send_to_human"]] if "send_to_human" in record else []
            self._csv.writerow([identifier, ";".join(record["labels"]), *human, *record["probabilities"].values()])
        else:
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._bar.advance(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__()
        if self._target is None:
            self._file.flush()
            return
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._temporary.replace(self._target)
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)
