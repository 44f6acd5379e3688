"""A collection on disk: zstd frames of scrubbed records, and a cursor that says how far they are valid.

A commit appends one frame to the current file, then replaces the cursor, which holds the file's length. Opening cuts
off what lies behind that length. So whatever moment a collection is stopped at, going on neither skips nor repeats.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import zstandard

from configs.errors import UserError
from configs.run_folder import write_atomically

CURSOR_NAME = "cursor.json"
POSTS_DIR = "posts"
COMPRESSION_LEVEL = 9


class Collection:
    """The records collected so far and the place to go on from.

    Args:
        folder: of the run, while it works.
        records_per_file: start another file when one holds so many.

    Attributes:
        seen: full names of all records in it.
        place: what the last commit gave: where to go on.
        counts: sums over all commits.
        notes: what was said once and for all, such as subreddits that are not available.
    """

    def __init__(self, folder: Path, records_per_file: int) -> None:
        self._folder, self._records_per_file = folder / POSTS_DIR, records_per_file
        self._cursor = folder / CURSOR_NAME
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file, self._bytes, self._records = 0, 0, 0
        self.place: dict[str, Any] = {}
        self.counts: Counter[str] = Counter()
        self.notes: dict[str, str] = {}
        if self._cursor.exists():
            self._load()
        self._cut()
        self.seen: set[str] = {fullname_of(row) for path in self.files() for row in _read(path)}

    def files(self) -> list[Path]:
        """Return the files of records, in order."""
        return sorted(self._folder.glob("*.jsonl.zst"))

    def commit(self, rows: list[bytes], fullnames: list[str], place: dict[str, Any], counts: Counter[str]) -> None:
        """Append records (JSON lines) and remember the place, both or neither."""
        if rows:
            if self._records >= self._records_per_file:
                self._file, self._bytes, self._records = self._file + 1, 0, 0
            frame = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(b"".join(rows))
            with self._path(self._file).open("ab") as file:
                file.write(frame)
                file.flush()
                os.fsync(file.fileno())
            self._bytes, self._records = self._bytes + len(frame), self._records + len(rows)
        self.place = place
        self.counts += counts
        values = {"file": self._file, "bytes": self._bytes, "records": self._records, "place": place}
        text = json.dumps(values | {"counts": self.counts, "notes": self.notes}, indent=1)
        write_atomically(self._cursor, text + "\n")
        self.seen.update(fullnames)

    def _load(self) -> None:
        try:
            values = json.loads(self._cursor.read_text(encoding="utf-8"))
            self._file, self._bytes, self._records = values["file"], values["bytes"], values["records"]
            self.place, self.notes, self.counts = values["place"], values["notes"], Counter(values["counts"])
        except (ValueError, KeyError, TypeError) as error:
            fix = "Remove the folder and start again."
            raise UserError(f"not a cursor ({type(error).__name__})", where=self._cursor, fix=fix) from error

    def _cut(self) -> None:
        """Drop what was written behind the last commit."""
        for path in self.files():
            number = int(path.name.partition(".")[0])
            if number > self._file or (number == self._file and self._bytes == 0):
                path.unlink()
            elif number == self._file:
                if path.stat().st_size < self._bytes:
                    raise UserError("is shorter than its cursor says", where=path, fix="Remove the folder.")
                os.truncate(path, self._bytes)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05d}.jsonl.zst"


def fullname_of(row: dict[str, Any]) -> str:
    """Return `t1_…` for a comment, `t3_…` for a submission."""
    return f"{'t1' if 'body' in row else 't3'}_{row['id']}"


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return [orjson.loads(line) for line in reader.read().splitlines()]
