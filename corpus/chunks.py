"""Chunks: the intermediate files between two steps of a build, each a packed list of stored rows."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import zstandard

from configs.run_folder import write_atomically

COMPRESSION_LEVEL = 3
CHUNK_SUFFIX = ".jsonl.zst"


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as zstd-packed JSON lines, all or nothing; the same rows give the same bytes."""
    content = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(content))


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a chunk."""
    content = zstandard.ZstdDecompressor().decompress(path.read_bytes())
    for line in content.splitlines():
        yield orjson.loads(line)
