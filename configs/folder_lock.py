"""One process at a time works in a folder: a lock beside it, as OUTPUT_DIR.partial.lock, goes when the process does.

A requeued SLURM job takes over what its own earlier attempt held; what another machine holds is waited for a while.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.manifest import now

LEASE_SECONDS = 120.0
"""How long a lock that another machine holds is waited for: NFS frees those of a machine that died after 90 s."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system without locks answers."""

logger = logging.getLogger("run")
_held: dict[Path, int] = {}
"""Descriptors of the locks of this process by folder: a search hands its own folders on to fine-tuning."""


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder for this process while a block runs.

    Raises:
        UserError: another process is at work there.
    """
    lock_folder(folder)
    try:
        yield
    finally:
        unlock_folder(folder)


def lock_folder(folder: Path) -> None:
    """Lock a folder for this process until it lets go or ends.

    Raises:
        UserError: another process is at work there.
    """
    path, deadline = _lock_path(folder), time.monotonic() + LEASE_SECONDS
    while folder.absolute() not in _held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise UserError(f"cannot create the run folder ({error.strerror})", where=folder) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            holder = _holder(path)
            if _is_earlier_attempt(holder):
                path.unlink(missing_ok=True)
            elif holder.get("machine") == platform.node() or time.monotonic() > deadline:
                raise UserError(
                    f"process {holder.get('process')} on {holder.get('machine')} is at work here since "
                    f"{holder.get('since')}",
                    where=folder,
                    fix=f"Wait for it to end. If that machine is down, remove {path}.",
                ) from None
            else:
                logger.info("%s is locked by %s: waiting", folder, holder.get("machine"))
                time.sleep(5)
            continue
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            logger.warning("%s: no locks on this file system: start no second run of this folder", folder)
        # Whoever finishes removes the file: a lock on one that is no longer there keeps nobody out.
        if _is_there(path, descriptor):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(_own_name()).encode())
            _held[folder.absolute()] = descriptor
        else:
            os.close(descriptor)


def unlock_folder(folder: Path) -> None:
    """Let a folder go, if this process holds it."""
    descriptor = _held.pop(folder.absolute(), None)
    if descriptor is not None:
        _lock_path(folder).unlink(missing_ok=True)
        os.close(descriptor)


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _own_name() -> dict[str, Any]:
    own = {"process": os.getpid(), "machine": platform.node(), "since": now()}
    job, attempt = os.environ.get("SLURM_JOB_ID"), int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    return own | ({"job": job, "attempt": attempt} if job else {})


def _holder(path: Path) -> dict[str, Any]:
    try:
        holder: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # just finished, or just begun
        return {}
    return holder


def _is_earlier_attempt(holder: Mapping[str, Any]) -> bool:
    """Return whether a lock is that of this very job before SLURM requeued it, perhaps because its node was lost."""
    own = _own_name()
    return "job" in own and holder.get("job") == own["job"] and holder.get("attempt", 0) < own["attempt"]
