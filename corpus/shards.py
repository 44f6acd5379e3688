"""Token shards: what the corpus stage hands to pretraining.

A split is a folder of numbered pairs of files. `00000.tokens` holds the token ids of its documents end to end,
little-endian uint16 (uint32 for vocabularies over 65,536), without special tokens. `00000.documents.parquet` has
one row a document, in the same order: `id`, `subreddit` (empty if unknown), `month` (`2021-05`, empty if
unknown), `author_hash` (empty if unknown), `start` and `length` (in tokens, into the shard) and `title_length`
(how many of the leading tokens are the title's). Readers map the token files, so every rank shares one copy and
any position costs the same.

D = documents of a split.
"""

import dataclasses
import errno
import io
import os
import resource
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import UserError
from configs.run_folder import write_atomically

TOKENS_SUFFIX = ".tokens"
DOCUMENTS_SUFFIX = ".documents.parquet"
TokenArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
SPLITS = ("train", "held_out")
SPARE_FILES = 256
"""Files that a program may open later, beside the shards: data loaders, checkpoints, sockets."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("subreddit", pa.string()),
        ("month", pa.string()),
        ("author_hash", pa.string()),
        ("start", pa.int64()),
        ("length", pa.int32()),
        ("title_length", pa.int32()),
    ]
)


@dataclasses.dataclass(frozen=True)
class TokenizedDocument:
    """One document as it goes into a shard."""

    id: str
    token_ids: TokenArray | list[int]
    title_length: int = 0
    subreddit: str = ""
    month: str = ""
    author_hash: str = ""


def split_folder(corpus_dir: Path, split: str) -> Path:
    """Return where a corpus keeps the shards of `split` (`train` or `held_out`)."""
    return corpus_dir / "tokens" / split


def documents_path(corpus_dir: Path, split: str, number: int) -> Path:
    """Return where a corpus keeps the de-identified text of a shard."""
    return corpus_dir / "documents" / split / f"{number:05d}.jsonl.zst"


def token_type(vocabulary_size: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """Return the smallest little-endian type that holds every id of the vocabulary."""
    return np.dtype("<u2") if vocabulary_size <= 2**16 else np.dtype("<u4")


def write_shard(folder: Path, number: int, documents: Iterable[TokenizedDocument], vocabulary_size: int) -> int:
    """Write one shard; the same documents give the same bytes. Returns its number of tokens.

    The document table is renamed into place last: a shard counts as written when its table is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    tokens_path, table_path = folder / f"{number:05d}{TOKENS_SUFFIX}", folder / f"{number:05d}{DOCUMENTS_SUFFIX}"
    dtype, start = token_type(vocabulary_size), 0
    temporary = tokens_path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        for document in documents:
            token_ids = np.asarray(document.token_ids, dtype=dtype)
            file.write(token_ids.tobytes())
            row = dataclasses.asdict(document) | {"start": start, "length": len(token_ids)}
            for name in SCHEMA.names:
                rows[name].append(row[name])
            start += len(token_ids)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(tokens_path)
    table = io.BytesIO()
    pq.write_table(pa.table(rows, schema=SCHEMA), table, compression="zstd")
    write_atomically(table_path, table.getvalue())
    return start


def remove_shard(corpus_dir: Path, number: int) -> None:
    """Remove a shard and its text from both splits."""
    for split in SPLITS:
        folder = split_folder(corpus_dir, split)
        for suffix in (DOCUMENTS_SUFFIX, TOKENS_SUFFIX):
            (folder / f"{number:05d}{suffix}").unlink(missing_ok=True)
        documents_path(corpus_dir, split, number).unlink(missing_ok=True)


def read_shard(corpus_dir: Path, split: str, number: int) -> list[TokenizedDocument]:
    """Read one shard back into its documents."""
    path = split_folder(corpus_dir, split) / f"{number:05d}{DOCUMENTS_SUFFIX}"
    table = pq.read_table(path)
    tokens = _map_tokens(path, table)
    documents = []
    for row in table.to_pylist():
        start, length = row.pop("start"), row.pop("length")
        documents.append(TokenizedDocument(token_ids=tokens[start : start + length], **row))
    return documents


class TokenShards:
    """All documents of one split, in shard order, memory-mapped.

    Attributes:
        ids, subreddits, months: D strings each.
        lengths: (D,) tokens of each document.
        title_lengths: (D,) how many of them are the title's.
    """

    def __init__(self, corpus_dir: Path, split: str) -> None:
        folder = split_folder(corpus_dir, split)
        tables = sorted(folder.glob(f"*{DOCUMENTS_SUFFIX}"))
        if not tables:
            raise UserError(f"no token shards of split {split!r}", where=folder, fix="Run `mindshift corpus build`.")
        columns = [pq.read_table(path) for path in tables]
        table = pa.concat_tables(columns)
        self.ids: list[str] = table["id"].to_pylist()
        self.subreddits: list[str] = table["subreddit"].to_pylist()
        self.months: list[str] = table["month"].to_pylist()
        self.lengths: npt.NDArray[np.int32] = table["length"].to_numpy()
        self.title_lengths: npt.NDArray[np.int32] = table["title_length"].to_numpy()
        self._tables = tables
        self._starts: npt.NDArray[np.int64] = table["start"].to_numpy()
        self._shard_of = np.repeat(np.arange(len(tables)), [len(column) for column in columns])
        _allow_open_files(len(tables))
        try:
            self._tokens = [_map_tokens(path, column) for path, column in zip(tables, columns, strict=True)]
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            raise UserError(
                f"its {len(tables):,} shards are more files than a program may open here",
                where=folder,
                fix="Raise the limit (`ulimit -n`, or ask the administrator), or build with larger chunk_documents.",
            ) from None

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, document: int) -> TokenArray:
        """Return the token ids of one document, a view into the mapped file."""
        start = self._starts[document]
        tokens: TokenArray = self._tokens[self._shard_of[document]]
        return tokens[start : start + self.lengths[document]]

    def read_author_hashes(self) -> list[str]:
        """Return the author of each document; empty if unknown."""
        columns = [pq.read_table(path, columns=["author_hash"]) for path in self._tables]
        authors: list[str] = pa.concat_tables(columns)["author_hash"].to_pylist()
        return authors

    @property
    def total_tokens(self) -> int:
        """Tokens of the split, without special tokens."""
        return int(self.lengths.sum(dtype=np.int64))


def _allow_open_files(count: int) -> None:
    """Raise this process's limit on open files as far as it may, if so many more come near it: a map holds one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = len(list(Path("/dev/fd").iterdir())) + count + SPARE_FILES
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else hard, hard))


def _map_tokens(table_path: Path, table: pa.Table) -> TokenArray:
    path = table_path.with_name(table_path.name.removesuffix(DOCUMENTS_SUFFIX) + TOKENS_SUFFIX)
    expected = int(table["length"].to_numpy().sum(dtype=np.int64))
    size_bytes = path.stat().st_size if path.is_file() else 0
    if expected == 0:
        return np.empty(0, dtype=np.uint16)
    if size_bytes not in (2 * expected, 4 * expected):
        raise UserError(f"holds {size_bytes} bytes, not the {expected} tokens of its table", where=path)
    tokens: TokenArray = np.memmap(path, dtype="<u2" if size_bytes == 2 * expected else "<u4", mode="r")
    return tokens
