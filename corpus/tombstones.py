"""Tombstones: hashes of erased posts and authors, kept with the keys, so that no later build brings them back.

A tombstone is an HMAC under the salt of its file: the list alone names nobody. It is made by the first build,
appended to and never shortened, and lives in `keys_dir`, which all corpora of a project share: a fingerprint of its
salt in their manifests tells whose it is, also when the author key has been removed.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from configs.errors import UserError

TOMBSTONES_NAME, LOCK_NAME = "tombstones.jsonl", "tombstones.lock"
HASH_HEX_DIGITS = 32


def tombstones_size(keys_dir: Path) -> int:
    """Return the size of the list in bytes, 0 without one: since it only grows, this tells whether it has changed."""
    path = keys_dir / TOMBSTONES_NAME
    return path.stat().st_size if path.exists() else 0


def make_tombstones(keys_dir: Path) -> str:
    """Make the list if there is none yet, and return its fingerprint."""
    tombstones = Tombstones(keys_dir)
    tombstones.add([])
    return tombstones.fingerprint


class Tombstones:
    """The erased posts and authors of a project.

    Args:
        keys_dir: the folder of the file; without a file nothing was erased yet.

    Raises:
        UserError: the file cannot be read.
    """

    def __init__(self, keys_dir: Path) -> None:
        self.path = keys_dir / TOMBSTONES_NAME
        self._read()

    def _read(self) -> None:
        self._salt, self._hashes = b"", set[str]()
        if not self.path.exists():
            return
        number = 1
        try:
            lines = self.path.read_text(encoding="ascii").splitlines()
            self._salt = bytes.fromhex(json.loads(lines[0])["salt"])
            for line in lines[1:]:
                number += 1
                self._hashes.add(json.loads(line)["hash"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"not a tombstone ({type(error).__name__})",
                where=f"{self.path}:{number}",
                fix="Restore the file: without it erased posts would come back.",
            ) from error

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, value: str) -> bool:
        """Whether a post's full name (t3_…, t1_…) or an author's hash was erased."""
        return bool(self._hashes) and bool(value) and self._hash(value) in self._hashes

    @property
    def fingerprint(self) -> str:
        """What tells two lists apart and reveals nothing of either; empty without a list."""
        return hashlib.sha256(b"mindshift tombstones" + self._salt).hexdigest()[:16] if self._salt else ""

    def add(self, values: Iterable[str]) -> int:
        """Append full names or author hashes; returns how many were new. Without any, the list is there afterwards.

        Erasures from several corpora may run at once: each reads, adds and replaces while the others wait.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(self.path.with_name(LOCK_NAME)):
            self._read()
            new_file = not self._salt
            if new_file:
                self._salt = secrets.token_bytes(32)
            new = sorted({self._hash(value) for value in values} - self._hashes)
            if not new and not new_file:
                return 0
            lines = [json.dumps({"salt": self._salt.hex()})] if new_file else []
            lines += [json.dumps({"hash": value}) for value in new]
            old = self.path.read_text(encoding="ascii") if self.path.exists() else ""
            temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(old + "".join(line + "\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        self._hashes.update(new)
        return len(new)

    def _hash(self, value: str) -> str:
        return hmac.new(self._salt, value.encode(), hashlib.sha256).hexdigest()[:HASH_HEX_DIGITS]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that all programs of this `keys_dir` wait for; it goes when the process does."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
