import contextlib
import fcntl
import json
import platform
import random
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from corpus.build_corpus import main

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = re.findall(
    r"\w+",
    """
    today felt heavy and slow but talking with my sister about sleep work panic medication therapy walking music
    cooking rain morning night hope tired angry calm lonely friends school rent family doctor garden kitchen winter
""",
)


def make_post(number: int, **changes: Any) -> dict[str, Any]:
    """A synthetic submission; no person wrote it."""
    words = random.Random(number).choices(WORDS, k=24)
    post = {
        "id": f"p{number}",
        "subreddit": "anxiety" if number % 2 else "depression",
        "created_utc": 1_600_000_000 + number * 86_400,
        "author": f"writer_{number % 40}",
        "title": f"day {number}",
        "selftext": f"entry {number} " + " ".join(words),
    }
    return {key: value for key, value in (post | changes).items() if value is not ...}


def make_comment(number: int, **changes: Any) -> dict[str, Any]:
    post = make_post(number, **changes)
    return {key: post[key] for key in ("id", "subreddit", "created_utc", "author")} | {"body": post["selftext"]}


def pack_lines(records: Iterable[dict[str, Any] | bytes]) -> bytes:
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    return b"".join(line + b"\n" for line in lines)


def pack_zstd(content: bytes) -> bytes:
    """As the public dumps are packed: a 2^31 window, long-distance matching, no content size."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, window_log=31, enable_ldm=True, write_content_size=False
    )
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(content) + packer.flush()


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Lock a folder as another process of this machine would: a file opened once more locks for itself."""
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({"process": 1, "machine": platform.node()}, file)
        file.flush()
        yield


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small word tokenizer that needs no download."""
    folder = tmp_path_factory.mktemp("tokenizer")
    pieces = ["[UNK]", "[PAD]", "[", "]", *LETTERS, *sorted(set(WORDS))]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary | {f"##{c}": len(vocabulary) + i for i, c in enumerate(LETTERS)}))
    tokenizer.model.unk_token = "[UNK]"
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_truncation(8)  # as saved sentence encoders do: it must not cut the corpus
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def build(tmp_path: Path, tokenizer_dir: Path) -> Callable[..., Path]:
    """Build a corpus from dump files in this process; returns its folder."""

    def run(inputs: list[Path], name: str = "corpus", **keys: Any) -> Path:
        options = {
            "inputs": [str(path) for path in inputs],
            "tokenizer": str(tokenizer_dir),
            "output_dir": str(tmp_path / name),
            "keys_dir": str(tmp_path / "keys"),
            "workers": 1,
            "held_out_share": 0.2,
        } | keys
        arguments = [word for key, value in options.items() for word in (f"--{key}", _argument(value))]
        main(arguments, "mindshift corpus build")
        return tmp_path / name

    return run


def _argument(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
