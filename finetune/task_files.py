"""Read a task: a folder of splits, a single table, or a Hub dataset with named columns.

A folder holds `train.jsonl`, `validation.jsonl`, `test.jsonl` (`{"id", "text", "labels": [names]}`, or any table
type of `configs.rows`) and `labels.json`. What is missing is made from what is there: validation from train,
never from test; the label set from the training labels.
"""

import dataclasses
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.base_models import is_path
from configs.errors import UserError, quoted
from configs.rows import FILE_TYPES, NOT_UTF8, TEXT_COLUMNS, Row, file_type, find_column, read_rows
from finetune.label_formats import LabelFormat, LabelReading, holds_label, sniff_labels
from finetune.splitting import cut
from finetune.tasks import (
    LABELS_NAME,
    SPLITS,
    Example,
    LabelSet,
    Task,
    TaskType,
    infer_label_set,
    read_label_set,
    refuse_texts,
)

log = logging.getLogger("task")
LABEL_COLUMNS = ("labels", "label", "status", "class", "category", "target", "emotion", "emotions")
ID_COLUMNS = ("id", "example_id", "post_id", "comment_id", "uuid")
PERSON_COLUMNS = tuple(
    person + end
    for person in ("patient", "subject", "author", "user", "person", "participant", "client")
    for end in ("", "_id", "id")
)
SLICE_COLUMNS = ("subreddit", "year", "created_utc")
LARGEST_QUARANTINED_FRACTION = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table hold what; None is found by name."""

    text: str | None = None
    labels: list[str] | None = None
    id: str | None = None
    group: str | None = None
    slices: list[str] | None = None
    label_format: LabelFormat = "auto"
    task_type: TaskType | None = None
    positive_label: str | None = None


@dataclasses.dataclass
class _Table:
    """One split's rows, unparsed, and where they came from."""

    where: str
    rows: list[Row]


