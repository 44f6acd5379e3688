"""Rows of labelled or unlabelled texts, streamed from CSV, TSV, JSONL, JSON, Parquet or plain text files.

A row that cannot be read is not raised but returned with its problem, so that the caller can put it in quarantine
(file, line, reason; never the text) and go on.
"""

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import LONGEST_NAME, UserError, listed, quoted
from configs.recipe import nearest

TEXT_COLUMNS = ("text", "statement", "post", "body", "selftext", "sentence", "content", "comment", "tweet")
FILE_TYPES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt")
LARGEST_CELL_BYTES = min(sys.maxsize, 2**31 - 1)


class Row(NamedTuple):
    """One row of a file: its line (1 = the first), and its values or what is wrong with it."""

    line: int
    values: dict[str, Any]
    problem: str | None = None


def file_type(path: Path) -> str:
    """Return the file's type by its name, such as `.csv`; `.gz` behind it is fine.

    Raises:
        UserError: a type that is not read.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    if not suffixes or suffixes[-1] not in FILE_TYPES:
        raise UserError("this type of file is not read", where=path, fix=f"Read are: {', '.join(FILE_TYPES)} (.gz).")
    return suffixes[-1]


def read_rows(path: Path) -> Iterator[Row]:
    """Stream the rows of a file.

    Raises:
        UserError: no such file, an unknown type, a file that is not UTF-8, or a broken Parquet or gzip file.
    """
    kind = file_type(path)
    if not path.is_file():
        raise UserError("no such file", where=path)
    try:
        if kind == ".parquet":
            yield from _parquet_rows(path)
        else:
            with _open_text(path) as file:
                yield from text_rows(file, kind)
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 (byte {error.start})", where=path, fix="Convert it with iconv.") from error
    except (pa.ArrowInvalid, gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"broken or truncated ({type(error).__name__})", where=path) from error


def text_rows(file: Iterable[str], kind: str) -> Iterator[Row]:
    """Stream the rows of an open text file (or standard input) of the given type."""
    if kind in (".csv", ".tsv"):
        yield from _delimited_rows(file, "," if kind == ".csv" else "\t")
    elif kind == ".txt":
        for number, line in enumerate(file, 1):
            yield Row(number, {"text": line.rstrip("\r\n")})
    elif kind == ".json":
        yield from _json_rows(file)
    else:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _json_line(number, line)


def find_column(columns: Iterable[str], asked: str | None, known: Iterable[str], *, key: str, where: object) -> str:
    """Return the column the user named, or the first of the `known` names that is there.

    Raises:
        UserError: no such column.
    """
    present = [column for column in columns if column]
    if asked is not None:
        if asked not in present:
            near = nearest(asked, [name for name in present if len(name) <= LONGEST_NAME])
            raise UserError(f"no column {quoted(asked)}{near}", where=where, fix=_columns(present))
        return asked
    lower = {column.lower(): column for column in reversed(present)}
    for name in known:
        if name in lower:
            return lower[name]
    asked_for = (
        "which columns are the labels" if key == "label_columns" else f"which column is the {key[: -len('_column')]}"
    )
    raise UserError(f"{asked_for}?", where=where, fix=f"Set {key}. {_columns(present)}")


def _columns(present: list[str]) -> str:
    header = " Has the file no header?" if any(len(name) > LONGEST_NAME for name in present) else ""
    return f"Columns here: {listed(present)}.{header}"


def _open_text(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _delimited_rows(file: Iterable[str], delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(LARGEST_CELL_BYTES)  # the default refuses cells over 128 KiB
    reader = csv.reader((line.replace("\0", "") for line in file), delimiter=delimiter)
    header = next(reader, None)
    if header is None:
        return
    for cells in reader:
        if not cells:
            continue
        problem = None if len(cells) == len(header) else f"{len(cells)} cells where the header has {len(header)}"
        yield Row(reader.line_num, dict(zip(header, cells, strict=False)), problem)


def _json_line(number: int, line: str) -> Row:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return Row(number, {}, "not JSON")
    return _json_row(number, values)


def _json_row(number: int, values: Any) -> Row:
    if not isinstance(values, dict):
        return Row(number, {}, "not a JSON object")
    try:
        json.dumps(values, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:  # JSON can escape half a character, such as "\ud83d": no tokenizer takes it, and no file
        return Row(number, {}, "lone surrogate, which UTF-8 cannot hold")
    return Row(number, values)


def _json_rows(file: Iterable[str]) -> Iterator[Row]:
    try:
        records = json.loads("".join(file))
    except (ValueError, RecursionError):
        yield Row(1, {}, "not JSON")
        return
    for number, values in enumerate(records if isinstance(records, list) else [records], 1):
        yield _json_row(number, values)


def _parquet_rows(path: Path) -> Iterator[Row]:
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024):
            for values in batch.to_pylist():
                number += 1
                yield Row(number, values)
