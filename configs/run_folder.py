"""Run folders are atomic: OUTPUT_DIR.partial while a stage works, renamed to OUTPUT_DIR when it is complete.

A killed stage leaves either nothing or a `.partial` folder that the same command resumes. One process at a time works
in it: a lock beside it (`OUTPUT_DIR.partial.lock`) goes when that process does, however it ends.
"""

import errno
import fcntl
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from configs.errors import UserError
from configs.manifest import MANIFEST_NAME, now, record_input
from configs.recipe import StageRecipe, dump_recipe, recipe_values

RECIPE_NAME, INPUTS_NAME, ACCEPTED_NAME = "recipe.yaml", "inputs.json", "accepted.json"
WRITTEN_AT_ONCE = {RECIPE_NAME, INPUTS_NAME, ACCEPTED_NAME}
"""What lies in a working folder before the stage has done anything."""
LEASE_SECONDS = 120.0
"""How long a lock that another machine holds is waited for: NFS frees those of a machine that died after 90 s."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system without locks answers."""

logger = logging.getLogger("run")
_held: dict[Path, int] = {}
"""Descriptors of the locks of this process by working folder: a search hands its own folders on to fine-tuning."""


def working_folder(output_dir: Path) -> Path:
    """Return where a run works before it is complete.

    Raises:
        UserError: the output folder has no name to add to, such as `.`.
    """
    if output_dir.name in ("", ".."):
        raise UserError(
            "the output folder needs a name of its own", where=output_dir, fix="Choose another --output_dir."
        )
    return output_dir.with_name(output_dir.name + ".partial")


def open_run_folder(recipe: StageRecipe, inputs: Mapping[str, Path] | None = None) -> Path:
    """Create the working folder of a run, or return the one an interrupted run left, and lock it for this process.

    Of several processes of one run, the main one calls it.

    Args:
        recipe: what is asked.
        inputs: what a long run reads more than once, by name: it may not go on with others.

    Raises:
        UserError: the output folder holds a finished run or other files, another process is at work on it, the
            interrupted run was asked something else, or its inputs have changed since.
    """
    working = working_folder(recipe.output_dir)
    _refuse_taken(recipe.output_dir)
    _lock(working)
    try:
        _refuse_taken(recipe.output_dir)  # by one that held the lock until now
        if (working / RECIPE_NAME).exists() and {path.name for path in working.iterdir()} - WRITTEN_AT_ONCE:
            _refuse_other_recipe(working, recipe)
            _refuse_other_inputs(working, inputs or {})
        else:
            working.mkdir(parents=True, exist_ok=True)
            for name in (INPUTS_NAME, ACCEPTED_NAME):
                (working / name).unlink(missing_ok=True)  # an attempt with another recipe may have left them
            _note_inputs(working, inputs or {})
            write_atomically(working / RECIPE_NAME, dump_recipe(recipe))
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        _unlock(working)
        raise UserError(f"cannot create the run folder ({error.strerror})", where=working) from error
    except BaseException:
        _unlock(working)
        raise
    return working


def note_accepted(working: Path, accepted: list[str]) -> list[str]:
    """Note the changes of inputs that this attempt at a run has accepted; return those of all its attempts.

    What one attempt read must stand in the manifest, also if the next finds the input as it was.
    """
    path = working / ACCEPTED_NAME
    noted = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    together = list(dict.fromkeys([*noted, *accepted]))
    if together != noted:
        write_atomically(path, json.dumps(together, indent=2) + "\n")
    return together


def finish_run_folder(recipe: StageRecipe) -> None:
    """Give the complete working folder its final name; its manifest must have been written."""
    working = working_folder(recipe.output_dir)
    if not (working / MANIFEST_NAME).is_file():
        raise RuntimeError(f"{working}: finished without a manifest")
    if recipe.output_dir.exists():
        recipe.output_dir.rmdir()  # an empty folder that the user made
    _sync_folder(working)
    working.rename(recipe.output_dir)
    _sync_folder(recipe.output_dir.parent)
    _unlock(working)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or the next run after a kill, sees all of it or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def remove_folder(folder: Path) -> None:
    """Remove a folder and what is in it; an absent one is fine."""
    shutil.rmtree(folder, ignore_errors=True)