def read_task(source: str, columns: Columns, *, validation_fraction: float, test_fraction: float, seed: int) -> Task:
    """Read a task from a folder, a file, or the Hub.

    Raises:
        UserError: nothing there, no usable rows, a label outside the label set, an unclear label format.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        tables, name = _folder_tables(path), path.resolve().name
    elif path.suffix:
        file_type(path)
        tables, name = {"train": _read_table(path)}, path.stem
    else:
        tables, name = _hub_tables(source), source
    labels_path = path / LABELS_NAME if path.is_dir() else path.with_name(LABELS_NAME)
    given = read_label_set(labels_path) if labels_path.is_file() else None
    quarantine: list[dict[str, Any]] = []
    label_set, splits = _parse(tables, columns, given, quarantine)
    notes: dict[str, Any] = {"quarantined": len(quarantine)}
    for split, fraction in (("test", test_fraction), ("validation", validation_fraction)):
        if not splits.get(split):
            # A missing split is cut from train; test is never looked at to make a decision.
            # Every seed scores the same texts: runs are compared text by text.
            cut_seed = 0 if split == "test" else seed
            splits["train"], splits[split] = cut(splits["train"], label_set, fraction=fraction, seed=cut_seed)
            notes[f"{split}_from_train"] = len(splits[split])
            log.info("no %s split: %d rows were cut from train", split, len(splits[split]))
    task = Task(name, label_set, {split: splits[split] for split in SPLITS}, notes, quarantine)
    for split in SPLITS:
        if not task.splits[split]:
            raise UserError(f"no usable rows in the {split} split", where=source)
    return task


def _folder_tables(folder: Path) -> dict[str, _Table]:
    tables = {}
    for split in SPLITS:
        found = [path for kind in FILE_TYPES for path in (folder / f"{split}{kind}", folder / f"{split}{kind}.gz")]
        found = [path for path in found if path.is_file()]
        if len(found) > 1:
            raise UserError(f"{found[0].name} and {found[1].name}: which one is the {split} split?", where=folder)
        if found:
            tables[split] = _read_table(found[0])
    if "train" not in tables:
        raise UserError(
            "no train split here (train.jsonl, .csv, …)", where=folder, fix="docs/contracts.md shows a task's layout."
        )
    return tables


def _read_table(path: Path) -> _Table:
    rows = list(read_rows(path))
    for row in rows:
        if row.problem == NOT_UTF8:  # all of the file is in another encoding, most likely: its labels may be, too
            raise UserError("not UTF-8", where=f"{path}:{row.line}", fix="Convert it with iconv.")
    return _Table(str(path), rows)


def _hub_tables(source: str) -> dict[str, _Table]:
    if "/" not in source or is_path(source):  # a bare name is a folder that is missing: nobody is asked for it
        fix = "Name a task's folder, a table, or a dataset of the Hub (OWNER/NAME)."
        raise UserError("no such task folder or file", where=source or "task", fix=fix)
    import datasets

    try:
        loaded = datasets.load_dataset(source)
    except Exception as error:  # the Hub client raises many unrelated types
        raise UserError(
            f"neither a folder nor a dataset the Hub gives ({type(error).__name__})", where=source
        ) from error
    names = {"train": "train", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test"}
    return {
        names[split]: _Table(f"{source}[{split}]", [Row(n, dict(row)) for n, row in enumerate(_decoded(rows), 1)])
        for split, rows in loaded.items()
        if split in names
    }


def _decoded(rows: Any) -> Iterable[dict[str, Any]]:
    """Yield the rows of a `datasets.Dataset` with class codes turned into class names."""
    names = {key: feature for key, feature in rows.features.items() if hasattr(feature, "int2str")}
    lists = {
        key: feature.feature
        for key, feature in rows.features.items()
        if hasattr(getattr(feature, "feature", None), "int2str")
    }
    for row in rows:
        for key, feature in names.items():
            row[key] = feature.int2str(row[key]) if row[key] is not None and row[key] >= 0 else None
        for key, feature in lists.items():
            row[key] = [feature.int2str(code) for code in row[key]]
        yield row


def _parse(
    tables: dict[str, _Table], columns: Columns, given: LabelSet | None, quarantine: list[dict[str, Any]]
) -> tuple[LabelSet, dict[str, list[Example]]]:
    train = tables["train"]
    reader = _row_reader(train, columns, given)
    splits = {}
    for split, table in tables.items():
        examples = []
        for row in table.rows:
            example, problem = reader.read(row, split)
            if example is None:
                quarantine.append({"file": table.where, "line": row.line, "reason": problem})
            else:
                examples.append((row.line, example))
        if len(examples) < (1 - LARGEST_QUARANTINED_FRACTION) * len(table.rows):
            last = quarantine[-1]
            raise UserError(
                f"{len(table.rows) - len(examples)} of {len(table.rows)} rows are unusable (last: {last['reason']})",
                where=f"{table.where}:{last['line']}",
            )
        splits[split] = examples
    training_labels = [example.labels for _, example in splits["train"]]
    if len(reader.labels) == 1:  # several are columns of 0 and 1, and their names the labels
        known = given.names if given else ()
        refuse_texts(training_labels, known, column=reader.labels[0], where=train.where)
    label_set = given or infer_label_set(training_labels, multi_label=reader.reading.multi_label, where=train.where)
    if columns.task_type is not None and columns.task_type != label_set.type:
        label_set = LabelSet.from_dict(label_set.to_dict() | {"type": columns.task_type}, where="task_type")
    label_set = _with_positive(
        label_set, columns.positive_label, known=given is not None and given.positive is not None
    )
    for split, examples in splits.items():
        for line, example in examples:
            label_set.check(example.labels, where=f"{tables[split].where}:{line}")
    unnumbered = {split: [example for _, example in examples] for split, examples in splits.items()}
    return label_set, {split: _number_repeats(examples, tables[split].where) for split, examples in unnumbered.items()}


def _with_positive(label_set: LabelSet, asked: str | None, *, known: bool) -> LabelSet:
    """Return the label set with the class that a binary task is about, and say which it is.

    Raises:
        UserError: `positive_label` is no label of the task, or the task is not binary.
    """
    if asked is not None:
        if label_set.type is not TaskType.BINARY:
            raise UserError(
                f"a {label_set.type} task has no positive class", where="positive_label", fix="Leave it out."
            )
        label_set.check([asked], where="positive_label")
        label_set = dataclasses.replace(label_set, positive=asked)
    if label_set.type is TaskType.BINARY:
        name = quoted(label_set.names[label_set.positive_index])
        if asked is not None or known:
            log.info("positive class: %s", name)
        else:
            log.warning("positive class: %s, as the last by name; positive_label names another", name)
    return label_set


def _number_repeats(examples: list[Example], where: str) -> list[Example]:
    """Return the examples with a number behind each id that stands before it already: decisions are kept by id."""
    taken = {example.id for example in examples}
    if len(taken) == len(examples):
        return examples
    repeats = len(examples) - len(taken)
    log.info("%s: %d rows repeat an id and get a number (segments of a post? See group_column)", where, repeats)
    last: dict[str, int] = {}
    unique = []
    for example in examples:
        number = last.get(example.id, 0) + 1
        while number > 1 and f"{example.id}#{number}" in taken:
            number += 1
        last[example.id] = number
        unique.append(example if number == 1 else dataclasses.replace(example, id=f"{example.id}#{number}"))
    return unique


def _row_reader(train: _Table, columns: Columns, given: LabelSet | None) -> "_RowReader":
    """Find the columns of the training table."""
    present = list(dict.fromkeys(key for row in train.rows[:100] for key in row.values))
    if not present:
        raise UserError("holds no readable row", where=train.where)
    text = find_column(present, columns.text, TEXT_COLUMNS, key="text_column", where=train.where)
    labels = columns.labels or [find_column(present, None, LABEL_COLUMNS, key="label_columns", where=train.where)]
    named = {"label_columns": labels, "slice_columns": columns.slices or []}
    named |= {"id_column": [columns.id] if columns.id else [], "group_column": [columns.group] if columns.group else []}
    for key, names in named.items():
        for name in names:
            find_column(present, name, (), key=key, where=train.where)
    id_column = columns.id or next((name for name in ID_COLUMNS if name in present), None)
    if columns.group is None:
        _name_people(present, train)
    slices = columns.slices if columns.slices is not None else [name for name in SLICE_COLUMNS if name in present]
    return _RowReader(text, labels, id_column, columns.group, slices, _reading(train, labels, columns, given))


def _name_people(present: list[str], train: _Table) -> None:
    for name in present:
        values = [row.values.get(name) for row in train.rows if row.values.get(name) is not None]
        if name.lower() in PERSON_COLUMNS and len(set(map(str, values))) < len(values):
            log.warning(
                "column %s repeats: texts of one person may be trained on and scored; set group_column: %s", name, name
            )


def _reading(train: _Table, names: list[str], columns: Columns, given: LabelSet | None) -> LabelReading:
    readable = [row for row in train.rows if row.problem is None and all(name in row.values for name in names)]
    cells = [[row.values[name] for name in names] for row in readable]
    if len(names) == 1:
        cells = [row for row in cells if holds_label(row[0])]  # the others are quarantined one by one
    if not cells:
        raise UserError("no row has a label", where=train.where, fix=f"The label column is {', '.join(names)}.")
    reading = sniff_labels(cells, names, columns.label_format, where=train.where)
    if given is None:
        log.info("labels: %s (column %s)", reading.format, ", ".join(names))
    return reading


@dataclasses.dataclass(frozen=True)
class _RowReader:
    """Turns rows into examples."""

    text: str
    labels: list[str]
    id: str | None
    group: str | None
    slices: list[str]
    reading: LabelReading

    def read(self, row: Row, split: str) -> tuple[Example | None, str | None]:
        """Return the example of a row, or why there is none."""
        text = row.values.get(self.text)
        if row.problem is not None or not isinstance(text, str):
            return None, row.problem or f"no text in column {self.text!r}"
        if any(name not in row.values for name in self.labels):
            return None, "no labels"
        try:
            labels = self.reading.parse([row.values[name] for name in self.labels])
        except ValueError as error:
            return None, str(error)
        identifier = row.values.get(self.id) if self.id else None
        group = row.values.get(self.group) if self.group else None
        example = Example(
            id=str(identifier) if identifier is not None else f"{split}-{row.line}",
            text=text,
            labels=tuple(dict.fromkeys(labels)),
            group="" if group is None else str(group),
            slices=tuple(found for name in self.slices if (found := _slice(name, row.values.get(name))) is not None),
        )
        return example, None


def _slice(column: str, value: Any) -> tuple[str, str] | None:
    """Return a slice column's name and value; a moment in Unix seconds becomes its year, milliseconds are none."""
    if value is None:
        return None
    if column == "created_utc" and str(value).replace(".", "", 1).isdigit():
        try:
            return "year", str(datetime.fromtimestamp(float(value), UTC).year)
        except (ValueError, OverflowError, OSError):  # beyond the year 9999, or what the platform can count to
            return None
    return column, str(value)
