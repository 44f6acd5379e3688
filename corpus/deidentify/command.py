"""`mindshift corpus deidentify`: mask a file of texts, and say where the spans were.

Input is JSONL, `{"id": ..., "text": ...}` a line, or a table (CSV, TSV, JSON, Parquet, plain lines). Output is JSONL in
the same order: all fields of a row, its text masked, and `"spans": [{"start", "end", "label"}]` with character offsets
into the input text. The output appears under its name when it is complete. Rows that cannot be read go to
`OUTPUT.quarantine.jsonl` as line number and reason, no text.
"""

import collections
import dataclasses
import itertools
import json
import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from configs.console import Progress
from configs.errors import UserError, listed
from configs.processor import usable_cores
from configs.recipe import load_recipe, require
from configs.rows import FILE_TYPES, TEXT_COLUMNS, Row, find_column, read_rows
from corpus.deidentify.deidentifier import BACKENDS, Deidentifier
from corpus.deidentify.spans import mask

LINES_PER_TASK = 512
JSON_LINES = (".jsonl", ".ndjson")
TABLES = tuple(kind for kind in FILE_TYPES if kind not in JSON_LINES)
Task = tuple[str, list[Row]]
"""The column to mask, and some rows."""


@dataclasses.dataclass(kw_only=True)
class DeidentifyRecipe:
    """Mask names, places, addresses and other personal information in a file of texts."""

    input: Path
    """JSONL file with one `{"id", "text"}` a line, or a table: CSV, TSV, JSON, Parquet, plain lines (.gz is fine)."""
    output: Path
    """JSONL file to write: the rows with their other fields as they are, the text masked, and `spans`."""
    text_column: str | None = None
    """Column to mask. `text` in JSONL; in a table found by its name, if not set."""
    backend: str = "default"
    """What finds the spans: default (exact patterns and the trained tagger), rules (patterns alone), presidio."""
    workers: int = 0
    """Processes; 0 takes one for every core."""


@dataclasses.dataclass
class Outcome:
    """What became of one task's lines."""

    written: bytes
    quarantined: list[tuple[int, str]]
    texts: int
    spans: collections.Counter[str]
    copied: set[str]
    """Other columns that hold words."""


def main(arguments: Sequence[str], program: str) -> None:
    """Run the command."""
    recipe = load_recipe(DeidentifyRecipe, arguments, program)
    require(recipe.backend in BACKENDS, "backend", recipe.backend, ", ".join(BACKENDS))
    require(recipe.workers >= 0, "workers", recipe.workers, "0 or more")
    if not recipe.input.is_file():
        raise UserError("no such file", where=recipe.input)
    if recipe.output.exists() and recipe.output.samefile(recipe.input):
        raise UserError("input and output are the same file", where=recipe.output, fix="Choose another --output.")
    if not recipe.output.parent.is_dir():
        raise UserError("no such folder", where=recipe.output.parent)
    if recipe.output.suffix.lower() in TABLES:
        raise UserError("the output is JSON lines", where=recipe.output, fix="Name it .jsonl.")
    log = logging.getLogger(program)
    quarantine = recipe.output.with_name(recipe.output.name + ".quarantine.jsonl")
    log.info("backend %s", recipe.backend)
    totals = _deidentify_file(recipe, quarantine)
    kinds = ", ".join(f"{label} {count:,}" for label, count in totals.spans.most_common()) or "none"
    log.info("%s texts; spans: %s", f"{totals.texts:,}", kinds)
    if totals.quarantined:
        log.warning("%d lines could not be read: %s", len(totals.quarantined), quarantine)
    if totals.copied:
        log.warning("copied as they are, not masked: %s", listed(sorted(totals.copied)))


