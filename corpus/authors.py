"""Authors only ever as keyed HMAC: the key lies apart from the corpus, and destroying it cuts the link for good.

HMAC-SHA256 (RFC 2104) of the lower-cased name, cut to 128 bits. Without the key a hash cannot be tried against a
list of names, as a plain hash could.
"""

import functools
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from configs.errors import UserError

AUTHOR_KEY_NAME = "author.key"
KEY_BYTES = 32
HASH_HEX_DIGITS = 32
HASHED = re.compile(rf"[0-9a-f]{{{HASH_HEX_DIGITS}}}")


def load_author_key(keys_dir: Path) -> bytes:
    """Read the key, or make one (readable by its owner only) if there is none yet.

    Raises:
        UserError: the file is no key, or cannot be made.
    """
    path = keys_dir / AUTHOR_KEY_NAME
    try:
        keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            write_private(path, secrets.token_hex(KEY_BYTES) + "\n")
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise UserError(
            f"not a readable author key ({type(error).__name__})", where=path, fix="Set keys_dir to the right folder."
        ) from error
    if len(key) != KEY_BYTES:
        raise UserError(f"an author key has {KEY_BYTES} bytes, this one has {len(key)}", where=path)
    return key


def key_fingerprint(key: bytes) -> str:
    """Return what tells two keys apart and reveals neither, for manifests."""
    return hashlib.sha256(b"mindshift key fingerprint" + key).hexdigest()[:16]


@functools.lru_cache(maxsize=100_000)
def hash_author(key: bytes, author: str) -> str:
    """Return the author's hash, empty for an unknown author; what `corpus collect` hashed already stays.

    Reddit's names have 20 characters at most, so no name looks like a hash.
    """
    if not author or HASHED.fullmatch(author):
        return author
    return hmac.new(key, author.casefold().encode("utf-8"), hashlib.sha256).hexdigest()[:HASH_HEX_DIGITS]


def write_private(path: Path, content: str) -> None:
    """Write a secret that only its owner can read, unless it is there: of two programs at once the first one wins."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
