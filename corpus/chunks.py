"""Packed lists of rows: the intermediate files between two steps of a build, and the published documents."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import zstandard

from configs.run_folder import write_atomically
from corpus.vault import Vault

COMPRESSION_LEVEL = 3
CHUNK_SUFFIX = ".jsonl.zst"


def write_rows(path: Path, rows: Iterable[dict[str, Any]], vault: Vault | None = None) -> None:
    """Write rows as zstd-packed JSON lines, all or nothing; without a vault the same rows give the same bytes."""
    write_content(path, zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(lines_of_rows(rows)), vault)


def read_rows(path: Path, vault: Vault | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file that `write_rows` wrote."""
    yield from rows_of_lines(zstandard.ZstdDecompressor().decompress(read_content(path, vault)))


def write_content(path: Path, content: bytes, vault: Vault | None = None) -> None:
    """Write a file, all or nothing, locked if there is a vault."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, vault.lock(content) if vault else content)


def read_content(path: Path, vault: Vault | None = None) -> bytes:
    """Read a file that `write_content` wrote."""
    content = path.read_bytes()
    return vault.unlock(content, path) if vault else content


def lines_of_rows(rows: Iterable[dict[str, Any]]) -> bytes:
    """Return rows as JSON lines."""
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def rows_of_lines(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the rows of JSON lines."""
    for line in content.splitlines():
        yield orjson.loads(line)