def _refuse_taken(output_dir: Path) -> None:
    if (output_dir / MANIFEST_NAME).exists():
        raise UserError(
            "this folder already holds a finished run",
            where=output_dir,
            fix="Choose another --output_dir, or remove the folder first.",
        )
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise UserError("exists and is no run of mindshift", where=output_dir, fix="Choose another --output_dir.")


def _lock_path(working: Path) -> Path:
    return working.with_name(f"{working.name}.lock")


def _lock(working: Path) -> None:
    """Lock a run for this process until it is finished or the process ends."""
    path, deadline = _lock_path(working), time.monotonic() + LEASE_SECONDS
    while working.absolute() not in _held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise UserError(f"cannot create the run folder ({error.strerror})", where=working) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            holder = _holder(path)
            if _is_earlier_attempt(holder):
                path.unlink(missing_ok=True)
            elif holder.get("machine") == platform.node() or time.monotonic() > deadline:
                raise UserError(
                    f"process {holder.get('process')} on {holder.get('machine')} is at work on this run since "
                    f"{holder.get('since')}",
                    where=working,
                    fix=f"Wait for it to end. If that machine is down, remove {path}.",
                ) from None
            else:
                logger.info("%s is locked by %s: waiting", working, holder.get("machine"))
                time.sleep(5)
            continue
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            logger.warning("%s: no locks on this file system: start no second run of this folder", working)
        # Whoever finishes removes the file: a lock on one that is no longer there keeps nobody out.
        if _is_there(path, descriptor):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(_own_name()).encode())
            _held[working.absolute()] = descriptor
        else:
            os.close(descriptor)


def _unlock(working: Path) -> None:
    descriptor = _held.pop(working.absolute(), None)
    if descriptor is not None:
        _lock_path(working).unlink(missing_ok=True)
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


def _refuse_other_recipe(working: Path, recipe: StageRecipe) -> None:
    earlier = yaml.safe_load((working / RECIPE_NAME).read_text(encoding="utf-8"))
    asked = recipe_values(recipe)
    changed = {key for key in earlier.keys() | asked.keys() if earlier.get(key) != asked.get(key)}
    # An attempt that did not accept changes has met none, so the run may begin to; one that did may not hide them.
    allowed = recipe.HOW | ({"accept_changed_inputs"} if recipe.accept_changed_inputs else set())
    differs = sorted(changed - allowed)
    if differs:
        raise UserError(
            f"an interrupted run with another recipe is here (differs in {', '.join(differs)})",
            where=working,
            fix="Finish it with its own recipe, remove the folder, or choose another --output_dir.",
        )
    if changed:
        write_atomically(working / RECIPE_NAME, dump_recipe(recipe))


def _note_inputs(working: Path, inputs: Mapping[str, Path]) -> None:
    if inputs:
        hashes = {name: record_input(path).sha256 for name, path in inputs.items()}
        write_atomically(working / INPUTS_NAME, json.dumps(hashes, indent=2) + "\n")


def _refuse_other_inputs(working: Path, inputs: Mapping[str, Path]) -> None:
    if not (working / INPUTS_NAME).is_file():
        return
    noted = json.loads((working / INPUTS_NAME).read_text(encoding="utf-8"))
    changed = [
        name for name, path in inputs.items() if not path.exists() or noted.get(name) != record_input(path).sha256
    ]
    if changed:
        raise UserError(
            f"an interrupted run is here that began with another {' and '.join(changed)}",
            where=working,
            fix="Put back what it began with, remove the folder, or choose another --output_dir.",
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
