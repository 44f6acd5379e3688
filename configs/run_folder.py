"""Run folders are atomic: OUTPUT_DIR.partial while a stage works, renamed to OUTPUT_DIR when it is complete.

A killed stage leaves either nothing or a `.partial` folder that the same command resumes. One process at a time works
in it (`configs.folder_lock`).
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from configs.errors import UserError
from configs.folder_lock import lock_folder, unlock_folder
from configs.manifest import MANIFEST_NAME, now, record_input, write_manifest
from configs.recipe import StageRecipe, dump_recipe, recipe_values

RECIPE_NAME, INPUTS_NAME, ACCEPTED_NAME = "recipe.yaml", "inputs.json", "accepted.json"
ATTEMPTS_NAME = "attempts.json"
NOTES = (INPUTS_NAME, ACCEPTED_NAME, ATTEMPTS_NAME)
"""What a run has to know of its earlier attempts; its manifest says it when the run is finished."""


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


def open_run_folder(
    recipe: StageRecipe,
    inputs: Mapping[str, Path] | None = None,
    *,
    accepted: Sequence[str] = (),
    started_at: str | None = None,
) -> Path:
    """Create the working folder of a run, or return the one an interrupted run left, and lock it for this process.

    Of several processes of one run, the main one calls it.

    Args:
        recipe: what is asked.
        inputs: what a long run reads more than once, by name: it may not go on with others.
        accepted: the changes of inputs that this attempt has accepted.
        started_at: when this attempt began, if checks of its inputs took a while.

    Raises:
        UserError: the output folder holds a finished run or other files, another process is at work on it, the
            interrupted run was asked something else, or its inputs have changed since.
    """
    working = working_folder(recipe.output_dir)
    _refuse_taken(recipe.output_dir)
    lock_folder(working)
    try:
        _refuse_taken(recipe.output_dir)  # by one that held the lock until now
        if (working / RECIPE_NAME).exists() and {path.name for path in working.iterdir()} - {RECIPE_NAME, *NOTES}:
            _refuse_other_recipe(working, recipe)
            _refuse_other_inputs(working, inputs or {})
        else:
            working.mkdir(parents=True, exist_ok=True)
            for name in NOTES:
                (working / name).unlink(missing_ok=True)  # an attempt with another recipe may have left them
            _note_inputs(working, inputs or {})
            write_atomically(working / RECIPE_NAME, dump_recipe(recipe))
        _note_accepted(working, accepted)
        _note_attempt(working, started_at or now())
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        unlock_folder(working)
        raise UserError(f"cannot create the run folder ({error.strerror})", where=working) from error
    except BaseException:
        unlock_folder(working)
        raise
    return working


def time_taken(working: Path) -> tuple[str, float]:
    """Return when a run's first attempt began, and the hours that all its attempts took together."""
    attempts = _read_note(working / ATTEMPTS_NAME, [])
    ends = [attempt.get("ended_at") or now() for attempt in attempts]
    spans = [
        datetime.fromisoformat(end) - datetime.fromisoformat(attempt["started_at"])
        for attempt, end in zip(attempts, ends, strict=True)
    ]
    return attempts[0]["started_at"], round(sum(span.total_seconds() for span in spans) / 3600, 4)


def finish_run_folder(
    recipe: StageRecipe, *, stage: str, inputs: Mapping[str, Path], counts: Mapping[str, Any]
) -> None:
    """Write the manifest of a run whose folder is complete, and give the folder its final name.

    Args:
        recipe: what was asked.
        stage: the stage's name, such as `corpus` or `pretrain`.
        inputs: name → file or folder that the run read. What changed since the run began is recorded as it was then.
        counts: what the run counted (documents, tokens, scores), JSON-serialisable.
    """
    write_run_manifest(recipe, stage=stage, inputs=inputs, counts=counts)
    publish_run_folder(recipe)


def write_run_manifest(
    recipe: StageRecipe, *, stage: str, inputs: Mapping[str, Path], counts: Mapping[str, Any]
) -> None:
    """Write the manifest into the working folder, with what all attempts at the run have noted."""
    working = working_folder(recipe.output_dir)
    started_at, hours = time_taken(working)
    write_manifest(
        working,
        stage=stage,
        recipe=recipe,
        inputs=inputs,
        counts=counts,
        started_at=started_at,
        accepted=_read_note(working / ACCEPTED_NAME, []),
        began_with=_read_note(working / INPUTS_NAME, {}),
        hours=hours,
        no_outputs=NOTES,
    )


def publish_run_folder(recipe: StageRecipe) -> None:
    """Give the complete working folder its final name; its manifest must have been written."""
    working = working_folder(recipe.output_dir)
    if not (working / MANIFEST_NAME).is_file():
        raise RuntimeError(f"{working}: finished without a manifest")
    if recipe.output_dir.exists():
        recipe.output_dir.rmdir()  # an empty folder that the user made
    _sync_folder(working)
    working.rename(recipe.output_dir)
    _sync_folder(recipe.output_dir.parent)
    for name in NOTES:
        (recipe.output_dir / name).unlink(missing_ok=True)
    unlock_folder(working)


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


def _note_accepted(working: Path, accepted: Sequence[str]) -> None:
    """Note the changes of inputs that an attempt at a run has accepted beside those of the earlier attempts.

    What one attempt read must stand in the manifest, also if the next finds the input as it was.
    """
    noted = _read_note(working / ACCEPTED_NAME, [])
    together = list(dict.fromkeys([*noted, *accepted]))
    if together != noted:
        write_atomically(working / ACCEPTED_NAME, json.dumps(together, indent=2) + "\n")


def _note_attempt(working: Path, started_at: str) -> None:
    """Note that an attempt at a run began; the one before ended when it last wrote into the folder."""
    path = working / ATTEMPTS_NAME
    attempts = _read_note(path, [])
    if attempts:
        begin = datetime.fromisoformat(started_at).timestamp()
        # What this attempt has written already says nothing of the one before.
        written = [file.stat().st_mtime for file in working.rglob("*") if file.is_file() and file != path]
        last = max((moment for moment in written if moment < begin), default=0.0)
        before = attempts[-1]["started_at"]
        attempts[-1]["ended_at"] = max(before, datetime.fromtimestamp(last, UTC).isoformat(timespec="seconds"))
    write_atomically(path, json.dumps([*attempts, {"started_at": started_at}], indent=2) + "\n")


def _read_note(path: Path, absent: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else absent


def _refuse_taken(output_dir: Path) -> None:
    if (output_dir / MANIFEST_NAME).exists():
        raise UserError(
            "this folder already holds a finished run",
            where=output_dir,
            fix="Choose another --output_dir, or remove the folder first.",
        )
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise UserError("exists and is no run of mindshift", where=output_dir, fix="Choose another --output_dir.")


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
    noted = _read_note(working / INPUTS_NAME, {})
    changed = [
        name
        for name, path in inputs.items()
        if noted and (not path.exists() or noted.get(name) != record_input(path).sha256)
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
