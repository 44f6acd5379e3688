"""How labels are written in other people's tables: names, lists, joined names, one-hot columns, numeric codes.

The format is sniffed from all training cells, shown in the log, and refused where two readings are equally good
until the `label_format` key confirms one of them.
"""

import ast
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from configs.errors import UserError

LabelFormat = Literal["auto", "names", "lists", "joined", "one_hot"]
SEPARATORS = (";", "|", ",")
TRUE_CELLS = frozenset({"1", "1.0", "true", "yes"})
FALSE_CELLS = frozenset({"0", "0.0", "false", "no", ""})
QUOTED = r"[uU]?'(?:[^'\\]|\\.)*'" + r'|[uU]?"(?:[^"\\]|\\.)*"'
ITEM = re.compile(rf"{QUOTED}|-?\d+(?:\.\d*)?|None|nan|True|False")
PRINTED_LIST = re.compile(rf"\[\s*(?:(?:{ITEM.pattern})(?:\s*,\s*|\s+|(?=\])))*\]")
"""A list as Python prints it, with commas between its items, or NumPy, with spaces."""


class LabelReading(NamedTuple):
    """How the label cells of a table are read.

    Attributes:
        format: the format in words, for the log.
        multi_label: whether a row can have any number of labels.
        parse: cells of one row (one a label column) → label names; raises ValueError with the reason.
    """

    format: str
    multi_label: bool
    parse: Callable[[Sequence[Any]], list[str]]


def sniff_labels(rows: list[list[Any]], columns: Sequence[str], asked: LabelFormat, *, where: object) -> LabelReading:
    """Find out how the labels of a table are written.

    Args:
        rows: the label cells of every training row, one a label column.
        columns: the label columns' names.
        asked: the format the user confirmed, or `auto`.
        where: the file, for errors.

    Raises:
        UserError: no format fits, or several fit equally well.
    """
    if len(columns) > 1:
        if asked not in ("auto", "one_hot"):
            raise UserError(f"label_format {asked!r} takes one label column, not {len(columns)}", where=where)
        return _one_hot_reading(rows, columns, where)
    cells = [_plain(row[0]) for row in rows]
    if asked in ("auto", "lists") and cells and all(isinstance(cell, list) for cell in cells):
        return LabelReading("lists", True, lambda row: [label_name(item) for item in _as_list(_plain(row[0]))])
    if asked == "lists":
        raise UserError("the label column holds something other than lists", where=where)
    names = [label_name(cell) for cell in cells if not isinstance(cell, list)]
    separator = _separator(names)
    if asked == "auto" and separator is not None:
        verdict = _joined_or_names(names, separator)
        if verdict is None:
            raise UserError(
                f"labels contain {separator!r}: joined names, or one name each?",
                where=where,
                fix="Set label_format: joined or label_format: names.",
            )
        asked = verdict
    if asked == "joined":
        mark = separator or ","
        return LabelReading(f"names joined by {mark!r}", True, lambda row: split_names(label_name(row[0]), mark))
    _refuse_fractions(cells, where)
    return LabelReading("one name a row", False, lambda row: [label_name(row[0])])


def label_name(cell: Any) -> str:
    """Return a label cell as a name: 2.0 and 2 are both `2`, and surrounding spaces go.

    Raises:
        ValueError: the cell is empty.
    """
    if isinstance(cell, float):
        if math.isnan(cell):
            raise ValueError("no label")
        cell = int(cell) if cell.is_integer() else cell
    name = "" if cell is None else str(cell).strip()
    if not name:
        raise ValueError("no label")
    if name.endswith(".0") and name[:-2].isdigit():
        name = name[:-2]
    return name


def holds_label(cell: Any) -> bool:
    """Return whether a label cell is not empty."""
    try:
        label_name(cell)
    except ValueError:
        return False
    return True


def split_names(joined: str, separator: str) -> list[str]:
    """Split joined names; an empty part is no label."""
    return [part.strip() for part in joined.split(separator) if part.strip()]


def _plain(cell: Any) -> Any:
    """Parse a cell that is a list written as a string, such as `["a", "b"]`, `['a', 'b']`, `['a' 'b']` or `[0 3]`."""
    if isinstance(cell, str) and cell.strip().startswith("[") and cell.strip().endswith("]"):
        for parse in (json.loads, _printed_list):
            try:
                values = parse(cell.strip())
            except (ValueError, SyntaxError, RecursionError):
                continue
            if isinstance(values, list):
                return values
    return list(cell) if isinstance(cell, tuple) else cell


def _printed_list(cell: str) -> list[Any]:
    """Read a list that Python or NumPy printed; as Python source, NumPy's `['a' 'b']` would be the one name `ab`."""
    if not PRINTED_LIST.fullmatch(cell):
        raise ValueError("not a list")
    # The sign `nan` is none to Python; a missing label it is in both.
    return [ast.literal_eval("None" if item == "nan" else item) for item in ITEM.findall(cell)]


def _as_list(cell: Any) -> list[Any]:
    if not isinstance(cell, list):
        raise ValueError("labels are not a list")  # noqa: TRY004  # every unusable cell is a ValueError here
    return cell


def _separator(names: list[str]) -> str | None:
    return next((mark for mark in SEPARATORS if any(mark in name for name in names)), None)


def _joined_or_names(names: list[str], separator: str) -> Literal["joined", "names"] | None:
    """Joined names make many combinations of few parts; single names make at least as many parts as names."""
    wholes = set(names)
    parts = {part for name in wholes for part in split_names(name, separator)}
    reused = {part for part in parts if sum(part in split_names(name, separator) for name in wholes) > 1}
    if not reused and len(parts) > len(wholes):
        return "names"
    if len(parts) < len(wholes) or (reused and parts & wholes):
        return "joined"
    return None


def _one_hot_reading(rows: list[list[Any]], columns: Sequence[str], where: object) -> LabelReading:
    def parse(row: Sequence[Any]) -> list[str]:
        labels = []
        for name, cell in zip(columns, row, strict=True):
            value = "" if cell is None else str(cell).strip().lower()
            if value not in TRUE_CELLS | FALSE_CELLS:
                raise ValueError(f"column {name!r} is neither 0 nor 1")
            if value in TRUE_CELLS:
                labels.append(name)
        return labels

    counts = set()
    for number, row in enumerate(rows, 1):
        try:
            counts.add(len(parse(row)))
        except ValueError as error:
            fix = "Round graded or soft labels to 0 or 1 first."
            raise UserError(f"training row {number}: {error}", where=where, fix=fix) from error
    # Exactly one 1 in every row is a one-hot class; anything else is a set of labels.
    return LabelReading(f"{len(columns)} columns of 0 and 1", counts != {1}, parse)


def _refuse_fractions(cells: list[Any], where: object) -> None:
    for cell in cells:
        try:
            number = float(cell)
        except (TypeError, ValueError):
            return
        if math.isfinite(number) and not number.is_integer():
            raise UserError(
                "the label column holds fractions, not classes",
                where=where,
                fix="Round graded labels to classes first.",
            )
