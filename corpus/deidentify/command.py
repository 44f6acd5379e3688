"""`mindshift corpus deidentify`: mask a JSONL file of texts, and say where the spans were.

Input lines are `{"id": ..., "text": ...}`; output lines are `{"id": ..., "text": masked text, "spans": [{"start",
"end", "label"}]}` in the same order, with character offsets into the input text. The output appears under its name
when it is complete. Lines that cannot be read go to `OUTPUT.quarantine.jsonl` as line number and reason, no text.
"""

import collections
import dataclasses
import itertools
import json
import logging
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from configs.console import Progress
from configs.errors import UserError
from configs.processor import usable_cores
from configs.recipe import load_recipe, require
from corpus.deidentify.deidentifier import BACKENDS, Deidentifier
from corpus.deidentify.spans import mask

LINES_PER_TASK = 512
Task = tuple[int, list[bytes]]


@dataclasses.dataclass(kw_only=True)
class DeidentifyRecipe:
    """Mask names, places, addresses and other personal information in a JSONL file of texts."""

    input: Path
    """JSONL file with one `{"id", "text"}` a line."""
    output: Path
    """File to write: one `{"id", "text", "spans"}` a line, where `text` is masked."""
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
    log = logging.getLogger(program)
    quarantine = recipe.output.with_name(recipe.output.name + ".quarantine.jsonl")
    log.info("backend %s", recipe.backend)
    totals = _deidentify_file(recipe, quarantine)
    kinds = ", ".join(f"{label} {count:,}" for label, count in totals.spans.most_common()) or "none"
    log.info("%s texts; spans: %s", f"{totals.texts:,}", kinds)
    if totals.quarantined:
        log.warning("%d lines could not be read: %s", len(totals.quarantined), quarantine)


def deidentify_lines(task: Task, backend: str) -> Outcome:
    """Mask one task's lines. `task` is the number of its first line and the raw lines."""
    first, lines = task
    records: list[tuple[object, str]] = []
    outcome = Outcome(b"", [], 0, collections.Counter())
    for number, line in enumerate(lines, start=first):
        try:
            records.append(_read_record(line))
        except ValueError as error:
            if line.strip():
                outcome.quarantined.append((number, str(error)))
    found = Deidentifier(backend).find([text for _, text in records])
    written = []
    for (identifier, text), spans in zip(records, found, strict=True):
        outcome.spans.update(span.label for span in spans)
        row = {"id": identifier, "text": mask(text, spans), "spans": [span._asdict() for span in spans]}
        written.append(_dump(row))
    outcome.written, outcome.texts = b"".join(written), len(records)
    return outcome


def _read_record(line: bytes) -> tuple[object, str]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # its message would quote the line
        raise ValueError("not JSON") from None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str) or "id" not in record:
        raise ValueError('not {"id", "text"}')
    return record["id"], record["text"]


def _dump(row: dict[str, object]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        return json.dumps(row).encode() + b"\n"


def _deidentify_file(recipe: DeidentifyRecipe, quarantine: Path) -> Outcome:
    totals = Outcome(b"", [], 0, collections.Counter())
    partial = recipe.output.with_name(recipe.output.name + ".partial")
    workers = recipe.workers or usable_cores()
    with (
        recipe.input.open("rb") as source,
        partial.open("wb") as target,
        Progress(description="deidentify", unit="texts") as bar,
    ):
        for outcome in _outcomes(_tasks(source), recipe.backend, workers):
            target.write(outcome.written)
            totals.texts += outcome.texts
            totals.spans.update(outcome.spans)
            totals.quarantined += outcome.quarantined
            bar.advance(outcome.texts)
        target.flush()
        os.fsync(target.fileno())
    if totals.quarantined:
        rows = (json.dumps({"line": number, "reason": reason}) + "\n" for number, reason in totals.quarantined)
        quarantine.write_text("".join(rows), encoding="utf-8")
    else:
        quarantine.unlink(missing_ok=True)
    partial.replace(recipe.output)
    return totals


def _tasks(source: Iterable[bytes]) -> Iterator[Task]:
    lines = iter(source)
    for number in itertools.count():
        chunk = list(itertools.islice(lines, LINES_PER_TASK))
        if not chunk:
            return
        yield number * LINES_PER_TASK + 1, chunk


def _outcomes(tasks: Iterator[Task], backend: str, workers: int) -> Iterator[Outcome]:
    """Yield the outcomes in the tasks' order, a few tasks ahead and no more."""
    first = list(itertools.islice(tasks, 2))
    tasks = itertools.chain(first, tasks)
    if workers == 1 or len(first) < 2:  # a short file is done before processes have started
        yield from (deidentify_lines(task, backend) for task in tasks)
        return
    spawn = multiprocessing.get_context("spawn")  # a forked child would inherit torch's threads half alive
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        waiting: collections.deque[Future[Outcome]] = collections.deque()
        for task in tasks:
            waiting.append(pool.submit(deidentify_lines, task, backend))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
