"""The vault: raw and intermediate files encrypted at rest, so that destroying one key makes all of them unreadable.

Files are in the age format (age-encryption.org/v1, X25519 and ChaCha20-Poly1305 over 64 KiB pieces) by `pyrage`:
a wrong key, a cut file and a changed byte are each told apart from content. The key file is an age identity, as
`age-keygen` writes it, so the files can be opened without mindshift. Extra: `vault`.
"""

import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.errors import UserError

SUFFIX = ".age"
READ_BYTES = 2**18
INSTALL = "pip install -e '.[vault]'"


class Vault:
    """Locks and unlocks with one key file.

    Args:
        key_path: an age identity file.

    Raises:
        UserError: pyrage is not installed, or the file holds no key.
    """

    def __init__(self, key_path: Path) -> None:
        self.key_path = key_path
        self._pyrage = _import_pyrage()
        try:
            lines = key_path.read_text(encoding="ascii").splitlines()
            line = next(line for line in lines if line.startswith("AGE-SECRET-KEY-"))
            self._identity = self._pyrage.x25519.Identity.from_str(line.strip())
        except (OSError, StopIteration, ValueError, self._pyrage.IdentityError) as error:
            raise UserError(
                f"not a readable vault key ({type(error).__name__})",
                where=key_path,
                fix="Make one by `mindshift corpus vault --create FILE`; a destroyed key cannot be had back.",
            ) from error

    def __reduce__(self) -> tuple[type["Vault"], tuple[Path]]:
        """Pickle as the key's path: the key is never written with a task."""
        return Vault, (self.key_path,)

    def lock(self, content: bytes) -> bytes:
        """Encrypt."""
        locked: bytes = self._pyrage.encrypt(content, [self._identity.to_public()])
        return locked

    def unlock(self, content: bytes, where: Path) -> bytes:
        """Decrypt.

        Raises:
            UserError: another key, or the file is cut or changed.
        """
        try:
            unlocked: bytes = self._pyrage.decrypt(content, [self._identity])
        except self._pyrage.DecryptError as error:
            raise _explain(error, where) from error
        return unlocked

    def unlock_blocks(self, path: Path) -> Iterator[bytes]:
        """Yield the content of a locked file in blocks, at bounded memory.

        Raises:
            UserError: another key, or the file is cut or changed.
        """
        try:
            source = path.open("rb")
        except OSError as error:
            raise UserError(f"cannot be opened ({error.strerror})", where=path) from error
        read_end, write_end = os.pipe()
        outcome: list[UserError | None] = []

        def decrypt() -> None:
            # Whatever fails here, closing the pipe's end is what lets the reader go on.
            with source, os.fdopen(write_end, "wb") as target:
                try:
                    self._pyrage.decrypt_io(source, target, [self._identity])
                except BrokenPipeError:
                    return
                except (self._pyrage.DecryptError, OSError) as error:
                    outcome.append(_explain(error, path))
                else:
                    outcome.append(None)

        thread = threading.Thread(target=decrypt, daemon=True)
        with os.fdopen(read_end, "rb") as unlocked:
            thread.start()
            while block := unlocked.read(READ_BYTES):
                yield block
        thread.join()
        if outcome != [None]:  # an empty one: the thread died, and half a file must not pass for a whole one
            raise outcome[0] if outcome and outcome[0] else _broken(path)

    def lock_file(self, path: Path) -> Path:
        """Replace a file by its locked form, `NAME.age`; returns that."""
        locked = path.with_name(path.name + SUFFIX)
        temporary = locked.with_name(f".{locked.name}.{os.getpid()}.tmp")
        with path.open("rb") as source, temporary.open("wb") as target:
            self._pyrage.encrypt_io(source, target, [self._identity.to_public()])
            target.flush()
            os.fsync(target.fileno())
        temporary.replace(locked)
        path.unlink()
        return locked

    def unlock_file(self, path: Path) -> Path:
        """Write a locked file's content beside it, without `.age`; the locked file stays."""
        unlocked = path.with_name(path.name.removesuffix(SUFFIX))
        temporary = unlocked.with_name(f".{unlocked.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as target:
                for block in self.unlock_blocks(path):
                    target.write(block)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(unlocked)
        return unlocked


def create_key(path: Path) -> None:
    """Make a vault key, readable by its owner only.

    Raises:
        UserError: the file exists.
    """
    pyrage = _import_pyrage()
    identity = pyrage.x25519.Identity.generate()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UserError(
            "a key is here already", where=path, fix="Choose another file; keys are not overwritten."
        ) from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"# public key: {identity.to_public()}\n{identity}\n")


def destroy_key(path: Path) -> None:
    """Overwrite a key and remove it. Copies elsewhere, backups and flash wear-levelling are out of reach.

    Raises:
        UserError: there is no such file.
    """
    try:
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(secrets.token_bytes(size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    except FileNotFoundError:
        raise UserError("there is no such key", where=path) from None


def _import_pyrage() -> Any:
    try:
        import pyrage
    except ImportError:
        raise UserError("encryption at rest needs the vault extra", where="vault_key", fix=INSTALL) from None
    return pyrage


def _explain(error: Exception, where: Path) -> UserError:
    if "No matching keys" in str(error):
        return UserError("locked with another key", where=where, fix="Name the key it was locked with.")
    return _broken(where)


def _broken(where: Path) -> UserError:
    return UserError(
        "this locked file is cut or was changed; nothing of it is used", where=where, fix="Restore it from a copy."
    )


def open_vault(key_path: Path | None) -> Vault | None:
    """Return the vault of a recipe, None without a key."""
    return Vault(key_path) if key_path else None