def deidentify_rows(task: Task, backend: str) -> Outcome:
    """Mask one task's rows."""
    column, rows = task
    outcome = Outcome(b"", [], 0, collections.Counter(), set())
    readable = []
    for row in rows:
        problem = row.problem or (None if isinstance(row.values.get(column), str) else f"no text in column {column!r}")
        if problem:
            outcome.quarantined.append((row.line, problem))
        else:
            readable.append(row.values)
    found = Deidentifier(backend).find([values[column] for values in readable])
    written = []
    for values, spans in zip(readable, found, strict=True):
        outcome.spans.update(span.label for span in spans)
        outcome.copied |= {key for key, value in values.items() if key not in (column, "id") and isinstance(value, str)}
        masked = {column: mask(values[column], spans), "spans": [span._asdict() for span in spans]}
        written.append(_dump(values | masked))
    outcome.written, outcome.texts = b"".join(written), len(readable)
    return outcome


def _read_rows(recipe: DeidentifyRecipe) -> Iterator[Row]:
    if _is_table(recipe.input) or recipe.input.suffix.lower() == ".gz":
        yield from read_rows(recipe.input)
        return
    with recipe.input.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _read_line(number, line, recipe.text_column or "text")


def _read_line(number: int, line: bytes, column: str) -> Row:
    """Read one line by itself: bytes that are no UTF-8 are the trouble of their own line only."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return Row(number, {}, "not JSON")
    if not isinstance(record, dict) or not isinstance(record.get(column), str) or "id" not in record:
        return Row(number, {}, f'not {{"id", "{column}"}}')
    return Row(number, record)


def _dump(row: dict[str, object]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        return json.dumps(row).encode() + b"\n"


def _deidentify_file(recipe: DeidentifyRecipe, quarantine: Path) -> Outcome:
    totals = Outcome(b"", [], 0, collections.Counter(), set())
    partial = recipe.output.with_name(recipe.output.name + ".partial")
    workers = recipe.workers or usable_cores()
    with partial.open("wb") as target, Progress(description="deidentify", unit="texts") as bar:
        for outcome in _outcomes(_tasks(recipe), recipe.backend, workers):
            target.write(outcome.written)
            totals.texts += outcome.texts
            totals.spans.update(outcome.spans)
            totals.quarantined += outcome.quarantined
            totals.copied |= outcome.copied
            bar.advance(outcome.texts)
        target.flush()
        os.fsync(target.fileno())
    if totals.quarantined:
        rows = (json.dumps({"line": number, "reason": reason}) + "\n" for number, reason in totals.quarantined)
        quarantine.write_text("".join(rows), encoding="utf-8")
    else:
        quarantine.unlink(missing_ok=True)
    if not totals.texts:
        partial.unlink()
        told = f": {quarantine} says why" if totals.quarantined else ""
        raise UserError(f"no readable text ({len(totals.quarantined)} unreadable rows){told}", where=recipe.input)
    partial.replace(recipe.output)
    return totals


def _tasks(recipe: DeidentifyRecipe) -> Iterator[Task]:
    rows, column = _read_rows(recipe), recipe.text_column or ("" if _is_table(recipe.input) else "text")
    while chunk := list(itertools.islice(rows, LINES_PER_TASK)):
        if not column:
            present = dict.fromkeys(key for row in chunk for key in row.values)
            column = find_column(present, None, TEXT_COLUMNS, key="text_column", where=recipe.input)
        yield column, chunk


def _is_table(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(TABLES)


def _outcomes(tasks: Iterator[Task], backend: str, workers: int) -> Iterator[Outcome]:
    """Yield the outcomes in the tasks' order, a few tasks ahead and no more."""
    first = list(itertools.islice(tasks, 2))
    tasks = itertools.chain(first, tasks)
    if workers == 1 or len(first) < 2:  # a short file is done before processes have started
        yield from (deidentify_rows(task, backend) for task in tasks)
        return
    spawn = multiprocessing.get_context("spawn")  # a forked child would inherit torch's threads half alive
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        waiting: collections.deque[Future[Outcome]] = collections.deque()
        for task in tasks:
            waiting.append(pool.submit(deidentify_rows, task, backend))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
