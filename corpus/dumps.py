"""Read dump files line by line, whatever their packing, at bounded memory.

The public dumps are zstd with a 2^31-byte window ("Frame requires too much memory" for a default reader),
sometimes of several frames; older ones were bz2 or xz. A line is given with its byte offset in the unpacked
stream, so that a quarantined record can be found again without its text being written anywhere.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import zstandard

from configs.errors import UserError
from corpus.vault import SUFFIX as LOCKED_SUFFIX
from corpus.vault import Vault

WINDOW_BYTES = 2**31
READ_BYTES = 2**18
SUFFIXES = (".zst", ".jsonl", ".ndjson", ".gz", ".bz2", ".xz")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class DamagedInput(Exception):
    """The packed stream ends or breaks before its end. `reason` is `truncated` or `corrupt`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Line(NamedTuple):
    """One line: its number (from 1), its byte offset in the unpacked stream, and its bytes.

    `content` is None where the line was longer than allowed and was skipped.
    """

    number: int
    offset: int
    content: bytes | None


def find_inputs(patterns: list[str]) -> list[Path]:
    """Expand paths and globs to dump files, sorted, each once.

    Raises:
        UserError: a pattern without a file, or a file whose name is of no known kind.
    """
    found: set[Path] = set()
    for pattern in patterns:
        path = Path(pattern).expanduser()
        base = Path(path.anchor) if path.is_absolute() else Path()
        matches = [path] if path.is_file() else sorted(base.glob(str(path.relative_to(base) if path.anchor else path)))
        files = [match for match in matches if match.is_file()]
        if not files:
            raise UserError(
                "no such dump file",
                where=pattern,
                fix="Check `inputs`; a relative path starts at this folder. Where dumps come from: docs/data.md.",
            )
        found.update(files)
    for file in found:
        if not file.name.lower().removesuffix(LOCKED_SUFFIX).endswith(SUFFIXES):
            raise UserError(f"not a dump file: known endings are {', '.join(SUFFIXES)}", where=file)
    return sorted(found)


def read_lines(path: Path, max_line_bytes: int, vault: Vault | None = None) -> Iterator[Line]:
    """Yield the lines of a dump file.

    Raises:
        DamagedInput: the packed stream is truncated or corrupt; the lines before the damage were yielded.
        UserError: a locked file (`.age`) without its key.
    """
    number, offset, rest = 0, 0, b""
    skipped = 0  # bytes of an overlong line that were dropped already
    for block in read_blocks(path, vault):
        pieces = (rest + block).split(b"\n") if rest else block.split(b"\n")
        rest = pieces.pop()
        for piece in pieces:
            number += 1
            length = len(piece)
            too_long = skipped + length > max_line_bytes
            yield Line(number, offset, None if too_long else piece)
            offset += skipped + length + 1
            skipped = 0
        if skipped or len(rest) > max_line_bytes:
            skipped += len(rest)
            rest = b""
    if rest or skipped:
        yield Line(number + 1, offset, None if skipped else rest)


def read_blocks(path: Path, vault: Vault | None = None) -> Iterator[bytes]:
    """Yield the unpacked content of a dump file in blocks.

    Raises:
        DamagedInput: the packed stream is truncated or corrupt.
        UserError: a locked file (`.age`) without its key.
    """
    name = path.name.lower().removesuffix(LOCKED_SUFFIX)
    with _open_packed(path, vault) as file:
        if name.endswith(".zst"):
            yield from _read_zstd(file)
            return
        opened = _open_other(name, file)
        while True:
            try:
                block = opened.read(READ_BYTES)
            except EOFError:
                raise DamagedInput("truncated") from None
            except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, ValueError) as error:
                raise DamagedInput("corrupt") from error
            except OSError as error:
                if error.errno is not None:
                    raise
                raise DamagedInput("corrupt") from error  # bz2 raises a bare OSError
            if not block:
                return
            yield block


def _open_packed(path: Path, vault: Vault | None) -> BinaryIO:
    if not path.name.lower().endswith(LOCKED_SUFFIX):
        return path.open("rb")
    if vault is None:
        raise UserError("this dump is locked", where=path, fix="Set `vault_key` to the key it was locked with.")
    return io.BufferedReader(_BlockFile(vault.unlock_blocks(path)), READ_BYTES)


class _BlockFile(io.RawIOBase):
    """Blocks as a file, for unpackers that read files."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._blocks, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def _open_other(name: str, file: BinaryIO) -> BinaryIO:
    if name.endswith(".gz"):
        return gzip.open(file)  # type: ignore[return-value]
    if name.endswith(".bz2"):
        return bz2.open(file)  # type: ignore[return-value]
    return lzma.open(file) if name.endswith(".xz") else file  # type: ignore[return-value]


def _read_zstd(file: BinaryIO) -> Iterator[bytes]:
    """Unpack frame by frame: the stream reader of zstandard says nothing about a truncated last frame."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
    frame = decompressor.decompressobj()
    fed = False  # whether the open frame has had any byte
    while packed := file.read(READ_BYTES // 4):
        while packed:
            try:
                block = frame.decompress(packed)
            except zstandard.ZstdError as error:
                raise DamagedInput("corrupt") from error
            fed = True
            if block:
                yield block
            if not frame.eof:
                break
            packed = frame.unused_data
            frame, fed = decompressor.decompressobj(), False
    if fed:
        raise DamagedInput("truncated")
