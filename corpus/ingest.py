"""First step of a build: read a dump, set aside what is malformed, drop what the rules drop, write chunks.

One task a file. What is dropped never reaches the disk, nor does an author's name: rows carry its keyed hash.
"""

import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.errors import UserError
from configs.run_folder import remove_folder
from corpus.authors import hash_author, load_author_key
from corpus.chunks import CHUNK_SUFFIX, write_rows
from corpus.document import MalformedRecord, parse_record, stored_row
from corpus.dumps import BYTE_ORDER_MARK, DamagedInput, Line, read_lines
from corpus.vault import Vault

QUARANTINE_NAME, WITHDRAWN_NAME = "quarantine.jsonl", "withdrawn.ids"
SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
SIZE_NAME = "size.json"


def file_state(path: Path) -> list[int]:
    """Return what changes when a file is written to: its size in bytes and its time of change in nanoseconds."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


class DumpReader(PipelineStep):
    """Read one dump per task.

    Args:
        paths: the dump files; task `r` reads `paths[r]`.
        states: their `file_state` when the build began.
        folder: where this step's output goes.
        max_line_bytes: longer lines are quarantined.
        keep_readable: go on after damage instead of refusing.
        vault: opens locked dumps.
    """

    type = "📖 - READER"
    name = "Reddit dump"

    def __init__(
        self,
        paths: list[Path],
        states: list[list[int]],
        folder: Path,
        *,
        max_line_bytes: int,
        keep_readable: bool,
        vault: Vault | None,
    ) -> None:
        super().__init__()
        self.paths, self.states, self.folder = paths, states, folder
        self.max_line_bytes, self.keep_readable, self.vault = max_line_bytes, keep_readable, vault

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Yield the posts of one file; write down where the malformed records are."""
        path = self.paths[rank]
        self._check_unchanged(path, rank)
        quarantined: Counter[str] = Counter()
        lines = posts = 0
        damaged = False
        with (task_folder(self.folder, rank) / QUARANTINE_NAME).open("wb") as quarantine:

            def set_aside(line: int, offset: int, reason: str) -> None:
                quarantined[reason] += 1
                row = {"file": str(path), "line": line, "byte_offset": offset, "reason": reason}
                quarantine.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

            line = Line(0, 0, b"")
            try:
                for line in read_lines(path, self.max_line_bytes, self.vault):
                    if line.content is not None and not line.content.strip():
                        continue
                    lines += 1
                    try:
                        document = decode_line(line)
                    except MalformedRecord as error:
                        set_aside(line.number, line.offset, error.reason)
                    else:
                        posts += 1
                        yield document
            except DamagedInput as error:
                self._refuse_damage(path, error.reason, line)
                set_aside(line.number + 1, line.offset, f"{error.reason}_stream")
                damaged = True
        self._check_unchanged(path, rank)
        if not lines and not damaged:
            raise UserError(
                "holds not a single line (a failed download?)",
                where=path,
                fix="Fetch the file again, or take it out of `inputs`.",
            )
        if not posts:
            raise UserError(
                f"none of its {lines:,} readable lines is a Reddit post ({', '.join(sorted(quarantined))})",
                where=path,
                fix="Take it out of `inputs`: a dump has one JSON object a line, with id and selftext or body.",
            )
        # The record that the damage cut is one that was read: what is read is kept, dropped or quarantined.
        self.stat_update("read", value=lines + damaged)
        for reason, count in sorted(quarantined.items()):
            self.stat_update(f"quarantined_{reason}", value=count)

    def _check_unchanged(self, path: Path, rank: int) -> None:
        if not path.is_file() or file_state(path) != self.states[rank]:
            raise UserError(
                "this input changed while the build was reading it",
                where=path,
                fix="Wait until it is complete, remove the .partial folder and run the build again.",
            )

    def _refuse_damage(self, path: Path, reason: str, line: Line) -> None:
        if self.keep_readable:
            return
        raise UserError(
            f"the packed stream is {reason} after line {line.number:,} (byte {line.offset:,} unpacked)",
            where=path,
            fix="Fetch the file again, or set `damaged_inputs: keep_readable` to use what comes before.",
        )


class ChunkWriter(PipelineStep):
    """Write the kept posts of one file as chunks of a fixed number of rows.

    Args:
        folder: where chunks go, a folder a task.
        chunk_documents: rows per chunk.
        keys_dir: where the key of the author hashes is; the key itself is never written with the task.
        vault: locks the chunks.
    """

    type = "💽 - WRITER"
    name = "chunks"

    def __init__(self, folder: Path, chunk_documents: int, keys_dir: Path, vault: Vault | None) -> None:
        super().__init__()
        self.folder, self.chunk_documents, self.keys_dir, self.vault = folder, chunk_documents, keys_dir, vault

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Write everything under a temporary name, then rename: half a file's chunks never count."""
        folder, final = task_folder(self.folder, rank), self.folder / f"{rank:05d}"
        remove_folder(folder)
        folder.mkdir(parents=True)
        sizes = []
        author_key = load_author_key(self.keys_dir)
        for number, rows in enumerate(_batches(data, self.chunk_documents, author_key)):
            write_rows(folder / f"{number:05d}{CHUNK_SUFFIX}", rows, self.vault)
            sizes.append(len(rows))
        (folder / SIZE_NAME).write_bytes(orjson.dumps(sizes))
        remove_folder(final)
        folder.rename(final)
        self.stat_update("kept", value=sum(sizes))
        yield from ()


def task_folder(folder: Path, rank: int) -> Path:
    """Return where this process writes the output of a task until it is complete."""
    return folder / f"{rank:05d}.{os.getpid()}.tmp"


def decode_line(line: Line) -> Document:
    """Turn a line of a dump into a document.

    Raises:
        MalformedRecord: it is no post.
    """
    if line.content is None:
        raise MalformedRecord("line_too_long")
    content = line.content.removeprefix(BYTE_ORDER_MARK) if line.number == 1 else line.content
    try:
        record = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise MalformedRecord(_why_not_json(content)) from None
    return parse_record(record)


def list_chunks(folder: Path) -> tuple[list[Path], list[int]]:
    """Return the chunks of all files in their order, and how many rows each has."""
    paths, sizes = [], []
    for task in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.endswith(".tmp")):
        for number, size in enumerate(orjson.loads((task / SIZE_NAME).read_bytes())):
            paths.append(task / f"{number:05d}{CHUNK_SUFFIX}")
            sizes.append(size)
    return paths, sizes


def write_withdrawn(folder: Path, rank: int, ids: "array[int]") -> None:
    """Write the hashes of the ids that one file calls deleted or removed, beside its chunks."""
    (task_folder(folder, rank) / WITHDRAWN_NAME).write_bytes(np.unique(np.array(ids, dtype="<u8")).tobytes())


def read_withdrawn(folder: Path) -> npt.NDArray[np.uint64]:
    """Return the hashes of the ids that any file calls deleted or removed, sorted."""
    parts = [np.fromfile(path, dtype="<u8") for path in folder.glob(f"[0-9]*[0-9]/{WITHDRAWN_NAME}")]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.uint64)


def _why_not_json(content: bytes) -> str:
    if b"\0" in content:
        return "nul_byte"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "not_utf8"
    return "lone_surrogate" if SURROGATE_ESCAPE.search(content) else "not_json"


def _batches(data: DocumentsPipeline, size: int, author_key: bytes) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for document in data or ():
        document.metadata["author_hash"] = hash_author(author_key, document.metadata["author"])
        rows.append(stored_row(document))
        if len(rows) == size:
            yield rows
            rows = []
    if rows:
        yield rows
